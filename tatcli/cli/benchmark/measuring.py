"""What the benchmark commands share: a bar while they measure, and ``--json FILE``, checked before the work begins."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Protocol, TypeVar

import typer

from tatcli.cli import console

__all__ = ["JsonOption", "measured"]

JsonOption = Annotated[Path | None, typer.Option(metavar="FILE", show_default=False, help="Write everything as JSON.")]
Progress = Callable[[str, int, int], None]


class Report(Protocol):
    """What a benchmark gives."""

    def to_json(self) -> str:
        """All of it."""


Measured = TypeVar("Measured", bound=Report)


def measured(benchmark: Callable[[Progress], Measured], *, json: Path | None, overwrite: bool, quiet: bool) -> Measured:
    """Run a benchmark, and write its report where one was asked for.

    Args:
        benchmark: gets what to tell of (what is being done, done, total).
        json: of the report.
        overwrite: whether an existing one may be replaced.
        quiet: no bar.

    Raises:
        OutputError: the report exists, or can't be written.
    """
    from tatcli.workflows.output_checks import check_results

    check_results(() if json is None else (json,), overwrite=overwrite)
    with console.stage_bar(quiet=quiet) as progress:
        report = benchmark(progress)
    if json is not None:
        from tatcli.reporting.run_report import write_json

        write_json(report.to_json(), json)
    return report
