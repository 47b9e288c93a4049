"""The errors that sciinv raises: what, where, expected, got, remedy."""

from __future__ import annotations


class SciinvError(Exception):
    """A failure that a user can act on; the command line prints it without a traceback.

    Args:
        what: One sentence on what went wrong.
        where: The file, key, operator, or annealing level it happened at.
        expected: What would have been right.
        got: What was there instead.
        remedy: What to do about it.
    """

    def __init__(
        self,
        what: str,
        *,
        where: object = None,
        expected: object = None,
        got: object = None,
        remedy: str | None = None,
    ) -> None:
        self.what = what
        self.where = where
        self.expected = expected
        self.got = got
        self.remedy = remedy
        super().__init__(str(self))

    def __str__(self) -> str:
        rows = [self.what]
        for name in ("where", "expected", "got", "remedy"):
            value = getattr(self, name)
            if value is not None:
                rows.append(f"  {name + ':':<10}{value}")
        return "\n".join(rows)

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions cross process boundaries (dask, multiprocessing) by pickle.
        fields = {k: getattr(self, k) for k in ("where", "expected", "got", "remedy")}
        return _rebuild, (type(self), self.what, fields)


def _rebuild(kind: type[SciinvError], what: str, fields: dict[str, object]) -> SciinvError:
    return kind(what, **fields)  # type: ignore[arg-type]


class ConfigError(SciinvError):
    """A configuration value, option or name that is not known or not allowed."""


class DataError(SciinvError):
    """A measurement file or array that cannot be read or does not hold what it should."""


class OperatorError(SciinvError):
    """A forward operator that does not match its image, its measurement, or its own adjoint."""


class PriorError(SciinvError):
    """A prior that cannot be loaded or does not fit the image."""


class StoreError(SciinvError):
    """A measurement or posterior store that is incomplete, damaged or in use."""


class DivergenceError(SciinvError):
    """A chain that left the finite numbers; names the operator, the level and its σ."""


class WorkflowError(SciinvError):
    """A run in which jobs failed; tells what each of them said."""
