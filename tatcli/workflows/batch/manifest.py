"""A table of scans, CSV or TSV: their paths, and what differs from the command's task, output and options."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tatcli.errors import UsageError, reason_of
from tatcli.tasks import find_task, find_units

if TYPE_CHECKING:
    from tatcli.workflows.restore import RestoreConfig

__all__ = ["Row", "is_manifest", "read_manifest"]

_DELIMITERS: Final = {".csv": ",;\t", ".tsv": "\t,;"}
"""Excel writes semicolons where the comma is the decimal sign."""
_COLUMNS: Final = ("path", "task", "output", "series", "units", "pet", "options")
_NUMBERS: Final = ("tile", "overlap", "batch", "planes", "scale")
_WORDS: Final = ("mode", "axis")
_FACTORS: Final = ("kspace_factor",)
_FLAGS: Final = ("ensemble", "ignore_modality", "data_consistency", "no_data_consistency")


@dataclass(frozen=True)
class Row:
    """A line of a manifest.

    Attributes:
        path: the scan; relative paths are relative to the manifest.
        output: where it goes, as the manifest says; None: where it would go anyway.
        config: the command's, with what the line says otherwise.
    """

    path: Path
    output: Path | None
    config: RestoreConfig


def is_manifest(path: Path) -> bool:
    """Whether a name is a manifest's."""
    return path.suffix.lower() in _DELIMITERS


def read_manifest(path: Path, config: RestoreConfig) -> Iterator[Row]:
    """The lines of a manifest.

    Raises:
        UsageError: no such file, an unknown column or value; the message names the line.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        msg = f"{path}: expected a manifest (CSV or TSV, UTF-8), got {reason_of(error)}"
        raise UsageError(msg) from error
    marks, first = _DELIMITERS[path.suffix.lower()], text.partition("\n")[0]
    delimiter = next((mark for mark in marks if mark in first), marks[0])  # names of columns have none of them
    table = csv.DictReader(io.StringIO(text), delimiter=delimiter, strict=True)
    columns = [(name or "").strip().lower() for name in table.fieldnames or ()]
    if "path" not in columns or not set(columns) <= set(_COLUMNS):
        msg = f"{path.name}: expected the columns path and any of {', '.join(_COLUMNS[1:])}, got {', '.join(columns)}"
        raise UsageError(msg)
    table.fieldnames = columns
    try:
        for line in table:
            fields = {key: (value or "").strip() for key, value in line.items() if isinstance(value, str | None)}
            if len(fields) != len(line) or not fields["path"]:
                msg = f"{path.name}, line {table.line_num}: expected a path and {len(columns)} columns"
                raise UsageError(msg)
            try:
                yield _row(path, fields, config)
            except UsageError as error:
                msg = f"{path.name}, line {table.line_num}: {error}"
                raise UsageError(msg) from error
    except csv.Error as error:
        msg = f"{path.name}, line {table.line_num}: expected a line of a table, got one that doesn't parse ({error})"
        raise UsageError(msg) from error


def _row(manifest: Path, fields: Mapping[str, str], config: RestoreConfig) -> Row:
    from tatcli.volumes.pet_tags import PetTags

    changes: dict[str, Any] = {}
    if fields.get("task"):
        changes["task"] = fields["task"] if fields["task"] == "auto" else find_task(fields["task"]).name
    if fields.get("series"):
        changes["series"] = fields["series"]
    if fields.get("units"):
        changes["units"] = find_units(fields["units"])
    if fields.get("pet"):
        changes["pet"] = PetTags.parse(fields["pet"])
    if fields.get("options"):
        changes["options"] = replace(config.options, **_options(fields["options"]))
    output = Path(fields["output"]) if fields.get("output") else None
    return Row(manifest.parent / fields["path"], output, replace(config, **changes))


def _options(text: str) -> dict[str, Any]:
    """``axis=axial; scale=2`` as fields of the options."""
    found: dict[str, Any] = {}
    for part in filter(None, (part.strip() for part in text.replace(";", " ").split())):
        key, equals, value = part.partition("=")
        key = key.replace("-", "_")
        if equals and value and key in (*_NUMBERS, *_FACTORS):
            found[key] = _number(part, value, int if key in _NUMBERS else float)
        elif equals and value and key in _WORDS:
            found[key] = value
        elif key in _FLAGS and value.lower() in ("", "true", "yes", "1"):
            name = key.removeprefix("no_")
            found[name] = name == key
        else:
            known = ", ".join(key.replace("_", "-") for key in (*_WORDS, *_NUMBERS, *_FACTORS, *_FLAGS))
            msg = f"options {part!r}: expected KEY=VALUE (of a flag, KEY alone) with a key of {known}"
            raise UsageError(msg)
    return found


def _number(part: str, value: str, kind: type[int | float]) -> float:
    try:
        return kind(value)
    except ValueError:
        msg = f"options {part!r}: expected a {'whole ' if kind is int else ''}number after the ="
        raise UsageError(msg) from None
