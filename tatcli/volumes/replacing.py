"""Outputs that appear whole or not at all: written under a hidden temporary name, flushed to disk, then renamed."""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from tatcli.errors import OutputError

__all__ = [
    "TEMPORARY",
    "check_name",
    "checked_folder",
    "checked_output",
    "is_ours",
    "new_folder",
    "renamed",
    "replaced",
    "replaced_folder",
    "sync",
]

_OURS: Final = re.compile(r"\d{5,}\.dcm")
TEMPORARY: Final = ".tat-"
"""How the temporary names begin; a process that is killed leaves its own."""
_LITTER: Final = (".DS_Store", "Thumbs.db", "desktop.ini")
"""What macOS and Windows put into a folder that somebody looks at."""
_WAITS: Final = (0.05, 0.1, 0.2, 0.4, 0.8)
"""Seconds between attempts to rename what another program holds open."""


def is_ours(name: str) -> bool:
    """Whether a name in a folder is one of those that tat gives to the files of a series, or is no loss."""
    return name in _LITTER or _OURS.fullmatch(name) is not None


def check_name(path: Path) -> None:
    """Refuse a name that is too long for the file system, where its folder, or what there is of it, lies.

    Raises:
        OutputError: it is.
    """
    folder = next((parent for parent in path.absolute().parents if os.path.isdir(parent)), path.parent)  # noqa: PTH112
    try:
        (folder / path.name).lstat()
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            size = len(os.fsencode(path.name))
            msg = f"{path}: expected a name that the file system takes, got one of {size} bytes; choose a shorter one"
            raise OutputError(msg) from error


def checked_output(path: Path, *, source: Path | None, overwrite: bool, makes_folders: bool = False) -> None:
    """Refuse an output path before any work is done for it.

    Args:
        path: the output.
        source: the input.
        overwrite: whether an existing output may be replaced.
        makes_folders: whether the caller makes the folders above the output that don't exist.

    Raises:
        OutputError: it exists (unless ``overwrite``), is a folder, a device or the input itself, its name is too long,
            or its folder can't be written to.
    """
    check_name(path)
    if source is not None and _same_file(path, source):
        msg = f"{path}: expected an output different from the input, got the input itself; choose another name"
        raise OutputError(msg)
    if path.is_dir():
        msg = f"{path}: expected a file name as output, got a folder; add a file name"
        raise OutputError(msg)
    if path.exists() and not path.is_file():  # renaming would replace it, /dev/null for root
        msg = f"{path}: expected a file name as output, got a device or pipe; choose another name"
        raise OutputError(msg)
    _check_parent(path, path.parent, makes_folders=makes_folders)
    if path.exists() and not overwrite:
        msg = f"{path}: expected a new file, got one that exists; choose another name or --overwrite"
        raise OutputError(msg)


def checked_folder(path: Path, *, source: Path | None, overwrite: bool, makes_folders: bool = False) -> None:
    """Refuse an output folder before any work is done for it.

    An existing folder is replaced only where ``overwrite`` allows it and it holds nothing but files as tat writes them.

    Args:
        path: the output.
        source: the input.
        overwrite: whether an existing output may be replaced.
        makes_folders: whether the caller makes the folders above the output that don't exist.

    Raises:
        OutputError: it isn't empty, holds or is held by the input, its name is too long, or its parent can't be written
            to.
    """
    check_name(path)
    place = path.resolve()
    origin = None if source is None else source.resolve()
    if origin is not None and (place == origin or origin in place.parents or place in origin.parents):
        msg = (
            f"{path}: expected an output folder apart from the input {source}, got one around or in it; choose another"
        )
        raise OutputError(msg)
    if path.exists() and not path.is_dir():
        msg = f"{path}: expected a folder as output, got a file; choose another name"
        raise OutputError(msg)
    if path.is_dir():
        names = [entry.name for entry in path.iterdir() if entry.name not in _LITTER]
        if names and not overwrite:
            msg = f"{path}: expected a new or empty folder, got one with {len(names)} entries; choose another name or"
            raise OutputError(msg + " --overwrite")
        if not all(map(is_ours, names)):
            msg = f"{path}: expected a folder with nothing but 00001.dcm and so on to overwrite, got other files in it"
            raise OutputError(msg + "; choose another name")
    _check_parent(path, place.parent, makes_folders=makes_folders)


@contextmanager
def replaced_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside ``path`` that takes its place when the block succeeds and is deleted when it doesn't.

    Raises:
        OutputError: the system refuses to write (disk full, folder gone).
    """
    place = path.resolve()
    temporary, before = (place.with_name(f"{TEMPORARY}{secrets.token_hex(8)}") for _ in range(2))
    try:
        temporary.mkdir()
        yield temporary
        for file in temporary.iterdir():
            sync(file)
        sync(temporary)
        if place.exists():  # an empty one, too: Windows renames nothing over a folder
            renamed(place, before)
        try:
            renamed(temporary, place)
        except OSError:
            if before.exists():
                renamed(before, place)
            raise
        sync(place.parent)
    except OSError as error:
        msg = f"{path}: expected to write the output, got {error.strerror or error}; check space and permissions"
        raise OutputError(msg) from error
    finally:
        for folder in (temporary, before):
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A temporary folder that gets the name ``path`` when the block succeeds, unless another process's has it by then.

    Raises:
        OutputError: the system refuses to write (disk full, folder gone).
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as staging:
            made = Path(staging) / path.name
            made.mkdir()
            yield made
            try:
                renamed(made, path)
            except OSError:
                if not path.is_dir():
                    raise
    except OSError as error:
        msg = f"{path}: expected to write the output, got {error.strerror or error}; check space and permissions"
        raise OutputError(msg) from error


@contextmanager
def replaced(path: Path, *, extension: str) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its place when the block succeeds and is deleted when it doesn't.

    Args:
        path: the final name.
        extension: kept by the temporary name, since libraries choose the format by it.

    Raises:
        OutputError: the system refuses to write (disk full, folder gone).
    """
    temporary = path.with_name(f"{TEMPORARY}{secrets.token_hex(8)}{extension}")
    try:
        yield temporary
        sync(temporary)
        renamed(temporary, path)
        sync(path.parent)
    except OSError as error:
        msg = f"{path}: expected to write the output, got {error.strerror or error}; check space and permissions"
        raise OutputError(msg) from error
    finally:
        # Ctrl-C included: after success there is nothing left to delete.
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def renamed(path: Path, target: Path) -> None:
    """Rename, in place of a file that has the name.

    Windows refuses while another program holds either open, as a virus scanner does for a moment: it is asked again.

    Raises:
        OSError: the system refuses.
    """
    for wait in _WAITS if sys.platform == "win32" else ():
        try:
            path.replace(target)
        except PermissionError:
            time.sleep(wait)
        else:
            return
    path.replace(target)


def sync(path: Path) -> None:
    """Wait until a file or folder is on disk; a folder that can't be synchronised (some network drives) is let be."""
    is_folder = path.is_dir()
    try:
        descriptor = os.open(path, os.O_RDONLY if is_folder else os.O_RDWR)  # Windows flushes what may be written only
    except OSError:
        if is_folder:
            return
        raise
    try:
        os.fsync(descriptor)
    except OSError:
        if not is_folder:
            raise
    finally:
        os.close(descriptor)


def _check_parent(path: Path, folder: Path, *, makes_folders: bool) -> None:
    """Refuse a folder that a new entry can't be made in; of folders that are to be made, the last one that exists."""
    while makes_folders and not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if not folder.is_dir():
        got = "a file; choose another name" if folder.exists() else "none; create it first"
        msg = f"{path}: expected an existing folder {folder}, got {got}"
        raise OutputError(msg)
    if not os.access(folder, os.W_OK | os.X_OK):
        msg = f"{path}: expected a writable folder {folder}, got a read-only one; write elsewhere"
        raise OutputError(msg)


def _same_file(path: Path, source: Path) -> bool:
    try:
        return path.samefile(source)
    except OSError:  # one of them doesn't exist
        return os.path.realpath(path) == os.path.realpath(source)  # of a link to itself, too
