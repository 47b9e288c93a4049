"""One random stream per draw: draw i is the same whatever the batch, the shard or the machine."""

from __future__ import annotations

import hashlib
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from sciinv.errors import ConfigError

# Numbers of a lane that are drawn at once: up to SMALL from a stock, which grows while it is used.
SMALL, FIRST, LARGEST = 512, 512, 4096


def whole(value: Any, what: str) -> int:
    """Return a whole number as Python's int: NumPy's integers are the same numbers.

    Raises:
        ConfigError: It is none, like None, 1.5, "x" or True.
    """
    try:
        if isinstance(value, bool):
            raise TypeError
        return operator.index(value)
    except TypeError:
        raise ConfigError(
            f"The {what} is no whole number",
            expected="an integer, Python's or NumPy's",
            got=repr(value),
            remedy="give an integer"
            + ("; random streams are named by integers alone" if what == "seed" else ""),
        ) from None


def at_least(least: int, value: int, what: str) -> int:
    """Return a whole number, or raise `ConfigError` where it is below the least that works."""
    if value < least:
        raise ConfigError(
            f"The setting {what} is too small",
            expected=f"{what} ≥ {least}",
            got=value,
            remedy=f"set it to {least} or more",
        )
    return value


def positive(value: Any, what: str) -> float:
    """Return a finite number above 0, or raise `ConfigError`."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if isinstance(value, bool | str) or not 0 < number < math.inf:
        raise ConfigError(
            f"The setting {what} is no positive number",
            expected=f"a finite {what} > 0",
            got=repr(value),
            remedy="correct it, or leave it out",
        )
    return number


def stream_seed(*key: int | str) -> int:
    """Return a 63-bit seed from a key such as (seed, item, draw); equal keys, equal streams.

    The key is hashed (BLAKE2b), so neighbouring keys give unrelated streams.
    """
    parts = (f"str:{k}" if isinstance(k, str) else f"int:{whole(k, 'seed')}" for k in key)
    text = "/".join(parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


class Streams:
    """Independent random streams, one per lane of a batch.

    Numbers are made on the CPU and moved, so that a stream does not depend on the device.

    Args:
        keys: One key per lane, e.g. (seed, item, draw).
        stock: Draw few numbers at a time from a stock, as chains of many lanes do. The numbers are
            others than without: part of what a stream is.
    """

    def __init__(self, keys: Sequence[tuple[int | str, ...]], stock: bool = False) -> None:
        self.keys, self.stocked = list(keys), stock
        self._stock: dict[tuple[Any, ...], tuple[Tensor, int]] = {}
        self._generators = [torch.Generator().manual_seed(stream_seed(*k)) for k in self.keys]

    @classmethod
    def of_seed(cls, seed: int, lanes: int) -> Streams:
        """Return `lanes` streams with the keys (seed, 0), (seed, 1) and so on."""
        return cls([(seed, lane) for lane in range(lanes)])

    def __len__(self) -> int:
        return len(self.keys)

    def randn(self, shape: Sequence[int], like: Tensor) -> Tensor:
        """Return standard normal numbers [B, *shape] with the dtype and device of `like`.

        They are drawn in float64 only for a float64 `like`.
        """
        return self._numbers(torch.randn, shape, like)

    def rand(self, shape: Sequence[int], like: Tensor) -> Tensor:
        """Return uniform numbers in [0, 1), [B, *shape]."""
        return self._numbers(torch.rand, shape, like)

    def _numbers(self, make: Callable[..., Tensor], shape: Sequence[int], like: Tensor) -> Tensor:
        """Return [B, *shape] of `make`, each lane's from its own stream.

        Few numbers at a time come from a stock that is filled lane by lane now and then: a loop
        over a thousand lanes for eight numbers each was most of the price of a small problem. A
        lane's numbers depend on what was asked before, not on the lanes beside it.
        """
        count = math.prod(shape)
        if count > SMALL or not self.stocked:
            return self._drawn(make, tuple(shape), like)
        key = (make.__name__, like.dtype, like.device)
        stock, used = self._stock.get(key, (None, 0))
        if stock is None or used + count > stock.shape[1]:
            size = FIRST if stock is None else min(2 * stock.shape[1], LARGEST)
            stock, used = self._drawn(make, (size,), like), 0
        self._stock[key] = (stock, used + count)
        return stock[:, used : used + count].reshape(len(self), *shape)

    def _drawn(self, make: Callable[..., Tensor], shape: tuple[int, ...], like: Tensor) -> Tensor:
        out = [make(shape, generator=g, dtype=like.dtype) for g in self._generators]
        return torch.stack(out).to(like.device)

    def poisson(self, rate: Tensor) -> Tensor:
        """Return Poisson counts of the rates [B, …], item i from stream i."""
        cpu = rate.detach().cpu()
        out = [torch.poisson(r, generator=g) for r, g in zip(cpu, self._generators, strict=True)]
        return torch.stack(out).to(rate)

    def gamma(self, shape: Tensor) -> Tensor:
        """Return Gamma(shape, 1) numbers of the shape parameters [B, …], item i from stream i."""
        cpu = shape.detach().cpu()
        out = [
            torch._standard_gamma(a, generator=g)
            for a, g in zip(cpu, self._generators, strict=True)
        ]
        return torch.stack(out).to(shape)
