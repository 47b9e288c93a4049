"""Simulated sources against eht-imaging: python docs/studies/compare_sources.py run|table|picture.

Twenty sources (five rings, crescents, discs and doubles of the black-hole family, seeds apart from
training) as M87's own (u, v) coverage and noise of 11 April 2017, low band, would have shown:
thermal noise of every 10 s integration, gains of random phase and 10 % amplitude for every station
and scan, errors of 2 % that do not close. Both codes get the same UVFITS file, scan averages
without intra-site baselines, and the total flux. `run` goes on where it was cut off; items are
written to results/compare-sources. eht-imaging has the parameters of the M87 pipeline that was
released with the data (EHT 2019-D01-02) up to its self-calibration, with and without amplitudes;
"data × 10" adds two rounds with ten-fold data terms.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sciinv import metrics, operators, priors, readers, samplers
from sciinv.operators.parts.sky_transform import SkyTransform
from sciinv.priors.phantoms import blackholes
from sciinv.quantities.ringfit import ring_parameters
from sciinv.readers import uvfits
from sciinv.readers.parts import vlbi
from sciinv.uncertainty.alignment import aligned

REPO = Path(__file__).resolve().parents[2]
GAINS = {"*": 0.1, "LM": 0.35}  # sd of log gains, of workflows/configs/m87.yaml
DAY = REPO / "data/eht/SR1_M87_2017_101_lo_hops_netcal_StokesI.uvfits"
OUT = REPO / "results/compare-sources"
PRIOR = REPO / "data/priors/blackhole.safetensors"
KINDS = ("ring", "crescent", "disc", "double")
EACH, SEED, FLUX, FIELD, SIZE = 5, 2026, 0.6, 128.0, 64
SYSTEMATIC, GAIN_SD, SNR_MIN = 0.02, 0.1, 3.0
LEVELS = (0.5, 0.8, 0.9)
PEERS = ("closures", "closures, data × 10", "with amplitudes", "with amplitudes, data × 10")


def truth(number: int) -> np.ndarray:
    """Return source `number` (0 … 19), pixels of sum 1, [64, 64]."""
    rng = np.random.default_rng([SEED, 10_000, number])  # training has [1, block, number]
    return blackholes.generate_kind(KINDS[number // EACH], rng)[0].astype("f8") * blackholes.SCALE


def observe(number: int) -> Path:
    """Write what the array would have measured of a source, and return the file."""
    rng = np.random.default_rng([SEED, 20_000, number])
    return observed(truth(number), rng, OUT / f"{number:02d}.uvfits")


def observed(source: np.ndarray, rng: np.random.Generator, path: Path) -> Path:
    """Write what the array would have measured of a source [64, 64] of sum 1, and return `path`."""
    path.unlink(missing_ok=True)
    raw = uvfits.read_table(DAY)
    # Square pixels lie between the points of one code and the triangles of the other.
    sky = SkyTransform(*map(torch.as_tensor, (raw.u, raw.v)), SIZE, FIELD, FLUX, "square")
    vis = sky(torch.as_tensor(source)[None, None])[0].numpy()
    scan = raw.scans()
    pair = (scan * len(raw.stations) + raw.station1) * len(raw.stations) + raw.station2
    error = SYSTEMATIC * rng.standard_normal((2, int(pair.max()) + 1))
    model = (vis[0] + 1j * vis[1]) * (1 + error[0] + 1j * error[1])[pair]
    seen = vlbi.simulate(raw, model, rng, gain_sd=GAIN_SD, random_phases=True).average_scans()
    within_site = seen.uv_distance < 1e8
    weak = seen.with_systematic_noise(SYSTEMATIC).snr < SNR_MIN
    uvfits.write(path, seen.select(~within_site & ~weak))
    return path


def operator(path: Path, kind: str, **overrides: Any) -> tuple[Any, Tensor]:
    """Return the operator of a file, read as by workflows/configs/m87.yaml, and y."""
    options: dict[str, Any] = {"gain_sd": GAINS} if kind == "amplitudes" else {}
    data = readers.find("uvfits")(path, kind=kind, systematic_noise=SYSTEMATIC, **options)
    return operators.from_measurement(data, **overrides)


def quiet() -> contextlib.ExitStack:
    """Return a context in which eht-imaging prints and warns into the void."""
    stack = contextlib.ExitStack()
    stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
    stack.enter_context(warnings.catch_warnings())
    warnings.simplefilter("ignore")
    return stack


def peer_data(path: Path) -> tuple[Any, Any]:
    """Return eht-imaging and its reading of a file."""
    import ehtim

    return ehtim, ehtim.obsdata.load_uvfits(str(path), polrep="stokes")


def by_ehtim(path: Path, amplitudes: float) -> tuple[np.ndarray, np.ndarray]:
    """Return eht-imaging's images after its usual rounds, and after two with ten-fold data terms.

    Pixels of sum 1 where the flux is right, [64, 64].
    """
    with quiet():
        ehtim, obs = peer_data(path)
        field, width = FIELD * ehtim.RADPERUAS, 40.0 * ehtim.RADPERUAS
        start = ehtim.image.make_square(obs, SIZE, field)
        start = start.add_gauss(FLUX, (width, width, 0, 0, 0))
        # a little of a second one beside it: closure phases have no slope at a symmetric image
        start = start.add_gauss(FLUX * 1e-2, (width, width, 0, width, width))
        terms = {"cphase": 1.0, "logcamp": 1.0} | ({"amp": amplitudes} if amplitudes else {})
        imager = ehtim.imager.Imager(
            obs, start, prior_im=start, flux=FLUX, data_term=terms,
            reg_term={"simple": 100.0, "tv": 1.0, "tv2": 1.0, "flux": 1e4},
            maxit=100, norm_reg=True, systematic_noise=SYSTEMATIC, stop=1e-4, ttype="direct",
        )  # fmt: skip
        imager.make_image_I(show_updates=False)
        images = []
        for blur in (1.0, 1.0, 1.0, 0.5, 0.5):
            if blur == 0.5:
                imager.dat_term_next = {k: 10 * v for k, v in imager.dat_terms_last().items()}
            imager.init_next = imager.out_last().blur_circ(blur * obs.res())
            imager.make_image_I(show_updates=False)
            images.append(np.array(imager.out_last().imarr()) / FLUX)
        return images[2], images[4]


def scores(images: np.ndarray, seen: np.ndarray, path: Path, pixel: str) -> list[dict[str, float]]:
    """Return cross-correlation, χ² by either code's function, per image.

    "closures" is the mean squared residual whitened by the covariance of all closure quantities,
    which does not depend on the choice of a minimal set; "cphase" and "logcamp" are the published
    ones of sciinv's set, "ehtim" those of eht-imaging's set by its own function.
    """
    physics, y = operator(path, "closures", dtype=torch.float64, pixel=pixel)
    with quiet():
        ehtim, obs = peer_data(path)
    out = []
    for image in np.asarray(images, "f8"):
        chi2 = physics.chi2(torch.as_tensor(image)[None, None], y)
        with quiet():
            sky = ehtim.image.Image(image * FLUX, FIELD / SIZE * ehtim.RADPERUAS, obs.ra, obs.dec,
                                    rf=obs.rf)  # fmt: skip
            own = [obs.chisq(sky, dtype=d, ttype="direct", systematic_noise=SYSTEMATIC)
                   for d in ("cphase", "logcamp")]  # fmt: skip
        out.append(
            {
                "nxcorr": metrics.normalised_cross_correlation(image, seen, shift=True),
                "cphase": float(chi2["closure phase"]),
                "logcamp": float(chi2["log closure amplitude"]),
                "closures": float(chi2["reduced"]),
                "ehtim cphase": float(own[0]),
                "ehtim logcamp": float(own[1]),
            }
        )
    return out


def one(number: int, draws: int, prior: Path) -> None:
    """Observe and reconstruct one source by both codes, and write the item."""
    path, source = observe(number), truth(number)
    begun = time.perf_counter()
    peers = dict(zip(PEERS, (*by_ehtim(path, 0.0), *by_ehtim(path, 0.2)), strict=True))
    peer_seconds = (time.perf_counter() - begun) / 2
    physics, y = operator(path, "amplitudes")
    sampler = samplers.DAPS(priors.load(prior), conditional="local", inflate=3, levels=40)
    found = sampler.sample(y, physics, draws=draws, seed=SEED, items=[number])
    images = found["image"].values[:, 0, 0].astype("f8")
    mean = images.mean(0)
    record = {
        "kind": KINDS[number // EACH],
        "draws": draws,
        "seconds": float(found["seconds"].mean()),
        "chi2": found["chi2"].values[:, 0].tolist(),
        "truth": scores(source[None], source, path, "square")[0],
        "each": scores(images, source, path, "point"),
        "mean": scores(mean[None], source, path, "point")[0],
        "ehtim": {k: scores(v[None], source, path, "triangle")[0] for k, v in peers.items()},
        "ehtim_seconds": peer_seconds,
        "flux": images.sum((1, 2)).tolist(),
    }
    np.savez(OUT / f"{number:02d}.npz", truth=source, draws=images.astype("f4"), **peers)
    (OUT / f"{number:02d}.json").write_text(json.dumps(record, indent=1))


def run(draws: int, wanted: list[int], prior: Path) -> None:
    """Do the sources that are not there yet, in turns over the kinds."""
    OUT.mkdir(parents=True, exist_ok=True)
    turns = [EACH * k + i for i in range(EACH) for k in range(len(KINDS))]
    for number in wanted or turns:
        done = OUT / f"{number:02d}.json"
        if done.is_file() and json.loads(done.read_text())["draws"] >= draws:
            continue
        one(number, draws, prior)
        stack = np.load(done.with_suffix(".npz"))
        sys.stdout.write(f"{number} {line(with_rings(json.loads(done.read_text()), stack))}\n")
        sys.stdout.flush()


def with_rings(r: dict[str, Any], stack: Any) -> dict[str, Any]:
    """Return a record with the word whether each of its images is a ring."""

    def found(images: np.ndarray) -> list[bool]:
        return ring_parameters(images, FIELD / SIZE).found.reshape(-1).tolist()

    (r["truth"]["ring"],) = found(stack["truth"])
    for one, ring in zip(r["each"], found(stack["draws"]), strict=True):
        one["ring"] = ring
    for name, peer in r["ehtim"].items():
        (peer["ring"],) = found(stack[name])
    return r


def line(r: dict[str, Any]) -> str:
    """Return one source as the cells of a row."""
    each, peers = r["each"], r["ehtim"]
    middle = {k: float(np.median([d[k] for d in each])) for k in ("nxcorr", "closures")}
    cells = [r["kind"], f"{middle['nxcorr']:.3f}"]
    cells += [f"{p['nxcorr']:.3f}" for p in peers.values()]
    cells += [f"{r['truth']['closures']:.2f}", f"{middle['closures']:.2f}"]
    cells += [f"{p['closures']:.2f}" for p in peers.values()]
    cells += [f"{sum(d['ring'] for d in each)} of {r['draws']}"]
    cells += ["ring" if r["truth"]["ring"] else "none"]
    return " | ".join(cells) + " |"


def diameters(stacks: list[Any]) -> None:
    """Print the error of the ring's diameter ÷ its posterior sd, where truth and draws show one."""
    errors, z = [], []
    for stack in stacks:
        seen = float(ring_parameters(stack["truth"], FIELD / SIZE).diameter)
        each = ring_parameters(stack["draws"].astype("f8"), FIELD / SIZE).diameter
        each = each[np.isfinite(each)]
        if np.isfinite(seen) and len(each) > 2:
            spread = each.std(ddof=1) * np.sqrt(1 + 1 / len(each))
            errors.append(each.mean() - seen)
            z.append(errors[-1] / spread)
            sys.stdout.write(f"  {seen:.1f} µas: {each.mean():.1f} ± {each.std(ddof=1):.1f}, "
                             f"{len(each)} draws\n")  # fmt: skip
    sys.stdout.write(f"ring diameter, {len(z)} sources: error {np.round(errors, 2)} µas; ÷ sd "
                     f"{np.round(z, 2)}, rms {np.sqrt(np.mean(np.square(z))):.2f}\n")  # fmt: skip


def table() -> None:
    """Print one line per source, and the figures of all."""
    files = sorted(OUT.glob("??.json"))
    records = [json.loads(f.read_text()) for f in files]
    stacks = [np.load(f.with_suffix(".npz")) for f in files]
    for f, r, z in zip(files, records, stacks, strict=True):
        with_rings(r, z)
        mean = aligned(z["draws"].astype("f8")).mean(0)
        r["aligned"] = metrics.normalised_cross_correlation(mean, z["truth"], shift=True)
        sys.stdout.write(f"| {int(f.stem)} | {r['aligned']:.3f} | {line(r)}\n")
    n = len(records)
    sys.stdout.write(f"sources: {n}\n")
    measures = ("nxcorr", "cphase", "logcamp", "closures", "ehtim cphase", "ehtim logcamp")
    for key in measures:
        mean = np.array([r["aligned"] if key == "nxcorr" else r["mean"][key] for r in records])
        draw = np.array([np.median([d[key] for d in r["each"]]) for r in records])
        peers = {k: np.array([r["ehtim"][k][key] for r in records]) for k in PEERS}
        seen = np.array([r["truth"][key] for r in records])
        sign = 1 if key == "nxcorr" else -1
        sys.stdout.write(
            f"{key}: truth {np.median(seen):.3f}; mean {np.median(mean):.3f}, "
            f"draws {np.median(draw):.3f}\n"
        )
        for k, v in peers.items():
            better = [int((sign * x > sign * v).sum()) for x in (mean, draw)]
            sys.stdout.write(f"  {k}: {np.median(v):.3f}; better than it: mean {better[0]}, "
                             f"median draw {better[1]} of {n}\n")  # fmt: skip
        best = np.max([sign * v for v in peers.values()], axis=0)
        better = [int((sign * x > best).sum()) for x in (mean, draw)]
        sys.stdout.write(f"  best of the four each time: {better[0]}, {better[1]} of {n}\n")
    for k in PEERS:
        both = [
            np.median([d["nxcorr"] for d in r["each"]]) > r["ehtim"][k]["nxcorr"]
            and np.median([d["closures"] for d in r["each"]]) < r["ehtim"][k]["closures"]
            for r in records
        ]
        sys.stdout.write(f"median draw nearer to the truth and to the data than eht-imaging, {k}: "
                         f"{sum(both)} of {n}\n")  # fmt: skip
    held, lit = [], []
    for z in stacks:
        draws, seen = z["draws"].astype("f8"), z["truth"]
        bright = draws.mean(0) > 0.05 * draws.mean(0).max()
        held.append(metrics.coverage(draws, seen, LEVELS))
        lit.append(metrics.coverage(draws[:, bright], seen[bright], LEVELS))
    for name, values in (("all pixels", held), ("above 5 % of the mean's peak", lit)):
        spread = np.std(values, 0, ddof=1) / np.sqrt(n)
        sys.stdout.write(f"inside {LEVELS}, {name}: {np.mean(values, 0)} ± {spread}\n")
    for ring in (True, False):
        some = [r for r in records if r["truth"]["ring"] is ring]
        share = [np.mean([d["ring"] for d in r["each"]]) for r in some]
        right = sum(bool(s > 0.5) is ring for s in share)
        kind = "a ring" if ring else "no ring"
        sys.stdout.write(f"truth {kind}: {len(some)}; most draws agree in {right}; shares of "
                         f"draws with a ring {np.round(share, 2)}\n")  # fmt: skip
        for k in PEERS:
            right = sum(r["ehtim"][k]["ring"] is ring for r in some)
            sys.stdout.write(f"  eht-imaging, {k}: {right}\n")
    diameters(stacks)
    seconds = [r["seconds"] for r in records]
    sys.stdout.write(f"seconds a draw (shared core): {np.median(seconds):.0f}\n")


def picture() -> None:
    """Write truth, eht-imaging, posterior mean and sd of the first source of each kind."""
    import matplotlib
    from make_pictures import write
    from matplotlib.figure import Figure

    from sciinv import plots
    from sciinv.plots.style import STYLE, grid

    columns = ("Truth", "eht-imaging", "Posterior mean", "Posterior sd")
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 7.0), layout="constrained")
        axes = np.array(grid(figure, len(KINDS), len(columns))).reshape(len(KINDS), -1)
        for number, (row, kind) in enumerate(zip(axes, KINDS, strict=True)):
            z = np.load(OUT / f"{EACH * KINDS.index(kind):02d}.npz")
            draws, top = z["draws"], float(z["truth"].max())
            moved = aligned(draws)
            maps = (z["truth"], z["with amplitudes"], moved.mean(0), moved.std(0, ddof=1))
            for ax, title, image in zip(row, columns, maps, strict=True):
                colours = plots.SPREAD if title.endswith("sd") else plots.glow()
                limit = float(image.max()) if title.endswith("sd") else top
                ax.imshow(image, cmap=colours, vmin=0, vmax=limit, interpolation="nearest")
                ax.set_xticks([])
                ax.set_yticks([])
                if number == 0:
                    ax.set_title(title)
            row[0].set_ylabel(kind)
        row[0].plot([4, 24], [59, 59], color="white", lw=1.5)
        row[0].text(4, 57, "40 µas", color="white", fontsize=8, va="bottom")
    write("sources", figure)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("run", "table", "picture"))
    parser.add_argument("numbers", nargs="*", type=int)
    parser.add_argument("--draws", type=int, default=8)
    parser.add_argument("--prior", type=Path, default=PRIOR)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.what == "run":
        run(given.draws, given.numbers, given.prior)
    elif given.what == "table":
        table()
    else:
        picture()
