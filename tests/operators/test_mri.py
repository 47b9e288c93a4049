"""Multi-coil MRI: exact DFT and adjoint, derivatives, noise, reconstructions, deepinv's tests."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from deepinv.physics import GaussianNoise
from hypothesis import given, settings
from hypothesis import strategies as st

from sciinv import likelihoods
from sciinv.errors import OperatorError
from sciinv.operators import load
from sciinv.operators.mri import MultiCoilMRI
from sciinv.operators.parts import mri_masks
from sciinv.operators.parts.mri_coils import simulate_maps

KINDS = ("points", "lines ky", "lines kx", "full", "one sample")


def a_mask(kind: str, h: int, w: int, seed: int = 0, share: float = 0.4) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if kind == "points":
        mask = rng.random((h, w)) < share
    elif kind == "lines ky":
        mask = np.repeat(rng.random((h, 1)) < share, w, axis=1)
    elif kind == "lines kx":
        mask = np.repeat(rng.random((1, w)) < share, h, axis=0)
    else:
        mask = np.full((h, w), kind == "full")
    mask[h // 2, w // 2] = True
    return mask


def random_maps(coils: int, h: int, w: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((coils, h, w)) + 1j * rng.standard_normal((coils, h, w))


def an_operator(kind: str = "points", h: int = 12, w: int = 9, coils: int = 3) -> MultiCoilMRI:
    return MultiCoilMRI(a_mask(kind, h, w), random_maps(coils, h, w), 0.1)


def centred_dft(n: int) -> np.ndarray:
    """F[k, r] = exp(−2πi (k − k0)(r − r0)/n) / √n, written out."""
    i = np.arange(n) - n // 2
    return np.exp(-2j * np.pi * np.outer(i, i) / n) / np.sqrt(n)


cases = st.fixed_dictionaries(
    {
        "h": st.integers(1, 17),
        "w": st.integers(1, 17),
        "coils": st.integers(1, 4),
        "batch": st.integers(1, 3),
        "kind": st.sampled_from(KINDS),
        "seed": st.integers(0, 10**6),
    }
)


@settings(max_examples=60, deadline=None)
@given(case=cases)
def test_forward_is_the_written_out_dft(case: dict) -> None:
    h, w, coils, batch = (case[k] for k in ("h", "w", "coils", "batch"))
    mask, maps = a_mask(case["kind"], h, w, case["seed"]), random_maps(coils, h, w, case["seed"])
    x = torch.from_numpy(np.random.default_rng(1).standard_normal((batch, 2, h, w)))
    y = MultiCoilMRI(mask, maps, 0.1).A(x).numpy()
    z = (x[:, 0] + 1j * x[:, 1]).numpy()[:, None] * maps
    expected = (centred_dft(h) @ z @ centred_dft(w).T)[..., mask]
    # float64 rounding of sums of at most 17 · 17 terms
    np.testing.assert_allclose(y[:, 0] + 1j * y[:, 1], expected, atol=1e-12 * np.abs(z).max() * 17)


@settings(max_examples=60, deadline=None)
@given(case=cases, image=st.booleans(), double=st.booleans())
def test_adjoint_passes_the_dot_product_test(case: dict, image: bool, double: bool) -> None:
    h, w, coils, batch = (case[k] for k in ("h", "w", "coils", "batch"))
    # half of the cases: an image smaller than the grid
    rows, columns = (max(1, h - 3), max(1, w - 2)) if image else (h, w)
    physics = MultiCoilMRI(
        a_mask(case["kind"], h, w, case["seed"]), random_maps(coils, rows, columns), 0.1
    )
    dtype, bound = (torch.float64, 1e-12) if double else (torch.float32, 1e-6)
    generator = torch.Generator().manual_seed(case["seed"])
    x = torch.randn(batch, 2, rows, columns, dtype=dtype, generator=generator)
    y = torch.randn(batch, *physics.measurement_spec.shape, dtype=dtype, generator=generator)
    ax, aty = physics.A(x), physics.A_adjoint(y)
    assert ax.dtype == aty.dtype == dtype
    difference = (ax.double() * y).sum() - (x.double() * aty).sum()
    assert abs(float(difference)) <= bound * float(ax.norm() * y.norm() + 1e-30)
    # AᵀA in one pass is Aᵀ of A
    together = physics.A_adjoint_A(x)
    torch.testing.assert_close(together, physics.A_adjoint(ax), rtol=0, atol=10 * bound * coils)


@pytest.mark.parametrize("kind", KINDS)
def test_derivatives_are_the_operator_itself(kind: str) -> None:
    physics = an_operator(kind, 4, 3, 2)
    x, v = torch.randn(2, 1, 2, 4, 3, dtype=torch.float64)
    y, pull = torch.func.vjp(physics.A, x)
    u = torch.randn_like(y)
    assert torch.equal(pull(u)[0], physics.A_adjoint(u))
    _, tangent = torch.func.jvp(physics.A, (x,), (v,))
    assert torch.equal(tangent, physics.A(v))
    assert torch.equal(physics.A_vjp(x, u), physics.A_adjoint(u))
    lanes = torch.func.vmap(physics.A)(torch.stack([x, v]))
    assert torch.equal(lanes, torch.stack([physics.A(x), physics.A(v)]))
    assert torch.autograd.gradcheck(physics.A, x.requires_grad_())
    assert torch.autograd.gradgradcheck(lambda z: physics.A(z).square(), x)


def test_batch_does_not_change_the_bits_of_an_item() -> None:
    physics = MultiCoilMRI(a_mask("points", 40, 31), simulate_maps(5, (40, 31)), 0.1)
    x = torch.randn(7, 2, 40, 31)
    y = physics.A(x)
    for i in range(7):
        assert torch.equal(physics.A(x[i : i + 1])[0], y[i])
        assert torch.equal(physics.A_adjoint(y[i : i + 1])[0], physics.A_adjoint(y)[i])
        assert torch.equal(physics.A_adjoint_A(x[i : i + 1])[0], physics.A_adjoint_A(x)[i])


@pytest.mark.parametrize(("grid", "image"), [((12, 9), (8, 8)), ((11, 10), (5, 7))])
def test_smaller_image_is_the_centre_of_a_larger_one(
    grid: tuple[int, int], image: tuple[int, int]
) -> None:
    mask, maps = a_mask("points", *grid), random_maps(3, *grid)
    large, small = MultiCoilMRI(mask, maps, 0.1), MultiCoilMRI(mask, maps, 0.1, image_shape=image)
    x = torch.randn(2, 2, *image, dtype=torch.float64)
    top, left = (n // 2 - m // 2 for n, m in zip(grid, image, strict=True))
    embedded = torch.zeros(2, 2, *grid, dtype=torch.float64)
    embedded[:, :, top : top + image[0], left : left + image[1]] = x
    assert torch.equal(small.A(x), large.A(embedded))
    assert small.image_spec.shape == (2, *image)


def test_packed_samples_are_in_row_major_order_of_the_mask() -> None:
    physics = an_operator("points", 7, 6, 2)
    y = torch.arange(2 * 2 * physics.samples, dtype=torch.float32).reshape(1, 2, 2, -1)
    full = physics.unpack(y)
    assert torch.equal(physics.pack(full), y)
    assert torch.equal(full.real[0, 0][physics.mask], y[0, 0, 0])
    assert not full[..., ~physics.mask].any()
    assert physics.measurement_spec.dims == ("part", "coil", "sample")


def test_maps_come_back_and_survive_a_change_of_dtype() -> None:
    maps = random_maps(3, 7, 6)
    physics = MultiCoilMRI(a_mask("points", 9, 10), maps, 0.1)
    torch.testing.assert_close(physics.coil_maps, torch.from_numpy(maps), rtol=0, atol=1e-14)
    x = torch.randn(1, 2, 7, 6)
    before = physics.A(x)
    torch.testing.assert_close(physics.to(torch.float32).A(x), before, rtol=0, atol=1e-5)
    assert physics.coil_maps.dtype == torch.complex64


def test_maps_of_two_real_parts_are_complex_maps() -> None:
    maps = random_maps(3, 7, 6)
    parts = np.stack([maps.real, maps.imag])
    mask = a_mask("points", 7, 6)
    x = torch.randn(1, 2, 7, 6, dtype=torch.float64)
    expected = MultiCoilMRI(mask, maps, 0.1).A(x)
    assert torch.equal(MultiCoilMRI(mask, parts, 0.1).A(x), expected)
    assert torch.equal(MultiCoilMRI(mask[None], parts[None], 0.1).A(x), expected)


def test_norm_is_one_with_unit_maps_and_full_sampling() -> None:
    physics = MultiCoilMRI(np.ones((9, 8), bool), simulate_maps(4, (9, 8)), 0.1)
    x = torch.randn(2, 2, 9, 8)
    torch.testing.assert_close(physics.A_adjoint_A(x), x, rtol=0, atol=1e-5)
    assert float(physics.A(x).norm()) == pytest.approx(float(x.norm()), rel=1e-5)


def test_white_noise_is_one_number_and_counts_only_measured_samples() -> None:
    physics = an_operator()
    likelihood = likelihoods.of(physics)
    assert isinstance(physics.noise_model, GaussianNoise)
    assert likelihood.is_white
    x = torch.randn(1, 2, 12, 9)
    y = physics.A(x) + 0.1
    # every component is off by one standard deviation
    assert float(likelihood.chi2(physics.A(x), y)[0]) == pytest.approx(1.0, rel=1e-4)


def test_noise_per_coil_is_weighted_noise() -> None:
    sd = np.array([0.1, 0.2, 0.4])
    physics = MultiCoilMRI(np.ones((32, 32), bool), simulate_maps(3, (32, 32)), sd)
    torch.manual_seed(0)
    noise = physics(torch.zeros(8, 2, 32, 32))
    got = noise.movedim(2, 0).flatten(1).std(1)
    # 16,384 components: 4 standard errors of a standard deviation are 2.2 %
    np.testing.assert_allclose(got, sd, rtol=0.022)
    assert not likelihoods.of(physics).is_white


def test_cg_sense_solves_its_normal_equations() -> None:
    physics = MultiCoilMRI(a_mask("points", 6, 5), simulate_maps(2, (6, 5)), 0.05)
    x = torch.randn(1, 2, 6, 5, dtype=torch.float64)
    y = physics.A(x)
    units = torch.eye(60, dtype=torch.float64).reshape(60, 2, 6, 5)
    a = physics.A(units).flatten(1).T
    zero_filled = a.T @ y.flatten()
    lam = 0.05**2 / zero_filled.square().mean()
    exact = torch.linalg.solve(a.T @ a + lam * torch.eye(60), zero_filled)
    got = physics.classical(y)
    torch.testing.assert_close(got["zero-filled"].flatten(), zero_filled, rtol=0, atol=1e-12)
    # relative residual 1e-4 times the condition number, about 1 / λ
    error = float((got["CG-SENSE"].flatten() - exact).norm() / exact.norm())
    assert error < 1e-4 / float(lam)


def test_cg_sense_undoes_the_aliasing_that_coils_can_tell_apart() -> None:
    h, w = 32, 32
    mask = mri_masks.equispaced_lines((h, w), 2, centre=0.1)
    physics = MultiCoilMRI(mask, simulate_maps(8, (h, w)), 1e-4)
    x = torch.zeros(1, 2, h, w)
    x[0, 0, 8:24, 10:20], x[0, 1, 12:20, 6:14] = 1.0, -0.5
    got = physics.classical(physics.A(x))
    errors = {k: float((v - x).norm() / x.norm()) for k, v in got.items()}
    assert errors["zero-filled"] > 0.1
    assert errors["CG-SENSE"] < 0.01


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"mask": np.zeros((6, 5), bool)}, "keeps no sample"),
        ({"mask": np.ones((2, 6, 5), bool)}, "number of dimensions"),
        ({"mask": np.full((6, 5), 0.5)}, "other values"),
        ({"coil_maps": np.ones((2, 6, 5))}, "wrong shape or dtype"),
        ({"coil_maps": np.ones((0, 6, 5), complex)}, "wrong shape or dtype"),
        ({"coil_maps": np.full((2, 6, 5), np.nan + 0j)}, "not finite"),
        ({"coil_maps": np.ones((2, 7, 5), complex)}, "larger than the k-space grid"),
        ({"noise_sd": 0.0}, "noise's standard deviation"),
        ({"noise_sd": np.nan}, "noise's standard deviation"),
        ({"noise_sd": [0.1, 0.1, 0.1]}, "noise's standard deviation"),
        ({"image_shape": (8, 5)}, "does not fit into the coil maps"),
        ({"pixel_mm": 0.0}, "pixel size"),
    ],
)
def test_wrong_parameters_are_refused(change: dict, says: str) -> None:
    good = {
        "mask": np.ones((6, 5), bool),
        "coil_maps": np.ones((2, 6, 5), complex),
        "noise_sd": 0.1,
    }
    load("mri", **good)
    with pytest.raises(OperatorError, match=says):
        load("mri", **(good | change))


def test_wrong_shapes_are_refused_at_the_call() -> None:
    physics = an_operator()
    with pytest.raises(OperatorError, match="image does not match"):
        physics.A(torch.zeros(1, 2, 9, 12))
    with pytest.raises(OperatorError, match="measurement does not match"):
        physics.A_adjoint(torch.zeros(1, 2, 3, physics.samples + 1))
    with pytest.raises(OperatorError, match="wrong dtype"):
        physics.A(torch.zeros(1, 2, 12, 9, dtype=torch.complex64))


@pytest.mark.parametrize("kind", ["points", "lines kx"])
@pytest.mark.parametrize(
    "test",
    [
        "test_operators_adjointness",
        "test_operators_norm",
        "test_pseudo_inverse",
        "test_operators_differentiability",
        "test_adjoint_autograd",
        "test_physics_state_dict",
    ],
)
def test_deepinv_own_tests_pass(
    test: str, kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    theirs = pytest.importorskip("deepinv.tests.test_physics")
    shape = (16, 9)
    monkeypatch.chdir(str(tmp_path))

    def find_operator(name: str, device: str, get_physics_param: bool = False) -> tuple:
        # AᵀA has eigenvalue 1 where a mask of lines leaves a whole image of one coil: norm 1
        physics = MultiCoilMRI(a_mask(kind, *shape), np.ones((1, *shape), complex), 1e-8)
        found = (physics, (2, *shape), 1.0, torch.float32)
        return (*found, []) if get_physics_param else found

    monkeypatch.setattr(theirs, "find_operator", find_operator)
    extra = {
        "test_operators_norm": {"verbose": False, "rng": torch.Generator()},
        "test_pseudo_inverse": {"rng": torch.Generator(), "implicit_backward_solver": False},
        "test_operators_adjointness": {"rng": torch.Generator()},
    }
    getattr(theirs, test)("mri", device="cpu", **extra.get(test, {}))


@pytest.mark.slow
def test_speed_is_within_a_third_of_raw_ffts() -> None:
    """15 coils × 320² at batch 8, ratios of interleaved runs in one process, single thread."""
    import statistics
    import time

    torch.set_num_threads(1)
    z = torch.randn(8, 15, 320, 320, dtype=torch.complex64)
    x = torch.randn(8, 2, 320, 320)
    mask = mri_masks.poisson_disc((320, 320), 8)
    physics = MultiCoilMRI(mask, simulate_maps(15, (320, 320)), 0.1)
    y = physics.A(x)
    work = {
        "raw": lambda: torch.fft.fft2(z, norm="ortho"),
        "A": lambda: physics.A(x),
        "A_adjoint": lambda: physics.A_adjoint(y),
    }
    times: dict[str, list[float]] = {k: [] for k in work}
    for _ in range(9):
        for name, call in work.items():
            start = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - start)
    raw = times["raw"]
    for name in ("A", "A_adjoint"):
        assert statistics.median(t / r for t, r in zip(times[name], raw, strict=True)) < 1.3


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_device_gives_the_same_numbers() -> None:
    physics = MultiCoilMRI(a_mask("points", 40, 31), simulate_maps(5, (40, 31)), 0.1)
    x = torch.randn(3, 2, 40, 31)
    y = physics.A(x)
    back = physics.A_adjoint(y)
    both = physics.A_adjoint_A(x)
    physics = physics.to("cuda")
    for got, expected in [
        (physics.A(x.cuda()), y),
        (physics.A_adjoint(y.cuda()), back),
        (physics.A_adjoint_A(x.cuda()), both),
    ]:
        torch.testing.assert_close(got.cpu(), expected, rtol=0, atol=1e-5)


def test_numbers_are_those_of_deepinv() -> None:
    from deepinv.physics import MultiCoilMRI as Theirs

    mask, maps = a_mask("points", 24, 20), simulate_maps(3, (24, 20))
    ours = MultiCoilMRI(mask, maps, 0.1)
    theirs = Theirs(
        mask=torch.from_numpy(mask)[None, None].float(),
        coil_maps=torch.from_numpy(maps)[None],
        img_size=(24, 20),
    )
    x = torch.randn(2, 2, 24, 20)
    y = theirs.A(x)
    packed = ours.pack(torch.complex(y[:, 0], y[:, 1]))
    torch.testing.assert_close(ours.A(x), packed, rtol=0, atol=2e-6)  # float32 rounding
    torch.testing.assert_close(ours.A_adjoint(packed), theirs.A_adjoint(y), rtol=0, atol=2e-6)
