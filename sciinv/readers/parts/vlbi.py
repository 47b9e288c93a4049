"""Visibilities of a very-long-baseline array as a table, and what is done to them before imaging.

Scan averages, systematic noise, cuts, and simulated station gains; numpy only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sciinv.errors import DataError

Float = NDArray[np.float64]

EARTH_RAD_PER_S = 7.2921159e-5
SCAN_GAP_S = 59.0  # integrations of up to 60 s apart would already be separate scans


@dataclass(frozen=True)
class VisibilityTable:
    """Visibilities, one per row; sign convention V = ∫ I(l, m) exp(+2πi(ul + vm)) dl dm.

    Rows are ordered by time and baseline, and station1 < station2.

    Attributes:
        time: Middle of the integration, hours UTC since 0 h of day `mjd`, [N].
        station1: Index into `stations` of the first station, [N].
        station2: The same of the second station, [N].
        u: Baseline to the east, wavelengths, [N].
        v: Baseline to the north, wavelengths, [N].
        vis: Stokes I visibility, Jy, complex [N].
        sigma: Thermal standard deviation per real component, Jy, [N].
        integration: Integration time, s, [N].
        stations: Station names.
        positions: Geocentric station coordinates, m, [S, 3].
        frequency: Hz.
        bandwidth: Hz.
        source: Name of the source.
        ra: Right ascension of the phase centre, degrees.
        dec: Declination, degrees.
        mjd: Modified Julian day of time 0.
        band: Number of the band (IF) of each row, [N]; all 0 where there is one.
        dropped: Number of rows left out while reading, by reason.
    """

    time: Float
    station1: NDArray[np.int64]
    station2: NDArray[np.int64]
    u: Float
    v: Float
    vis: NDArray[np.complex128]
    sigma: Float
    integration: Float
    stations: tuple[str, ...]
    positions: Float
    frequency: float
    bandwidth: float
    source: str
    ra: float
    dec: float
    mjd: int
    band: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    dropped: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.band) != len(self.time):
            object.__setattr__(self, "band", np.zeros(len(self.time), np.int64))

    def __len__(self) -> int:
        return len(self.time)

    @property
    def snr(self) -> Float:
        """|V| / σ of each row."""
        return np.abs(self.vis) / self.sigma

    @property
    def uv_distance(self) -> Float:
        """Length of each baseline, wavelengths."""
        return np.hypot(self.u, self.v)

    def baseline_names(self) -> list[str]:
        """Return "AA-AZ" and so on, one per row."""
        pairs = zip(self.station1, self.station2, strict=True)
        return [f"{self.stations[a]}-{self.stations[b]}" for a, b in pairs]

    def select(self, keep: NDArray[np.bool_]) -> VisibilityTable:
        """Return the rows where `keep` is true."""
        return replace(self, **{f: getattr(self, f)[keep] for f in ROWS})

    def scans(self, gap_s: float = SCAN_GAP_S, longest_s: float = np.inf) -> NDArray[np.int64]:
        """Return the scan number of each row, from 0.

        A new scan starts after a gap of more than `gap_s` seconds; a scan longer than `longest_s`
        is cut into equal parts that are not.
        """
        times, inverse = np.unique(self.time, return_inverse=True)
        starts = np.diff(times, prepend=times[:1]) * 3600.0 > gap_s
        scan = np.cumsum(starts, dtype=np.int64)
        if np.isfinite(longest_s):
            begin = times[np.flatnonzero(np.diff(scan, prepend=-1))]
            end = times[np.flatnonzero(np.diff(scan, append=scan[-1:] + 1))]
            count = np.maximum(1, np.ceil((end - begin) * 3600.0 / longest_s - 1e-9))
            part = (times - begin[scan]) / np.maximum((end - begin)[scan], 1e-12) * count[scan]
            part = np.minimum(part.astype(np.int64), count[scan].astype(np.int64) - 1)
            first = np.concatenate([[0], np.cumsum(count)[:-1]]).astype(np.int64)
            scan = np.unique(first[scan] + part, return_inverse=True)[1]
        return scan[inverse]

    def integrations(self) -> NDArray[np.int64]:
        """Return the number of each row's integration, from 0.

        Times of one integration differ by rounding: a new one starts after a tenth of an
        integration time, or a hundredth of a second where the file does not tell it.
        """
        usual = float(np.median(self.integration)) if len(self) else 0.0
        return self.scans(max(0.01, 0.1 * usual) if np.isfinite(usual) else 0.01)

    def longest_coherent_s(self, field_rad: float) -> float:
        """Return for how long a scan may be averaged for a field of this angle, s.

        The Earth turns a baseline of length B by ω B dt; what lies at the edge of the field is
        then moved by ω B dt · field/2 turns, of which an eighth is allowed (a loss of 3 %).
        """
        fastest = EARTH_RAD_PER_S * float(self.uv_distance.max(initial=0.0)) * field_rad / 2
        return 0.125 / fastest if fastest > 0 else np.inf

    def average_scans(
        self, gap_s: float = SCAN_GAP_S, weighted: bool = True, longest_s: float = np.inf
    ) -> VisibilityTable:
        """Return the coherent average of each baseline over each scan, band by band.

        V = Σ w V_t / Σ w with w = 1/σ², σ = 1/√Σ w; u, v and time are averaged with the same
        weights, and all baselines of a scan are given the scan's mean time. With
        `weighted=False`, w is the same for all integrations of a baseline: V the plain mean,
        σ = √Σσ² / n, u and v plain means (as eht-imaging does).
        """
        scan = self.scans(gap_s, longest_s)
        bands = int(self.band.max(initial=0)) + 1
        key = scan * bands + self.band
        key = (key * len(self.stations) + self.station1) * len(self.stations) + self.station2
        _, first, group = np.unique(key, return_index=True, return_inverse=True)
        w = self.sigma**-2.0 if weighted else np.ones(len(self))
        total = np.bincount(group, w)

        def mean(value: Float) -> Float:
            return np.bincount(group, w * value) / total

        mean_time = np.bincount(scan, self.time) / np.bincount(scan)
        return replace(
            self,
            time=mean_time[scan[first]],
            station1=self.station1[first],
            station2=self.station2[first],
            u=mean(self.u),
            v=mean(self.v),
            vis=mean(self.vis.real) + 1j * mean(self.vis.imag),
            sigma=np.sqrt(np.bincount(group, (w * self.sigma) ** 2)) / total,
            integration=np.bincount(group, self.integration).astype(float),
            band=self.band[first],
        )

    def with_systematic_noise(self, fraction: float) -> VisibilityTable:
        """Return the table with σ² + (fraction |V|)², for errors that do not close.

        Leakage and bandpass errors act on baselines, so that they survive in closures; the
        pipelines released with the M87 data take 0.02 for eht-imaging (2019-D01-02).
        """
        return replace(self, sigma=np.hypot(self.sigma, fraction * np.abs(self.vis)))


ROWS = ("time", "station1", "station2", "u", "v", "vis", "sigma", "integration", "band")


def concatenate(tables: Sequence[VisibilityTable]) -> VisibilityTable:
    """Return one table of several days or bands of one source.

    Times count from the first table's day. Average over scans before, not after: bands that were
    observed at the same time would be taken for one scan.

    Raises:
        DataError: No table, or tables of different sources.
    """
    if not tables:
        raise DataError("There are no visibilities to join", expected="a table", got="none")
    first = min(tables, key=lambda t: t.mjd)
    reasons = {k for t in tables for k in t.dropped}
    names = {t.source.strip().upper() for t in tables}
    if len(names) > 1:
        raise DataError(
            "The tables are of different sources",
            expected="one source",
            got=", ".join(sorted(names)),
            remedy="join days and bands of one source only",
        )
    stations: list[str] = []
    positions: list[Float] = []
    rows: dict[str, list[NDArray]] = {f: [] for f in ROWS}
    for table in tables:
        index = np.zeros(len(table.stations), int)
        for i, name in enumerate(table.stations):
            if name not in stations:
                stations.append(name)
                positions.append(table.positions[i])
            index[i] = stations.index(name)
        moved = replace(
            table,
            time=table.time + 24.0 * (table.mjd - first.mjd),
            station1=index[table.station1],
            station2=index[table.station2],
        )
        for f in ROWS:
            rows[f].append(getattr(moved, f))
    joined: dict[str, Any] = {f: np.concatenate(rows[f]) for f in ROWS}
    return replace(
        first,
        **joined,
        stations=tuple(stations),
        positions=np.array(positions),
        dropped={k: sum(t.dropped.get(k, 0) for t in tables) for k in sorted(reasons)},
    )


def simulate(
    table: VisibilityTable,
    model: NDArray[np.complex128],
    rng: np.random.Generator,
    *,
    gain_sd: float = 0.0,
    random_phases: bool = False,
    noise: bool = True,
    gap_s: float = SCAN_GAP_S,
) -> VisibilityTable:
    """Return the table with V_ij = g_i g_j* model_ij + n in place of its visibilities.

    Args:
        table: Gives the coverage, the stations and σ.
        model: Model visibilities on the rows of the table, Jy, [N].
        rng: Random numbers.
        gain_sd: Standard deviation of ln|g| of each station in each scan.
        random_phases: Whether arg g is uniform on the circle (else 0).
        noise: Whether to add thermal noise of standard deviation σ per real component.
        gap_s: Gap between scans, s.
    """
    scan = table.scans(gap_s)
    shape = (int(scan.max()) + 1, len(table.stations))
    gain = np.exp(gain_sd * rng.standard_normal(shape)).astype(complex)
    if random_phases:
        gain = gain * np.exp(2j * np.pi * rng.random(shape))
    vis = gain[scan, table.station1] * gain[scan, table.station2].conj() * np.asarray(model)
    if noise:
        real, imag = rng.standard_normal((2, len(table)))
        vis = vis + table.sigma * (real + 1j * imag)
    return replace(table, vis=vis)
