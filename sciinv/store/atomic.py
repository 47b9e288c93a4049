"""Directories and files that are written aside, sealed and renamed: whole, or not there at all."""

from __future__ import annotations

import errno
import glob
import hashlib
import json
import os
import re
import secrets
import shutil
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import sciinv
from sciinv.errors import StoreError
from sciinv.store.ours import (
    SEAL,
    absolute,
    check_free,
    content_of_others,
    unsealed,
    walk,
    where_to_read,
)

_FORMAT = 1
_TRIES = 20  # of a rename, while other processes replace the same store
_OLD = re.compile(r"\.old-[0-9a-f]{8}")

_REMEDIES = {
    errno.ENOSPC: "free some space, or write to another disk; nothing was left behind",
    errno.EDQUOT: "your quota of bytes or files is used up: free some, or write elsewhere",
    errno.EFBIG: "raise the limit on file sizes (ulimit -f), or use smaller shards",
    errno.EROFS: "the file system is read-only: choose another output folder",
    errno.EACCES: "you may not write there: choose another folder, or ask for the right to",
    errno.EPERM: "you may not write there: choose another folder, or ask for the right to",
    errno.EIO: "the disk failed: check it, and write to another one",
    errno.ENAMETOOLONG: "choose a shorter name: some 60 bytes are added while it is written",
    errno.ENOTDIR: "a part of the path is a file: choose a path through folders",
    errno.EISDIR: "a folder has this name: choose the name of a file",
    errno.ELOOP: "symbolic links go round in a circle: choose another path",
}
_ELSEWHERE = "the system allows nothing to be written there: choose another folder"


def describe_os_error(
    error: OSError, path: Path, what: str, otherwise: str | None = None
) -> StoreError | None:
    """Return the `StoreError` for a path or disk that cannot be written, else None.

    Args:
        error: What the system said.
        path: What was written.
        what: One sentence on what went wrong.
        otherwise: Remedy for any other error of the system; such errors give None without it.
    """
    remedy = _REMEDIES.get(error.errno or 0, otherwise)
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
        overwrite: Replace a store of ours that is there already; see `check_free`.
        known: Seal entries of files that are already on disk and hashed (hard links), by
            path inside the store; these are neither read nor flushed again.

    Raises:
        StoreError: The name is taken, or the disk is full, read-only or failing.
    """
    target = absolute(path)
    check_free(target, kind, overwrite)
    what = f"The {kind} store could not be written"
    partial = target.with_name(
        f".{target.name}.partial-{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
    )
    with _told(target, what):
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(target)
        partial.mkdir()
    try:
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


@contextmanager
def _told(target: Path, what: str) -> Iterator[None]:
    """Tell any error of the system as a `StoreError`: here nothing but our own files is touched."""
    try:
        yield
    except OSError as error:
        described = describe_os_error(error, target, what, _ELSEWHERE)
        assert described is not None
        raise described from error


def write_file(path: str | os.PathLike[str], content: bytes) -> None:
    """Write one file aside and rename it over `path`.

    Raises:
        StoreError: The disk is full, read-only or failing.
    """
    target = absolute(path)
    partial = target.with_name(f".{target.name}.partial-{secrets.token_hex(4)}")
    with _told(target, "The file could not be written"):
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(target)
            _flush(target.parent)
        except OSError:
            with suppress(OSError):
                partial.unlink(missing_ok=True)
            raise


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
            got=unsealed(root),
            remedy=f"give a folder that sciinv has written{where_to_read(root)}; a run that was "
            "killed leaves none, so run the step that writes it again",
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
        for name, entry in dict(content["files"]).items():
            int(entry["bytes"]), str(entry["sha256"])
            if name.startswith("/") or ".." in name.split("/"):
                raise ValueError(f"the file {name} is outside the store")
    except (
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
    ) as error:  # UnicodeDecodeError is a ValueError
        raise StoreError(
            "The store's seal cannot be read",
            where=where,
            expected="a JSON object with the list of files",
            got=f"{type(error).__name__}: {error}",
            remedy=remedy,
        ) from error
    if content.get("format") != _FORMAT:
        raise StoreError(
            "The store was written in another format",
            where=str(where).removesuffix(f"/{SEAL}"),
            expected=f"format {_FORMAT}",
            got=f"format {content.get('format')}, sciinv {content.get('sciinv')}",
            remedy="read it with the version of sciinv that wrote it, or run the step again",
        )
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


def sha256(path: Path) -> str:
    """Return the SHA-256 sum of a file, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _move(partial: Path, target: Path, kind: str, overwrite: bool) -> None:
    """Rename the sealed store to its name, and a store of ours that stood there out of the way."""
    for _ in range(_TRIES):
        check_free(target, kind, overwrite)
        with suppress(FileNotFoundError):  # another writer has just moved it away
            if overwrite and target.exists():
                target.rename(target.with_name(f".{target.name}.old-{secrets.token_hex(4)}"))
        try:
            partial.rename(target)
            break
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise
            # Another writer of the same name was faster: look again at what stands there.
    else:
        raise StoreError(
            f"The {kind} store could not be put in its place",
            where=target,
            expected="one writer of a name at a time",
            got=f"another process that replaced it {_TRIES} times in the meantime",
            remedy="let each process write a store of its own",
        )
    _flush(target.parent)
    # This one, and one that a process killed between the two renames left.
    for old in target.parent.glob(f".{glob.escape(target.name)}.old-*"):
        mark = old.name.removeprefix(f".{target.name}")
        if _OLD.fullmatch(mark) and old.is_dir() and not old.is_symlink() and _is_ours(old):
            _remove_store(old)


def _remove_store(old: Path) -> None:
    """Remove a store, its seal last: a process killed here leaves what the next one knows."""
    with suppress(OSError):  # another process removes the same folder
        for part in [p for p in old.iterdir() if p.name != SEAL]:
            if part.is_dir() and not part.is_symlink():
                shutil.rmtree(part, ignore_errors=True)
            else:
                part.unlink(missing_ok=True)
        shutil.rmtree(old, ignore_errors=True)


def _is_ours(old: Path) -> bool:
    """Whether a folder may be removed: a store of ours, or one that another process removes."""
    try:
        return not content_of_others(old)
    except OSError:
        return False


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
