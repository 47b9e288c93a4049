"""What every sampler shares: deepinv's call, many draws as an xarray Dataset, one stream each."""

from __future__ import annotations

import itertools
import time
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import xarray as xr
from deepinv.models.base import Reconstructor
from deepinv.physics import Physics
from torch import Tensor

from sciinv import likelihoods, units
from sciinv.arithmetic import fixed_arithmetic
from sciinv.errors import ConfigError, DivergenceError
from sciinv.kernels import Level
from sciinv.kernels.unknowns import Unknowns
from sciinv.operators.base import declared, image_shape
from sciinv.priors.base import Prior
from sciinv.problem import Problem
from sciinv.samplers import checks, outliers
from sciinv.samplers.counts import Levels, Means, Progress
from sciinv.samplers.lanes import as_dataset, blocks
from sciinv.seeds import Streams, at_least, whole

SELDOM = 8  # levels of a device between two questions whether all is finite


@dataclass
class Step:
    """What a sampler's step leaves.

    Attributes:
        x0: The draw of x0 at this level, [B, C, H, W].
        state: What the next level starts from.
        stats: Numbers of the kernel, each [B].
        unknowns: Noise and instrument as drawn with x0; None where they are known.
    """

    x0: Tensor
    state: Any
    stats: Mapping[str, Tensor] = field(default_factory=dict)
    unknowns: Unknowns | None = None


class Sampler(Reconstructor):
    """Base: draws from p(x0 | y) under a prior and an operator.

    Draw i of item j comes from the random stream (seed, j, i), and is computed in a micro-batch of
    one fixed size at one fixed place in it, so that it has the same bits whatever else is asked.

    Args:
        prior: The diffusion prior.
        micro_batch: Draws computed together; part of a run's identity, as rounding depends on it.
            By default the prior's own.
        item_batch: Items computed together, each with its draws of a micro-batch: one chain of
            item_batch × micro_batch lanes, so that few draws of many small items fill a GPU. Item j
            has the place j mod item_batch; places of items that are not asked for are filled and
            thrown away. Like `micro_batch` part of a run's identity. Items whose noise differs from
            row to row are computed one by one.
    """

    name: str
    draws_unknowns = False  # whether what an operator declares unknown is drawn; else it is refused
    retries = 0  # times that a group's impossible draws are drawn anew (`samplers.outliers`)
    # What a chain that left the finite numbers is most often mended by.
    remedy = (
        "check the operator (`sciinv check-operator`), its noise level, and that image and prior "
        "have the same units"
    )

    def __init__(self, prior: Prior, micro_batch: int | None = None, item_batch: int = 1) -> None:
        super().__init__()
        self.prior = prior
        self.item_batch = at_least(1, whole(item_batch, "item_batch"), "item_batch")
        size = prior.micro_batch if micro_batch is None else micro_batch
        self.micro_batch = at_least(1, whole(size, "micro_batch"), "micro_batch")

    @abstractmethod
    def levels_of_noise(self) -> Sequence[float]:
        """Return the noise of each level that `step` is called for, from the first, units of x."""

    @abstractmethod
    def start(self, problem: Problem, streams: Streams, like: Tensor) -> Any:
        """Return the state before the first level, one chain per lane.

        Args:
            problem: Data, operator and likelihood, one lane per draw.
            streams: One random stream per lane.
            like: An image batch [B, C, H, W]: shape, dtype, device.
        """

    @abstractmethod
    def step(self, state: Any, level: Level, problem: Problem, streams: Streams) -> Step:
        """Return the draw of x0 at this level, and the state of the next."""

    def finish(self, last: Step, problem: Problem, streams: Streams) -> Step:
        """Return what is handed out; by default the last level's draw."""
        return last

    @property
    def steps(self) -> int:
        """Number of levels or steps that a chain reports."""
        return len(self.levels_of_noise())

    def chain(
        self, problem: Problem, streams: Streams, like: Tensor, report: Callable[[int], None]
    ) -> tuple[Tensor, dict[str, Tensor | float]]:
        """Run one chain per lane.

        Args:
            problem: Data, operator and likelihood, one lane per draw.
            streams: One random stream per lane.
            like: An image batch [B, C, H, W]: shape, dtype, device.
            report: Called with the number of the level just done.

        Returns:
            x0 [B, C, H, W] and statistics, each a number or [B]; "nfe" counts evaluations of D.
            Where unknowns are drawn: their values too, [B] or [B, groups], and "chi2".

        Raises:
            DivergenceError: A chain left the finite numbers.
        """
        before, means = self.prior.evaluations, Means()
        sigmas = [float(s) for s in self.levels_of_noise()]
        state = self.start(problem, streams, like)
        done: Step | None = None
        for i, (sigma, sigma_next) in enumerate(zip(sigmas, [*sigmas[1:], 0.0], strict=True)):
            try:
                done = self.step(state, Level(i, len(sigmas), sigma, sigma_next), problem, streams)
            except torch.linalg.LinAlgError as error:
                raise self.diverged(problem.physics, i, sigma) from error
            # A device is asked seldom, as it has to stop for the answer; what it adds to is lost.
            look = like.device.type == "cpu" or i % SELDOM == 0 or i + 1 == len(sigmas)
            if look and not bool(torch.isfinite(done.x0).all()):
                raise self.diverged(problem.physics, i, sigma)
            state = done.state
            means.add(done.stats)
            report(i + 1)
        assert done is not None
        end = self.finish(done, problem, streams)
        own = {} if end is done else dict(end.stats)
        if end.unknowns is not None and end.unknowns.chi2 is not None:
            own |= {**end.unknowns.values, "chi2": end.unknowns.chi2}
        nfe = float(self.prior.evaluations - before)
        return end.x0, {"nfe": nfe, **means.result(), **own}

    def forward(self, y: Tensor, physics: Physics, seed: int = 0, **kwargs: Any) -> Tensor:
        """Return one draw per item, [B, C, H, W] (deepinv's reconstructor call)."""
        if kwargs:
            raise ConfigError(
                "The sampler does not know this argument",
                expected="y, physics, seed",
                got=", ".join(kwargs),
                remedy="give settings to the sampler's constructor",
            )
        images = self.sample(y, physics, draws=1, seed=seed)["image"].values
        return torch.as_tensor(images[0]).to(y)

    @fixed_arithmetic()
    def sample(
        self,
        y: Tensor,
        physics: Physics,
        draws: int | Sequence[int] = 1,
        seed: int = 0,
        batch_size: int | None = None,
        items: Sequence[int] | None = None,
        progress: Progress | None = None,
    ) -> xr.Dataset:
        """Return posterior draws of x0 given y.

        Args:
            y: Measurement, [B, …], one row per item, in the operator's units.
            physics: A deepinv operator that carries its noise.
            draws: How many draws, or which (their numbers): draw i is the same in any selection.
            seed: Seed of the run.
            batch_size: Draws held in one go; rounded to whole micro-batches; never changes a bit.
            items: The items' numbers in the data set (part of the random stream); 0, 1, … if None.
            progress: Called with (levels done, levels in all).

        Returns:
            Dataset with "image" [draw, item, channel, y, x] and, each [draw, item]: "chi2" (reduced
            χ² of the draw with the noise as declared), "nfe" (network evaluations), "seconds", and
            the kernel's own. Unknowns that are drawn are variables of their own names, [draw, item]
            or [draw, item, group]; χ² is then that of the instrument as drawn, and "noise_scale"²
            is what it is compared with. Where impossible draws are drawn anew
            (`samplers.outliers`): "tries" and "failed", 1 for a draw that is none. The attribute
            "unknowns_drawn" says how parameters of the operator were drawn, and why so.

        Raises:
            OperatorError: y or the prior's image do not match the operator, or y is not finite.
            DivergenceError: A chain left the finite numbers, or what the prior knows by far.
        """
        if isinstance(draws, Sequence | np.ndarray | range) and not isinstance(draws, str):
            numbers = [whole(d, "draw") for d in draws]
        else:
            numbers = list(range(whole(draws, "draws")))
        seed = whole(seed, "seed")
        if batch_size is not None:
            at_least(1, whole(batch_size, "batch_size"), "batch_size")
        checks.kind(y, physics)
        checks.first_noise(self)
        y = y.clone() if y.is_inference() else y
        if not numbers:
            raise ConfigError("No draws were asked for", expected="draws ≥ 1", got=draws,
                              remedy="ask for at least one draw")  # fmt: skip
        physics = declared(physics, y, self.prior.shape)
        if not self.draws_unknowns:
            checks.all_known(physics, self.name)
        shape = image_shape(physics)
        self.prior.check(shape)
        if physics.image_spec is not None:
            units.check(self.prior.units, physics.image_spec.units, where=type(physics).__name__)
        checks.finite(y, physics)
        items = [whole(i, "item") for i in (range(len(y)) if items is None else items)]
        if len(items) != len(y):
            raise ConfigError(
                "The items' numbers do not match the measurements",
                expected=f"{len(y)} numbers",
                got=f"{len(items)} numbers",
                remedy="give one number per row of y",
            )
        one_by_one = likelihoods.per_row(physics)
        together = blocks(items, 1 if one_by_one else self.item_batch)
        places = len(together[0])
        like = torch.zeros(places * self.micro_batch, *shape, dtype=y.dtype, device=y.device)
        groups = sorted({n // self.micro_batch for n in numbers})
        levels = Levels(self.steps, len(groups) * len(together), progress)
        images: dict[tuple[int, int], np.ndarray] = {}
        stats: dict[str, dict[tuple[int, int], Any]] = {}
        problem: Problem | None = None
        for rows in together:
            there = [row for row in rows if row is not None]
            if problem is None or one_by_one:
                likelihood = likelihoods.of(physics, there[0], len(items))
                checks.carries_data(likelihood, physics)
                with torch.no_grad():
                    problem = Problem.of(y[there[0] :][:1], physics, likelihood, like)
            wanted = [place for place, row in enumerate(rows) if row is not None]
            filled = [there[0] if row is None else row for row in rows]
            data = torch.stack([y[row] for row in filled for _ in range(self.micro_batch)])
            for group in groups:
                first = group * self.micro_batch
                lanes = list(itertools.product(rows, range(first, first + self.micro_batch)))
                keys = [(seed, items[there[0] if r is None else r], n) for r, n in lanes]
                x0, values = self._group(problem.with_data(data), keys, wanted, like, levels.tell)
                levels.close()
                for lane, (row, number) in enumerate(lanes):
                    if row is None or number not in numbers:
                        continue
                    images[number, row] = x0[lane]
                    for key, value in values.items():
                        stats.setdefault(key, {})[number, row] = value[lane]
        assert problem is not None
        about = self.about(seed)
        if (way := problem.cache.get("unknowns drawn")) is not None:
            about["unknowns_drawn"] = way
        return as_dataset(images, stats, numbers, items, physics, about)

    def _group(
        self,
        problem: Problem,
        keys: Sequence[tuple[int, int, int]],
        wanted: Sequence[int],
        like: Tensor,
        report: Callable[[int, int], None],
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Run one micro-batch of each of some items: images [B, C, H, W] and statistics [B].

        Args:
            problem: The data, one lane per draw, those of an item beside each other.
            keys: (seed, item, draw) of each lane.
            wanted: Places of the items that are asked for.
            like: An image batch [B, C, H, W].
            report: Called with the levels done and the number of the try.
        """
        start = time.perf_counter()

        def attempt(again: int, which: Sequence[int]) -> tuple[Tensor, dict[str, Tensor | float]]:
            name = ("again", again) if again else ()
            mine = problem
            if again:
                index = torch.as_tensor(which, device=like.device)
                mine = problem.with_data(problem.y.index_select(0, index))
            streams = Streams([(*keys[lane], *name) for lane in which], stock=True)
            with torch.no_grad():
                x0, values = self.chain(
                    mine, streams, like[: len(which)], lambda level: report(level, again)
                )
                if "chi2" not in values:
                    values["chi2"] = mine.likelihood.chi2(mine.physics.A(x0), mine.y)
            checks.drawn(x0, self, mine.physics)
            return x0, values

        if self.retries:
            known = outliers.freedom(problem, like[0].numel())
            n = self.micro_batch
            each = [range(p * n, (p + 1) * n) for p in wanted]
            apart = outliers.scatter(problem)
            x0, values = outliers.redrawn(attempt, each, len(keys), self.retries, *known, apart)
        else:
            x0, values = attempt(0, range(len(keys)))
        values["seconds"] = (time.perf_counter() - start) / (len(wanted) * self.micro_batch)
        out = {}
        for key, v in values.items():
            number = v.detach().cpu().numpy() if isinstance(v, Tensor) else np.float64(v)
            out[key] = np.broadcast_to(number, (len(keys), *number.shape[1:]))
        return x0.cpu().numpy(), out

    def diverged(self, physics: Physics, level: int, sigma: float) -> DivergenceError:
        """Return the error of a chain that left the finite numbers."""
        return DivergenceError(
            "A chain left the finite numbers",
            where=f"operator {type(physics).__name__}, sampler {self.name}, "
            f"level {level + 1} of {self.steps}, σ = {sigma:.4g}",
            expected="finite images",
            got="NaN or infinity",
            remedy=self.remedy,
        )

    def about(self, seed: int) -> dict[str, Any]:
        """Return the attributes of a Dataset of draws."""
        size = {"item_batch": self.item_batch} if self.item_batch > 1 else {}
        return {"seed": seed, "micro_batch": self.micro_batch, **size, **self.settings()}

    def settings(self) -> dict[str, Any]:
        """Return what identifies this sampler, for the record of a run."""
        return {"sampler": self.name, "operator_steps": self.steps}
