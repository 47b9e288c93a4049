"""The unit in which a field reads an image: brightness temperature, flux per pixel, or as it is."""

from __future__ import annotations

import math
from dataclasses import dataclass

import xarray as xr

from sciinv.errors import ConfigError
from sciinv.units import Unit

ATTENUATIONS = ("1/mm", "1/cm", "1/m")

_LIGHT, _BOLTZMANN = 299_792_458.0, 1.380649e-23  # m/s, J/K: exact in the SI
_RADIANS = {
    "µas": math.pi / 180 / 3.6e9, "uas": math.pi / 180 / 3.6e9, "mas": math.pi / 180 / 3.6e6,
    "arcsec": math.pi / 180 / 3600, "deg": math.pi / 180, "rad": 1.0,
}  # fmt: skip
_STEPS = {9: "10⁹ ", 6: "10⁶ ", 3: "10³ ", 0: ""}
_PREFIXES = {0: "", -3: "m", -6: "µ", -9: "n"}


@dataclass(frozen=True)
class Shown:
    """How stored pixel values become the numbers that are shown: factor · value + offset.

    Attributes:
        factor: Shown value ÷ stored value, without the offset.
        units: Unit of the shown values; empty where there is none.
        note: A sentence on the unit; empty where it says itself.
        offset: Shown value of a stored 0.
    """

    factor: float = 1.0
    units: str = ""
    note: str = ""
    offset: float = 0.0

    def of(self, image: xr.DataArray, spread: bool = False) -> xr.DataArray:
        """Return an image in the shown unit.

        Args:
            image: As stored.
            spread: A standard deviation or a width, which no offset moves.
        """
        out = image * self.factor if self.factor != 1 else image.copy()
        if self.offset and not spread:
            out = out + self.offset
        out.attrs = {**image.attrs, "units": self.units}
        return out


def shown_as(
    units: str,
    largest: float,
    pixel: tuple[float, str] | None = None,
    frequency_hz: float | None = None,
    scale: float | None = None,
    water: float | None = None,
) -> Shown:
    """Return the unit that a field uses for images stored in `units`.

    A flux per pixel F becomes the brightness temperature of the Rayleigh–Jeans law,

        T = c² F / (2 k ν² Ω),  F in W m⁻² Hz⁻¹ (1 Jy = 10⁻²⁶), Ω the solid angle of a pixel in sr,

    where the frequency is known, else a flux without a factor before its unit. An attenuation μ
    becomes 1000 (μ/μ_water − 1) Hounsfield units where that of water is known, else it stays.

    Args:
        units: As stored, e.g. "0.6 Jy/pixel", "1/mm", "1 = 99th percentile".
        largest: The largest absolute value that is shown, as stored; it decides the power of ten.
        pixel: Side of a pixel and its unit.
        frequency_hz: ν, where it is known.
        scale: For a normalised image, what the values were divided by.
        water: μ_water at the effective energy of the beam, in the unit of an attenuation, > 0.

    Source: Thompson, Moran & Swenson 2017, section 1.2; Hounsfield 1973.

    Raises:
        ConfigError: Water's attenuation is given for what is no attenuation.
    """
    unit = Unit.of(units)
    if water is not None:
        if unit.name not in ATTENUATIONS:
            raise ConfigError(
                "Only an attenuation is shown in Hounsfield units",
                where="display.water",
                expected=f"an image in {', '.join(ATTENUATIONS)}",
                got=units or "no unit",
                remedy="leave display.water out",
            )
        note = f"Hounsfield units: 1000 (μ/μ_water − 1) with μ_water = {water:.4g} {unit.name}."
        return Shown(1000 * unit.factor / water, "HU", note, -1000.0)
    if unit.name == "Jy/pixel":
        side = pixel[0] * _RADIANS.get(pixel[1], 0.0) if pixel is not None else 0.0
        if frequency_hz and side > 0:
            kelvin = unit.factor * _LIGHT**2 * 1e-26 / (2 * _BOLTZMANN * frequency_hz**2 * side**2)
            power = _power(kelvin * largest, _STEPS)
            note = (
                f"Brightness temperature at {frequency_hz / 1e9:.4g} GHz; "
                f"1 {_STEPS[power]}K is {10.0**power / kelvin * unit.factor:.3g} Jy in one pixel."
            )
            return Shown(kelvin / 10.0**power, f"{_STEPS[power]}K", note)
        power = _power(unit.factor * largest, _PREFIXES)
        return Shown(unit.factor / 10.0**power, f"{_PREFIXES[power]}Jy/pixel")
    if units.strip().startswith("1 = "):  # no factor 1 of a unit "= …", but what 1 means
        note = f"Normalised signal: 1 is the {units.strip()[4:]} of the usual image's magnitude"
        by = f", {scale:.4g} in the units of the file" if scale else ""
        return Shown(1.0, "normalised signal", f"{note}{by}.")
    if unit.factor != 1:
        return Shown(unit.factor, unit.name)
    return Shown(1.0, "" if units.strip() == "1" else units.strip())


def _power(largest: float, known: dict[int, str]) -> int:
    """Return the power of ten of a known name that leaves a number from 1 to 1000, if one does."""
    if not largest > 0 or not math.isfinite(largest):
        return 0
    power = 3 * math.floor(math.log10(largest) / 3)
    return min(max(power, min(known)), max(known))
