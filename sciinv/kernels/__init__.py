"""Kernels: draws from p(x0 | x_t, y). `auto` chooses by the operator and the likelihood."""

from __future__ import annotations

import math

from sciinv.kernels.base import Draw, Kernel, Level
from sciinv.kernels.exact import Exact
from sciinv.kernels.hmc import HMC
from sciinv.kernels.langevin import Langevin, ReleasedLangevin
from sciinv.kernels.metropolis import Metropolis
from sciinv.kernels.modes import Modes
from sciinv.kernels.newton import GaussNewton
from sciinv.likelihoods import Gaussian
from sciinv.operators.base import image_shape
from sciinv.problem import Problem
from sciinv.registry import find

KERNELS: dict[str, type[Kernel]] = {
    k.name: k for k in (Exact, Langevin, HMC, Metropolis, GaussNewton, Modes)
}

# Up to this many pixels the derivative of an operator without one comes from differences.
DIFFERENCES_LIMIT = 256

__all__ = [
    "HMC",
    "KERNELS",
    "Draw",
    "Exact",
    "GaussNewton",
    "Kernel",
    "Langevin",
    "Level",
    "Metropolis",
    "Modes",
    "Problem",
    "ReleasedLangevin",
    "build",
]


def build(kernel: str | Kernel, problem: Problem, gaussian: bool = True) -> Kernel:
    """Return the kernel of this name, or the one that "auto" chooses.

    Exact for a linear operator with Gaussian noise; Gauss–Newton with an accept step for a
    nonlinear one, by finite differences where a small operator says `differentiable = False`;
    Metropolis where such an operator's image is large; Langevin where p(x0 | x_t) is known by its
    gradient only.

    Args:
        kernel: A name, "auto", or a kernel.
        problem: The data.
        gaussian: Whether the conditional is a Gaussian.

    Raises:
        ConfigError: There is no kernel of this name.
    """
    if isinstance(kernel, Kernel):
        return kernel
    if kernel == "auto":
        if not gaussian:
            return Langevin()
        if problem.linear and isinstance(problem.likelihood, Gaussian):
            return Exact()
        if problem.physics.differentiable:
            return GaussNewton()
        if math.prod(image_shape(problem.physics)) <= DIFFERENCES_LIMIT:
            return GaussNewton()
        return Metropolis()
    return find("kernel", kernel, KERNELS, also="auto")()
