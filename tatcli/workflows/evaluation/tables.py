"""An evaluation as CSV: one file of slices, volumes, tasks, paired tests, and hot regions."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tatcli.errors import OutputError
from tatcli.metrics import PHYSICAL_QUANTITIES, QUANTITIES
from tatcli.volumes.replacing import checked_output, replaced
from tatcli.workflows.spreadsheets import as_text

if TYPE_CHECKING:
    from tatcli.workflows.evaluation.report import EvaluateReport

__all__ = ["CSV_NAMES", "check_csv_folder", "write_csv"]

CSV_NAMES: Final = ("slices.csv", "volumes.csv", "tasks.csv", "tests.csv", "regions.csv")
"""What :func:`write_csv` makes; the last two only where methods are paired and where a PET has hot regions."""


def check_csv_folder(folder: Path, *, overwrite: bool, others: Iterable[Path] = ()) -> None:
    """Refuse a folder before the work.

    Args:
        folder: of the tables.
        overwrite: whether tables in it may be replaced.
        others: files of other results.

    Raises:
        OutputError: it is a file, holds tables already (unless ``overwrite``), can't be written to, or another result
            has its name or a table's.
    """
    taken = {path.resolve() for path in (folder, *(folder / name for name in CSV_NAMES))}
    for path in others:
        if path.resolve() in taken:
            msg = f"{path}: expected a file of its own for each result, got a name that is used twice; choose another"
            raise OutputError(msg)
    if folder.exists() and not folder.is_dir():
        msg = f"{folder}: expected a folder for the CSV tables, got a file; choose another name"
        raise OutputError(msg)
    if not folder.exists() and not folder.parent.is_dir():
        msg = f"{folder}: expected an existing folder {folder.parent}, got none; create it first"
        raise OutputError(msg)
    for name in CSV_NAMES:
        checked_output(folder / name, source=None, overwrite=overwrite, makes_folders=True)


def write_csv(report: EvaluateReport, folder: Path) -> list[Path]:
    """Write the tables, each whole or not at all; the protocol stands in every row. Of an empty one no former is left.

    Raises:
        OutputError: the system refuses to write.
    """
    folder.mkdir(exist_ok=True)
    rows = {
        "slices.csv": _slices(report),
        "volumes.csv": _volumes(report),
        "tasks.csv": _tasks(report),
        "tests.csv": _tests(report),
        "regions.csv": _regions(report),
    }
    return [folder / name for name, table in rows.items() if _write(folder / name, list(table))]


def _write(path: Path, rows: list[dict[str, Any]]) -> bool:
    if not rows:
        path.unlink(missing_ok=True)
        return False
    with (
        replaced(path, extension=".csv") as temporary,
        temporary.open("w", newline="", encoding="utf-8", errors="surrogateescape") as stream,  # names as on the disk
    ):
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows({name: as_text(cell) for name, cell in row.items()} for row in rows)
    return True


def _slices(report: EvaluateReport) -> Iterator[dict[str, Any]]:
    for task in report.tasks:
        for scan in task.scans:
            for method, scores in scan.methods.items():
                key = _key(report, task.task) | {"scan": scan.name, "subject": scan.subject or scan.name}
                for score in scores.slices:
                    yield key | {"method": method, "slice": score.index} | _numbers(score.to_dict(), leave=("index",))


def _volumes(report: EvaluateReport) -> Iterator[dict[str, Any]]:
    for task in report.tasks:
        for scan in task.scans:
            for method, scores in scan.methods.items():
                key = _key(report, task.task) | {"scan": scan.name, "subject": scan.subject or scan.name}
                mean = scores.mean.to_dict() if scores.mean else dict.fromkeys(QUANTITIES)
                counts = {"slices": len(scores.slices), "skipped": scores.skipped}
                beyond = scan.physical[method].quantities() if method in scan.physical else _nothing()
                yield key | {"method": method} | counts | _numbers(mean) | _numbers(beyond)


def _tasks(report: EvaluateReport) -> Iterator[dict[str, Any]]:
    for task in report.tasks:
        for row in task.methods:
            fields = _key(report, task.task) | {"units": task.units, "strength": _cell(task.strength)}
            fields |= {"method": row.method, "kind": row.kind, "parameter": row.parameter, "subjects": row.subjects}
            for name, value in row.score.to_dict().items():
                interval = row.intervals.get(name)
                fields[name] = _cell(value)
                fields[f"{name}_lower"] = _cell(interval and interval.lower)
                fields[f"{name}_upper"] = _cell(interval and interval.upper)
            fields["gain"] = _cell(row.gain)
            fields |= _numbers(row.physical or _nothing())
            fields["seconds_per_slice"] = _cell(row.cost and row.cost.seconds)
            fields["peak_bytes"] = _cell(row.cost and row.cost.peak_bytes)
            yield fields


def _tests(report: EvaluateReport) -> Iterator[dict[str, Any]]:
    for task in report.tasks:
        for test in task.tests:
            yield _key(report, task.task) | _numbers(test.to_dict())


def _regions(report: EvaluateReport) -> Iterator[dict[str, Any]]:
    for task in report.tasks:
        for scan in task.scans:
            for method, scores in scan.physical.items():
                for region in scores.regions:
                    yield _key(report, task.task) | {"scan": scan.name, "method": method} | _numbers(region.to_dict())


def _key(report: EvaluateReport, task: str) -> dict[str, Any]:
    return {"task": task, "protocol": report.protocol}


def _nothing() -> dict[str, None]:
    return dict.fromkeys(PHYSICAL_QUANTITIES)


def _numbers(fields: Mapping[str, Any], leave: Iterable[str] = ()) -> dict[str, Any]:
    return {name: _cell(value) for name, value in fields.items() if name not in leave}


def _cell(value: Any) -> Any:
    """None as an empty cell; floats in full."""
    return "" if value is None else value
