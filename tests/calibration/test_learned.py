"""Calibration under a learned prior: its operators, and that it tells right widths from wrong."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import xarray as xr
from typer.testing import CliRunner

from sciinv.calibration import learned as own
from sciinv.calibration import operators
from sciinv.calibration.secant import secant
from sciinv.cli import app
from sciinv.errors import ConfigError
from sciinv.priors.learned import files
from sciinv.priors.learned.network import LearnedPrior, NetworkSpec, Preconditioning
from sciinv.priors.widths import FittedWidths
from sciinv.priors.widths.local import LocalWidths, WidthNetwork
from sciinv.quantities import holes
from sciinv.samplers import DAPS

SIDE = 16


class White(LearnedPrior):
    """A network replaced by the exact denoiser of N(0, 0.5² I): so the right κ is 1."""

    def _denoise(self, u, sigma, seen):
        return u * 0.25 / (0.25 + sigma**2)


@pytest.fixture
def prior() -> White:
    sigmas = torch.logspace(-2, 1.3, 40, dtype=torch.float64)
    r2 = 0.25 * sigmas**2 / (0.25 + sigmas**2)
    widths = FittedWidths(sigmas, r2, r2[:, None].repeat(1, 4), torch.arange(4).double() / 6)
    flat = torch.ones(len(sigmas), 4, dtype=torch.float64)  # a new WidthNetwork is a constant 1
    return White(
        NetworkSpec(nc=(4, 4, 4, 4), nb=1),
        Preconditioning(0.5, 0.01, 20.0),
        train_shape=(1, SIDE, SIDE),
        widths=widths,
        local=LocalWidths(WidthNetwork(), sigmas, r2, flat, 0.0, 0.5),
    )


@pytest.mark.parametrize("channels", [1, 2])
def test_the_adjoint_of_sampled_fourier_is_exact(channels):
    a = operators.SampledFourier((channels, 12, 15), 0.1, seed=2)
    g = torch.Generator().manual_seed(0)
    x = torch.randn(2, channels, 12, 15, generator=g, dtype=torch.float64)
    y = a.A(x)
    v = torch.randn(y.shape, generator=g, dtype=torch.float64)
    # Double precision, about 400 terms.
    assert torch.allclose((y * v).sum(), (x * a.A_adjoint(v)).sum(), rtol=1e-12)


def test_the_price_of_a_truth_is_its_drawing_and_its_draws_at_half_a_pair_each(prior, monkeypatch):
    seen = iter([0.0, 1.0, 1.0, 4.0])  # the truth takes 1 s, the pair of draws 3 s
    monkeypatch.setattr(own, "time", SimpleNamespace(monotonic=lambda: next(seen)))
    settings = {"conditional": "local", "levels": 3}
    assert own.seconds_per_truth(prior, "fourier", 0.1, 8, settings) == 1.0 + 8 / 2 * 3.0


@pytest.mark.parametrize(("miss", "found"), [(0.5, 1.0), (0.1, math.exp(0.2))])
def test_kappa_is_matched_but_not_below_the_error_that_was_measured(miss, found):
    # ln(spread ÷ error) = miss + (ln κ − 0.6)/4: 0 at ln κ = 0.6 − 4 miss
    kappa = secant(lambda k: (miss + (math.log(k) - 0.6) / 4, 1e-6), 2.0, 6, 0.25, (0.1, 1.0), 1.0)
    assert kappa == pytest.approx(found, rel=1e-6)


@pytest.mark.parametrize("kind", operators.OPERATORS)
def test_a_right_width_is_found_right_and_a_wrong_one_wrong(prior, kind):
    physics = operators.operator(kind, prior, 0.1)
    truths = 0.5 * torch.randn(40, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(3))
    right, wide = (
        own.measure(DAPS(prior, "spectral", levels=12, inflate=k), prior, physics, truths, 8).pixels
        for k in (1.0, 4.0)
    )
    # 40 truths × 256 pixels: the jackknife error is about 0.01; four of them.
    assert abs(right.spread_skill - 1) < 4 * right.spread_skill_error + 0.01
    assert all(abs(c - n) < 0.03 for c, n in zip(right.coverage, right.levels, strict=True))
    assert wide.spread_skill > right.spread_skill + 4 * right.spread_skill_error
    assert wide.crps > right.crps


@pytest.mark.parametrize("kind", operators.OPERATORS)
def test_local_widths_and_the_bridge_are_exact_where_the_widths_are(prior, kind):
    physics = operators.operator(kind, prior, 0.1)
    truths = 0.5 * torch.randn(40, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(5))
    sampler = DAPS(prior, "local", levels=12, renoise="bridge")
    found = own.measure(sampler, prior, physics, truths, 8).pixels
    # The tolerances of the test above.
    assert abs(found.spread_skill - 1) < 4 * found.spread_skill_error + 0.01
    assert all(abs(c - n) < 0.03 for c, n in zip(found.coverage, found.levels, strict=True))
    assert abs(found.residual - 1) < 4 * found.residual_error + 0.01


def test_matching_finds_the_right_factor(prior):
    physics = operators.operator("fourier", prior, 0.1)
    truths = 0.5 * torch.randn(30, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(4))
    found = own.match(
        lambda k: DAPS(prior, "spectral", levels=12, inflate=k),
        prior, physics, truths, start=0.5, steps=4,
    )  # fmt: skip
    assert 0.85 < found < 1.2  # spread ÷ RMSE goes with κ to a power of about 0.2–0.5


def test_ct_needs_square_images_of_one_channel():
    prior = LearnedPrior(
        NetworkSpec(channels=2, nc=(4, 4, 4, 4), nb=1), Preconditioning(), train_shape=(2, 16, 16)
    )
    with pytest.raises(ConfigError, match="fourier"):
        operators.operator("ct", prior, 0.1)


def test_a_run_writes_its_figures(prior, tmp_path):
    path = tmp_path / "toy.safetensors"
    files.save(prior, path)
    out, rows = own.run(
        path, tmp_path, "fourier", 0.1, 3, 4, {"conditional": "spectral", "levels": 3}, matching=2
    )
    body = json.loads(out.read_text())
    assert body["samplers"]["sciinv"]["truths"] == 3
    assert body["about"]["matching_truths"] == 2
    assert np.isfinite(body["samplers"]["sciinv"]["crps"])
    assert out.with_suffix(".png").is_file()
    assert dict(rows[0][1])["network evaluations per draw"] == "3"


def test_truths_side_by_side_have_the_figures_of_truths_one_by_one(prior):
    physics = operators.operator("fourier", prior, 0.1)
    truths = 0.5 * torch.randn(5, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(4))
    alone, together = (
        own.measure(DAPS(prior, "spectral", levels=3, item_batch=b), prior, physics, truths, 3, 1)
        for b in (1, 2)
    )
    # the same draws but for the rounding of other batch sizes
    assert together.pixels.crps == pytest.approx(alone.pixels.crps, rel=1e-3)
    assert together.pixels.coverage == pytest.approx(alone.pixels.coverage, abs=5e-3)
    assert together.pixels.truths == 5


def test_the_command_calibrates_what_a_run_takes_of_the_prior(prior, tmp_path):
    path = tmp_path / "toy.safetensors"
    files.save(prior, path)
    options = ["--truths", "2", "--draws", "2", "--out", str(tmp_path), "--noise", "0.1"]
    result = CliRunner().invoke(app, ["calibrate-prior", str(path), *options])
    assert result.exit_code == 0, result.output
    (body,) = tmp_path.glob("*.json")
    settings = json.loads(body.read_text())["samplers"]["sciinv"]["settings"]
    chosen = DAPS(files.load(path))
    assert settings["conditional"] == chosen.conditional.name
    assert settings["inflate"] == pytest.approx(chosen.conditional.inflate)


def test_the_area_of_holes_that_is_calibrated_is_the_one_that_reports_show(prior):
    image = np.zeros((1, 24, 24), dtype=np.float32)
    image[0, 2:22, 2:22] = 0.04
    image[0, 5:8, 5:8] = image[0, 14, 14] = 0  # a hole of 9 pixels, and a speck that is none
    prior.metadata = {"data": {"family": "discs"}, "pixel": {"side": 0.5, "unit": "mm"}}
    calibrated = own.quantities_of(prior)["area of the holes, mm²"](image[None])
    axis = xr.DataArray(0.5 * np.arange(24), dims="x", attrs={"units": "mm"})
    drawn = xr.DataArray(image[None], dims=("draw", "channel", "y", "x"), coords={"x": axis})
    reported = holes.holes(drawn)["Area of the holes"].values
    np.testing.assert_array_equal(calibrated, [9 * 0.25])
    np.testing.assert_array_equal(reported, calibrated)
