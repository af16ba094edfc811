"""A participant's body weight, where BIDS keeps it.

Source: Brain Imaging Data Structure 1.11, "Positron emission tomography: Recommended patient data": the column
``body_weight`` of the participants file, or of the sessions file where it was measured more than once. The unit is in
the JSON file of the table (``Units``). Converters from DICOM leave PatientWeight (0010,1030), in kg, in the sidecar.
"""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from tatcli.errors import UnitsError, VolumeReadError
from tatcli.volumes.bids_sidecar import ImageMetadata, entities_of, last_change, read_metadata
from tatcli.volumes.suv import PLAUSIBLE_WEIGHT

__all__ = ["BodyWeight", "body_weight"]

_COLUMNS: Final = ("body_weight", "bodyweight", "weight")
_KILOGRAMS: Final = {
    "kg": 1.0, "kilogram": 1.0, "kilograms": 1.0, "g": 1e-3, "gram": 1e-3, "grams": 1e-3,
    "lb": 0.45359237, "lbs": 0.45359237, "pound": 0.45359237, "pounds": 0.45359237,
}  # fmt: skip
_AGREE: Final = 0.02


@dataclass(frozen=True)
class BodyWeight:
    """A body weight.

    Attributes:
        kilograms: of the participant.
        source: the file that says it.
    """

    kilograms: float
    source: str


def body_weight(metadata: ImageMetadata) -> BodyWeight | None:
    """The weight of the participant on an image; None where no file says it.

    Args:
        metadata: of the image.

    Raises:
        UnitsError: a weight without unit, an impossible one, or several that contradict each other.
        VolumeReadError: a table that can't be read.
    """
    in_table = _session_weight(metadata) or _participant_weight(metadata)
    in_sidecar = _sidecar_weight(metadata)
    if in_table is not None and in_sidecar is not None:
        one, other = in_table.kilograms, in_sidecar.kilograms
        if not math.isclose(one, other, rel_tol=_AGREE):
            msg = (
                f"{metadata.image.name}: expected one body weight, got {one:g} kg in {in_table.source} and {other:g} kg"
                f" as PatientWeight in {in_sidecar.source}; say which with --pet weight=KG"
            )
            raise UnitsError(msg)
    return in_table or in_sidecar


def _sidecar_weight(metadata: ImageMetadata) -> BodyWeight | None:
    value = metadata.fields.get("PatientWeight")
    if value is None or _is_absent(str(value)):
        return None
    return _checked(str(value), "kg", f"{metadata.name}: PatientWeight", metadata.name)


def _participant_weight(metadata: ImageMetadata) -> BodyWeight | None:
    subject = _entity(metadata.image, "sub")
    if metadata.dataset is None or subject is None:
        return None
    table = metadata.dataset / "participants.tsv"
    return _weight_in(table, ("participant_id", subject), [table.with_suffix(".json")])


def _session_weight(metadata: ImageMetadata) -> BodyWeight | None:
    subject, session = _entity(metadata.image, "sub"), _entity(metadata.image, "ses")
    if metadata.dataset is None or subject is None or session is None:
        return None
    table = metadata.dataset / subject / f"{subject}_sessions.tsv"
    descriptions = [metadata.dataset / "sessions.json", table.with_suffix(".json")]
    return _weight_in(table, ("session_id", session), descriptions)


def _entity(image: Path, key: str) -> str | None:
    return next((word for word in sorted(entities_of(image)) if word.startswith(f"{key}-")), None)


def _weight_in(table: Path, row: tuple[str, str], descriptions: list[Path]) -> BodyWeight | None:
    """The weight in one row of a table.

    Args:
        table: may be missing.
        row: (column, value) that choose it.
        descriptions: JSON files that say what the columns are, the weaker first.
    """
    if not table.is_file():
        return None
    found = {
        (column, text)
        for entry in _rows(table, row[0]).get(row[1], ())
        for column, text in entry.items()
        if column.lower() in _COLUMNS and not _is_absent(text)
    }
    if not found:
        return None
    columns: dict[str, Any] = {}
    for file in descriptions:
        if file.is_file():
            columns |= read_metadata(file)
    weights = {}
    for column, text in found:
        told = columns.get(column)
        unit = told.get("Units") if isinstance(told, dict) else None
        what = f"{table.name}: {column} of {row[1]}"
        if unit is None or _is_absent(str(unit)):
            entry = f'"{column}": {{"Units": "kg"}}'
            msg = f"{what}: expected its unit in {descriptions[-1].name} ({entry}), got none; add it"
            raise UnitsError(msg + ", or say --pet weight=KG")
        weights[_checked(text, str(unit), what, table.name).kilograms] = column
    if len(weights) > 1:
        got = " and ".join(f"{weight:g} kg" for weight in sorted(weights))
        msg = f"{table.name}: expected one body weight of {row[1]}, got {got}; say which with --pet weight=KG"
        raise UnitsError(msg)
    return BodyWeight(next(iter(weights)), table.name)


def _rows(table: Path, key: str) -> dict[str, list[dict[str, str]]]:
    """The rows of a table by their values in a column."""
    changed = last_change(table)
    return _read.__wrapped__(table, key, 0) if changed is None else _read(table, key, changed)


@lru_cache(maxsize=4)
def _read(table: Path, key: str, _: int) -> dict[str, list[dict[str, str]]]:
    try:
        with table.open(encoding="utf-8-sig", newline="") as stream:
            rows = list(csv.DictReader(stream, delimiter="\t", restval="", restkey=""))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        msg = f"{table.name}: expected a table (tab-separated, UTF-8), got {error}; correct it"
        raise VolumeReadError(msg) from error
    found: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        plain = {(name or "").strip(): str(text or "").strip() for name, text in row.items()}
        if key in plain:
            found.setdefault(plain[key], []).append(plain)
    return found


def _checked(text: str, unit: str, what: str, source: str) -> BodyWeight:
    factor = _KILOGRAMS.get(unit.strip().lower())
    if factor is None:
        msg = f"{what}: expected kg, g or lb as unit, got {unit!r}; correct it, or say --pet weight=KG"
        raise UnitsError(msg)
    try:
        weight = float(text) * factor
    except ValueError:
        weight = math.nan
    if not PLAUSIBLE_WEIGHT[0] <= weight <= PLAUSIBLE_WEIGHT[1]:
        msg = f"{what}: expected a body weight, got {text} {unit}; correct it, or say --pet weight=KG"
        raise UnitsError(msg)
    return BodyWeight(weight, source)


def _is_absent(text: str) -> bool:
    return text.strip().lower() in ("", "n/a", "na", "nan", "none")
