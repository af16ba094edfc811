"""One process at a time in a folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tatcli.errors import OutputError

__all__ = ["locked"]

_LOCK: Final = ".lock"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep others out while the block runs; the system lets go when the process ends, however it does.

    On systems without ``flock`` (Windows) nobody is kept out.

    Raises:
        OutputError: another process is in.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    with (folder / _LOCK).open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            msg = f"{folder}: expected to be alone, got another tat prepare at work on this set; wait for it to end"
            raise OutputError(msg) from error
        yield
