"""Directories and files that are written aside, sealed and renamed: whole, or not there at all."""

from __future__ import annotations

import errno
import glob
import hashlib
import json
import os
import secrets
import shutil
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import sciinv
from sciinv.errors import StoreError

SEAL = "sciinv-complete.json"
_FORMAT = 1
_IGNORED = {SEAL, ".snakemake_timestamp"}  # a workflow manager's mark is not the store's

_REMEDIES = {
    errno.ENOSPC: "free some space, or write to another disk; nothing was left behind",
    errno.EDQUOT: "your quota of bytes or files is used up: free some, or write elsewhere",
    errno.EFBIG: "raise the limit on file sizes (ulimit -f), or use smaller shards",
    errno.EROFS: "the file system is read-only: choose another output folder",
    errno.EACCES: "you may not write there: choose another folder, or ask for the right to",
    errno.EPERM: "you may not write there: choose another folder, or ask for the right to",
    errno.EIO: "the disk failed: check it, and write to another one",
}


def describe_os_error(error: OSError, path: Path, what: str) -> StoreError | None:
    """Return the `StoreError` for a full, read-only or failing disk, else None."""
    remedy = _REMEDIES.get(error.errno or 0)
    if remedy is None:
        return None
    return StoreError(what, where=path, got=error.strerror or str(error), remedy=remedy)


@contextmanager
def written_aside(
    path: str | os.PathLike[str],
    kind: str,
    *,
    overwrite: bool = False,
    known: Mapping[str, Mapping[str, Any]] | None = None,
) -> Iterator[Path]:
    """Yield an empty sibling folder; when the block ends well, seal it and rename it to `path`.

    The name `path` never holds a half-written store: a process that is killed leaves only a
    hidden `.NAME.partial-…` folder, which the next write of the same name removes.

    Args:
        path: The store to make.
        kind: "measurement", "posterior" or "summary"; kept in the seal.
        overwrite: Replace a store that is there already.
        known: Seal entries of files that are already on disk and hashed (hard links), by
            path inside the store; these are neither read nor flushed again.

    Raises:
        StoreError: The name is taken, or the disk is full, read-only or failing.
    """
    target = Path(path).absolute()
    if not overwrite and target.exists() and (target.is_file() or any(target.iterdir())):
        raise _taken(target, kind)
    what = f"The {kind} store could not be written"
    partial = target.with_name(
        f".{target.name}.partial-{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
    )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(target)
        partial.mkdir()
        yield partial
        seal(partial, kind, known or {})
        _move(partial, target, kind, overwrite)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        described = describe_os_error(error, target, what)
        if described is None:
            raise
        raise described from error
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def write_file(path: str | os.PathLike[str], content: bytes) -> None:
    """Write one file aside and rename it over `path`.

    Raises:
        StoreError: The disk is full, read-only or failing.
    """
    target = Path(path).absolute()
    partial = target.with_name(f".{target.name}.partial-{secrets.token_hex(4)}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(target)
        _flush(target.parent)
    except OSError as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        described = describe_os_error(error, target, "The file could not be written")
        if described is None:
            raise
        raise described from error


def seal(root: Path, kind: str, known: Mapping[str, Mapping[str, Any]]) -> None:
    """Flush every file of a store to disk and write its list of sizes and SHA-256 sums."""
    files: dict[str, Mapping[str, Any]] = {}
    for name in walk(root):
        if name in known:
            files[name] = known[name]
            continue
        files[name] = {"bytes": (root / name).stat().st_size, "sha256": sha256(root / name)}
        _flush(root / name)
    content = {"format": _FORMAT, "kind": kind, "sciinv": sciinv.__version__, "files": files}
    (root / SEAL).write_text(json.dumps(content, indent=1))
    _flush(root / SEAL)
    for folder, _, _ in os.walk(root):
        _flush(Path(folder))


def read_seal(path: str | os.PathLike[str], kind: str | None = None) -> dict[str, Any]:
    """Return the seal of a whole store; sizes of all its files are checked, contents are not.

    Raises:
        StoreError: No such store, a store of another kind, or one that is not whole.
    """
    root = Path(path)
    if not root.is_dir():
        raise StoreError(
            "The store is not there",
            where=root,
            expected=f"a {kind or 'sciinv'} store (a folder)",
            got="a file" if root.exists() else "nothing",
            remedy="check the path; run the step that writes it",
        )
    if not (root / SEAL).is_file():
        raise StoreError(
            "The store is not whole",
            where=root,
            expected=f"the seal {SEAL}, written last",
            got="no seal",
            remedy="remove the folder and run the step that writes it again",
        )
    remedy = "remove the store and run the step that writes it again"
    content = parse_seal((root / SEAL).read_bytes(), kind, root / SEAL, remedy)

    def size(name: str) -> int | None:
        return (root / name).stat().st_size if (root / name).is_file() else None

    check_sizes(content, size, root, remedy)
    return content


def parse_seal(text: bytes, kind: str | None, where: str | Path, remedy: str) -> dict[str, Any]:
    """Return a seal's content, of a store in a folder or behind a URL.

    Raises:
        StoreError: It cannot be read, or is of a store of another kind.
    """
    try:
        content = json.loads(text)
        dict(content["files"])
    except (ValueError, KeyError, TypeError) as error:  # UnicodeDecodeError is a ValueError
        raise StoreError(
            "The store's seal cannot be read",
            where=where,
            expected="a JSON object with the list of files",
            got=f"{type(error).__name__}: {error}",
            remedy=remedy,
        ) from error
    if kind is not None and content.get("kind") != kind:
        raise StoreError(
            "The store is of another kind",
            where=str(where).removesuffix(f"/{SEAL}"),
            expected=f"a {kind} store",
            got=f"a {content.get('kind')} store",
            remedy=f"name a {kind} store",
        )
    return content


def check_sizes(
    content: Mapping[str, Any],
    size: Callable[[str], int | None],
    where: str | Path,
    remedy: str,
) -> None:
    """Compare the sizes of all files that a seal lists; `size` returns None where one is missing.

    Raises:
        StoreError: One is missing or has another size.
    """
    for name, entry in content["files"].items():
        found = size(name)
        if found != entry["bytes"]:
            raise StoreError(
                "The store is not whole",
                where=f"{where}/{name}",
                expected=f"{entry['bytes']} bytes",
                got="no file" if found is None else f"{found} bytes",
                remedy=remedy,
            )


def content_hash(path: str | os.PathLike[str]) -> str:
    """Return one SHA-256 of a whole store: of the names and sums of its files."""
    files = read_seal(path)["files"]
    text = "".join(f"{files[name]['sha256']} {name}\n" for name in sorted(files))
    return hashlib.sha256(text.encode()).hexdigest()


def walk(root: Path) -> list[str]:
    """Return the files of a store by their path inside it, sorted; the seal is left out."""
    found = []
    for folder, _, names in os.walk(root):
        inside = Path(folder).relative_to(root)
        found += [(inside / name).as_posix() for name in names if name not in _IGNORED]
    return sorted(found)


def sha256(path: Path) -> str:
    """Return the SHA-256 sum of a file, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _move(partial: Path, target: Path, kind: str, overwrite: bool) -> None:
    if overwrite and target.exists():
        target.rename(target.with_name(f".{target.name}.old-{secrets.token_hex(4)}"))
    try:
        partial.rename(target)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise _taken(target, kind) from error
        raise
    _flush(target.parent)
    # This one, and one that a process killed between the two renames left.
    for old in target.parent.glob(f".{glob.escape(target.name)}.old-*"):
        shutil.rmtree(old, ignore_errors=True) if old.is_dir() else old.unlink()


def _taken(target: Path, kind: str) -> StoreError:
    return StoreError(
        f"The {kind} store is there already",
        where=target,
        expected="a name that is not taken",
        remedy="remove it, choose another name, or pass overwrite=True",
    )


def _remove_abandoned(target: Path) -> None:
    """Remove what killed processes of this machine left of the same store."""
    start = f".{target.name}.partial-{socket.gethostname()}-"
    for path in target.parent.iterdir():
        pid = path.name.removeprefix(start).partition("-")[0]
        if path.name.startswith(start) and pid.isdigit() and not _is_alive(int(pid)):
            shutil.rmtree(path, ignore_errors=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems cannot flush a folder; their rename is durable by itself.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)
