"""The families of training images: exact fluxes and ranges, and streams that repeat."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import label

from sciinv.errors import ConfigError, DataError
from sciinv.priors.phantoms import blackholes, brains, dihedral, discs, family


@pytest.fixture(scope="module")
def head() -> brains.Head:
    """A ball with a bright shell, in place of the head that is not shipped."""
    axes = [np.arange(n) - n / 2 for n in (181, 217, 181)]
    r = np.sqrt(
        sum(a.reshape(s) ** 2 for a, s in zip(axes, np.eye(3, dtype=int) * -2 + 1, strict=True))
    )
    volume = np.where(r < 60, 100.0, np.where(r < 80, 160.0, 0.0)).astype(np.float32)
    return brains.Head(volume, np.clip(80 - r, 0, None).astype(np.float32))


class TestFamilies:
    def test_unknown_family_lists_the_known_ones(self):
        with pytest.raises(ConfigError, match="blackholes, brains, discs"):
            family("galaxies")

    @pytest.mark.parametrize("name", ["blackholes", "discs", "generic"])
    def test_equal_keys_equal_images_and_other_keys_others(self, name):
        kind = family(name)
        first, again, other = (kind.pool(5, b, 3, None) for b in (2, 2, 3))
        assert torch.equal(first, again)
        assert not torch.equal(first, other)

    @pytest.mark.parametrize("name", ["blackholes", "discs", "generic"])
    def test_a_block_does_not_depend_on_its_length(self, name):
        kind = family(name)
        assert torch.equal(kind.pool(5, 2, 4, None)[:2], kind.pool(5, 2, 2, None))

    @pytest.mark.parametrize("name", ["blackholes", "discs", "generic"])
    def test_augmented_images_have_the_declared_shape(self, name):
        kind = family(name)
        images = kind.augment(kind.pool(1, 0, 5, None).float(), torch.Generator().manual_seed(0))
        assert tuple(images.shape[1:]) == kind.shape
        assert torch.isfinite(images).all()

    @settings(max_examples=20, deadline=None)
    @given(st.integers(0, 2**31))
    def test_turns_and_mirrors_only_move_pixels(self, seed):
        x = torch.arange(2 * 25.0).reshape(2, 1, 5, 5)
        y = dihedral(x, torch.Generator().manual_seed(seed))
        assert torch.equal(y.flatten(1).sort().values, x.flatten(1))
        assert torch.equal(y[..., 2, 2], x[..., 2, 2])  # the middle stays

    def test_all_eight_turns_occur_equally(self):
        x = torch.arange(4.0).reshape(1, 1, 2, 2).repeat(4000, 1, 1, 1)
        y = dihedral(x, torch.Generator().manual_seed(0)).flatten(1)
        _, counts = torch.unique(y, dim=0, return_counts=True)
        assert len(counts) == 8
        # 500 expected, sd 21: five sd.
        assert (counts - 500).abs().max() < 105


class TestBlackHoles:
    @settings(max_examples=40, deadline=None)
    @given(st.integers(0, 2**31))
    def test_flux_sign_peak_and_centroid(self, seed):
        u = blackholes.generate(np.random.default_rng(seed))[0].astype(float)
        assert u.shape == (64, 64)
        # float32 sums of 4096 pixels
        assert u.sum() * blackholes.SCALE == pytest.approx(1.0, rel=1e-5)
        assert u.min() >= 0
        # The last shift cuts what leaves the field; the flux is made good, the peak by as much.
        assert u.max() <= blackholes.PEAK * 1.2
        grid = np.arange(64) - 31.5
        centroid = np.array([u.sum(1) @ grid, u.sum(0) @ grid]) / u.sum()
        # Jitter of sd 1 pixel, half a pixel of rounding, and the light that the field cuts off.
        assert np.abs(centroid).max() < 7

    def test_neither_rings_nor_other_sources_are_forced_on_the_data(self):
        grid = np.arange(64) - 31.5
        radius = np.hypot(grid[None], grid[:, None]).astype(int)

        def shadow(image: np.ndarray) -> bool:
            """The mean brightness at some radius is twice that in the middle."""
            profile = np.bincount(radius.ravel(), image.ravel()) / np.bincount(radius.ravel())
            return bool(profile.max() > 2 * profile[:2].mean())

        images = [blackholes.generate(np.random.default_rng([9, i]))[0] for i in range(200)]
        share = np.mean([shadow(i) for i in images])
        assert 0.25 < share < 0.6

    def test_ring_diameters_cover_the_range(self):
        rng = np.random.default_rng(0)
        sizes = []
        for _ in range(200):
            ring = blackholes._ring(rng)
            r = blackholes._polar()[0]
            sizes.append(2 * (ring * r).sum() / ring.sum())
        assert min(sizes) < 26
        assert max(sizes) > 74


class TestDiscs:
    @settings(max_examples=25, deadline=None)
    @given(st.integers(0, 2**31))
    def test_air_outside_and_acrylic_within_its_tolerance(self, seed):
        u = discs.generate(np.random.default_rng(seed))[0]
        assert u.shape == (128, 128)
        corners = np.r_[u[0, 0], u[0, -1], u[-1, 0], u[-1, -1]]
        np.testing.assert_allclose(corners, -1, atol=1e-6)
        # Acrylic 0.93 to 1.09 of the nominal value, cupping up to ±2.5 %.
        top = 2 * 1.09 * 1.025 - 1
        assert u.min() >= -1 - 1e-6
        assert u.max() <= top + 1e-5
        assert u.max() >= 2 * 0.92 * 0.975 - 1 - 0.05  # less what thin webs lose to blur

    @pytest.mark.parametrize("seed", range(8))
    def test_a_marred_disc_is_the_disc_with_another_rim_or_shade(self, seed):
        clean, held = discs.generate_marred(np.random.default_rng(seed))
        assert np.array_equal(clean, discs.generate(np.random.default_rng(seed))[0])
        change = np.abs(held - clean)
        assert change.max() > 0.02
        grid = (np.arange(discs.N) - (discs.N - 1) / 2) * discs.PIXEL
        deep = np.hypot(grid[None], grid[:, None]) < 20  # mm; the rim lies at 30 mm or more
        inside = clean[deep] > -0.9  # acrylic, perhaps shaded; holes stay holes
        assert change[deep][~inside].max(initial=0) < 0.05
        assert change[deep][inside].max() < 0.35

    def test_physical_values_are_attenuations(self):
        kind = discs.FAMILY
        assert kind.offset - kind.scale == 0.0
        assert kind.offset + kind.scale == pytest.approx(0.038)
        assert kind.pixel * 128 == pytest.approx(512 * 0.148322, rel=1e-4)

    def test_the_number_of_holes_varies(self):
        counts = []
        for i in range(60):
            u = discs.generate(np.random.default_rng([4, i]))[0]
            counts.append(label(u < 0)[1] - 1)  # less the air around
        assert min(counts) == 0
        assert max(counts) >= 10

    def test_area_of_a_circle_is_exact_to_the_subpixel(self):
        _, _, distance = discs._circle(np.random.default_rng(0), 3.1, -2.7, 4.2)
        area = np.clip(0.5 - distance / discs.STEP, 0, 1).sum() * discs.STEP**2
        # Edges that are linear over one fine pixel: relative error of order (step/radius)²/24.
        assert area == pytest.approx(np.pi * 4.2**2, rel=5e-4)


class TestBrains:
    def test_magnitude_scale_and_air(self, head):
        u = brains.generate(np.random.default_rng(0), head)
        assert u.shape == (1, brains.CANVAS, brains.CANVAS)
        assert 0.84 < np.percentile(u, 99) < 1.11
        assert u.min() == 0
        np.testing.assert_allclose(u[0, :4, :4], 0, atol=1e-6)

    def test_a_phase_leaves_the_magnitude(self, head):
        pool = torch.from_numpy(
            np.stack([brains.generate(np.random.default_rng(i), head) for i in (0, 1)])
        )
        images = brains.augment(pool, torch.Generator().manual_seed(3))
        assert images.shape == (2, 2, 96, 96)
        magnitude = images.norm(dim=1)
        assert magnitude.max() <= pool.max() + 1e-5
        for m, p in zip(magnitude, pool, strict=True):
            # Each crop's values are values of its slice.
            distance = torch.cdist(m.flatten()[::97, None], p.flatten()[:, None]).min(1).values
            assert distance.max() < 1e-5

    def test_phases_are_smooth_and_cover_the_circle(self):
        phase = brains.random_phase(200, 96, torch.Generator().manual_seed(0))
        steps = (phase[..., 1:, :] - phase[..., :-1, :]).abs()
        assert steps.max() < 1.0  # radians per pixel: no wraps between neighbours
        offset = phase[:, 0, 48, 48]
        # A uniform phase has a mean resultant of sd 1/√n; four sd.
        assert torch.complex(offset.cos(), offset.sin()).mean().abs() < 4 / 200**0.5

    def test_a_source_is_needed_and_must_exist(self, tmp_path):
        with pytest.raises(ConfigError, match="head volume"):
            brains.read_head(None)
        with pytest.raises(DataError, match="no such head volume"):
            brains.read_head(str(tmp_path / "none.nii.gz"))

    def test_a_damaged_volume_is_an_error(self, tmp_path):
        pytest.importorskip("nibabel")
        path = tmp_path / "head.nii.gz"
        path.write_bytes(b"no image")
        with pytest.raises(DataError, match="cannot be read"):
            brains.read_head(str(path))

    @pytest.mark.parametrize("top", [1.0, 0.0, 65535.0])
    def test_a_volume_in_other_intensities_is_refused_before_training(self, tmp_path, top):
        nibabel = pytest.importorskip("nibabel")
        volume = np.zeros((40, 40, 40), np.float32)
        volume[8:32, 8:32, 8:32] = top
        path = tmp_path / "head.nii.gz"
        nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), path)
        with pytest.raises(DataError, match="other intensities") as caught:
            brains.read_head(str(path))
        assert "113" in str(caught.value.remedy)  # where white matter should be

    def test_depth_counts_millimetres_from_the_skin(self, tmp_path):
        nibabel = pytest.importorskip("nibabel")
        volume = np.zeros((40, 40, 40), np.float32)
        volume[8:32, 8:32, 8:32] = 100
        path = tmp_path / "head.nii.gz"
        nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), path)
        head = brains.read_head(str(path))
        # 12 voxels from a face to the middle; the smoothing of the mask moves the skin a little.
        assert head.depth[20, 20, 20] == pytest.approx(12.5, abs=1.6)
        assert head.depth[0, 20, 20] == 0
