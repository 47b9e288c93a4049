"""Samplers of anyone's, as functions: (prior, physics, y, draws, seed) → draws."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr
from deepinv.physics import Physics
from torch import Tensor

from sciinv.errors import ConfigError
from sciinv.priors.base import Prior
from sciinv.registry import from_file
from sciinv.samplers import DAPS
from sciinv.samplers.base import Sampler, Step

Function = Callable[[Prior, Any, Tensor, int, int], Tensor]


def named(text: str) -> Callable[[Prior], Sampler]:
    """Return the maker of a sampler that is the function in "FILE.py:NAME".

    The function takes (prior, physics, y [1, …], draws, seed) and returns draws [draws, C, H, W].
    The prior is a deepinv denoiser, prior(x, σ); the physics a deepinv operator with its noise.

    Raises:
        ConfigError: There is no such file or function.
    """
    function = from_file(
        text, "sampler", callable, ConfigError, "a function (prior, physics, y, draws, seed)"
    )
    return lambda prior: FunctionSampler(prior, function, text)


class FunctionSampler(Sampler):
    """A function in the place of a sampler, so that it goes through the same cases.

    Args:
        prior: The diffusion prior.
        function: See `named`.
        name: What it is called in the table.
    """

    name = "function"

    def __init__(self, prior: Prior, function: Function, name: str) -> None:
        super().__init__(prior)
        self.function, self.title = function, name

    def sample(
        self,
        y: Tensor,
        physics: Physics,
        draws: int | Sequence[int] = 1,
        seed: int = 0,
        batch_size: int | None = None,
        items: Sequence[int] | None = None,
        progress: Any = None,
    ) -> xr.Dataset:
        """Return the function's draws with the calls of the prior and the seconds it took.

        Raises:
            ConfigError: The function returns something else than draws.
        """
        from sciinv import likelihoods

        if not isinstance(draws, int) or len(y) != 1:
            raise ConfigError(
                "A sampler that is a function draws for one measurement at a time",
                where=self.title,
                expected="a number of draws and one item",
                got=f"draws {draws}, {len(y)} items",
                remedy="use it in `sciinv benchmark`",
            )
        before, start = self.prior.evaluations, time.process_time()
        x = torch.as_tensor(self.function(self.prior, physics, y, draws, seed)).detach()
        seconds = (time.process_time() - start) / draws
        if x.ndim != 4 or len(x) != draws:
            raise ConfigError(
                "The sampler's function does not return draws",
                where=self.title,
                expected=f"[{draws}, C, H, W]",
                got=list(x.shape),
                remedy="return one image per draw, stacked",
            )
        with torch.no_grad():
            u = physics.A(x.to(y))
            chi2 = likelihoods.of(physics).chi2(u, y.expand_as(u))
        nfe = float(self.prior.evaluations - before)
        dims = ("draw", "item")
        return xr.Dataset(
            {
                "image": (("draw", "item", "channel", "y", "x"), x.cpu().numpy()[:, None]),
                "chi2": (dims, chi2.cpu().numpy()[:, None]),
                "nfe": (dims, np.full((draws, 1), nfe)),
                "seconds": (dims, np.full((draws, 1), seconds)),
            },
            attrs=self.settings(),
        )

    def settings(self) -> dict[str, Any]:
        """Return what identifies this sampler."""
        return {"sampler": self.title}

    def levels_of_noise(self) -> Sequence[float]:
        """Return nothing: the function has its own loop."""
        return []

    def start(self, problem: Any, streams: Any, like: Tensor) -> Any:
        """Not used: the function has its own loop."""
        raise NotImplementedError

    def step(self, state: Any, level: Any, problem: Any, streams: Any) -> Step:
        """Not used: the function has its own loop."""
        raise NotImplementedError


def default(draws: int) -> Callable[[Prior], Sampler]:
    """Return the maker of what `samplers.DAPS(prior)` is, in groups of up to 1,000 lanes."""
    return lambda prior: DAPS(prior, micro_batch=min(draws, 1000))
