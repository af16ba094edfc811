"""The machine-readable record of a run: what went in, what came out, with what, and what it cost."""

from __future__ import annotations

import hashlib
import json
import math
import platform
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

import tatcli
from tatcli.reporting.statistics import ChangeGatherer, ChangeStatistics, IntensityGatherer, IntensityStatistics
from tatcli.volumes.dicom import DicomHeader
from tatcli.volumes.members import members_of
from tatcli.volumes.replacing import replaced
from tatcli.volumes.volume import ScanHeader, Volume

__all__ = [
    "ChangeStatistics",
    "FileRecord",
    "IntensityStatistics",
    "ScanRecord",
    "change_statistics",
    "describe_scan",
    "file_record",
    "input_record",
    "intensity_statistics",
    "to_json",
    "versions",
    "write_json",
]

_LIBRARIES: Final = ("torch", "numpy", "SimpleITK", "nibabel", "pydicom")


@dataclass(frozen=True)
class FileRecord:
    """A file or folder, so that it can be told from any other.

    Attributes:
        path: absolute.
        sha256: of the file; of several, of their SHA-256 digests in ascending order.
        bytes: size of all files together.
        files: how many there are.
    """

    path: str
    sha256: str
    bytes: int
    files: int = 1


@dataclass(frozen=True)
class ScanRecord:
    """A volume's facts.

    Attributes:
        format, modality, units, dtype: as read.
        shape: ([frames,] slices, rows, columns).
        spacing: mm along (slices, rows, columns).
        orientation: where each array axis points.
    """

    format: str
    modality: str | None
    units: str
    dtype: str | None
    shape: tuple[int, ...]
    spacing: tuple[float, float, float]
    orientation: str


def versions() -> dict[str, str]:
    """Of tat, Python, the platform, and the libraries that touch voxels."""
    found = {"tat": tatcli.__version__, "python": platform.python_version(), "platform": platform.platform()}
    for name in _LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:  # pragma: no cover - a library installed without metadata
            found[name] = "unknown"
    return found


def file_record(path: Path, files: Iterable[Path] | None = None) -> FileRecord:
    """Hash a file, or the files that belong to a path, which may be that file alone."""
    members = [path] if files is None else sorted(set(files))
    if members == [path]:
        return FileRecord(str(path.absolute()), _sha256(path).hex(), path.stat().st_size)
    digests = sorted(_sha256(member) for member in members)
    total = sum(member.stat().st_size for member in members)
    return FileRecord(str(path.absolute()), hashlib.sha256(b"".join(digests)).hexdigest(), total, len(members))


def input_record(scan: Volume | ScanHeader) -> FileRecord | None:
    """Hash what a scan was read from; None for volumes made in memory.

    That is its file, the files of its DICOM series, or a header with the files of its voxels.
    """
    path, header = scan.provenance.path, scan.provenance.header
    if path is None:
        return None
    if isinstance(header, DicomHeader) and header.unpacked is None:
        return file_record(path, {image.path for frame in header.frames for image in frame})
    return file_record(path, members_of(path))


def describe_scan(scan: ScanHeader) -> ScanRecord:
    """The facts of a scan."""
    origin, geometry = scan.provenance, scan.geometry
    return ScanRecord(
        format=origin.format,
        modality=origin.modality,
        units=scan.units.value,
        dtype=None if origin.dtype is None else origin.dtype.name,
        shape=scan.shape,
        spacing=geometry.spacing,
        orientation=geometry.orientation,
    )


def intensity_statistics(volume: Volume) -> IntensityStatistics:
    """Statistics of a volume."""
    found = IntensityGatherer()
    for plane in _planes(volume.array):
        found.add(plane)
    return found.statistics()


def change_statistics(before: Volume, after: Volume) -> ChangeStatistics | None:
    """The difference after - before over voxels that are finite in both; None where their grids differ."""
    if before.array.shape != after.array.shape:
        return None
    found = ChangeGatherer()
    for old, new in zip(_planes(before.array), _planes(after.array), strict=True):
        found.add(old, new)
    return found.statistics()


def to_json(report: Any) -> str:
    """A report's JSON: dataclasses become objects, NaN and infinity (which JSON lacks) null."""
    return json.dumps(_plain(asdict(report)), indent=2, allow_nan=False) + "\n"


def write_json(text: str, path: Path) -> None:
    """Write a report whole or not at all, over an existing one; callers check the path before the work.

    Raises:
        OutputError: the system refuses to write.
    """
    with replaced(path, extension=".json") as temporary:
        temporary.write_text(text, encoding="utf-8")


def _planes(array: NDArray[np.float32]) -> NDArray[np.float32]:
    return array.reshape(-1, *array.shape[-2:])


def _sha256(path: Path) -> bytes:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest()


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | int | bool) else str(value)
