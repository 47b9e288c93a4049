"""Measure the figures of operators.md: python docs/studies/measure_operators.py [SECTION …].

Sections: adjoint, derivative, peers, speed. Peers that are not installed are left out with a line
that says so. Speed is given as ratios of calls that take turns within this one process.
"""

from __future__ import annotations

import importlib.util
import itertools
import json
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sciinv import operators, readers
from sciinv.operators.parts import mri_coils, mri_masks
from sciinv.operators.stack import stack

REPO = Path(__file__).resolve().parents[2]
DAY = REPO / "data/eht/SR1_M87_2017_101_lo_hops_netcal_StokesI.uvfits"
ODD = ((31, 24), (17, 33))
SCAN = {"pixel_mm": 0.7, "detectors": 45, "detector_mm": 0.9}
FAN = {"geometry": "fan", "source_origin_mm": 60.0, "origin_detector_mm": 30.0}


def say(what: str, got: str) -> None:
    """Print one figure."""
    sys.stdout.write(f"{what:<64} {got}\n")
    sys.stdout.flush()


def ct(**changes: Any) -> Any:
    """Return a small scan at angles without symmetry."""
    given = {"angles": np.linspace(3.3, 200, 13), "image_size": (31, 24), **SCAN, **changes}
    return operators.load("ct", **given)


def sky(kind: str, **options: Any) -> Any:
    """Return an operator of M87's coverage and its measurement."""
    data = readers.find("uvfits")(DAY, kind, image_size=33, **options)
    return operators.from_measurement(data, dtype=torch.float64)


def linear_operators() -> Iterator[tuple[str, Any]]:
    """Yield every linear operator in all its options, at odd sizes."""
    for shape, sets, small in itertools.product(ODD, (1, 2), (False, True)):
        maps = np.stack([mri_coils.simulate_maps(3 + s, shape)[:3] for s in range(sets)])
        image = (shape[0] - 4, shape[1] - 5) if small else None
        masks = {
            "points": np.random.default_rng(0).random(shape) < 0.4,
            "lines ky": mri_masks.random_lines(shape, 3, centre=0.2, axis=-2),
            "lines kx": mri_masks.random_lines(shape, 3, centre=0.2, axis=-1),
            "full": np.ones(shape, bool),
        }
        for mask in masks.values():
            yield "mri", operators.load("mri", mask=mask, coil_maps=maps, noise_sd=[0.1, 0.2, 0.3],
                                        image_shape=image)  # fmt: skip
        if importlib.util.find_spec("finufft") is not None and not small:
            from sciinv.operators.mri_noncartesian import radial_trajectory

            points = radial_trajectory(shape, 7)
            yield (
                "mri-noncartesian",
                operators.load("mri-noncartesian", trajectory=points, coil_maps=maps, noise_sd=0.1),
            )
    for model, beam, size, offset, memory in itertools.product(
        ("strip", "line", "joseph"), ({}, FAN), (25, (31, 24)), (0.0, 0.35), (2048.0, 1e-3)
    ):
        yield "ct", ct(model=model, image_size=size, detector_offset_mm=offset,
                       memory_limit_mb=memory, **beam)  # fmt: skip
    for pixel in ("point", "square", "triangle"):
        physics, _ = sky("visibilities")
        t = physics.transform
        one = operators.load("visibilities", u=t.u, v=t.v, noise_sd=0.01, image_size=33,
                             pixel=pixel)  # fmt: skip
        yield "visibilities", one
    yield "stack", stack([one, sky("visibilities")[0]])


def nonlinear_operators() -> Iterator[tuple[str, Any]]:
    """Yield every nonlinear operator."""
    for beam in ({}, FAN):
        yield "ct-counts", operators.load("ct-counts", angles=np.linspace(3.3, 200, 13),
            image_size=(31, 24), blank_counts=1e4, dark_counts=20.0, **SCAN, **beam)  # fmt: skip
    for kind, count in (
        ("closures", "minimal"),
        ("closures", "maximal"),
        ("amplitudes", "minimal"),
    ):
        yield f"closures ({kind}, {count})", sky(kind, count=count)[0]
    yield "stack", stack([sky("closures")[0], sky("visibilities", flux_unit_jy=0.6)[0]])


def adjoint() -> None:
    """⟨A x, v⟩ against ⟨x, Aᵀ v⟩, relative to ‖A x‖ ‖v‖."""
    worst: dict[str, list[float]] = {}
    count: dict[str, int] = {}
    for name, physics in linear_operators():
        count[name] = count.get(name, 0) + 1
        for k, dtype in enumerate((torch.float32, torch.float64)):
            x = torch.randn(2, *physics.image_spec.shape, dtype=dtype)
            u = physics.A(x)
            v = torch.randn_like(u)
            # the sums themselves in float64, so that only the operator's rounding counts
            left = (u.double() * v.double()).sum()
            right = (x.double() * physics.A_adjoint(v).double()).sum()
            error = float((left - right).abs() / (u.double().norm() * v.double().norm()))
            held = worst.setdefault(name, [0.0, 0.0])
            held[k] = max(held[k], error)
    for name, (single, double) in worst.items():
        say(f"dot-product, {name}, {count[name]} settings", f"{single:.0e} / {double:.0e}")


def derivative() -> None:
    """Aᵀ-like product of the derivative against central differences in float64."""
    for name, physics in nonlinear_operators():
        error = 0.0
        for _ in range(5):
            # attenuations of some 0.01/mm; a sky of pixel sum about 1
            x = 0.02 * torch.rand(1, *physics.image_spec.shape, dtype=torch.float64)
            if physics.image_spec.axis_units == "µas":
                x = x**4 / (x**4).sum()
            d = torch.randn_like(x) * x
            u = physics.A(x)
            v = torch.randn_like(u)
            if name == "ct-counts":
                v = v / u
            h = 1e-4  # with h², the next order, eliminated by Richardson's extrapolation
            slopes = [(physics.A(x + s * d) - physics.A(x - s * d)) / (2 * s) for s in (h, 2 * h)]
            moved = (4 * slopes[0] - slopes[1]) / 3
            difference = (moved * v).sum() - (physics.A_vjp(x, v) * d).sum()
            error = max(error, float(difference.abs() / (moved.norm() * v.norm())))
        say(f"vjp against central differences, {name}", f"{error:.0e}")


def apart(ours: Any, theirs: Any) -> str:
    """Return ‖a − b‖ / ‖b‖."""
    a, b = np.asarray(ours).ravel(), np.asarray(theirs).ravel()
    return f"{np.linalg.norm(a - b) / np.linalg.norm(b):.1e}"


def peers() -> None:
    """Other codes on the same input."""
    for name, compare in {"astra": with_astra, "skimage": with_skimage, "sigpy": with_sigpy,
                          "ehtim": with_ehtim}.items():  # fmt: skip
        if importlib.util.find_spec(name) is None:
            say(name, "not installed")
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compare()


def with_astra() -> None:
    """The five projectors that both have."""
    import astra

    angles = np.linspace(0, 180, 36, endpoint=False)
    x = np.random.default_rng(0).random((48, 54))
    for beam, model, theirs in (
        ("parallel", "line", "line"), ("parallel", "joseph", "linear"),
        ("parallel", "strip", "strip"), ("fan", "line", "line_fanflat"),
        ("fan", "strip", "strip_fanflat"),
    ):  # fmt: skip
        options = FAN if beam == "fan" else {}
        physics = ct(angles=angles, image_size=x.shape, detectors=70, model=model, **options)
        p, d = SCAN["pixel_mm"], SCAN["detector_mm"]
        kind = "fanflat" if options else "parallel"
        far = [60.0 / p, 30.0 / p] if options else []
        scan = astra.create_proj_geom(kind, d / p, 70, np.deg2rad(angles), *far)
        projector = astra.create_projector(theirs, scan, astra.create_vol_geom(*x.shape))
        expected = astra.matrix.get(astra.projector.matrix(projector)) @ x.ravel() * p
        say(f"astra {astra.__version__}, {beam}, {model}",
            apart(physics.A(torch.as_tensor(x)[None, None]), expected))  # fmt: skip


def with_skimage() -> None:
    """Its radon turns the image by bilinear interpolation and samples rays without width."""
    import skimage
    from skimage.transform import radon

    n, angles = 129, np.arange(0, 180, 4.0)
    y, x = np.mgrid[:n, :n] - (n - 1) / 2
    image = np.exp(-((x - 19) ** 2 + (y + 22) ** 2) / 160) + np.exp(-(x**2 / 300 + y**2 / 700))
    image[x**2 + y**2 > 60**2] = 0
    physics = operators.load("ct", angles=angles, image_size=n, pixel_mm=1.0, detectors=n,
                             detector_mm=1.0)  # fmt: skip
    found = physics.A(torch.as_tensor(image)[None, None])
    say(
        f"scikit-image {skimage.__version__}, parallel, strip", apart(found, radon(image, angles).T)
    )


def with_sigpy() -> None:
    """The brain: both products."""
    import sigpy
    from sigpy.mri import linop

    data = readers.find("kspace")(REPO / "data/mri/cartesian_ksp.npy")
    physics, y = operators.from_measurement(data)
    theirs = linop.Sense(physics.coil_maps.numpy(), weights=physics.mask.numpy().astype("f4"))
    x = torch.randn(1, *physics.image_spec.shape)
    forward = physics.unpack(physics.A(x))[0]
    say(
        f"sigpy {sigpy.__version__}, 8 coils, A",
        apart(forward, theirs * torch.complex(*x[0]).numpy()),
    )
    back = physics.A_adjoint(y)[0]
    expected = theirs.H * physics.unpack(y)[0].numpy()
    say(f"sigpy {sigpy.__version__}, 8 coils, Aᵀ", apart(torch.complex(*back), expected))


def with_ehtim() -> None:
    """Visibilities of an image at the baselines of 11 April."""
    import contextlib
    import io

    with contextlib.redirect_stdout(io.StringIO()):
        import ehtim

        obs = ehtim.obsdata.load_uvfits(str(DAY), polrep="stokes")
        n, fov = 32, 100.0
        image = np.random.default_rng(3).random((n, n))
        image *= 0.6 / image.sum()
        peer = ehtim.image.Image(image, fov / n * ehtim.RADPERUAS, obs.ra, obs.dec, rf=obs.rf)
        expected = peer.observe_same_nonoise(obs, ttype="direct").data["vis"].copy()
    physics = operators.load("visibilities", u=obs.data["u"], v=obs.data["v"], noise_sd=1.0,
                             image_size=n, field_of_view_uas=fov, pixel="triangle")  # fmt: skip
    y = physics.A(torch.as_tensor(image)[None, None])[0].numpy()
    say(
        f"ehtim {version('ehtim')}, {len(obs.data)} visibilities",
        apart(y[0] + 1j * y[1], expected),
    )


def ratio(mine: Callable[[], object], other: Callable[[], object], turns: int) -> str:
    """Return the median of (time of mine ÷ time of other), both taking turns."""
    times = []
    mine(), other()
    for _ in range(turns):
        start = time.perf_counter()
        mine()
        middle = time.perf_counter()
        other()
        times.append((middle - start) / (time.perf_counter() - middle))
    return f"{statistics.median(times):.2f}"


def speed() -> None:
    """The three rows of the goal, one thread."""
    from deepinv.physics import Tomography

    angles, x = np.arange(180.0), torch.rand(8, 1, 256, 256)
    ours = operators.load("ct", angles=angles, image_size=256, pixel_mm=1.0, detectors=363,
                          detector_mm=1.0)  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = Tomography(angles=torch.as_tensor(angles).float(), img_width=256, circle=False,
                            normalize=False)  # fmt: skip
    with torch.no_grad():
        y, z = ours.A(x), theirs.A(x)
        for name, pair in {
            "A": (lambda: theirs.A(x), lambda: ours.A(x)),
            "Aᵀ": (lambda: theirs.A_adjoint(z), lambda: ours.A_adjoint(y)),
        }.items():
            say(f"CT 256² × 180, batch 8: deepinv ÷ ours, {name}", ratio(*pair, 3))
    shape = (320, 320)
    grid = torch.randn(8, 15, *shape, dtype=torch.complex64)
    image = torch.randn(8, 2, *shape)
    for kind, mask in (("Poisson disc", mri_masks.poisson_disc(shape, 8)),
                       ("lines", mri_masks.equispaced_lines(shape, 4, centre=0.08))):  # fmt: skip
        physics = operators.load("mri", mask=mask, noise_sd=0.1,
                                 coil_maps=mri_coils.simulate_maps(15, shape))  # fmt: skip
        y = physics.A(image)
        for name, call in {"A": lambda p=physics: p.A(image),
                           "Aᵀ": lambda p=physics, y=y: p.A_adjoint(y)}.items():  # fmt: skip
            got = ratio(call, lambda: torch.fft.fft2(grid, norm="ortho"), 5)
            say(f"MRI 15 × 320², batch 8, {kind}: ours ÷ raw FFTs, {name}", got)


SECTIONS = {"adjoint": adjoint, "derivative": derivative, "peers": peers, "speed": speed}


if __name__ == "__main__":
    torch.manual_seed(0)
    torch.set_num_threads(1)
    wanted = sys.argv[1:] or list(SECTIONS)
    unknown = sorted(set(wanted) - set(SECTIONS))
    if unknown:
        sys.exit(f"no such section: {json.dumps(unknown)}; there are {', '.join(SECTIONS)}")
    for section in wanted:
        SECTIONS[section]()
