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
def locked(folder: Path) -> Iterator[None]:
    """Keep others out while the block runs; the system lets go when the process ends, however it does.

    Raises:
        OutputError: another process is in, or the folder can't be locked.
    """
    with (folder / _LOCK).open("a") as stream:
        try:
            _claim(stream.fileno())
        except OSError as error:
            if error.errno in _TAKEN:
                msg = f"{folder}: expected to be alone, got another tat prepare at work on this set; wait for it to end"
            else:
                msg = f"{folder}: expected a folder that can be locked, got {reason_of(error)}; choose a local disk"
            raise OutputError(msg) from error
        yield


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
