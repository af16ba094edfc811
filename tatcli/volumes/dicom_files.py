"""Find and open DICOM files: in a folder any file may be one, whatever its name, and any may be something else."""

from __future__ import annotations

import os
import struct
import threading
import warnings
import zlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from tatcli.errors import TatError, VolumeReadError

if TYPE_CHECKING:
    from pydicom.dataset import FileDataset

    from tatcli.volumes.dicom_archives import Unpacked

__all__ = [
    "LENIENCE",
    "PARSING_FAILURES",
    "FolderScan",
    "holds_dicom",
    "is_dicom",
    "is_media_directory",
    "read_dataset",
    "scan_folder",
    "tolerant",
]

_PREAMBLE: Final = 128
PARSING_FAILURES: Final = (
    OSError, EOFError, ValueError, KeyError, AttributeError, TypeError, IndexError, OverflowError, NotImplementedError,
    struct.error, zlib.error,
)  # fmt: skip
"""What pydicom raises on damaged files."""
_MOST_INFLATED: Final = 2**32
"""Bytes: no element of known length, such as deflated files' pixels, is longer."""
_DEFLATE_LIMIT: Final = 1032
"""No deflated stream expands by more than this factor."""
_CHUNK: Final = 2**20
_MEDIA_DIRECTORY: Final = "1.2.840.10008.1.3.10"


@dataclass(frozen=True)
class FolderScan:
    """What lies in a folder and below it.

    Attributes:
        files: DICOM files, in the order of their paths.
        skipped: how many other files there are.
        warnings: what else was odd.
        unpacked: the temporary folder with the files of an archive; they exist as long as this is held.
    """

    files: tuple[Path, ...]
    skipped: int
    warnings: tuple[str, ...] = ()
    unpacked: Unpacked | None = None


def scan_folder(folder: Path) -> FolderScan:
    """Every DICOM file in a folder and its subfolders; hidden files and DICOMDIR are left out without being counted.

    Raises:
        VolumeReadError: the folder can't be listed.
    """
    found: list[Path] = []
    skipped = 0
    try:
        for root, folders, names in os.walk(folder, onerror=_raise):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in sorted(names):
                if _passed_over(name):
                    continue
                path = Path(root, name)
                if path.is_file() and is_dicom(path):
                    found.append(path)
                else:
                    skipped += 1
    except OSError as error:
        msg = f"{folder}: expected a readable folder, got {error.strerror or error}; check its permissions"
        raise VolumeReadError(msg) from error
    return FolderScan(tuple(found), skipped)


def holds_dicom(paths: Iterable[Path]) -> bool:
    """Whether one of these is a DICOM file, by its content; hidden files and DICOMDIR don't count."""
    return any(path.is_file() and is_dicom(path) for path in paths if not _passed_over(path.name))


def is_dicom(path: Path) -> bool:
    """Whether the file begins like DICOM: a preamble with its prefix, or (old files) the first groups without one."""
    try:
        with path.open("rb") as stream:
            return _begins_like_dicom(stream)
    except OSError:
        return False


def read_dataset(path: Path, *, with_pixels: bool = False) -> FileDataset:
    """A file's attributes, and its pixel data where asked for; values that break their rules are let pass.

    Raises:
        VolumeReadError: not DICOM, truncated, or unreadable.
    """
    import pydicom

    if not path.is_file() or not is_dicom(path):
        msg = f"{path.name}: expected a DICOM file, got something else; is the file named by its true format?"
        raise VolumeReadError(msg)
    with tolerant(path):
        _check_inflated(path)
        dataset = pydicom.dcmread(path, force=True, stop_before_pixels=not with_pixels)
        _name_transfer_syntax(dataset)
    return dataset


def _check_inflated(path: Path) -> None:
    """Refuse a deflated file that becomes too long: pydicom inflates it in memory as a whole, whatever is asked of it.

    Raises:
        VolumeReadError: a few megabytes that would become many gigabytes.
    """
    from pydicom.filereader import read_dataset as read_elements
    from pydicom.filereader import read_preamble
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    if path.stat().st_size * _DEFLATE_LIMIT <= _MOST_INFLATED:
        return
    with path.open("rb") as stream:
        read_preamble(stream, force=True)
        meta = read_elements(stream, False, True, stop_when=lambda tag, *_: tag.group != 2)
        if meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
            return
        inflate, length = zlib.decompressobj(-zlib.MAX_WBITS), 0
        while not inflate.eof and (packed := inflate.unconsumed_tail or stream.read(_CHUNK)):
            length += len(inflate.decompress(packed, _CHUNK))
            if length > _MOST_INFLATED:
                msg = f"{path.name}: expected at most {_MOST_INFLATED} bytes once inflated, got more; get it again"
                raise VolumeReadError(msg)


@contextmanager
def tolerant(path: Path) -> Iterator[None]:
    """Work on a dataset without complaints about values that break their rules; what can't be parsed is an error.

    pydicom converts values when they are first asked for, so reading attributes needs this as much as reading files.

    Raises:
        VolumeReadError: the file or one of its values doesn't parse.
    """
    try:
        with LENIENCE:
            yield
    except TatError:
        raise
    except PARSING_FAILURES as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        msg = f"{path.name}: expected a complete DICOM file, got one that doesn't parse ({reason}); get it again"
        raise VolumeReadError(msg) from error


class _Lenience:
    """pydicom's settings, and what becomes of warnings, are the process's: eased as long as any thread needs it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._before = ExitStack()

    def __enter__(self) -> None:
        from pydicom import config
        from pydicom.hooks import hooks

        with self._lock:
            self._users += 1
            if self._users > 1:
                return
            self._before.enter_context(warnings.catch_warnings())
            self._before.enter_context(config.disable_value_validation())
            self._before.callback(hooks.register_callback, "raw_element_value", hooks.raw_element_value)
            warnings.simplefilter("ignore")
            hooks.register_callback("raw_element_value", _value_or_none)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._users -= 1
            if not self._users:
                self._before.close()


def _value_or_none(raw: Any, data: dict[str, Any], **options: Any) -> None:
    """As pydicom converts values; numbers that aren't made of all their bytes are as good as absent."""
    from pydicom.errors import BytesLengthException
    from pydicom.hooks import raw_element_value

    try:
        raw_element_value(raw, data, **options)
    except BytesLengthException:
        data["value"] = None


LENIENCE: Final = _Lenience()
"""Work on a dataset under it without complaints; what can't be parsed raises as pydicom does."""


def is_media_directory(dataset: FileDataset) -> bool:
    """Whether this is a DICOMDIR under another name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on UIDs that break their rules
        return str(dataset.file_meta.get("MediaStorageSOPClassUID", "")) == _MEDIA_DIRECTORY


def _passed_over(name: str) -> bool:
    return name.startswith(".") or name.upper() == "DICOMDIR"


def _begins_like_dicom(stream: IO[bytes]) -> bool:
    start = stream.read(_PREAMBLE + 4)
    if start[_PREAMBLE:] == b"DICM":
        return True
    # Without a preamble: group 0002 or 0008, a low element, then an explicit VR or a small implicit length.
    if len(start) < 16 or start[:2] not in (b"\x02\x00", b"\x08\x00") or start[3] != 0:
        return False
    return start[4:6] in (b"UL", b"UI", b"CS", b"OB") or int.from_bytes(start[4:8], "little") < 256


def _name_transfer_syntax(dataset: FileDataset) -> None:
    """Files without file meta information are uncompressed, in the encoding that pydicom found."""
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    if "TransferSyntaxUID" in dataset.file_meta:
        return
    implicit, little_endian = dataset.original_encoding
    explicit = ExplicitVRLittleEndian if little_endian else ExplicitVRBigEndian
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit


def _raise(error: OSError) -> None:
    raise error
