"""Make the pictures of these pages from the raw files in data/.

    python docs/studies/make_pictures.py

About two minutes on one core. `--only NAME` makes one of them.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
import xarray as xr
from matplotlib.figure import Figure
from PIL import Image

from sciinv import operators, plots, readers, samplers, store
from sciinv.config import Config
from sciinv.plots.panel import scale_bar, shared_limits, show
from sciinv.plots.style import FOUND, STYLE, grid
from sciinv.steps.build import load_prior

REPO = Path(__file__).resolve().parents[2]
PICTURES = REPO / "docs" / "pictures"
DAYS = {"095_lo": "5 April", "095_hi": "5 April", "096_lo": "6 April", "101_lo": "11 April"}
M87 = {"systematic_noise": 0.02}
GAINS = {"kind": "amplitudes", "gain_sd": {"*": 0.1, "LM": 0.35}}


def a_map(values: Any, physics: Any, units: str = "", axis_units: str = "") -> xr.DataArray:
    """Return an image [1 or 2, H, W] as a map with the operator's own coordinates."""
    image = torch.as_tensor(values).numpy()
    image = np.hypot(*image) if len(image) == 2 else image[0]
    spec = physics.image_spec
    coords = {
        axis: (axis, getattr(spec, axis), {"units": axis_units or spec.axis_units, "long_name": n})
        for axis, n in zip(("y", "x"), spec.axis_names, strict=True)
    }
    return xr.DataArray(image, coords, ("y", "x"), attrs={"units": units or spec.units})


def beside(
    ax: Any, panel: xr.DataArray, title: str, colours: Any = "gray", limits: Any = None
) -> None:
    """Show a map with its colour bar and scale bar."""
    shown = show(ax, panel, colours, limits or shared_limits([panel]))
    ax.set_title(title)
    colour_bar(ax, shown, panel.attrs["units"])
    scale_bar(ax, panel)


def colour_bar(ax: Any, shown: Any, units: str) -> None:
    """Draw a colour bar as high as the panel, with the units along it."""
    bar = ax.figure.colorbar(shown, cax=ax.inset_axes((1.03, 0, 0.045, 1)))
    bar.ax.tick_params(labelsize=7.5, length=2.5)
    bar.outline.set_linewidth(0.4)
    bar.set_label(units, fontsize=8)


def tooth() -> Figure:
    """Raw counts of a synchrotron scan, the line integrals, the slice."""
    import h5py

    path = REPO / "data/ct/tooth.h5"
    with h5py.File(path) as file:
        counts = file["exchange/data"][:, 0]
    data = readers.find("dxchange")(path)
    physics, y = operators.from_measurement(data)
    slices = {k: a_map(v[0], physics, "1/px", "px") for k, v in physics.classical(y).items()}
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(11.2, 2.6), layout="constrained")
        axes = grid(figure, 1, 4)
        raw = (
            (counts, "Raw counts", "counts"),
            (y[0, 0].numpy(), "Line integrals, corrected", "−ln transmission"),
        )
        for ax, (values, title, units) in zip(axes, raw, strict=False):
            extent = (-0.5, values.shape[1] - 0.5, float(data["angles"][-1]), 0.0)
            shown = ax.imshow(values, cmap="gray", extent=extent, aspect="auto")
            ax.set(xlabel="detector column", ylabel="view angle (°)", title=title)
            ax.set_box_aspect(1)
            ax.tick_params(labelsize=7.5)
            colour_bar(ax, shown, units)
        limits = shared_limits([slices["SIRT"]])
        for ax, (name, panel) in zip(axes[2:], slices.items(), strict=True):
            inner = panel.sel(y=slice(190, -190), x=slice(-190, 190))
            beside(ax, inner, f"{name} (inner part)", limits=limits)
    return figure


def helsinki() -> Figure:
    """The fan-beam scan of the challenge: all views, and the 60° of the shipped problem."""
    path = REPO / "data/ct/htc2022_ta_full.mat"
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(11.2, 2.5), layout="constrained")
        axes = grid(figure, 1, 4)
        for row, (title, turn) in enumerate((("360°", None), ("60°", (0, 60)))):
            options: dict[str, Any] = {} if turn is None else {"angles": turn}
            data = readers.find("htc2022")(path, image_size=256, **options)
            physics, y = operators.from_measurement(data)
            found = {k: a_map(v[0], physics) for k, v in physics.classical(y).items()}
            for ax, (name, panel) in zip(axes[2 * row :], found.items(), strict=False):
                beside(ax, panel, f"{name}, {title}", limits=(0.0, 0.045))
    return figure


def brain() -> Figure:
    """Eight coils of undersampled k-space, and the two usual images."""
    data = readers.find("kspace")(REPO / "data/mri/cartesian_ksp.npy")
    physics, y = operators.from_measurement(data)
    images = {
        k: a_map(v[0], physics, "relative to the 99th percentile", "px")
        for k, v in physics.classical(y).items()
    }
    kspace = physics.unpack(y)[0].abs().square().sum(0).sqrt()
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(11.2, 3.1), layout="constrained")
        axes = grid(figure, 1, 4)
        measured = np.log10(np.maximum(kspace.numpy(), 1e-3))
        shown = axes[0].imshow(
            np.where(physics.mask.numpy(), measured, np.nan), cmap="gray", vmin=-2, vmax=2
        )
        axes[0].set_facecolor("#d9c9a8")
        axes[0].set(xlabel="kx", ylabel="ky", title="k-space, 12.4 % measured")
        axes[0].tick_params(labelsize=7.5)
        colour_bar(axes[0], shown, "log₁₀ |k|, all coils")
        whose = a_map(physics.coil_maps.abs().argmax(0)[None].float() + 1, physics, "coil", "px")
        beside(axes[1], whose, "ESPIRiT: leading coil", matplotlib.colormaps["Set2"], (0.5, 8.5))
        limits = shared_limits([images["CG-SENSE"]])
        for ax, (name, panel) in zip(axes[2:], images.items(), strict=True):
            beside(ax, panel, name, limits=limits)
    return figure


def m87(day: str, **options: Any) -> tuple[xr.Dataset, Any, torch.Tensor]:
    """Return one file's measurement, operator and y."""
    path = REPO / f"data/eht/SR1_M87_2017_{day}_hops_netcal_StokesI.uvfits"
    data = readers.find("uvfits")(path, **M87, **options)
    return data, *operators.from_measurement(data, dtype=torch.float64)


_images: dict[str, tuple[Any, torch.Tensor, float]] = {}


def sky(day: str) -> tuple[Any, torch.Tensor, float]:
    """Return operator, maximum-entropy image and reduced χ² of one file."""
    if day not in _images:
        _, physics, y = m87(day, **GAINS)
        image = physics.classical(y)["maximum entropy"]
        _images[day] = physics, image, float(physics.chi2(image, y)["reduced"])
    return _images[day]


def named(day: str) -> str:
    """Return the name of a day's file in words."""
    return f"{DAYS[day]}, {'high' if day.endswith('hi') else 'low'} band"


def closures() -> Figure:
    """Closure phases by time and log closure amplitudes by baseline, with the images' own."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9.0, 9.6), layout="constrained")
        axes = np.array(grid(figure, len(DAYS), 2)).reshape(-1, 2)
        for (left, right), day in zip(axes, DAYS, strict=True):
            data, physics, y = m87(day)
            model = physics.A(sky(day)[1])[0].numpy()
            values, sd = y[0].numpy(), physics.likelihood.cholesky.square().sum(1).sqrt().numpy()
            t = data.sizes["triangle"]
            time = data["time"].values[data["triangles"].values[:, 0]]
            length = np.hypot(data["u"].values, data["v"].values) / 1e9
            longest = length[data["quadrangles"].values].max(1)
            degrees = 180 / np.pi
            phases, errors = values[:t] * degrees, sd[:t] * degrees
            style: dict[str, Any] = {"fmt": "o", "ms": 2.6, "lw": 0.8, "color": FOUND}
            marks: dict[str, Any] = {"marker": "_", "s": 30, "color": "#c1440e", "zorder": 3}
            chi2 = physics.chi2(sky(day)[1], y)
            label = f"{t} measured, ± 1 σ"
            left.errorbar(time, phases, errors, label=label, **style)
            near = (model[:t] * degrees - phases + 180) % 360 - 180 + phases
            left.scatter(
                time, near, label=f"image, χ² = {chi2['closure phase'].item():.2f}", **marks
            )
            left.set(ylabel="closure phase (°)", ylim=(-200, 200), yticks=range(-180, 181, 90))
            label = f"{len(values) - t - 1} measured, ± 1 σ"
            right.errorbar(longest, values[t:-1], sd[t:-1], label=label, **style)
            fit = chi2["log closure amplitude"].item()
            right.scatter(longest, model[t:-1], label=f"image, χ² = {fit:.2f}", **marks)
            right.set(ylabel="log closure amplitude")
            for ax in (left, right):
                ax.axhline(0, color="0.8", lw=0.6, zorder=0)
                ax.set_title(named(day), loc="left")
                ax.legend(frameon=False, fontsize=7.5, loc="lower right", ncols=2,
                          bbox_to_anchor=(1.02, 0.98), columnspacing=0.8,
                          handletextpad=0.1)  # fmt: skip
        axes[-1, 0].set_xlabel("time (h UTC)")
        axes[-1, 1].set_xlabel("longest baseline of the quadrangle (10⁹ wavelengths)")
    return figure


def rings() -> Figure:
    """The maximum-entropy image of every file."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(8.4, 7.4), layout="constrained")
        for ax, day in zip(grid(figure, 2, 2), DAYS, strict=True):
            physics, image, chi2 = sky(day)
            pixel = abs(physics.image_spec.x[0] - physics.image_spec.x[1])
            scale = physics.flux_unit_jy / pixel**2 * 1e3
            beside(ax, a_map(image[0] * scale, physics, "mJy/µas²"), named(day), plots.glow())
            fits = f"χ² = {chi2:.2f}"
            ax.text(0.97, 0.95, fits, color="white", fontsize=8, ha="right", transform=ax.transAxes)
            ax.text(0.03, 0.93, "N ↑\n← E", color="white", fontsize=8, va="top",
                    transform=ax.transAxes)  # fmt: skip
    return figure


def photoacoustic() -> Figure:
    """The operator of the tutorial: truth, measurement, posterior mean and sd."""
    config = Config.of_file(REPO / "docs/examples/photoacoustic.yaml")
    problem = config.problem("vessels")
    examples = REPO / "docs/examples"
    data = readers.find(f"{examples / 'vessels.py'}:read")(**problem.data.options)
    physics, y = operators.from_measurement(
        data, operator=f"{examples / 'photoacoustic.py'}:Photoacoustic"
    )
    spec = physics.image_spec
    prior = load_prior(problem.prior, spec.shape, spec.units)
    sampler = samplers.build(problem.sampler.kind, prior, **problem.sampler.settings)
    draws = sampler.sample(y, physics, draws=problem.draws, seed=config.run.seed)["image"]
    truth = a_map(data["truth"].values, physics)
    back = a_map(physics.A_adjoint(y)[0], physics, "kPa mm²")
    mean, sd = (getattr(draws, k)("draw")[0] for k in ("mean", "std"))
    limits = shared_limits([truth])
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(14.0, 2.6), layout="constrained")
        axes = grid(figure, 1, 5)
        shown = axes[0].imshow(y[0].T, cmap="gray", aspect="auto", origin="lower")
        axes[0].set(xlabel="detector", ylabel="radius of the circle (px)", title="Measurement")
        axes[0].set_box_aspect(1)
        colour_bar(axes[0], shown, "kPa mm")
        beside(axes[1], back, "Back-projection")
        beside(axes[2], truth, "Truth", limits=limits)
        beside(axes[3], a_map(mean.values, physics), "Posterior mean", limits=limits)
        beside(axes[4], a_map(sd.values, physics), "Posterior sd", plots.SPREAD)
    return figure


FIGURES: dict[str, Callable[[], Figure]] = {
    "tooth": tooth,
    "helsinki": helsinki,
    "brain": brain,
    "m87-closures": closures,
    "m87-images": rings,
    "photoacoustic": photoacoustic,
}


def write(name: str, figure: Figure, dpi: int = 110) -> Path:
    """Write a figure as a PNG of 256 colours, which keeps it under 150 KB."""
    image = Image.open(io.BytesIO(plots.png(figure, dpi))).convert("RGB")
    buffer = io.BytesIO()
    image.quantize(256, dither=Image.Dither.NONE).save(buffer, "png", optimize=True)
    path = PICTURES / f"{name}.png"
    store.write_file(path, buffer.getvalue())
    return path


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=FIGURES, action="append")
    torch.set_num_threads(1)
    for chosen in parser.parse_args().only or FIGURES:
        written = write(chosen, FIGURES[chosen]())
        sys.stdout.write(f"{written.relative_to(REPO)} {written.stat().st_size // 1024} KB\n")
