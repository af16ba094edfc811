"""``tat benchmark representation``."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tatcli.cli import console
from tatcli.cli.benchmark.measuring import JsonOption, measure
from tatcli.cli.options import (
    DatasetOption,
    DatasetTasksOption,
    DeviceOption,
    OverwriteOption,
    QuietOption,
    ThreadsOption,
    parse_list,
)
from tatcli.errors import PartialFailure

if TYPE_CHECKING:
    from tatcli.workflows.benchmark.representation_report import RepresentationReport

__all__ = ["representation"]


def representation(
    data: DatasetOption,
    picture: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", show_default=False, help="Draw Z's two principal components."),
    ] = None,
    tasks: DatasetTasksOption = None,
    split: Annotated[str, typer.Option(metavar="NAME", help="Of the dataset.")] = "val",
    weights: Annotated[
        str | None, typer.Option(metavar="NAME|PATH", show_default="tat-small", help="TAT's weights.")
    ] = None,
    max_slices: Annotated[int, typer.Option(metavar="N", help="Evenly spaced slices of each scan; 0: all.")] = 6,
    seed: Annotated[int, typer.Option(metavar="N", help="Of the simulated noise.")] = 0,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    json: JsonOption = None,
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
) -> None:
    """What TREN's task representation Z tells apart.

    Tasks, scans, degraded slices from clean ones. The network is told no task. recognised: slices whose nearest task
    mean, taken without their own scan, is their task's. clean shift: how far clean slices lie from degraded ones, in
    units of the task's own spread.
    """
    from tatcli.workflows.benchmark.representation import RepresentationConfig, represent

    config = RepresentationConfig(
        data=data,
        split=split,
        tasks=parse_list("--tasks", tasks or "", str),
        weights=weights,
        max_slices=max_slices,
        seed=seed,
        device=device,
        threads=threads,
        picture=picture,
        overwrite=overwrite,
    )
    report = measure(
        lambda progress: represent(config, progress=progress),
        show=_show,
        json=json,
        overwrite=overwrite,
        quiet=quiet,
        picture=picture,
    )
    for name, reason in report.failures.items():
        console.warn(f"{name}: {reason}")
    if report.failures:
        msg = f"{len(report.failures)} of {len(report.failures) + report.scans} scans could not be used"
        raise PartialFailure(msg)


def _show(report: RepresentationReport) -> None:
    rows = [
        (
            row.task,
            str(row.scans),
            str(row.slices),
            f"{row.recognised:.0%}",
            _number(row.silhouette),
            f"{row.spread:.3g}",
            _number(row.clean_shift),
        )
        for row in report.rows
    ]
    title = (
        f"{report.weights['name']}: Z of {report.size} numbers; {report.between:.0%} of its variance lies between tasks"
    )
    console.table(("task", "scans", "slices", "recognised", "silhouette", "spread", "clean shift"), rows, title=title)
    if report.picture:
        console.result(report.picture)


def _number(value: float) -> str:
    """Nothing where a single task, or a single slice, has no such number."""
    return f"{value:.2f}" if math.isfinite(value) else ""
