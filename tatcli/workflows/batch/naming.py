"""Where outputs go: the tree of inputs once more, or as a pattern says."""

from __future__ import annotations

import string
from dataclasses import replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Final

from tatcli.errors import UsageError
from tatcli.volumes.formats import DEFAULT_EXTENSIONS, extension_of, format_of, stem_of
from tatcli.workflows.batch.staging import AREA
from tatcli.workflows.output_names import FORMATS, asked_format, default_output, split_name

if TYPE_CHECKING:
    from tatcli.workflows.batch.discovery import Found
    from tatcli.workflows.restore import RestoreConfig

__all__ = ["area_of", "check_pattern", "output_of", "series_folder", "series_output", "with_output"]

_FIELDS: Final = ("folder", "name", "ext", "task")


def check_pattern(pattern: str | None) -> None:
    """Refuse a pattern that can't name outputs.

    Raises:
        UsageError: another field than those that there are, or none that tells scans apart.
    """
    if pattern is None:
        return
    try:
        fields = {field for _, field, _, _ in string.Formatter().parse(pattern) if field is not None}
        if fields <= set(_FIELDS):
            pattern.format(**dict.fromkeys(_FIELDS, "text"))  # as a conversion or a width may not
    except (ValueError, LookupError) as error:
        msg = f"--output-pattern {pattern!r}: {error}"
        raise UsageError(msg) from None
    if not fields <= set(_FIELDS) or "name" not in fields:
        known = ", ".join(f"{{{field}}}" for field in _FIELDS)
        msg = f"--output-pattern {pattern!r}: expected {{name}}, and of others only {known}"
        raise UsageError(msg)


def output_of(found: Found, config: RestoreConfig, pattern: str | None) -> Path:
    """Where a scan's output goes. A pattern that gives it no extension gets that of its format.

    Args:
        found: the scan.
        config: how it is restored; its output is the folder of the outputs, None: beside the inputs.
        pattern: of the path below that folder.

    Raises:
        UsageError: the pattern leads out of the folder.
    """
    kind = asked_format(config.format) or found.kind
    folder = config.output
    if pattern is None and folder is None:
        return default_output(found.path, kind)
    name, extension = _split(found, kind)
    root = found.path.parent if folder is None else folder
    if pattern is None:
        return root / found.place.parent / (name + extension)
    place = "." if folder is None else str(found.place.parent)
    filled = PurePath(pattern.format(folder=place, name=name, ext=extension, task=config.task))
    if filled.anchor or ".." in filled.parts:
        msg = f"--output-pattern {pattern!r}: expected a path within the output folder, got {filled}"
        raise UsageError(msg)
    if extension_of(Path(filled)) is None and filled.name:
        filled = filled.with_name(filled.name + extension)
    return root / filled


def with_output(config: RestoreConfig, found: Found, output: Path) -> RestoreConfig:
    """A scan's own config: its input and output, and the format in words, which a folder's name may not tell."""
    kind = asked_format(config.format) or found.kind
    extension = extension_of(output)
    if extension is not None and format_of(output) != "dicom":
        kind = format_of(output) or kind
    word = next((word for word, name in FORMATS.items() if name == kind), "auto")
    return replace(config, input=found.path, output=output, format=word, report=None)


def series_output(output: Path, name: str, word: str) -> Path:
    """Where one series of several goes: into a folder with the name that a single one would have had.

    Args:
        output: that of the whole folder.
        name: of the series.
        word: the format.
    """
    extension = extension_of(output) or DEFAULT_EXTENSIONS["nifti"]
    return series_folder(output) / (name if word == "dicom" else name + extension)


def series_folder(output: Path) -> Path:
    """The folder where the series of a folder go, if they are several; ``output`` is that of the whole folder."""
    return output.with_name(stem_of(output))


def area_of(output: Path, folder: Path | None) -> Path:
    """The work folder for an output: in the outputs' folder, else beside the output."""
    return (folder if folder is not None and output.is_relative_to(folder) else output.parent) / AREA


def _split(found: Found, kind: str) -> tuple[str, str]:
    """Name and extension of an output that is called as its input."""
    name = found.place.name or found.path.name
    extension = extension_of(found.path) if not found.path.is_dir() else None
    if found.kind == "dicom" and extension is None:
        if name.upper() == "DICOMDIR":
            name = found.path.parent.name
        stem = name[:-4] if name.lower().endswith(".zip") and not found.path.is_dir() else name
        return stem, "" if kind == "dicom" else DEFAULT_EXTENSIONS[kind]
    return split_name(Path(name), kind)
