"""The generic family and its prior: known areas, three decades of size, any scale, any size."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from sciinv.config.spec import GENERIC
from sciinv.errors import PriorError
from sciinv.priors.learned import evaluation, files, generic
from sciinv.priors.learned.network import LearnedPrior, NetworkSpec, Preconditioning
from sciinv.priors.phantoms import generic as images
from sciinv.priors.phantoms import marks
from sciinv.priors.widths import local
from sciinv.seeds import stream_seed

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def prior() -> LearnedPrior:
    """A network with random weights that do something, and widths fitted to noise."""
    torch.manual_seed(0)
    spec = NetworkSpec(1, (8, 8, 8, 8), 1, 2, highpass=True, linear=True)
    out = LearnedPrior(
        spec, Preconditioning(0.5, 0.02, 20.0), train_shape=(1, 32, 32), name="toy",
        metadata={"data": {}, "pixel": {"side": 1.0, "unit": "pixel"}},
    )  # fmt: skip
    with torch.no_grad():
        out.network.unet.m_tail.weight.normal_(0, 0.3)
    own = torch.from_numpy(np.stack([images.image(np.random.default_rng(k), 32) for k in range(4)]))
    out.local = local.fit(
        out, own[:, None], torch.tensor([0.1, 1.0]), offset=0.0, unit=0.5, pairs=8, steps=4, seed=0,
        say=lambda line: None,
    )  # fmt: skip
    return out


class TestImages:
    def test_a_disc_covers_its_area_to_a_percent(self):
        axis = np.arange(64, dtype=np.float32) - 31.3
        u, v = axis[None], axis[:, None]

        class Straight:  # the first kind of shape, not turned, as long as it is wide
            def integers(self, n):
                return 0

            def uniform(self, low, high):
                return high

        cover = np.clip(0.5 - marks._distance(Straight(), u, v, 20.0), 0, 1)
        assert cover.sum() == pytest.approx(math.pi * 400, rel=0.01)

    def test_a_shape_smaller_than_a_pixel_still_covers_some_of_it(self):
        rng = np.random.default_rng(0)
        covered = [marks.leaf(rng, 40, 0.5, inside=True)[2].sum() for _ in range(200)]
        # between nothing (most of it between pixels' middles) and the area of its square
        assert 0.1 < np.mean(covered) < 1.0

    def test_radii_span_three_decades(self):
        assert marks.COARSEST / marks.FINEST == 1000

    @pytest.mark.parametrize("exponent", [2.0, 4.0])
    def test_a_field_has_the_spectrum_that_it_is_said_to_have(self, exponent):
        rng = np.random.default_rng(1)
        fields = np.stack([marks.field(rng, 128, exponent, 1e4) for _ in range(40)])
        assert fields.std((1, 2)) == pytest.approx(1, abs=1e-3)
        # a window against the leakage of fields that do not end where they begin
        window = np.hanning(128)[:, None] * np.hanning(128)
        power = (np.abs(np.fft.fft2(fields * window)) ** 2).mean(0)
        k = np.hypot(np.fft.fftfreq(128)[:, None], np.fft.fftfreq(128)[None])
        rings = [power[(k > a) & (k < 1.2 * a)].mean() for a in (0.06, 0.24)]
        # over a factor of four in |k|, within the scatter of 40 fields
        assert math.log(rings[0] / rings[1], 4) == pytest.approx(exponent, abs=0.3)

    @pytest.mark.parametrize("kind", images.KINDS)
    def test_each_kind_is_finite_and_of_about_unit_size(self, kind):
        for seed in range(6):
            out = images.content(np.random.default_rng(seed), kind, 48)
            assert out.shape == (48, 48)
            assert np.isfinite(out).all()
            assert 0.01 < np.abs(out).max() < 6

    def test_backgrounds_are_empty_and_lit(self):
        corners = [images.image(np.random.default_rng(k), 48)[:3, :3] for k in range(80)]
        empty = np.mean([np.abs(c).max() < 1e-3 for c in corners])
        assert 0.1 < empty < 0.8

    def test_the_same_stream_gives_the_same_image_of_any_size(self):
        one, two = (images.image(np.random.default_rng(3), 60) for _ in range(2))
        assert np.array_equal(one, two)


class TestScale:
    def test_a_larger_object_is_denoised_as_the_smaller_one(self, prior):
        x = torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
        large = generic.scaled(prior, 40.0)
        # float32, and a network between
        assert torch.allclose(large(40 * x, 40 * 0.3), 40 * prior(x, 0.3), rtol=1e-4, atol=1e-3)
        assert (large.sigma_min, large.sigma_max) == pytest.approx((0.8, 800.0))
        assert large.typical == pytest.approx((0.0, 20.0))

    def test_its_local_variance_goes_with_the_square(self, prior):
        x = torch.rand(1, 1, 32, 32, generator=torch.Generator().manual_seed(0))
        small = prior.local.variance(x, 0.3)
        large = generic.scaled(prior, 0.02).local.variance(0.02 * x, 0.02 * 0.3)
        assert torch.allclose(large, 4e-4 * small, rtol=1e-4)

    def test_scales_multiply(self, prior):
        both = generic.scaled(generic.scaled(prior, 5.0), 0.2)
        assert both.constants.scale == pytest.approx(prior.constants.scale)

    @pytest.mark.parametrize("factor", [0.0, -1.0, math.inf, math.nan])
    def test_no_other_scale_is_taken(self, prior, factor):
        with pytest.raises(PriorError, match="positive number"):
            generic.scaled(prior, factor)


class TestComplex:
    def test_without_its_phase_each_part_is_an_image(self, prior):
        g = torch.Generator().manual_seed(1)
        x = torch.randn(3, 2, 32, 32, generator=g)
        both = generic.complex_of(prior, phase=False)(x, 0.4)
        each = torch.cat([prior(x[:, k : k + 1], 0.4) for k in range(2)], 1)
        assert torch.allclose(both, each, atol=1e-5)

    def test_each_lane_has_its_own_noise_level(self, prior):
        x = torch.randn(2, 2, 32, 32, generator=torch.Generator().manual_seed(1))
        model = generic.complex_of(prior)
        sigma = torch.tensor([0.1, 3.0])
        each = torch.cat([model(x[k : k + 1], float(sigma[k])) for k in range(2)])
        assert torch.allclose(model(x, sigma), each, atol=1e-5)

    def test_a_constant_phase_goes_through(self, prior):
        model = generic.complex_of(prior)
        x = torch.randn(1, 2, 32, 32, generator=torch.Generator().manual_seed(2)) + 1
        c, s = math.cos(1.1), math.sin(1.1)

        def turned(z):
            return torch.stack([c * z[:, 0] - s * z[:, 1], s * z[:, 0] + c * z[:, 1]], 1)

        assert torch.allclose(model(turned(x), 0.4), turned(model(x, 0.4)), atol=1e-4)

    def test_survives_its_file(self, prior, tmp_path):
        model = generic.complex_of(prior)
        files.save(model, tmp_path / "c.safetensors")
        x = torch.randn(1, 2, 40, 24, generator=torch.Generator().manual_seed(2))
        loaded = files.load(tmp_path / "c.safetensors")
        assert torch.equal(loaded(x, 0.4), model(x, 0.4))
        assert loaded.spec.apart

    def test_is_made_of_real_images_alone(self, prior):
        with pytest.raises(PriorError, match="a network of real ones"):
            generic.complex_of(generic.complex_of(prior))


class TestLinearAbove:
    @pytest.fixture(scope="class")
    def both(self, prior):
        g = torch.Generator().manual_seed(5)
        white = 0.3 * torch.randn(64, 1, 32, 32, generator=g)
        return generic.linear_above(prior, white, 2.0), generic.scaled(prior, 1.0)

    def test_strong_noise_meets_the_wiener_filter_of_the_class(self, both):
        x = torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
        # of white images of sd 0.3 it is one factor; their spectrum is known from 64 of them
        gain = 0.3**2 / (0.3**2 + 2.5**2)
        assert torch.allclose(both[0](x, 2.5), gain * x, atol=0.02)

    def test_weak_noise_meets_the_network(self, both):
        x = torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
        assert torch.equal(both[0](x, 1.9), both[1](x, 1.9))

    def test_goes_with_scale_parts_and_file(self, both, tmp_path):
        z = torch.randn(1, 2, 32, 32, generator=torch.Generator().manual_seed(0))
        model = generic.complex_of(generic.scaled(both[0], 3.0))
        gain = 0.3**2 / 2 / (0.3**2 / 2 + 2.5**2)  # each part has half of the power
        assert torch.allclose(model(3 * z, 7.5), gain * 3 * z, atol=0.05)
        files.save(model, tmp_path / "h.safetensors")
        assert torch.equal(files.load(tmp_path / "h.safetensors")(z, 7.5), model(z, 7.5))


@pytest.mark.parametrize("size", [(17, 40), (33, 61), (96, 130)])
def test_sizes_that_are_no_multiple_of_the_patch_are_served(prior, size):
    x = torch.rand(1, 1, *size, generator=torch.Generator().manual_seed(3))
    out = prior(x, 0.2)
    assert out.shape == x.shape
    assert torch.isfinite(out).all()


class TestShipped:
    """The files that a configuration without a prior takes."""

    @pytest.mark.parametrize("channels", [1, 2])
    def test_is_there_for_real_and_complex_images_of_any_size(self, channels):
        prior = files.load(ROOT / GENERIC[channels])
        assert prior.channels == channels
        assert prior.shape is None
        assert prior.widths is not None
        assert prior.local is not None
        assert prior.metadata["data"]["family"] == "generic"

    @pytest.mark.slow
    def test_errs_less_than_the_wiener_filter_of_images_that_it_was_not_trained_on(self):
        prior = files.load(ROOT / GENERIC[1])
        pool = images.FAMILY.pool(stream_seed("never trained on") % 2**31, 0, 320, None).float()
        wiener = evaluation.Wiener.of_images(pool[32:])
        for row in evaluation.error_table(prior, pool[:32], wiener, [0.05, 0.2, 1.0]):
            assert row.network < 0.8 * row.wiener
