"""Write NRRD (.nrrd) and MetaImage (.mha, .mhd) plane by plane: the header is ITK's, the voxels follow as they come.

ITK itself writes whole images only, and takes three copies of one to do so.
"""

from __future__ import annotations

import gzip
import os
import re
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from tatcli.errors import OutputError
from tatcli.volumes.encoding import Encoding, cross_format_type, encoded_slices, type_by_origin
from tatcli.volumes.itk import IMAGE_IO, ItkHeader, sitk
from tatcli.volumes.itk_fields import is_utf8
from tatcli.volumes.quiet import quiet_stderr
from tatcli.volumes.volume import ScanHeader, Volume

__all__ = ["itk_encoding", "itk_writer", "write_itk"]

_COMPRESSION_LEVEL: Final = 1
"""Noise hardly compresses: more effort takes several times as long and saves a few per cent."""
_DATA: Final = b"ElementDataFile = "
_SIZE_DIGITS: Final = 20
"""Room for the size of the compressed voxels, which is known once they are written."""


def write_itk(volume: Volume, path: Path, *, kind: str, voxels: Path | None = None) -> None:
    """Write a volume to exactly this path.

    Direction cosines are written as they are: both formats hold sheared grids, and ITK gives them back exactly.

    Args:
        volume: what to write.
        path: where to.
        kind: ``nrrd`` or ``metaimage``.
        voxels: as for :func:`itk_writer`.

    Raises:
        OutputError: NaN in a volume of integer type, a grid that ITK can't hold.
        OSError: the disk is full, the folder vanished.
    """
    scan = volume.header
    encoding = itk_encoding(scan, kind=kind) or Encoding(cross_format_type(volume))
    planes = encoded_slices(volume, encoding)
    source = _own_header(scan, kind)
    with itk_writer(scan, path, kind=kind, encoding=encoding, voxels=voxels) as write:
        for numbers in _interleaved(planes, scan) if source is not None and source.listed else planes:
            write(numbers)


def itk_encoding(scan: ScanHeader, *, kind: str) -> Encoding | None:
    """How a scan's values are stored in a file of this kind; None where the values themselves decide."""
    origin = scan.provenance
    if _same_format(scan, kind) and origin.dtype is not None:
        return Encoding(origin.dtype, origin.slope, origin.intercept)
    dtype = type_by_origin(origin)
    return None if dtype is None else Encoding(dtype)


@contextmanager
def itk_writer(
    scan: ScanHeader, path: Path, *, kind: str, encoding: Encoding, voxels: Path | None = None
) -> Iterator[Callable[[NDArray[Any]], None]]:
    """Write a file plane by plane: the block calls what it gets with encoded planes, in file order.

    Args:
        scan: everything but the voxels.
        path: exactly this one.
        kind: ``nrrd`` or ``metaimage``.
        encoding: of the planes.
        voxels: of a .mhd, the file that the voxels are written to; the header names it. They are not compressed: a .raw
            is what its name says.

    Raises:
        OutputError: a grid that ITK can't hold.
        OSError: the disk is full, the folder vanished.
    """
    header = _header(scan, kind=kind, encoding=encoding)
    if voxels is not None:
        path.write_bytes(header.replace(b"ElementDataFile = LOCAL", b"ElementDataFile = " + os.fsencode(voxels.name)))
        with voxels.open("wb") as raw:
            yield lambda planes: _put(raw, planes)
        return
    with path.open("w+b") as raw:
        if kind == "nrrd":
            raw.write(header.replace(b"encoding: raw\n", b"encoding: gzip\n"))
            # No name and no time in the gzip header: the same volume gives the same bytes.
            with gzip.GzipFile("", "wb", _COMPRESSION_LEVEL, raw, mtime=0) as packed:
                yield lambda planes: _put(cast("IO[bytes]", packed), planes)
            return
        before, flag, after = header.partition(b"CompressedData = False\n")
        raw.write(before + flag.replace(b"False", b"True") + b"CompressedDataSize = ")
        place = raw.tell()
        raw.write(b" " * _SIZE_DIGITS + b"\n" + after)
        start = raw.tell()
        deflate = zlib.compressobj(_COMPRESSION_LEVEL)
        yield lambda planes: _deflate(raw, deflate.compress(np.ascontiguousarray(planes).data))
        raw.write(deflate.flush())
        size = raw.tell() - start
        raw.seek(place)
        raw.write(str(size).encode())


def _put(stream: IO[bytes], planes: NDArray[Any]) -> None:
    stream.write(np.ascontiguousarray(planes).data)


def _deflate(stream: IO[bytes], packed: bytes) -> None:
    stream.write(packed)


def _interleaved(planes: Iterable[NDArray[Any]], scan: ScanHeader) -> Iterator[NDArray[Any]]:
    """Planes of a list: the frames of each voxel lie side by side, (rows, columns, frames)."""
    slices = scan.geometry.shape[0]
    whole = np.stack(list(planes)).reshape(scan.frames, slices, *scan.geometry.shape[1:])
    for index in range(slices):
        yield np.ascontiguousarray(np.moveaxis(whole[:, index], 0, -1))


def _header(scan: ScanHeader, *, kind: str, encoding: Encoding) -> bytes:
    """The file up to its voxels: that of an image of one voxel, with the scan's sizes in place of ones."""
    source = _own_header(scan, kind)
    sizes = [*scan.geometry.shape[::-1], scan.frames]
    axes = len(source.origin) if source is not None else 4 if scan.frames > 1 else 3
    listed = source is not None and source.listed
    one = np.zeros([1] * axes + ([scan.frames] if listed else []), dtype=encoding.dtype)
    image = sitk().GetImageFromArray(one, isVector=listed)
    if source is not None:
        image.SetOrigin(source.origin)
        image.SetSpacing(source.spacing)
        image.SetDirection(source.direction)
    else:
        _place(image, scan)
    lines: tuple[str, ...] = ()
    if _same_format(scan, kind):
        origin: ItkHeader = scan.provenance.header
        lines = origin.lines if len(origin.origin) == axes else ()
        for key, value in origin.metadata.items():
            if is_utf8(value):
                image.SetMetaData(key, value)
            elif not key.startswith("NRRD_"):
                lines = (*lines, f"{key}:={value}" if kind == "nrrd" else f"{key} = {value}")
    header = _with_lines(_written_by_itk(image, kind), lines, before=b"encoding: " if kind == "nrrd" else _DATA)
    if kind == "nrrd":
        header = header.replace(b"NRRD0004", b"NRRD0005", 1)  # knows the measurement frame
        ours = [scan.frames, *sizes[:axes]] if listed else sizes[:axes]
        header = header.replace(b"kinds: vector ", b"kinds: list ") if listed else header
        return _with_sizes(header, rb"^sizes: [1-9][0-9 ]*$", "sizes: ", ours)
    return _with_function(_with_sizes(header, rb"^DimSize = [1 ]+$", "DimSize = ", sizes[:axes]), encoding)


def _with_function(header: bytes, encoding: Encoding) -> bytes:
    """A MetaImage header that says how its values are stored, which ITK leaves out."""
    if (encoding.slope, encoding.intercept) == (1.0, 0.0):
        return header
    numbers = {"Slope": encoding.slope, "Offset": encoding.intercept}
    lines = tuple(f"ElementToIntensityFunction{name} = {number!r}" for name, number in numbers.items())
    return _with_lines(header, lines, before=_DATA)


def _with_lines(header: bytes, lines: Iterable[str], *, before: bytes) -> bytes:
    """A header with more lines before that of a field."""
    more = b"".join(os.fsencode(line) + b"\n" for line in lines)
    return header.replace(b"\n" + before, b"\n" + more + before, 1)


def _with_sizes(header: bytes, line: bytes, words: str, sizes: list[int]) -> bytes:
    ours = (words + " ".join(map(str, sizes))).encode()
    changed, count = re.subn(line, ours, header, count=1, flags=re.MULTILINE)
    assert count == 1, header  # noqa: S101  ITK always writes this line
    return changed


_TIMED: Final = b"left-posterior-superior-time"


def _written_by_itk(image: Any, kind: str) -> bytes:
    """What ITK writes before the voxels of an image."""
    extension = {"nrrd": ".nrrd", "metaimage": ".mha"}[kind]
    writer = sitk().ImageFileWriter()
    writer.SetImageIO(IMAGE_IO[kind])
    writer.SetUseCompression(False)
    with tempfile.TemporaryDirectory(prefix="tat-") as folder:
        path = Path(folder) / f"one{extension}"
        writer.SetFileName(str(path))
        with quiet_stderr():
            try:
                writer.Execute(image)
            except RuntimeError as error:
                reason = str(error).strip().splitlines()[-1]
                msg = f"output: expected a header by ITK for {kind}, got {reason}; write .nii.gz instead"
                raise OutputError(msg) from error
        content = path.read_bytes()
    if kind == "nrrd":  # of four axes ITK leaves out what the first three mean
        return content[: content.index(b"\n\n") + 2].replace(b"\nspace dimension: 4\n", b"\nspace: " + _TIMED + b"\n")
    start = content.index(b"ElementDataFile = ")
    return content[: content.index(b"\n", start) + 1]


def _place(image: Any, scan: ScanHeader) -> None:
    geometry, step = scan.geometry, scan.provenance.frame_step
    slice_step, row_step, column_step = geometry.spacing
    direction, spacing, origin = geometry.direction, [column_step, row_step, slice_step], list(geometry.origin)
    if image.GetDimension() == 4:
        whole = np.eye(4)
        whole[:3, :3] = direction
        direction, spacing, origin = whole, [*spacing, 1.0 if step is None else step.plain], [*origin, 0.0]
    image.SetDirection([float(value) for value in direction.ravel()])
    image.SetSpacing([float(value) for value in spacing])
    image.SetOrigin([float(value) for value in origin])


def _same_format(scan: ScanHeader, kind: str) -> bool:
    return scan.provenance.format == kind and isinstance(scan.provenance.header, ItkHeader)


def _own_header(scan: ScanHeader, kind: str) -> ItkHeader | None:
    """The header that the scan came with, where it is of this kind and the grid is still the same."""
    if not _same_format(scan, kind):
        return None
    header: ItkHeader = scan.provenance.header
    ours, theirs = scan.geometry, header.geometry
    same = scan.frames == header.frames and ours.shape == theirs.shape and bool((ours.affine == theirs.affine).all())
    return header if same else None
