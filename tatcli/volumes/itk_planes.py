"""Read NRRD and MetaImage, plane by plane: the header's meaning is ITK's, where the voxels lie is read here.

ITK itself reads NRRD as a whole only, compressed MetaImage too, and takes several copies to do so.
"""

from __future__ import annotations

import bz2
import gzip
import io
import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, Final, Literal, cast

from tatcli.errors import VolumeReadError
from tatcli.intensity import Units
from tatcli.volumes.encoding import decode, fits_float32
from tatcli.volumes.itk import ItkHeader, read_itk_header, read_whole, unreadable
from tatcli.volumes.itk_fields import data_files_of, is_true, meta_fields, nrrd_fields
from tatcli.volumes.planes import FilePlanes, Unstreamable
from tatcli.volumes.volume import Provenance, ScanHeader, Volume

__all__ = ["itk_planes", "read_itk"]

_CHUNK: Final = 2**20
_SKIPS: Final = ("line skip", "lineskip", "byte skip", "byteskip")
_MOST: Final = {"raw": 1, "gzip": 1032, "zlib": 1032, "bzip2": 2**21}
"""No packed stream expands by more than this factor."""


@dataclass(frozen=True)
class _Body:
    """Where a file's voxels lie.

    Attributes:
        path: the file that holds them.
        offset: of the first byte.
        packing: ``raw``, ``gzip``, ``zlib`` or ``bzip2``.
        order: of the bytes.
    """

    path: Path
    offset: int
    packing: str
    order: Literal["<", ">"]


def read_itk(path: Path, *, kind: str, units: Units | None = None) -> Volume:
    """Read an NRRD or MetaImage file.

    Args:
        path: the file; for .nhdr and .mhd the voxels must lie where the header says.
        kind: ``nrrd`` or ``metaimage``.
        units: the caller's word on the units; the formats have none.

    Raises:
        VolumeReadError: not that format, truncated, or a voxel type that tat doesn't restore.
        GeometryError: more than four axes.
    """
    try:
        planes = itk_planes(path, kind=kind)
        header, stored = planes.header.provenance.header, planes.held().stored.reshape(planes.header.shape)
    except Unstreamable:
        header, stored = read_whole(path, kind=kind)
    identity = header.slope == 1.0 and header.intercept == 0.0
    kept = None if identity and fits_float32(stored) else stored
    provenance = replace(_provenance(path, kind, header), stored=kept, dtype=stored.dtype)
    values = decode(stored, slope=header.slope, intercept=header.intercept)
    return Volume(values, header.geometry, units or Units.UNKNOWN, provenance)


def itk_planes(path: Path, *, kind: str, units: Units | None = None) -> FilePlanes:
    """An NRRD or MetaImage file plane by plane; its header is read now.

    Raises:
        VolumeReadError: not that format, truncated, or a voxel type that tat doesn't restore.
        GeometryError: more than four axes.
        Unstreamable: the voxels aren't one raw or compressed block in file order.
    """
    header = read_itk_header(path, kind=kind)
    if header.listed:
        msg = "its frames lie voxel by voxel beside each other"
        raise Unstreamable(msg)
    body = _nrrd_body(path) if kind == "nrrd" else _meta_body(path)
    scan = ScanHeader(header.geometry, header.frames, units or Units.UNKNOWN, _provenance(path, kind, header))
    _check_length(path, body, scan.voxels * header.dtype.itemsize)
    return FilePlanes(scan, header.dtype.newbyteorder(body.order), lambda: _opened(body, path))


def _provenance(path: Path, kind: str, header: ItkHeader) -> Provenance:
    return Provenance(
        path=path,
        format=kind,
        header=header,
        dtype=header.dtype,
        slope=header.slope,
        intercept=header.intercept,
        frame_step=header.frame_step,
        oriented=header.oriented,
        warnings=header.warnings,
    )


def _nrrd_body(path: Path) -> _Body:
    """After the first empty line, or in the file that the header names."""
    fields, offset = nrrd_fields(path)
    source = path
    if named := fields.get("data file", fields.get("datafile")):
        files = data_files_of(path)
        if len(files) != 1 or named.split()[0].upper() == "LIST":
            msg = "its voxels lie in several files"
            raise Unstreamable(msg)
        source, offset = files[0], 0
    if offset is None or {fields.get(name, "0") for name in _SKIPS} != {"0"}:
        msg = "its voxels lie after a gap"  # or nowhere
        raise Unstreamable(msg)
    encoding = fields.get("encoding", "").lower()
    packing = {"raw": "raw", "gzip": "gzip", "gz": "gzip", "bzip2": "bzip2", "bz2": "bzip2"}.get(encoding)
    if packing is None:
        msg = f"its voxels are encoded as {encoding or 'nothing known'}"
        raise Unstreamable(msg)
    return _Body(source, offset, packing, ">" if fields.get("endian", "").lower() == "big" else "<")


def _meta_body(path: Path) -> _Body:
    """After the line ElementDataFile, or in the file that it names."""
    fields, offset = meta_fields(path)
    if not is_true(fields, "BinaryData", default=True) or fields.get("HeaderSize", "0") != "0":
        msg = "its voxels are text, or after a header of another kind"
        raise Unstreamable(msg)
    name = fields.get("ElementDataFile", "")
    if name.upper() == "LOCAL":
        source = path
    elif name.upper().split()[:1] in ([], ["LIST"]) or "%" in name:
        _check_files(path, fields, offset)
        msg = "its voxels lie in several files"
        raise Unstreamable(msg)
    else:
        source, offset = path.parent / name, 0
    big = is_true(fields, "BinaryDataByteOrderMSB") or is_true(fields, "ElementByteOrderMSB")
    packing = "zlib" if is_true(fields, "CompressedData") else "raw"
    return _Body(source, offset, packing, ">" if big else "<")


def _check_files(path: Path, fields: dict[str, str], offset: int) -> None:
    """Refuse a MetaImage that names too few files: ITK leaves what isn't read as memory happened to be."""
    first, *words = fields["ElementDataFile"].split() or ["LIST"]
    numbers = [int(word) for word in words if word.isdecimal()]
    sizes = [int(size) for size in fields["DimSize"].split()]
    axes = len(sizes) - 1
    if first.upper() == "LIST":
        axes = numbers[0] if numbers else axes
        with path.open("rb") as stream:
            stream.seek(offset)
            named = sum(line.endswith(b"\n") and line != b"\n" for line in stream)  # ITK passes over half a line
    elif len(numbers) > 1:  # pattern, first, last, step
        counted = range(numbers[0], numbers[1] + 1, (numbers[2] or 1) if len(numbers) > 2 else 1)
        named = len(counted[: 2**31])  # a header can count further than len
    else:
        return
    needed = math.prod(sizes[axes:])
    if named < needed or axes >= len(sizes):
        msg = f"{path.name}: expected {needed} data files of {axes} axes, fewer than the image's {len(sizes)}, got"
        raise VolumeReadError(msg + f" {named}; name all of them, each in a line that ends")


def _check_length(path: Path, body: _Body, expected: int) -> None:
    """Refuse a file that can't hold what its header promises, before memory is asked for."""
    try:
        on_disk = body.path.stat().st_size - body.offset
    except OSError as error:
        raise unreadable(path, error.strerror or "no voxels") from error
    if expected > on_disk * _MOST[body.packing]:
        raise unreadable(path, f"{on_disk} bytes instead of {expected}")


@contextmanager
def _opened(body: _Body, path: Path) -> Iterator[IO[bytes]]:
    try:
        with body.path.open("rb") as raw:
            raw.seek(body.offset)
            if body.packing == "gzip":
                with gzip.GzipFile(fileobj=raw) as unpacked:
                    yield cast("IO[bytes]", unpacked)
            elif body.packing == "bzip2":
                with bz2.BZ2File(raw) as unpacked:
                    yield cast("IO[bytes]", unpacked)
            elif body.packing == "zlib":
                yield cast("IO[bytes]", io.BufferedReader(_Inflated(raw), _CHUNK))
            else:
                yield raw
    except (EOFError, zlib.error, gzip.BadGzipFile, OSError) as error:
        raise unreadable(path, str(error)) from error


class _Inflated(io.RawIOBase):
    """The bytes behind a zlib stream, or a gzip one, as MetaIO reads both."""

    def __init__(self, packed: IO[bytes]) -> None:
        self._packed = packed
        self._inflate = zlib.decompressobj(wbits=32 + zlib.MAX_WBITS)

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer as far as a chunk goes; 0 at the end of the stream."""
        wanted = len(buffer)
        while not self._inflate.eof:
            waiting = self._inflate.unconsumed_tail or self._packed.read(_CHUNK)
            if not waiting:
                msg = "the compressed stream ends early"
                raise EOFError(msg)
            part = self._inflate.decompress(waiting, wanted)
            if part:
                buffer[: len(part)] = part
                return len(part)
        return 0
