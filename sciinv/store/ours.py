"""What may be replaced: a sealed store of ours and nothing else, and only where that is asked."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

from sciinv.errors import StoreError

SEAL = "sciinv-complete.json"
# Marks that a workflow manager, a network file system or a desktop leaves in any folder.
MARKS = {SEAL, ".snakemake_timestamp", ".DS_Store"}


def absolute(path: str | os.PathLike[str]) -> Path:
    """Return an absolute path whose last part is a name, never "..": what is written beside it
    stands in the same folder.
    """
    named = Path(path).expanduser()
    return named.resolve() if ".." in named.parts else named.absolute()


def walk(root: Path) -> list[str]:
    """Return the files of a store by their path inside it, sorted; the seal is left out."""
    found = []
    for folder, _, names in os.walk(root):
        inside = Path(folder).relative_to(root)
        found += [
            (inside / n).as_posix() for n in names if n not in MARKS and not n.startswith(".nfs")
        ]
    return sorted(found)


def check_free(path: str | os.PathLike[str], kind: str, overwrite: bool = False) -> None:
    """Raise unless a store may be written under this name; called before the work and before the
    rename.

    A name is free where nothing stands there, or an empty folder. With `overwrite` a store that
    sciinv has sealed may be replaced too, as long as it holds no file that is not its own. Never
    replaced, whatever is asked: other folders, files, symbolic links, the working directory, the
    home folder and the folders above these.

    Args:
        path: The store to make.
        kind: What shall be written, for the message.
        overwrite: Whether a store of ours may be replaced.

    Raises:
        StoreError: Something stands there that may not be replaced.
    """
    target = absolute(path)
    if target.is_symlink():
        raise _refused(target, kind, f"a symbolic link to {os.readlink(target)}")
    if not target.exists():
        return
    for place, what in ((Path.cwd(), "the working directory"), (Path.home(), "the home folder")):
        if target.resolve() in (place.resolve(), *place.resolve().parents):
            above = "" if target.resolve() == place.resolve() else "a folder above "
            raise _refused(target, kind, f"{above}{what}")
    if target.is_file():
        raise _refused(target, kind, "a file")
    if not target.is_dir():
        raise _refused(target, kind, "neither a file nor a folder")
    found = content_of_others(target)
    if found == "":
        return
    if found is not None:
        raise _refused(target, kind, found)
    if not overwrite:
        raise StoreError(
            f"The {kind} store is there already",
            where=target,
            expected="a name that is not taken",
            got="a store that sciinv has written",
            remedy="choose another name, remove it, or ask for it to be replaced "
            "(--overwrite; overwrite=True in Python)",
        )


def check_new(files: Iterable[str | os.PathLike[str]], overwrite: bool = False) -> None:
    """Raise where one of these files is there already, unless it may be overwritten.

    Raises:
        StoreError: One is there, or a folder has its name.
    """
    for path in map(Path, files):
        if path.is_dir() or (path.exists() and not overwrite):
            raise StoreError(
                "What shall be written is there already",
                where=path.absolute(),
                expected="a name that is not taken",
                got="a folder" if path.is_dir() else "a file",
                remedy="choose another name"
                if path.is_dir()
                else "choose another name, or ask for it to be replaced "
                "(--overwrite; overwrite=True in Python)",
            )


def content_of_others(folder: Path) -> str | None:
    """Return what a folder holds that no sealed store of ours does.

    None for a store of ours, "" for an empty folder or one that is gone.
    """
    found: str | None = ""
    for _ in range(20):
        before = _identity(folder)
        if before is None:
            return ""
        try:
            found = _content(folder)
        except FileNotFoundError:
            continue
        if _identity(folder) == before:  # else another process has replaced it meanwhile
            return found
    return found


def _identity(folder: Path) -> tuple[int, int] | None:
    try:
        status = folder.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def _content(folder: Path) -> str | None:
    if not os.listdir(folder):
        return ""
    try:
        content = json.loads((folder / SEAL).read_bytes())
        own = set(content["files"])
        if "sciinv" not in content or "kind" not in content:
            raise KeyError("sciinv")
    except (OSError, ValueError, KeyError, TypeError):
        return f"a folder that is no sciinv store, with {_some(os.listdir(folder))}"
    strays = [name for name in walk(folder) if name not in own]
    return f"a store with files that are not its own: {_some(strays)}" if strays else None


_ZARR_2 = (".zgroup", ".zarray", ".zmetadata")


def unsealed(root: Path) -> str:
    """Return in words what a folder without a seal is."""
    if (root / "zarr.json").is_file():
        return "a Zarr store (format 3) without a seal: another program's, or not finished"
    if any((root / name).is_file() for name in _ZARR_2):
        return "a Zarr store (format 2), which another program has written"
    return "no seal"


def where_to_read(root: Path) -> str:
    """Return where such a folder of raw data belongs instead, "" for what is no Zarr store."""
    if any((root / name).is_file() for name in ("zarr.json", *_ZARR_2)):
        return ", or read these raw data with `sciinv convert --reader …` first"
    return ""


def _some(names: Iterable[str]) -> str:
    known = sorted(names)
    return ", ".join(known[:4]) + (f" and {len(known) - 4} more" if len(known) > 4 else "")


def _refused(target: Path, kind: str, got: str) -> StoreError:
    return StoreError(
        f"The {kind} store is not written over what is no store of sciinv's",
        where=target,
        expected="a new name, an empty folder, or with --overwrite a store that sciinv has sealed",
        got=got,
        remedy="choose another name; sciinv never removes what it has not written",
    )
