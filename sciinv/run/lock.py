"""One lock of the kernel's on a file: freed however its process ends, told who holds it."""

from __future__ import annotations

import fcntl
import getpass
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


class Held(Exception):
    """Another process holds the lock; the text says which, as it said itself."""


def take(stream: IO[str], wait: bool) -> bool:
    """Lock an open file, and return False where its file system has no locks.

    Args:
        stream: The file, open for appending and reading.
        wait: Whether to wait for the process that holds it.

    Raises:
        Held: It is held, and `wait` is False.
    """
    try:
        fcntl.flock(stream, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        stream.seek(0)
        said = stream.read().strip() or "a process that has not said its number yet"
        raise Held(said) from None
    except OSError:
        return False
    stream.truncate(0)
    stream.write(f"process {os.getpid()} of {getpass.getuser()} on {socket.gethostname()}")
    stream.flush()
    return True


@contextmanager
def of_job(path: Path) -> Iterator[None]:
    """Hold a job's lock, and wait while another process does the same job.

    A killed Snakemake leaves its jobs running: the resumed run's job starts when they are done.
    The file goes with the job. On file systems without locks nobody waits.
    """
    while True:
        with path.open("a+") as stream:
            if not take(stream, wait=True):
                yield
                return
            # The one before removes its file: a lock on a file that is gone keeps nobody out.
            if not path.exists() or not os.path.samestat(path.stat(), os.fstat(stream.fileno())):
                continue
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
            return
