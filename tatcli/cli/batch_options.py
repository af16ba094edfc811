"""Options of ``tat restore`` for many scans."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "ClusterOption",
    "DryRunOption",
    "EventsOption",
    "ExcludeOption",
    "FailFastOption",
    "FailuresOption",
    "ForceOption",
    "IncludeOption",
    "InputsArgument",
    "ListOption",
    "PatternOption",
    "RetriesOption",
    "ShardOption",
    "TimeoutOption",
]

InputsArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="SCAN...",
        show_default=False,
        help="A file, or DICOM: a folder, zip archive or DICOMDIR. Many scans: files, folders (with all below), "
        "patterns, BIDS datasets, a table (.csv, .tsv), - for a list on stdin.",
    ),
]
ListOption = Annotated[
    list[str] | None,
    typer.Option("--list", metavar="FILE|-", show_default=False, help="A file with one path a line; repeatable."),
]
IncludeOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PATTERN",
        show_default="every scan",
        help="What of folders counts: names, or paths within them where there is a slash; repeatable.",
    ),
]
ExcludeOption = Annotated[
    list[str] | None,
    typer.Option(metavar="PATTERN", show_default=False, help="What doesn't, folders included; repeatable."),
]
PatternOption = Annotated[
    str | None,
    typer.Option(
        "--output-pattern",
        metavar="TEXT",
        show_default="{folder}/{name}{ext}",
        help="Names of the outputs below -o: {folder}, {name}, {ext}, {task}.",
    ),
]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Print what would be done, with estimated time and memory.")
]
ForceOption = Annotated[bool, typer.Option("--force", help="Redo what is finished.")]
FailFastOption = Annotated[bool, typer.Option("--fail-fast", help="End at the first scan that fails.")]
RetriesOption = Annotated[
    int | None,
    typer.Option(
        metavar="N", show_default="1", help="How often a scan is tried again after a crash, a hang, a full disk."
    ),
]
TimeoutOption = Annotated[
    float | None,
    typer.Option(
        metavar="SECONDS", show_default="600", help="Without a sign of life for so long, a scan is given up; 0: never."
    ),
]
ShardOption = Annotated[
    str | None,
    typer.Option(metavar="I/N", show_default=False, help="Restore only part I of N, chosen by a hash of the names."),
]
EventsOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE|-", show_default=False, help="Append what happens to a file, one JSON object a line."),
]
FailuresOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE.csv", show_default="failures.csv in -o, else here", help="Where failed scans are listed."
    ),
]
ClusterOption = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS|local:N",
        show_default=False,
        help="Work on a dask.distributed scheduler's workers, or on N worker processes here.",
    ),
]
