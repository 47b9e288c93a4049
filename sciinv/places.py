"""Where things are: the workflow's folder, and the files that a configuration names."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

from sciinv.errors import ConfigError, DataError

_PACKAGE = Path(__file__).resolve().parent


def checkout() -> Path | None:
    """Return the repository's folder when the package runs from a checkout, else None."""
    root = _PACKAGE.parent
    return root if (root / "workflows").is_dir() and (root / "Snakefile").is_file() else None


def workflows() -> Path:
    """Return the folder of rules, schemas, profiles and configurations.

    Raises:
        ConfigError: The installation carries no workflow.
    """
    root = checkout()
    if root is not None:
        return root / "workflows"
    raise ConfigError(
        "The workflow is not part of this installation",
        where=_PACKAGE,
        expected="a checkout of the repository",
        got="the package alone",
        remedy="clone the repository and install it with `pip install -e .`",
    )


def snakefile() -> Path:
    """Return the Snakefile of the checkout.

    Raises:
        ConfigError: The installation carries no workflow.
    """
    return workflows().parent / "Snakefile"


def locate(path: str | Path, where: str | None = None) -> Path:
    """Return a file or folder that a configuration names.

    A relative path is looked up from the working directory, then from the checkout, so that the
    shipped configurations work from any folder.

    Raises:
        DataError: It is in neither place.
    """
    path = Path(path).expanduser()
    root = checkout()
    roots = [Path()] if path.is_absolute() or root is None else [Path(), root]
    for base in roots:
        if (base / path).exists():
            return base / path
    looked = [str((base / path).absolute()) for base in roots]
    raise DataError(
        "A file that the configuration names is not there",
        where=where,
        expected="a file at " + " or ".join(dict.fromkeys(looked)),
        got="nothing",
        remedy=_similar(roots[-1] / path) or "check the path, or fetch the file",
    )


def located_name(name: str) -> str:
    """Return "FILE.py:NAME" with the file found; other names as they are."""
    file, _, attribute = name.rpartition(":")
    return f"{locate(file)}:{attribute}" if file.endswith(".py") else name


def _similar(path: Path) -> str | None:
    if not path.parent.is_dir():
        return f"there is no folder {path.parent}; check the path"
    names = [p.name for p in path.parent.iterdir()]
    near = get_close_matches(path.name, names, 1)
    return f"did you mean {path.parent / near[0]}?" if near else None
