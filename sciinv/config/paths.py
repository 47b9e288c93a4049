"""Where things are: the workflow's folder, and the files that a configuration names."""

from __future__ import annotations

import glob
import os
from difflib import get_close_matches
from pathlib import Path

from sciinv.errors import ConfigError, DataError

_PACKAGE = Path(__file__).resolve().parents[1]
CONFIG_FOLDER = "SCIINV_CONFIG_FOLDER"  # environment variable, inherited by the run's jobs


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
    for folder in ((root / "workflows") if root else None, _PACKAGE / "workflow" / "workflows"):
        if folder is not None and (folder / "schemas").is_dir():
            return folder
    raise ConfigError(
        "The workflow is not part of this installation",
        where=_PACKAGE,
        expected="a checkout of the repository, or a wheel built from one",
        got="the package alone",
        remedy="install sciinv again",
    )


def snakefile() -> Path:
    """Return the Snakefile, of the checkout or of the installed package.

    Raises:
        ConfigError: The installation carries no workflow.
    """
    return workflows().parent / "Snakefile"


def config_folder() -> Path | None:
    """Return the folder of the configuration under way, where `sciinv run` said it."""
    folder = os.environ.get(CONFIG_FOLDER)
    return Path(folder) if folder else None


def is_remote(path: str | os.PathLike[str]) -> bool:
    """Whether a path is a URL, like "https://host/run/measurement.zarr"."""
    return "://" in os.fspath(path)


def locate(path: str | Path, where: str | None = None) -> Path:
    """Return a file or folder that a configuration names.

    A relative path is looked up from the working directory, then from the configuration's folder,
    then from the checkout or the installed workflow, so that configurations work from any folder.

    Raises:
        DataError: It is in neither place.
    """
    path = Path(path).expanduser()
    roots = [Path()]
    if not path.is_absolute():
        installed = _PACKAGE / "workflow"
        places = (config_folder(), checkout(), installed if installed.is_dir() else None)
        roots += [p for p in places if p is not None]
    for base in roots:
        if (base / path).exists() or _matches(base / path):
            return base / path
    looked = [str((base / path).absolute()) for base in roots]
    raise DataError(
        "A file that the configuration names is not there",
        where=where,
        expected="a file at " + " or ".join(dict.fromkeys(looked)),
        got="nothing",
        remedy=next(
            (told for base in roots if (told := _similar(base / path))),
            None if (roots[-1] / path).parent.is_dir() else _no_folder(roots[-1] / path),
        )
        or "check the path, or fetch the file",
    )


def located_name(name: str) -> str:
    """Return "FILE.py:NAME" with the file found; other names as they are."""
    file, _, attribute = name.rpartition(":")
    return f"{locate(file)}:{attribute}" if file.endswith(".py") else name


def _matches(path: Path) -> bool:
    """Whether a path is a pattern, such as scan/proj_*.tif, of which there are files."""
    return glob.has_magic(str(path)) and next(glob.iglob(str(path)), None) is not None


def _no_folder(path: Path) -> str:
    return f"there is no folder {path.parent}; check the path"


def _similar(path: Path) -> str | None:
    if not path.parent.is_dir():
        return None
    names = [p.name for p in path.parent.iterdir()]
    near = get_close_matches(path.name, names, 1)
    return f"did you mean {path.parent / near[0]}?" if near else None
