"""MRI against BART: python docs/studies/compare_brains.py predict|simulate|table|picture.

`predict`: of the measured brain in data/mri a part of the samples is left out, reconstructed from
the rest and predicted. `simulate`: four slices of a brain that the prior never saw (MNI ICBM152, as
in nilearn's package; --head FILE), each in a contrast and with a smooth phase of its own, eight
simulated coils, random lines at 4 and 8 times acceleration, noise as in the measured brain; all
methods are given the true coil maps. BART's regularisation is the best of a scan: by the samples
left out in the first case, by the truth in the second, so that both favour BART. Where there is no
`bart`, `simulate` takes the figures of its L1-wavelet as they were measured (`MEASURED`; the data
are the same, their seeds are fixed). Results go to results/compare-brains (`--out`), item by item;
what is there is not done again. The sampler is the prior's own; `--prior FILE` takes another file.
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.interpolate import PchipInterpolator

from sciinv import metrics, operators, priors, readers, samplers
from sciinv.operators.parts import mri_coils, mri_masks
from sciinv.priors.phantoms import brains

REPO = Path(__file__).resolve().parents[2]
KSPACE = REPO / "data/mri/cartesian_ksp.npy"
PRIOR = REPO / "data/priors/mri.safetensors"
OUT = REPO / "results/compare-brains"
SEED = 2026
SHAPE = (216, 184)
KNOTS = (0, 20, 80, 168, 217, 255)  # intensities: air, edge, liquor, grey, white, brightest
SLICES = {
    "T1, z 62": (62, (0, 0.05, 0.25, 0.65, 1.0, 1.05)),
    "T2, z 78": (78, (0, 0.1, 1.0, 0.6, 0.42, 0.4)),
    "PD, z 94": (94, (0, 0.05, 0.95, 0.85, 0.7, 0.65)),
    "T1, z 110": (110, (0, 0.03, 0.15, 0.55, 1.0, 1.1)),
}
PENALTIES = tuple(float(f"{v:.2g}") for v in np.geomspace(3e-4, 0.3, 10))
METHODS = {"L1-wavelet": ("-l1", "-i", "100"), "CG-SENSE": ("-l2", "-i", "30")}
LEVELS = (0.5, 0.8, 0.9)
# PSNR, dB, and SSIM of `bart pics` on the simulated slices at 4 and 8 times, 24 November 2026
MEASURED = {
    "L1-wavelet": (
        ((25.9, 0.56), (19.5, 0.39)), ((27.2, 0.57), (22.2, 0.48)),
        ((28.0, 0.59), (26.4, 0.50)), ((25.4, 0.47), (20.3, 0.45)),
    ),
    "CG-SENSE": (
        ((23.2, 0.45), (18.6, 0.30)), ((22.1, 0.41), (18.9, 0.31)),
        ((21.5, 0.33), (20.1, 0.31)), ((22.6, 0.37), (19.3, 0.29)),
    ),
}  # fmt: skip


def sampler(prior: Path) -> samplers.DAPS:
    """Return the sampler with the prior's own settings."""
    return samplers.DAPS(priors.load(prior))


def bart(kspace: np.ndarray, maps: np.ndarray, *options: str) -> np.ndarray:
    """Return the image [y, x] of `bart pics` in the scale of the k-space [coil, ky, kx]."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file, values in (("k", kspace), ("maps", maps)):
            coils, h, w = values.shape
            (folder / f"{file}.hdr").write_text(f"# Dimensions\n{h} {w} 1 {coils}\n")
            np.asarray(values.transpose(1, 2, 0), np.complex64).flatten("F").tofile(
                folder / f"{file}.cfl"
            )
        subprocess.run(["bart", "pics", "-S", *options, "k", "maps", "x"], cwd=folder, check=True,
                       capture_output=True)  # fmt: skip
        image = np.fromfile(folder / "x.cfl", np.complex64).reshape(kspace.shape[1:], order="F")
    # its centred transform leaves out a constant sign where N // 2 is odd
    odd = sum(n // 2 for n in kspace.shape[1:]) % 2
    return -image if odd else image


def as_channels(z: np.ndarray) -> torch.Tensor:
    """Return a complex image [H, W] as [1, 2, H, W]."""
    return torch.from_numpy(np.stack([z.real, z.imag])[None].astype("f4"))


@dataclass(frozen=True)
class Peer:
    """BART's image at the penalty of the lowest score, and the score at every penalty."""

    image: np.ndarray
    penalty: float
    scan: dict[float, float]


def best(
    score: Callable[[np.ndarray], float], kspace: np.ndarray, maps: np.ndarray
) -> dict[str, Peer]:
    """Return BART's best image of each method."""
    out = {}
    for name, options in METHODS.items():
        images = {r: bart(kspace, maps, *options, "-r", str(r)) for r in PENALTIES}
        scan = {r: score(z) for r, z in images.items()}
        penalty = min(scan, key=lambda r: scan[r])
        out[name] = Peer(images[penalty], penalty, scan)
    return out


def left_out(mask: np.ndarray) -> dict[str, np.ndarray]:
    """Return the samples to predict: half of all, and half of those around the calibration."""
    centre = np.zeros_like(mask)
    centre[mri_coils.calibration_region(mask)] = True
    half = np.random.default_rng(SEED).random(mask.shape) < 0.5
    return {"all": mask & half, "around": mask & half & ~centre}


def predict(prior: Path, out: Path, draws: int) -> None:
    """Leave out half of the measured samples, or half of those around the calibration region."""
    data = readers.find("kspace")(KSPACE)
    physics, y = operators.from_measurement(data)
    mask, maps = physics.mask.numpy(), physics.coil_maps.numpy()
    noise = float(data["noise_sd"][0])
    for name, out_mask in left_out(mask).items():
        done = out / f"predict-{name}.json"
        if done.is_file():
            continue
        kept = mask & ~out_mask
        grid = physics.unpack(y)
        inside, outside = (
            operators.load("mri", mask=m, coil_maps=maps, noise_sd=noise, units=data.attrs["units"])
            for m in (kept, out_mask)
        )
        inside.image_spec = physics.image_spec
        y_in, y_out = inside.pack(grid), outside.pack(grid)
        norm = float(y_out.norm())

        def error(x: torch.Tensor, part: Any = outside, y: Any = y_out, n: float = norm) -> float:
            return float((part.A(x) - y).norm() / n)

        found = sampler(prior).sample(y_in, inside, draws=draws, seed=SEED)
        images = torch.from_numpy(found["image"].values[:, 0])
        predicted = torch.cat([outside.A(x[None]) for x in images])
        variance = predicted.var(0) * (1 + 1 / draws)
        chi2 = (y_out[0] - predicted.mean(0)).square() / (noise**2 + variance)
        peers = best(lambda z, e=error: e(as_channels(z)), inside.unpack(y_in)[0].numpy(), maps)
        zero = float(noise * np.sqrt(y_out.numel()) / norm)
        record = {
            "samples": [int(kept.sum()), int(out_mask.sum())],
            "draws": draws,
            "noise alone": zero,
            "posterior mean": error(images.mean(0)[None]),
            "single draws": [error(x[None]) for x in images],
            "predictive chi2": float(chi2.mean()),
            "noise-only chi2": float(((y_out[0] - predicted.mean(0)).square() / noise**2).mean()),
            "chi2 of draws on kept": found["chi2"].values[:, 0].tolist(),
            "seconds": float(found["seconds"].mean()),
            **{k: {"error": p.scan[p.penalty], "scan": p.scan} for k, p in peers.items()},
        }
        np.savez(
            out / f"predict-{name}.npz",
            draws=images.numpy(),
            **{k: p.image for k, p in peers.items()},
        )
        done.write_text(json.dumps(record, indent=1))
        sys.stdout.write(f"{name} {json.dumps(record)}\n")
        sys.stdout.flush()


def source(head: str, number: int) -> np.ndarray:
    """Return slice `number` as a complex image [H, W], the 99th percentile of its magnitude 1."""
    import nibabel

    z, values = list(SLICES.values())[number]
    volume = np.asarray(nibabel.load(head).get_fdata(dtype=np.float32))
    plane = volume[:, :, z].T[::-1]  # anterior at the top
    magnitude = PchipInterpolator(KNOTS, values)(plane).clip(0)
    canvas = np.zeros((256, 256))
    top, left = (256 - plane.shape[0]) // 2, (256 - plane.shape[1]) // 2
    canvas[top : top + plane.shape[0], left : left + plane.shape[1]] = magnitude
    generator = torch.Generator().manual_seed(SEED + number)
    phase = brains.random_phase(1, 256, generator)[0, 0].numpy()
    rows, columns = ((256 - n) // 2 for n in SHAPE)
    image = (canvas * np.exp(1j * phase))[rows : rows + SHAPE[0], columns : columns + SHAPE[1]]
    return image / np.percentile(np.abs(image), 99)


def simulate(prior: Path, out: Path, head: str, draws: int) -> None:
    """Four slices at two accelerations."""
    data = readers.find("kspace")(KSPACE)
    noise = float(data["noise_sd"][0])
    maps = mri_coils.simulate_maps(8, SHAPE)
    for number, name in enumerate(SLICES):
        for acceleration, centre in ((4, 0.08), (8, 0.04)):
            done = out / f"simulate-{number}-{acceleration}.json"
            if done.is_file() and json.loads(done.read_text())["draws"] >= draws:
                continue
            truth = source(head, number)
            mask = mri_masks.random_lines(SHAPE, acceleration, centre, seed=SEED + number)
            physics = operators.load("mri", mask=mask, coil_maps=maps, noise_sd=noise,
                                     units=json.loads(data.attrs["params"])["units"])  # fmt: skip
            clean = physics.A(as_channels(truth))
            generator = torch.Generator().manual_seed(SEED + 100 * number + acceleration)
            y = clean + noise * torch.randn(clean.shape, generator=generator)
            found = sampler(prior).sample(y, physics, draws=draws, seed=SEED, items=[number])
            images = found["image"].values[:, 0]
            complex_draws = images[:, 0] + 1j * images[:, 1]
            seen = np.abs(truth)
            span = float(seen.max())

            def psnr(z: np.ndarray, seen: np.ndarray = seen, span: float = span) -> float:
                return metrics.psnr(np.abs(z), seen, span)

            def ssim(z: np.ndarray, seen: np.ndarray = seen, span: float = span) -> float:
                return metrics.ssim(np.abs(z), seen, span)

            known = {k: list(v[number][acceleration // 8]) for k, v in MEASURED.items()}
            peers = {}
            if shutil.which("bart"):
                peers = best(lambda z, f=psnr: -f(z), physics.unpack(y)[0].numpy(), maps)
                known = {k: [psnr(p.image), ssim(p.image), p.penalty] for k, p in peers.items()}
            mean = complex_draws.mean(0)
            parts = np.stack([truth.real, truth.imag])
            head_mask = np.abs(mean) > 0.05  # where the reconstruction itself shows tissue
            record = {
                "name": name,
                "acceleration": acceleration,
                "draws": draws,
                "noise": noise,
                "chi2": found["chi2"].values[:, 0].tolist(),
                "seconds": float(found["seconds"].mean()),
                "posterior mean": [psnr(mean), ssim(mean)],
                "mean magnitude": [
                    psnr(np.abs(complex_draws).mean(0)),
                    ssim(np.abs(complex_draws).mean(0)),
                ],
                "single draws": [[psnr(z), ssim(z)] for z in complex_draws],
                **known,
                "coverage": metrics.coverage(images, parts, LEVELS).tolist(),
                "coverage in the head": metrics.coverage(
                    images[:, :, head_mask], parts[:, head_mask], LEVELS
                ).tolist(),
                "spread / error": metrics.spread_skill(images, parts),
            }
            np.savez(out / f"simulate-{number}-{acceleration}.npz", truth=truth,
                     draws=complex_draws, **{k: p.image for k, p in peers.items()})  # fmt: skip
            done.write_text(json.dumps(record, indent=1))
            sys.stdout.write(f"{json.dumps(record)}\n")
            sys.stdout.flush()


def table(out: Path) -> None:
    """Print what is there as rows of tables."""
    for file in sorted(out.glob("predict-*.json")):
        r = json.loads(file.read_text())
        single = np.median(r["single draws"])
        cells = [f"{r[k]['error']:.3f}" for k in METHODS]
        sys.stdout.write(
            f"| {file.stem} {r['samples']} | {r['posterior mean']:.4f} | {single:.4f} | "
            f"{' | '.join(cells)} | {r['noise alone']:.4f} | {r['predictive chi2']:.2f} |\n"
        )
    records = [json.loads(f.read_text()) for f in sorted(out.glob("simulate-*.json"))]
    for r in records:
        single = np.median(r["single draws"], axis=0)
        named = {"mean": r["posterior mean"], "draw": single, **{k: r[k] for k in METHODS}}
        cells = [f"{v[0]:.1f} / {v[1]:.2f}" for v in named.values()]
        held = [f"{100 * r[k][2]:.0f}" for k in ("coverage", "coverage in the head")]
        sys.stdout.write(
            f"| {r['name']}, {r['acceleration']} × | {' | '.join(cells)} | {' / '.join(held)} | "
            f"{r['spread / error']:.2f} | {np.median(r['chi2']):.2f} |\n"
        )
    for acceleration in (4, 8):
        some = [r for r in records if r["acceleration"] == acceleration]
        if not some:
            continue
        gain = [r["posterior mean"][0] - r["L1-wavelet"][0] for r in some]
        held = [np.mean([r[k] for r in some], 0) for k in ("coverage", "coverage in the head")]
        sys.stdout.write(f"{acceleration} ×: gain {np.mean(gain):.2f} dB {np.round(gain, 2)}, "
                         f"inside {LEVELS} {np.round(held, 3).tolist()}\n")  # fmt: skip


def picture(out: Path) -> None:
    """Write truth, L1-wavelet, posterior mean and sd of two slices at eight times acceleration."""
    import matplotlib
    from matplotlib.figure import Figure
    from PIL import Image

    from sciinv import plots
    from sciinv.plots.style import STYLE, grid

    columns = ("Truth", "L1-wavelet (BART)", "Posterior mean", "One draw", "Posterior sd")
    chosen = ("simulate-0-4", "simulate-0-8")
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9.6, 4.7), layout="constrained")
        axes = np.array(grid(figure, len(chosen), len(columns))).reshape(len(chosen), -1)
        for number, (row, name) in enumerate(zip(axes, chosen, strict=True)):
            z, r = np.load(out / f"{name}.npz"), json.loads((out / f"{name}.json").read_text())
            draws = z["draws"]
            sd = np.sqrt(draws.real.var(0, ddof=1) + draws.imag.var(0, ddof=1))
            maps = (z["truth"], z["L1-wavelet"], draws.mean(0), draws[0])
            top = float(np.abs(z["truth"]).max())
            for ax, image in zip(row, maps, strict=False):
                ax.imshow(np.abs(image), cmap="gray", vmin=0, vmax=top)
            row[-1].imshow(sd, cmap=plots.SPREAD, vmin=0)
            for ax, title in zip(row, columns, strict=True):
                ax.set_xticks([])
                ax.set_yticks([])
                if number == 0:
                    ax.set_title(title)
            row[0].set_ylabel(f"{r['name']}, {r['acceleration']} ×")
    image = Image.open(io.BytesIO(plots.png(figure, 110))).convert("RGB")
    path = REPO / "docs/pictures/brains-compared.jpg"
    image.save(path, quality=82, optimize=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("predict", "simulate", "table", "picture"))
    parser.add_argument("--draws", type=int, default=8)
    parser.add_argument("--head", default="")
    parser.add_argument("--prior", type=Path, default=PRIOR)
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args()
    torch.set_num_threads(1)
    given.out.mkdir(parents=True, exist_ok=True)
    if given.what == "predict":
        predict(given.prior, given.out, given.draws)
    elif given.what == "simulate":
        simulate(given.prior, given.out, given.head, given.draws)
    elif given.what == "table":
        table(given.out)
    else:
        picture(given.out)
