"""What the benchmark commands share: a bar while they measure, and ``--json``, checked before the work begins."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from tatcli.cli import console

__all__ = ["JsonOption", "measure"]

JsonOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE|-", show_default=False, help="Everything as JSON; -: to stdout, instead of the tables."),
]
Progress = Callable[[str, int, int], None]
Measured = TypeVar("Measured", bound=console.Report)


def measure(
    benchmark: Callable[[Progress], Measured],
    *,
    show: Callable[[Measured], None],
    json: Path | None,
    overwrite: bool,
    quiet: bool,
    picture: Path | None = None,
) -> Measured:
    """Run a benchmark, show its report, and write it where that was asked for.

    Args:
        benchmark: gets what to tell of (what is being done, done, total).
        show: its tables.
        json: of the report; ``-``: stdout, where the tables then don't go.
        overwrite: whether an existing one may be replaced.
        quiet: no bar.
        picture: what the benchmark draws, which needs a file of its own.

    Returns:
        The report.

    Raises:
        OutputError: the report exists, or can't be written.
    """
    from tatcli.workflows.output_checks import check_results

    on_stdout = console.is_stdout(json)
    check_results(filter(None, (None if on_stdout else json, picture)), overwrite=overwrite)
    with console.stage_bar(quiet=quiet) as progress:
        report = benchmark(progress)
    console.give_json(report, json)
    if not on_stdout:
        show(report)
    return report
