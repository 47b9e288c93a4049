"""MRI against the field's own code on the same input: sigpy and the BART toolbox.

Both peers compute in complex64: relative differences are bounded by 1e-5, some 80 roundings.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from sciinv import operators, readers
from sciinv.operators.mri import MultiCoilMRI
from sciinv.operators.parts import mri_coils, mri_masks
from sciinv.solvers import conjugate_gradient

needs_bart = pytest.mark.skipif(
    shutil.which("bart") is None, reason="the BART toolbox is not installed"
)
ODD = (37, 24)


def rng_complex(*shape: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(np.complex64)


def as_image(z: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.stack([z.real, z.imag], axis=-3).reshape(1, -1, *z.shape[-2:]))


def as_complex(x: torch.Tensor) -> np.ndarray:
    values = x[0].numpy()
    return values[0] + 1j * values[1]


def apart(ours: np.ndarray, theirs: np.ndarray) -> float:
    return float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs))


def scan(name: str, repo: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return mask, coil maps, an image and a full grid of k-space."""
    if name == "simulated":
        mask = mri_masks.random_lines(ODD, 3, centre=0.2)
        return mask, rng_complex(5, *ODD), rng_complex(*ODD, seed=1), rng_complex(5, *ODD, seed=2)
    kspace = np.load(repo / "data/mri/cartesian_ksp.npy")
    maps, _ = mri_coils.espirit(kspace)
    return mri_masks.from_kspace(kspace), maps, rng_complex(*kspace.shape[1:]), kspace


@pytest.mark.parametrize("name", ["simulated", "brain"])
def test_operator_and_adjoint_are_those_of_sigpy(name: str, repo: Path) -> None:
    linop = pytest.importorskip("sigpy.mri.linop", reason="the peer sigpy is not installed")
    mask, maps, image, kspace = scan(name, repo)
    physics = MultiCoilMRI(mask, maps, 1.0)
    theirs = linop.Sense(maps, weights=mask.astype(np.float32))
    y = physics.A(as_image(image))
    assert apart(physics.unpack(y)[0].numpy(), theirs * image) < 1e-5
    back = physics.A_adjoint(physics.pack(torch.from_numpy(kspace)[None]))
    assert apart(as_complex(back), theirs.H * (kspace * mask)) < 1e-5


def test_cg_sense_of_the_brain_is_that_of_sigpy(repo: Path) -> None:
    """The same normal equations; ours once to the same residual, once stopped as by default."""
    sigpy = pytest.importorskip("sigpy", reason="the peer sigpy is not installed")
    linop = pytest.importorskip("sigpy.mri.linop")
    data = readers.find("kspace")(repo / "data/mri/cartesian_ksp.npy")
    physics, y = operators.from_measurement(data)
    ours = physics.classical(y)
    power = ours["zero-filled"].square().mean()
    lam = float(physics.noise_model.sigma**2 / power)
    theirs = linop.Sense(physics.coil_maps.numpy(), weights=physics.mask.numpy().astype(np.float32))
    found = sigpy.app.LinearLeastSquares(
        theirs, physics.unpack(y)[0].numpy(), lamda=lam, max_iter=200, show_pbar=False
    ).run()
    exact, _, _ = conjugate_gradient(
        lambda x: physics.A_adjoint_A(x) + lam * x, ours["zero-filled"], 1e-7, 200
    )
    # both in float32, whose rounding (6e-8) the smallest eigenvalue λ = 0.002 lifts
    assert apart(as_complex(exact), found) < 1e-4
    assert apart(as_complex(ours["CG-SENSE"]), found) < 1e-2  # stops at a residual of 1e-4


def test_radial_scan_is_that_of_sigpy() -> None:
    """Their gridding with a kernel of 10 samples at twofold oversampling errs by about 1e-6."""
    sigpy = pytest.importorskip("sigpy", reason="the peer sigpy is not installed")
    pytest.importorskip("finufft", reason="finufft is not installed")
    from sciinv.operators.mri_noncartesian import NonCartesianMRI, radial_trajectory

    maps, image = rng_complex(3, *ODD), rng_complex(*ODD, seed=1)
    points = radial_trajectory(ODD, 9)
    y = NonCartesianMRI(points, maps, 1.0).A(as_image(image))[0].numpy()
    theirs = sigpy.nufft(maps * image, points, oversamp=2, width=10)
    assert apart(y[0] + 1j * y[1], theirs) < 1e-5


def write_cfl(path: Path, values: np.ndarray, dims: list[int]) -> None:
    """Write values [coil, y, x] or [y, x] with BART's dimensions y, x, 1, coil, set."""
    Path(f"{path}.hdr").write_text("# Dimensions\n" + " ".join(map(str, dims)) + "\n")
    np.ascontiguousarray(values, np.complex64).flatten("F").tofile(f"{path}.cfl")


def read_cfl(path: Path) -> np.ndarray:
    dims = [int(n) for n in Path(f"{path}.hdr").read_text().splitlines()[1].split()]
    return np.fromfile(f"{path}.cfl", np.complex64).reshape(dims, order="F").squeeze()


def bart(folder: Path, *arguments: str) -> None:
    subprocess.run(["bart", *arguments], cwd=folder, check=True, capture_output=True)


@needs_bart
@pytest.mark.parametrize("name", ["simulated", "brain"])
def test_operator_and_adjoint_are_those_of_bart(name: str, repo: Path, tmp_path: Path) -> None:
    mask, maps, image, kspace = scan(name, repo)
    coils, h, w = maps.shape
    last = maps.transpose(1, 2, 0)[:, :, None], (kspace * mask).transpose(1, 2, 0)[:, :, None]
    write_cfl(tmp_path / "maps", last[0], [h, w, 1, coils])
    write_cfl(tmp_path / "k", last[1], [h, w, 1, coils])
    write_cfl(tmp_path / "image", image, [h, w])
    write_cfl(tmp_path / "mask", mask, [h, w])
    bart(tmp_path, "fmac", "image", "maps", "coils")
    bart(tmp_path, "fft", "-u", "3", "coils", "full")
    bart(tmp_path, "fmac", "full", "mask", "y")
    bart(tmp_path, "fft", "-i", "-u", "3", "k", "back")
    bart(tmp_path, "fmac", "-C", "-s", "8", "back", "maps", "adjoint")
    physics = MultiCoilMRI(mask, maps, 1.0)
    y = physics.unpack(physics.A(as_image(image)))[0].numpy().transpose(1, 2, 0)
    assert apart(y, read_cfl(tmp_path / "y")) < 1e-5
    back = physics.A_adjoint(physics.pack(torch.from_numpy(kspace)[None]))
    assert apart(as_complex(back), read_cfl(tmp_path / "adjoint")) < 1e-5


@needs_bart
def test_two_sets_of_maps_span_those_of_bart(tmp_path: Path) -> None:
    """An object larger than the field of view: two places share a pixel, two maps are needed."""
    kspace, shared = folded_scan()
    coils, h, w = kspace.shape
    write_cfl(tmp_path / "k", kspace.transpose(1, 2, 0)[:, :, None], [h, w, 1, coils])
    bart(tmp_path, "ecalib", "-m2", "-c0", "-r32", "k", "s", "eigenvalues")
    theirs = read_cfl(tmp_path / "s").transpose(3, 2, 0, 1)  # [set, coil, y, x]
    ours, found = mri_coils.espirit(kspace, sets=2)
    expected = read_cfl(tmp_path / "eigenvalues").real.transpose(2, 0, 1)
    # another threshold of the singular values (BART's default), as in the test of one set
    assert np.median(np.abs(found[1] - expected[1])[shared]) < 0.05
    inside = shared & (np.abs(ours[1]).sum(0) > 0)
    assert inside.sum() > 0.5 * shared.sum()
    theirs = theirs / np.maximum(np.linalg.norm(theirs, axis=1, keepdims=True), 1e-9)
    # cosines between the two planes: both maps of one set within the plane of the other
    inner = np.einsum("scyx,tcyx->styx", ours.conj(), theirs)[:, :, inside]
    cosines = np.linalg.norm(inner, axis=0)
    assert np.median(cosines) > 0.995


def folded_scan(noise_sd: float = 1e-3) -> tuple[np.ndarray, np.ndarray]:
    """Return full k-space of a disc that sticks out of the field of view, and where it folds."""
    h, w = 48, 64
    rows, columns = np.mgrid[:h, :w] - np.array([h // 2, w // 2])[:, None, None]
    disc = ((rows / 22) ** 2 + (columns / 30) ** 2 < 1) * (1 + 0.3 * np.cos(columns / 4))
    coils = mri_coils.simulate_maps(6, (h, w)) * disc
    narrow = slice(w // 2 - 20, w // 2 + 20)  # 40 columns remain; 12 at each side fold in
    folded = coils[..., narrow].copy()
    folded[..., -12:] += coils[..., 0:12]
    folded[..., :12] += coils[..., -12:]
    inside = disc > 0
    shared = np.zeros(folded.shape[1:], bool)
    shared[:, -12:] = inside[:, narrow][:, -12:] & inside[:, :12]
    shared[:, :12] |= inside[:, narrow][:, :12] & inside[:, -12:]
    axes = (-2, -1)
    k = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(folded, axes=axes), norm="ortho"), axes=axes)
    rng = np.random.default_rng(0)
    noise = rng.normal(size=k.shape) + 1j * rng.normal(size=k.shape)
    return (k + noise_sd * noise).astype(np.complex64), shared


def test_a_second_set_explains_what_folds_in() -> None:
    kspace, _ = folded_scan()
    full = np.ones(kspace.shape[1:], bool)
    left = {}
    for sets in (1, 2):
        maps, _ = mri_coils.espirit(kspace, sets=sets, threshold=0.005)  # little noise
        physics = MultiCoilMRI(full, maps, 1e-3)
        y = physics.pack(torch.from_numpy(kspace)[None])
        x = physics.classical(y)["CG-SENSE"]
        left[sets] = float((physics.A(x) - y).norm() / y.norm())
        assert physics.combined(x).shape == (1, *full.shape)
    assert left[1] > 0.1
    assert left[2] < 0.03


@pytest.mark.parametrize("double", [False, True])
def test_two_sets_pass_the_dot_product_test(double: bool) -> None:
    dtype = torch.float64 if double else torch.float32
    for seed, shape in enumerate([(7, 6), (9, 13), (16, 5)]):
        maps = rng_complex(2, 3, *shape, seed=seed).astype(np.complex128)
        mask = mri_masks.random_lines(shape, 2, centre=0.3, seed=seed)
        physics = MultiCoilMRI(mask, maps, 0.1)
        assert physics.image_spec.channels == ("real 1", "imag 1", "real 2", "imag 2")
        x = torch.randn(2, 4, *shape, dtype=dtype)
        u = physics.A(x)
        v = torch.randn_like(u)
        back = physics.A_adjoint(v)
        error = float(((u * v).sum() - (x * back).sum()).abs() / (u.norm() * v.norm()))
        assert error < (1e-12 if double else 1e-6)
        torch.testing.assert_close(
            physics.A_adjoint_A(x), physics.A_adjoint(u), rtol=0, atol=1e-4 if not double else 1e-11
        )
        one = MultiCoilMRI(mask, maps[0], 0.1).A(x[:, :2]) + MultiCoilMRI(mask, maps[1], 0.1).A(
            x[:, 2:]
        )
        torch.testing.assert_close(u, one, rtol=0, atol=1e-4 if not double else 1e-11)
        stored = np.stack([maps.real, maps.imag])  # [2, set, coil, H, W], as in a store
        assert torch.equal(MultiCoilMRI(mask, stored, 0.1).A(x), u)


def test_two_sets_go_through_the_reader_and_its_dataset(tmp_path: Path) -> None:
    kspace, _ = folded_scan(0.02)
    np.save(tmp_path / "k.npy", kspace)
    data = readers.find("kspace")(tmp_path / "k.npy", sets=2, noise_sd=0.02)
    assert data["coil_maps"].dims == ("item", "part", "set", "coil", "row", "column")
    physics, y = operators.from_measurement(data)
    assert physics.image_spec.shape == (4, 48, 40)
    x = physics.classical(y)["CG-SENSE"]
    assert float(np.quantile(physics.combined(x), 0.99)) == pytest.approx(1, rel=1e-3)
