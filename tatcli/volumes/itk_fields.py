"""What the headers of NRRD and MetaImage say, as text, and which files hold the voxels of those that lie apart."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import IO, Final

from tatcli.errors import GeometryError, VolumeReadError

__all__ = ["check_kinds", "data_files_of", "is_true", "is_utf8", "meta_fields", "millimetres", "nrrd_fields"]

_LONGEST_HEADER: Final = 2**20
_MILLIMETRES: Final = {
    **dict.fromkeys(("mm", "millimeter", "millimeters", "millimetre", "millimetres"), 1.0),
    **dict.fromkeys(("cm", "centimeter", "centimeters", "centimetre", "centimetres"), 10.0),
    **dict.fromkeys(("m", "meter", "meters", "metre", "metres"), 1000.0),
    **dict.fromkeys(("um", "\xb5m", "\xe2\xb5m", "\xee\xbcm", "micron", "microns"), 1e-3),
    **dict.fromkeys(("micrometer", "micrometers", "micrometre", "micrometres"), 1e-3),
}
"""Of the lengths that headers name, in lower case, bytes of UTF-8 one by one; others, such as times, don't count."""
_SPACE_AND_FRAMES: Final = 4
"""Axes."""
_MOST_FILES: Final = 2**16
"""A header of a few bytes can count to any number."""
_PATTERN: Final = re.compile(r"[^%]*%[-+ #0]*\d?\d?(\.\d)?[diuxX][^%]*")
_NAMES_OF_FILES: Final = re.compile(
    rb"^(?:data ?file: *|ElementDataFile *= *)LIST[^\n]*\n(.*)", re.DOTALL | re.MULTILINE
)


def meta_fields(path: Path) -> tuple[dict[str, str], int]:
    """A MetaImage header's fields and where it ends: after the line ElementDataFile.

    The format: https://itk.org/Wiki/MetaIO/Documentation.
    """
    fields: dict[str, str] = {}
    with path.open("rb") as stream:
        while "ElementDataFile" not in fields and (line := _header_line(stream)):
            key, _, value = os.fsdecode(line).partition("=")  # it names a file, in the system's encoding
            fields[key.strip()] = value.strip()
        return fields, stream.tell()


def _header_line(stream: IO[bytes]) -> bytes:
    """The next one; nothing where the file is so long without the header's end that it has none."""
    return stream.readline(max(0, _LONGEST_HEADER - stream.tell()))


def is_true(fields: dict[str, str], key: str, *, default: bool = False) -> bool:
    """A MetaImage's flag, as MetaIO reads it: by its first letter."""
    return fields[key][:1] in ("T", "t", "1") if key in fields else default


def is_utf8(text: str) -> bool:
    """Whether text of a header was UTF-8: SimpleITK gives bytes of older encodings, too, and takes none back."""
    return not any("\udc80" <= letter <= "\udcff" for letter in text)


def nrrd_fields(path: Path) -> tuple[dict[str, str], int | None]:
    """An NRRD header's fields, named in lower case, and where it ends: after the first empty line; None: without one.

    The format: https://teem.sourceforge.net/nrrd/format.html.
    """
    fields: dict[str, str] = {}
    with path.open("rb") as stream:
        while (line := _header_line(stream)).strip(b"\r\n"):
            key, separator, value = line.decode("latin-1").partition(":")
            if separator and not value.startswith("="):  # key:=value pairs are free text
                fields[key.strip().lower()] = value.strip()
        return fields, stream.tell() if line else None


def check_kinds(path: Path) -> None:
    """Say so where ITK refuses nothing but the kind of an NRRD's axis of frames: the one without direction in space.

    Raises:
        VolumeReadError: it isn't list.
    """
    fields, _ = nrrd_fields(path)
    directions = re.findall(r"\([^)]*\)|none", fields.get("space directions", ""))
    if len(directions) != _SPACE_AND_FRAMES or directions.count("none") != 1:
        return
    needed = " ".join("list" if direction == "none" else "domain" for direction in directions)
    kinds = fields.get("kinds", "").split()
    if "list" not in kinds:
        msg = f"{path.name}: expected kinds: {needed}, as the axis of frames has no direction in space, got "
        msg += " ".join(kinds) or "none"
        raise VolumeReadError(msg + "; write so in the header")


def millimetres(fields: dict[str, str], path: Path) -> float:
    """How many there are in the unit of length of an NRRD (space units, units) or MetaImage (DistanceUnits) header.

    Raises:
        GeometryError: the axes of space have several.
    """
    named = " ".join(fields.get(name, "") for name in ("space units", "units", "DistanceUnits"))
    words = [word.strip().lower() for word in named.replace('"', " ").split()]
    found = {_MILLIMETRES[word] for word in words if word in _MILLIMETRES}
    if len(found) > 1:
        msg = f"{path.name}: expected one unit of length, got {named.strip()}; write the header in mm"
        raise GeometryError(msg)
    return found.pop() if found else 1.0


def data_files_of(header: Path) -> list[Path]:
    """The files that hold the voxels of an NRRD or MetaImage header; none where they follow it, or it can't be read."""
    try:
        if header.suffix.lower() in (".nrrd", ".nhdr"):
            fields, _ = nrrd_fields(header)
            named = os.fsdecode(fields.get("data file", fields.get("datafile", "")).encode("latin-1"))
        else:
            named = meta_fields(header)[0].get("ElementDataFile", "LOCAL")
        first, *words = named.split() or ["LOCAL"]
        if first.upper() == "LOCAL":
            return []
        names = [named]
        if first.upper() == "LIST":
            match = _NAMES_OF_FILES.search(header.read_bytes())
            names = [os.fsdecode(line.strip()) for line in match[1].splitlines() if line.strip()] if match else []
        elif _PATTERN.fullmatch(first) and len(words) > 1:
            start, last, *steps = map(int, words)
            names = [first % number for number in range(start, last + 1, *steps[:1])[:_MOST_FILES]]
    except (OSError, ValueError, TypeError):  # reading it tells what is wrong
        return []
    return [header.parent / name for name in names]
