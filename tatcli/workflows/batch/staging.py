"""Outputs are made in a work folder and moved to their place together with their sidecar, which goes first.

A crash between the two moves leaves a sidecar that doesn't describe the output, so the scan is redone; and where
there is a sidecar, what lies beside it is ours to replace.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tatcli.errors import OutputError
from tatcli.volumes.formats import written_for
from tatcli.volumes.replacing import is_ours, renamed, sync
from tatcli.workflows.batch.locks import Lock, is_stale
from tatcli.workflows.batch.sidecar import Sidecar, sidecar_of

if TYPE_CHECKING:
    from tatcli.workflows.batch.work import Work

__all__ = ["AREA", "clear", "lock_path", "publish", "staging_folder", "sweep", "withdraw"]

AREA: Final = ".tat-work"
"""The work folder's name."""
_LOCK: Final = ".lock"


def lock_path(work: Work) -> Path:
    """The lock of a scan's output; the same for all processes, wherever they see the folder."""
    place = Path(os.path.relpath(work.output, work.area.parent)).as_posix()
    digest = hashlib.sha256(place.encode(errors="surrogateescape")).hexdigest()  # names need not be UTF-8
    return work.area / (digest[:24] + _LOCK)


@contextmanager
def staging_folder(lock: Lock) -> Iterator[Path]:
    """An empty folder for what the lock's holder makes; it is deleted in the end.

    Raises:
        OutputError: it can't be made.
    """
    if lock.is_mine():
        clear(lock.path)
    folder = lock.path.with_name(f"{lock.path.name.removesuffix(_LOCK)}.{lock.token}")
    try:
        folder.mkdir()
    except OSError as error:
        msg = f"{folder.parent}: expected a writable folder, got {error.strerror or error}; check space and permissions"
        raise OutputError(msg) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def publish(folder: Path, output: Path) -> None:
    """Move what was made, complete and flushed to disk, to its place: the sidecar, then what else there is.

    Args:
        folder: holds the output, its sidecar and what belongs to them, under their final names.
        output: where it goes; an older one is replaced, but no folder with anything else than a series that tat wrote.

    Raises:
        OutputError: the system refuses, or there is such a folder.
    """
    place = output.parent
    for made in folder.iterdir():
        _check_replaceable(place / made.name, made)
    try:
        place.mkdir(parents=True, exist_ok=True)
        sidecar = sidecar_of(output).name
        renamed(folder / sidecar, place / sidecar)
        sync(place)
        # the file that the user sees as the output last: the voxels of a .mhd before their header
        for made in sorted(folder.iterdir(), key=lambda entry: entry.name == output.name):
            target = place / made.name
            if target.is_dir():
                before = folder / f"before-{made.name}"
                renamed(target, before)
                _check_kept(before, target)
            renamed(made, target)
            if made.name == output.name:
                break
        sync(place)
    except OSError as error:
        msg = f"{output}: expected to move the output to its place, got {error.strerror or error}; check permissions"
        raise OutputError(msg) from error


def withdraw(output: Path) -> bool:
    """Delete an output that has a sidecar, then the sidecar; of a folder only a series as tat writes it.

    Args:
        output: a file or a folder; what else lies in a folder stays.

    Returns:
        Whether there was a sidecar.

    Raises:
        OSError: the system refuses.
    """
    sidecar = sidecar_of(output)
    if Sidecar.read(sidecar) is None:
        return False
    if output.is_dir():
        made = [entry for entry in output.iterdir() if is_ours(entry.name) and not entry.is_dir()]
    else:
        made = list(written_for(output))
    for path in (*made, sidecar):
        path.unlink(missing_ok=True)
    with suppress(OSError):  # what replaces it is in there
        output.rmdir()
    return True


def _check_replaceable(target: Path, made: Path) -> None:
    if not target.is_dir():
        return
    others = sorted(entry.name for entry in target.iterdir() if not is_ours(entry.name))
    if others or not made.is_dir():
        got = f"{others[0]} in it" if others else "a folder where a file goes"
        msg = f"{target}: expected an output with nothing but 00001.dcm and so on to replace, got {got}; move it away"
        raise OutputError(msg)


def _check_kept(before: Path, target: Path) -> None:
    """What came into a folder since it was checked is not thrown away with it."""
    try:
        _check_replaceable(before, before)
    except OutputError:
        renamed(before, target)
        raise


def sweep(area: Path) -> None:
    """Delete what runs that are gone left in a work folder, and the folder once nothing is in it."""
    for lock in _entries(area):
        if lock.name.endswith(_LOCK) and is_stale(lock):
            mine = Lock.take(lock)
            if mine is not None:
                clear(lock)
                mine.release()
    for entry in _entries(area):
        lock = area / (entry.name.partition(".")[0] + _LOCK)
        if entry != lock and not lock.exists():
            _delete(entry)
    with suppress(OSError):
        area.rmdir()


def _entries(area: Path) -> list[Path]:
    """What lies in a work folder; nothing where another run has just removed it, or that is another user's alone."""
    try:
        return list(area.iterdir())
    except OSError:
        return []


def clear(lock: Path) -> None:
    """Delete what earlier holders of a lock left."""
    for entry in _entries(lock.parent):
        if entry != lock and entry.name.startswith(f"{lock.name.removesuffix(_LOCK)}."):
            _delete(entry)


def _delete(entry: Path) -> None:
    if entry.is_dir() and not entry.is_symlink():
        shutil.rmtree(entry, ignore_errors=True)
    else:
        with suppress(OSError):
            entry.unlink()
