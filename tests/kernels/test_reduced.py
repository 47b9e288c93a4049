"""Linear algebra of closures in few coordinates."""

from __future__ import annotations

import torch

from sciinv.kernels.reduced import factored, gram


def test_a_slope_too_steep_for_single_precision_still_has_a_factor():
    # 40 data of 60 coordinates at slopes of 1e5: JᵀJ has rank 40, and its rounding in single
    # precision (1e10 · 6e−8) is hundreds of times the I that the other 20 directions live on.
    stream = torch.Generator().manual_seed(0)
    j = 1e5 * torch.randn(2, 40, 60, generator=stream).double()
    eye = torch.eye(60, dtype=torch.float64)
    assert bool(torch.linalg.cholesky_ex(eye + gram(j)).info.any())
    factor = factored(j)
    torch.testing.assert_close(factor @ factor.mT, eye + j.mT @ j, rtol=1e-10, atol=1e-3)
    # by Sylvester: log det (I + JᵀJ) = log det (I + JJᵀ), which is well conditioned
    small = torch.linalg.slogdet(torch.eye(40).double() + j @ j.mT).logabsdet
    torch.testing.assert_close(
        2 * factor.diagonal(dim1=1, dim2=2).log().sum(1), small, rtol=1e-3, atol=0
    )
