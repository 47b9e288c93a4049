"""Products of a stored system matrix and its transpose with many columns, in fixed bits.

Three ways, the same numbers up to rounding and on one machine the same bits whatever the batch:

    SciPy      Aᵀ alone is kept, by pixels: Aᵀ y gathers with it, A x scatters with it
    MKL        A and Aᵀ, both by rows: 2 to 2.4 times faster (128², 121 views, 8 columns, AVX2)
    a device   A and Aᵀ as `torch.sparse` matrices there

MKL does not promise that a column's bits are free of its neighbours. So it is asked: where a
product of a few columns differs from the same columns of a product of many, SciPy is taken.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

TRIED = (1, 2, 3, 5, 8, 16)  # numbers of columns whose bits are compared with those of 19
MOST = 19


class Block:
    """One stored matrix and its products with [pixel, column] and [ray, column].

    Args:
        a: A, [ray, pixel], float32 or float64.
        device: Where its columns live.
        both: Whether there is memory for A beside Aᵀ on a CPU.
    """

    def __init__(self, a: sp.csr_array, device: torch.device, both: bool = False) -> None:
        by_pixel = sp.csr_array(a.T.tocsr())
        self.nnz = int(by_pixel.nnz)
        self._by_pixel: Any = by_pixel
        self._by_ray: Any = by_pixel.T
        if device.type != "cpu":
            self._by_pixel, self._by_ray = to_torch(by_pixel, device), to_torch(a, device)
        elif both and torch.backends.mkl.is_available():
            fast = to_torch(by_pixel, device), to_torch(a, device)
            if all(same_bits(matrix) for matrix in fast):
                self._by_pixel, self._by_ray = fast

    def forward(self, columns: Tensor) -> Tensor:
        """Return A columns."""
        return _multiply(self._by_ray, columns)

    def adjoint(self, columns: Tensor) -> Tensor:
        """Return Aᵀ columns."""
        return _multiply(self._by_pixel, columns)


def same_bits(matrix: Tensor) -> bool:
    """Return whether a product's columns do not depend on how many there are."""
    columns = torch.randn(
        matrix.shape[1], MOST, dtype=matrix.dtype, generator=torch.Generator().manual_seed(0)
    )
    many = matrix @ columns
    return all(torch.equal(matrix @ columns[:, :n].contiguous(), many[:, :n]) for n in TRIED)


def to_torch(matrix: sp.csr_array, device: torch.device) -> Tensor:
    """Return a SciPy matrix as `torch.sparse`, by rows, on a device."""
    matrix.sort_indices()
    indptr, indices, data = (
        torch.from_numpy(np.asarray(v)).to(device)
        for v in (matrix.indptr, matrix.indices, matrix.data)
    )
    with warnings.catch_warnings():  # torch calls the layout beta; its products are MKL's
        warnings.filterwarnings("ignore", message="Sparse")
        return torch.sparse_csr_tensor(
            indptr, indices, data, size=matrix.shape, check_invariants=False
        )


def _multiply(matrix: Any, columns: Tensor) -> Tensor:
    if isinstance(matrix, Tensor):
        return matrix @ columns
    return torch.from_numpy(matrix @ columns.numpy())
