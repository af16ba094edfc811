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
from tatcli.volumes.dicom import DicomHeader
from tatcli.volumes.replacing import replaced
from tatcli.volumes.volume import Volume

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
        sha256: of the file; of a DICOM series, of the SHA-256 digests of its files in ascending order.
        bytes: size of the file, or of all files of the series.
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


@dataclass(frozen=True)
class IntensityStatistics:
    """Of all finite voxels, in the scan's units; NaN where there is none. ``deviation`` is the standard deviation."""

    minimum: float
    maximum: float
    mean: float
    deviation: float
    nonfinite: int


@dataclass(frozen=True)
class ChangeStatistics:
    """Mean, root mean square and largest magnitude of a difference, and the fraction of voxels that changed."""

    mean: float
    rms: float
    largest: float
    fraction: float


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
    """Hash a file, or the given files of a folder."""
    if files is None:
        return FileRecord(str(path.absolute()), _sha256(path).hex(), path.stat().st_size)
    members = sorted(set(files))
    digests = sorted(_sha256(member) for member in members)
    total = sum(member.stat().st_size for member in members)
    return FileRecord(str(path.absolute()), hashlib.sha256(b"".join(digests)).hexdigest(), total, len(members))


def input_record(volume: Volume) -> FileRecord | None:
    """Hash what a volume was read from: the file, or the files of its DICOM series; None for volumes made in memory."""
    path, header = volume.provenance.path, volume.provenance.header
    if path is None:
        return None
    if isinstance(header, DicomHeader) and header.unpacked is None:
        files = {image.path for frame in header.frames for image in frame}
        return file_record(path, None if files == {path} else files)
    return file_record(path)


def describe_scan(volume: Volume) -> ScanRecord:
    """The facts of a volume."""
    origin, geometry = volume.provenance, volume.geometry
    return ScanRecord(
        format=origin.format,
        modality=origin.modality,
        units=volume.units.value,
        dtype=None if origin.dtype is None else origin.dtype.name,
        shape=volume.array.shape,
        spacing=geometry.spacing,
        orientation=geometry.orientation,
    )


def intensity_statistics(volume: Volume) -> IntensityStatistics:
    """Statistics of a volume, in float64 and slice by slice, so that no copy of it is made."""
    planes = [_finite(plane) for plane in _planes(volume.array)]
    count = sum(values.size for values in planes)
    if not count:
        return IntensityStatistics(math.nan, math.nan, math.nan, math.nan, volume.array.size)
    mean = sum(float(values.sum(dtype=np.float64)) for values in planes) / count
    square = sum(float(np.square(np.subtract(values, mean, dtype=np.float64)).sum()) for values in planes) / count
    filled = [values for values in planes if values.size]
    return IntensityStatistics(
        minimum=min(float(values.min()) for values in filled),
        maximum=max(float(values.max()) for values in filled),
        mean=mean,
        deviation=math.sqrt(square),
        nonfinite=volume.array.size - count,
    )


def change_statistics(before: Volume, after: Volume) -> ChangeStatistics | None:
    """The difference after - before over voxels that are finite in both; None where their grids differ."""
    if before.array.shape != after.array.shape:
        return None
    count, changed, total, square, largest = 0, 0, 0.0, 0.0, 0.0
    for old, new in zip(_planes(before.array), _planes(after.array), strict=True):
        both = np.isfinite(old) & np.isfinite(new)
        difference = new[both].astype(np.float64) - old[both]
        count += difference.size
        if difference.size:
            changed += int(np.count_nonzero(difference))
            total += float(difference.sum())
            square += float(np.square(difference).sum())
            largest = max(largest, float(np.abs(difference).max()))
    if not count:
        return ChangeStatistics(math.nan, math.nan, math.nan, 0.0)
    return ChangeStatistics(total / count, math.sqrt(square / count), largest, changed / count)


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


def _finite(plane: NDArray[np.float32]) -> NDArray[np.float32]:
    finite = np.isfinite(plane)
    return plane if finite.all() else plane[finite]


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
