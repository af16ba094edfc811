"""DICOM that comes packed: zip archives and DICOMDIR media."""

from __future__ import annotations

import shutil
import tempfile
import weakref
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import Final

from tatcli.errors import VolumeReadError
from tatcli.volumes.dicom_files import FolderScan, is_dicom, is_media_directory, read_dataset, scan_folder, tolerant

__all__ = ["Unpacked", "find_files", "is_collection", "is_zip"]

_NEEDLESS: Final = "__MACOSX"
_NOT_IN_NAMES: Final = '/\\:*?"<>|'
"""What Windows takes in no name."""


class Unpacked:
    """A temporary folder, private to its user, that lives as long as this object (or the process).

    Raises:
        VolumeReadError: there is no place for one.
    """

    def __init__(self) -> None:
        try:
            self.folder = Path(tempfile.mkdtemp(prefix="tat-"))
        except OSError as error:
            msg = f"temporary folder: expected one to unpack to, got {error.strerror}; set TMPDIR to one with space"
            raise VolumeReadError(msg) from error
        weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)


def is_zip(path: Path) -> bool:
    """Whether a file is a zip archive."""
    return path.is_file() and zipfile.is_zipfile(path)


def is_collection(path: Path) -> bool:
    """Whether a path stands for any number of DICOM files: a folder, a zip archive, a DICOMDIR."""
    return path.is_dir() or is_zip(path) or _is_dicomdir(path)


def find_files(path: Path) -> FolderScan:
    """The DICOM files of a folder, a zip archive (unpacked to a temporary folder) or a DICOMDIR.

    Raises:
        VolumeReadError: it can't be read; the archive is damaged or encrypted.
    """
    if path.is_dir():
        return scan_folder(path)
    return _unpack(path) if is_zip(path) else _of_dicomdir(path)


def _is_dicomdir(path: Path) -> bool:
    if not path.is_file() or not is_dicom(path):
        return False
    return path.name.upper() == "DICOMDIR" or is_media_directory(read_dataset(path))


def _unpack(path: Path) -> FolderScan:
    unpacked = Unpacked()
    found: list[Path] = []
    skipped = 0
    try:
        with zipfile.ZipFile(path) as archive:
            members = [member for member in archive.infolist() if _is_wanted(member)]
            _check_space(path, sum(member.file_size for member in members), unpacked.folder)
            for index, member in enumerate(members):
                # Folders of their own: members of the same name, and names that climb out of the archive, do no harm.
                target = unpacked.folder / f"{index:06d}" / _plain_name(member)
                target.parent.mkdir()
                with archive.open(member) as source, target.open("wb") as copy:
                    shutil.copyfileobj(source, copy)
                if is_dicom(target):
                    found.append(target)
                else:
                    skipped += 1
                    target.unlink()
    except (OSError, zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError, EOFError) as error:
        msg = f"{path.name}: expected a complete zip archive without password, got one that doesn't unpack ({error})"
        raise VolumeReadError(msg + "; unpack it yourself") from error
    return FolderScan(tuple(found), skipped, unpacked=unpacked)


def _is_wanted(member: zipfile.ZipInfo) -> bool:
    path = PurePosixPath(member.filename)
    hidden = any(part.startswith(".") and part not in (".", "..") for part in path.parts)
    return not (member.is_dir() or hidden or _NEEDLESS in path.parts or path.name.upper() == "DICOMDIR")


def _plain_name(member: zipfile.ZipInfo) -> str:
    name = PurePosixPath(member.filename.replace("\\", "/")).name
    return "".join(letter for letter in name if letter.isprintable() and letter not in _NOT_IN_NAMES)[-100:] or "file"


def _check_space(path: Path, needed: int, folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        msg = f"{path.name}: expected {needed / 2**20:.0f} MiB to unpack to, got {free / 2**20:.0f} MiB free"
        raise VolumeReadError(msg + f" in {folder.parent}; set TMPDIR to another disk")


def _of_dicomdir(path: Path) -> FolderScan:
    """The files that a DICOMDIR names (PS3.3 F.3); media readers may write their names in either case."""
    dataset = read_dataset(path)
    with tolerant(path):
        records = [record.get("ReferencedFileID") for record in dataset.get("DirectoryRecordSequence") or []]
    parts = [[file] if isinstance(file, str) else list(file) for file in records if file]
    found, missing = [], 0
    for names in parts:
        file = _existing(path.parent, [str(name) for name in names])
        if file is not None and is_dicom(file):
            found.append(file)
        else:
            missing += 1
    warnings = (f"{missing} of the {len(parts)} files that DICOMDIR names are missing",) if missing else ()
    return FolderScan(tuple(found), 0, warnings=warnings)


def _existing(folder: Path, names: list[str]) -> Path | None:
    if any(name in ("..", "") or "/" in name for name in names):
        return None
    for change in (str, str.lower, str.upper):
        path = folder.joinpath(*map(change, names))
        if path.is_file():
            return path
    return None
