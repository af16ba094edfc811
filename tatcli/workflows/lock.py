"""One process at a time in a folder."""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tatcli.errors import OutputError, reason_of

__all__ = ["locked"]

_LOCK: Final = ".lock"
_TAKEN: Final = (errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES)
"""What flock(2) says where another has the lock, and what Windows says."""


@contextmanager
def locked(folder: Path, command: str, *, required: bool = True) -> Iterator[bool]:
    """Keep others out while the block runs; the system lets go when the process ends, however it does.

    Args:
        folder: to be alone in.
        command: what is at work there, and so kept out.
        required: whether a folder that can't be locked is an error; else the block gets False.

    Raises:
        OutputError: another process is in, or the folder can't be locked.
        OSError: the folder can't be written to.
    """
    try:
        stream = (folder / _LOCK).open("a")
    except OSError:
        if required:
            raise
        yield False
        return
    with stream:
        try:
            _claim(stream.fileno())
        except OSError as error:
            if error.errno in _TAKEN:
                msg = (
                    f"{folder}: expected to be alone, got another {command} at work in it; wait for it to end (after a"
                )
                msg += f" crash of the computer that it ran on: delete {_LOCK} there)"
                raise OutputError(msg) from error
            if required:
                msg = f"{folder}: expected a folder that can be locked, got {reason_of(error)}; choose a local disk"
                raise OutputError(msg) from error
            yield False
            return
        yield True


def _claim(descriptor: int) -> None:
    """Lock a file, which is empty.

    Raises:
        OSError: the system refuses.
    """
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
