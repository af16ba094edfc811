"""``MANIFEST.tsv``: every scan that was found, what became of it and why."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from tatcli.training.prepared_set import Entry
from tatcli.volumes.replacing import replaced
from tatcli.workflows.spreadsheets import as_text

__all__ = ["COLUMNS", "MANIFEST", "write_manifest"]

MANIFEST: Final = "MANIFEST.tsv"
COLUMNS: Final = (
    "file", "subject", "task", "split", "status", "reason", "slices", "noise", "averaged", "units", "shape", "spacing",
    "frames", "source", "terms", "sha256",
)  # fmt: skip
"""``shape`` and ``spacing`` (mm) are of the reference, (slices, rows, columns); ``slices`` are those in the set;
``noise`` is a CT reference's, HU; ``averaged``: how many acquired slices each of its slices is the mean of;
of several ``frames`` the first is taken."""


def write_manifest(path: Path, entries: Iterable[Entry]) -> None:
    """Write the table, whole or not at all; by file."""
    with (
        replaced(path, extension=path.suffix) as temporary,
        temporary.open("w", encoding="utf-8", errors="surrogateescape", newline="") as out,
    ):
        table = csv.writer(out, delimiter="\t", lineterminator="\n")
        table.writerow(COLUMNS)
        for entry in sorted(entries, key=lambda one: (str(one.source.get("file", "")), one.key)):
            table.writerow([_cell(_row(entry).get(column, "")) for column in COLUMNS])


def _row(entry: Entry) -> dict[str, Any]:
    made = entry.rejected is None
    return entry.source | {
        "subject": entry.subject,
        "task": entry.task,
        "split": entry.split,
        "status": "used" if made else "rejected",
        "reason": entry.rejected or "",
        "slices": entry.shapes["hq"][0] if made else "",
        "noise": entry.facts.get("noise") or "",
    }


def _cell(value: object) -> str:
    """One line without tabs."""
    return str(as_text(" ".join(str(value).split())))
