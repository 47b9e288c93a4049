"""Scores: of one image against a reference, and of an ensemble of draws against the truth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.ndimage import uniform_filter

from sciinv.errors import DataError

QUARTILE = 0.6745 / math.sqrt(2)  # of a Gaussian of variance 2, halved


def nmse(image: Any, reference: Any) -> float:
    """Return the normalised mean squared error ‖image − reference‖² / ‖reference‖²."""
    x, r = _pair(image, reference)
    return float(np.sum(np.abs(x - r) ** 2) / np.sum(np.abs(r) ** 2))


def psnr(image: Any, reference: Any, data_range: float | None = None) -> float:
    """Return the peak signal-to-noise ratio 10 log10(range² / MSE) in dB.

    Args:
        image: Array of any shape.
        reference: Array of the same shape.
        data_range: Range of the values; that of the reference, max − min, if None. (fastMRI takes
            the maximum of the reference volume.)
    """
    x, r = _pair(image, reference)
    mse = float(np.mean(np.abs(x - r) ** 2))
    span = float(r.max() - r.min()) if data_range is None else data_range
    return math.inf if mse == 0 else 10 * math.log10(span**2 / mse)


def ssim(image: Any, reference: Any, data_range: float | None = None, window: int = 7) -> float:
    """Return the structural similarity, mean over the image without half a window at its edges.

    SSIM = (2 µx µr + c1)(2 σxr + c2) / ((µx² + µr² + c1)(σx² + σr² + c2)), c1 = (0.01 range)²,
    c2 = (0.03 range)², over uniform square windows with sample covariances (n − 1), as fastMRI.

    Args:
        image: Real image [y, x].
        reference: The same shape.
        data_range: Range of the values; that of the reference, max − min, if None.
        window: Side of the window, odd, pixels.

    Raises:
        DataError: The shapes differ, or the image is smaller than the window.

    Source: Wang et al., IEEE Transactions on Image Processing 13:600, 2004.
    """
    x, r = _pair(image, reference)
    if x.ndim != 2 or min(x.shape) < window or window % 2 == 0:
        raise DataError(
            "The structural similarity cannot be computed",
            expected=f"images [y, x] of at least {window} × {window} pixels, an odd window",
            got=f"shape {x.shape}, window {window}",
            remedy="give one two-dimensional image",
        )
    span = float(r.max() - r.min()) if data_range is None else data_range
    n = window**2

    def mean(a: np.ndarray) -> np.ndarray:
        return uniform_filter(a, window)

    mu_x, mu_r = mean(x), mean(r)
    scale = n / (n - 1)
    var_x = scale * (mean(x * x) - mu_x**2)
    var_r = scale * (mean(r * r) - mu_r**2)
    cov = scale * (mean(x * r) - mu_x * mu_r)
    c1, c2 = (0.01 * span) ** 2, (0.03 * span) ** 2
    top = (2 * mu_x * mu_r + c1) * (2 * cov + c2)
    bottom = (mu_x**2 + mu_r**2 + c1) * (var_x + var_r + c2)
    edge = window // 2
    inner = (slice(edge, -edge or None),) * 2
    return float((top / bottom)[inner].mean())


def matthews_correlation(segmentation: Any, reference: Any) -> float:
    """Return the Matthews correlation of two masks, in [−1, 1]; 0 where it is not defined.

    (TP·TN − FP·FN) / √((TP+FP)(TP+FN)(TN+FP)(TN+FN)); the Helsinki challenge's score.
    """
    s, r = np.asarray(segmentation).astype(bool), np.asarray(reference).astype(bool)
    _same_shape(s, r)
    # Python's integers: the product of four counts does not fit into 64 bits.
    tp, tn = int((s & r).sum()), int((~s & ~r).sum())
    fp, fn = int((s & ~r).sum()), int((~s & r).sum())
    bottom = (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
    return 0.0 if bottom == 0 else (tp * tn - fp * fn) / math.sqrt(bottom)


def normalised_cross_correlation(image: Any, reference: Any, shift: bool = False) -> float:
    """Return mean((x − µx)(r − µr)) / (σx σr), in [−1, 1].

    Args:
        image: Array of any shape.
        reference: Array of the same shape.
        shift: Take the largest value over all circular shifts: for images without an absolute
            position, as from closure quantities.

    Source: Event Horizon Telescope Collaboration, ApJL 875, L4, 2019.
    """
    x, r = _pair(image, reference)
    x, r = x - x.mean(), r - r.mean()
    norm = float(np.sqrt(np.sum(x**2) * np.sum(r**2)))
    if norm == 0:
        return 0.0
    if not shift:
        return float(np.sum(x * r) / norm)
    return float(np.fft.ifftn(np.fft.fftn(x) * np.conj(np.fft.fftn(r))).real.max() / norm)


def crps_ensemble(draws: Any, truth: Any, fair: bool = True) -> np.ndarray:
    """Return the continuous ranked probability score of an ensemble, per element.

    CRPS = mean_i |x_i − t| − Σ_{i<j} |x_i − x_j| / (n (n − 1)): with n − 1, the fair estimator,
    whose expectation is that of the distribution the draws come from, whatever n.

    Args:
        draws: [n, …].
        truth: […].
        fair: With n (n − 1) below the second sum, else n².

    Raises:
        DataError: The shapes differ, or a fair score of a single draw is asked for.

    Source: Ferro, Quarterly Journal of the Royal Meteorological Society 140:1917, 2014.
    """
    x, t = _ensemble(draws, truth, 2 if fair else 1)
    n = len(x)
    skill = np.abs(x - t).mean(axis=0)
    # Σ_{i<j} |x_i − x_j| = Σ_k (2k − n + 1) x_(k) of the sorted draws, k = 0 … n − 1.
    weights = 2.0 * np.arange(n) - n + 1
    pairs = np.tensordot(weights, np.sort(x, axis=0), axes=1)
    return skill - pairs / (n * (n - 1) if fair else n**2)


def spread_skill(draws: Any, truth: Any) -> float:
    """Return the ensemble's spread over the error of its mean: 1 where the uncertainty is right.

    √((1 + 1/n) mean var) / √(mean (x̄ − t)²), with n − 1 in the variance; below 1: too narrow.

    Source: Fortin et al., Journal of Hydrometeorology 15:1708, 2014.
    """
    x, t = _ensemble(draws, truth, 2)
    spread = math.sqrt((1 + 1 / len(x)) * float(x.var(axis=0, ddof=1).mean()))
    error = math.sqrt(float(np.mean((x.mean(axis=0) - t) ** 2)))
    return math.inf if error == 0 else spread / error


def ranks(draws: Any, truth: Any, seed: int = 0) -> np.ndarray:
    """Return how many of the n draws lie below the truth, 0 … n; uniform where all is right.

    Ties are broken at random (by `seed`): else pixels that are exactly 0 in truth and draws would
    look like a wrong posterior.

    Source: Talts et al., "Validating Bayesian inference algorithms with SBC", 2018.
    """
    x, t = _ensemble(draws, truth, 1)
    below, ties = (x < t).sum(axis=0), (x == t).sum(axis=0)
    return below + np.random.default_rng(seed).integers(0, ties + 1)


def scattered(values: np.ndarray, count: int = 16) -> np.ndarray:
    """Return values [N, …] at `count` places of each image, the same ones, at random: [N, count].

    Neighbouring pixels move together, so a figure that takes ranks as independent wants few of an
    image; a fixed stride would fall on one column wherever it divides the width.
    """
    flat = np.asarray(values).reshape(len(values), -1)
    places = np.random.default_rng(0).permutation(flat.shape[1])[:count]
    return flat[:, np.sort(places)]


def coverage(draws: Any, truth: Any, levels: Sequence[float], seed: int = 0) -> np.ndarray:
    """Return how often the central interval of each level holds the truth, [level].

    The interval leaves out (n + 1)(1 − level)/2 ranks at each end, a rank in part where that is
    no whole number: so the coverage of a right posterior is the level for any number of draws.
    """
    n = len(np.asarray(draws))
    depth = ranks(draws, truth, seed)
    depth = np.minimum(depth, n - depth)
    counts = np.bincount(depth.ravel(), minlength=n // 2 + 1)
    out = []
    for level in levels:
        cut = (n + 1) * (1 - level) / 2
        weight = np.clip(np.arange(len(counts)) + 1 - cut, 0, 1)
        if n % 2 == 0:  # the middle rank stands alone, and is cut from both sides
            weight[-1] = np.clip(1 - 2 * (cut - n // 2), 0, 1)
        out.append(float(np.sum(weight * counts) / depth.size))
    return np.array(out)


def decided_directions(pairs: Sequence[float]) -> float:
    """Return k, how many directions of the image the data decide.

    Of draws of a Gaussian posterior ½ ‖r_i − r_j‖², r their residuals in units of the noise, has
    the mean k = Σ g and the variance 2 Σ g², g in (0, 1) the share of the data in a direction. k is
    read off the lower quartile, so that pairs across modes do not widen what is expected of one; of
    one mode that lies at k − 0.67 √(2 k) or above.

    Args:
        pairs: ½ ‖r_i − r_j‖² of all pairs of draws.
    """
    quartile = float(np.quantile(pairs, 0.25))
    return (QUARTILE + math.sqrt(QUARTILE**2 + quartile)) ** 2  # k − 2 QUARTILE √k = quartile


def _pair(image: Any, reference: Any) -> tuple[np.ndarray, np.ndarray]:
    x, r = np.asarray(image), np.asarray(reference)
    _same_shape(x, r)
    for name, values in (("image", x), ("reference", r)):
        _finite(name, values)
    kind = np.complex128 if np.iscomplexobj(x) or np.iscomplexobj(r) else np.float64
    return x.astype(kind), r.astype(kind)


def _same_shape(image: np.ndarray, reference: np.ndarray) -> None:
    if image.shape != reference.shape:
        raise DataError(
            "The image and its reference have different shapes",
            expected=reference.shape,
            got=image.shape,
            remedy="crop or resample one of them",
        )


def _ensemble(draws: Any, truth: Any, least: int) -> tuple[np.ndarray, np.ndarray]:
    x, t = np.asarray(draws, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    if x.ndim == 0 or x.shape[1:] != t.shape or len(x) < least:
        raise DataError(
            "The draws do not match the truth",
            expected=f"[n, {', '.join(map(str, t.shape))}], n ≥ {least}",
            got=list(x.shape),
            remedy="put the draws along the first axis",
        )
    for name, values in (("draws", x), ("truth", t)):
        _finite(name, values)
    return x, t


def _finite(name: str, values: np.ndarray) -> None:
    bad = int((~np.isfinite(values)).sum())
    if bad:
        raise DataError(
            f"A score of values that are not finite would count them as above or below: the {name}",
            expected="finite numbers",
            got=f"{bad} of {values.size} are NaN or infinite",
            remedy="leave them out of draws and truth alike, or look for the chain that diverged",
        )
