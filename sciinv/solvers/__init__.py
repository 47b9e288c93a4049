"""The linear solves: Ā = W J, conjugate gradients, and what an exact draw takes of them."""

from sciinv.solvers.conjugate import conjugate_gradient
from sciinv.solvers.linearised import Linearised, dense_rows, solve_dual
from sciinv.solvers.rough import Rough
from sciinv.solvers.whitened import Whitened, normal_symbol

__all__ = [
    "Linearised",
    "Rough",
    "Whitened",
    "conjugate_gradient",
    "dense_rows",
    "normal_symbol",
    "solve_dual",
]
