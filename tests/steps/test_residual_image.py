"""k-space residuals seen in the image: noise has the size 1, a ghost stands where it is."""

from __future__ import annotations

import numpy as np
import pytest

from sciinv.steps.residual_image import folded, sampled_radius

SIDE = (40, 36)


def centre_and_some(seed=0):
    mask = np.random.default_rng(seed).random(SIDE) < 0.2
    rows, columns = np.indices(SIDE)
    mask[np.hypot(rows - 20, columns - 18) <= 9] = True
    return mask


def noise(mask, coils=8, seed=1):
    return np.random.default_rng(seed).normal(size=(2, coils, int(mask.sum())))


def test_the_measured_centre_is_found():
    assert 9 <= sampled_radius(centre_and_some()) <= 10  # the next ring may be sampled by chance
    assert sampled_radius(np.zeros(SIDE, bool)) == 0
    assert sampled_radius(np.ones(SIDE, bool)) == 17  # what fits into the shorter side


def test_noise_has_the_size_one_and_stays_below_its_bound():
    mask = centre_and_some()
    found = [folded(mask, noise(mask, seed=s)) for s in range(100)]
    squares = np.mean([f.size**2 for f in found])
    # 100 images of 8 coils and about 250 complex values: 1 ± √(1/(100·8·250)) = 0.002
    assert squares == pytest.approx(1.0, abs=0.01)
    beyond = sum(bool(f.size.max() > f.bound) for f in found)
    assert beyond <= 4  # at most one is expected; four or more of a Poisson law of 1: 2 %


def test_a_ghost_is_seen_where_it_is():
    mask = centre_and_some()
    image = np.zeros(SIDE, dtype=complex)
    image[3, 10] = 60.0
    k = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(image), norm="ortho"))[mask]
    left = noise(mask)
    left[0] += k.real
    left[1] += k.imag
    found = folded(mask, left)
    assert found.size.max() > found.bound
    assert np.unravel_index(int(found.size.argmax()), SIDE) == pytest.approx((3, 10), abs=1)
    assert "row 3" in found.words() or "row 2" in found.words() or "row 4" in found.words()


def test_without_a_full_centre_there_is_no_image():
    sparse = np.random.default_rng(0).random(SIDE) < 0.2
    assert folded(sparse, noise(sparse)) is None
    mask = centre_and_some()
    assert folded(mask, noise(mask)[0]) is None  # real data have no phase to bring back


def test_samples_without_data_leave_the_rest_as_it_is():
    mask = centre_and_some()
    left = noise(mask)
    left[:, :, 0] = np.nan
    assert np.isfinite(folded(mask, left).size).all()
