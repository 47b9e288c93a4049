"""Summaries computed by the workers of a dask scheduler."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager

from sciinv.errors import ConfigError

CONNECT = 10.0  # seconds to wait for a dask scheduler


@contextmanager
def workers(scheduler: str | None) -> Iterator[None]:
    """Let the workers of a dask scheduler compute what the block computes; nobody else if None.

    Args:
        scheduler: Its address, e.g. "tcp://host:8786".

    Raises:
        ConfigError: `distributed` is not installed, or the scheduler does not answer.
    """
    if scheduler is None:
        yield
        return
    if importlib.util.find_spec("distributed") is None:
        raise ConfigError(
            "A dask scheduler needs the package distributed",
            got="not installed",
            remedy='pip install "sciinv[cluster]"',
        )
    from distributed import Client

    try:
        client = Client(scheduler, timeout=CONNECT)
    except (OSError, TimeoutError, ValueError) as error:
        raise ConfigError(
            "The dask scheduler does not answer",
            where=scheduler,
            expected="a running scheduler (`dask scheduler`), e.g. tcp://host:8786",
            got=f"{type(error).__name__}: {error}",
            remedy="check the address, or leave it out",
        ) from error
    with client:
        yield
