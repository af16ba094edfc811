"""``tat benchmark volume``."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tatcli.cli import console
from tatcli.cli.benchmark.measuring import JsonOption, measure
from tatcli.cli.options import (
    DeviceOption,
    MaxMemoryOption,
    OverwriteOption,
    PrecisionOption,
    QuietOption,
    ThreadsOption,
    completes,
    parse_list,
    parse_size,
)

if TYPE_CHECKING:
    from tatcli.workflows.benchmark.volume import VolumeReport, VolumeResult

__all__ = ["volume"]


def volume(
    weights: Annotated[
        str, typer.Option(metavar="NAME|PATH", help="Weights, or a preset without any: it gets random ones.")
    ] = "tat-small",
    sizes: Annotated[str, typer.Option(metavar="N,...", help="Sides of square slices, pixels.")] = "256",
    slices: Annotated[str, typer.Option(metavar="N,...", help="Numbers of slices.")] = "100",
    format_: Annotated[
        str,
        typer.Option(
            "--format",
            metavar=".nii|.nii.gz|.nrrd|.mha",
            autocompletion=completes(".nii", ".nii.gz", ".nrrd", ".mha"),
            help="Of the scans.",
        ),
    ] = ".nii.gz",
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    threads: ThreadsOption = None,
    max_memory: MaxMemoryOption = None,
    repeats: Annotated[int, typer.Option(metavar="N", help="How often each scan is restored.")] = 3,
    folder: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", show_default="the system's for temporary files", help="Where the scans are made."
        ),
    ] = None,
    json: JsonOption = None,
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
) -> None:
    """What a whole scan costs, beside its slices alone.

    Reading and writing are included, and the memory it takes is told. Scans are made up, restored in a process of their
    own, and deleted.
    """
    from tatcli.workflows.benchmark.volume import VolumeConfig, benchmark_volume

    config = VolumeConfig(
        weights=weights,
        sizes=parse_list("--sizes", sizes, int),
        slices=parse_list("--slices", slices, int),
        extension=format_,
        device=device,
        precision=precision,
        threads=threads,
        max_memory=parse_size("--max-memory", max_memory),
        repeats=repeats,
        folder=folder,
    )
    measure(
        lambda progress: benchmark_volume(config, progress=progress),
        show=partial(_show, scan=f"{weights}, {format_}"),
        json=json,
        overwrite=overwrite,
        quiet=quiet,
    )


def _show(report: VolumeReport, *, scan: str) -> None:
    machine = report.machine
    columns = (
        "slices", "size", "seconds", "min - max", "per slice", "per Mpixel", "slice alone", "over slices", "over files",
    )  # fmt: skip
    title = f"{scan}; {machine.processor}, {machine.threads} threads, {machine.device}; "
    console.table(columns, map(_row, report.results), title=f"{title}median of {report.repeats}")
    columns = ("slices", "size", "scan", "block", "batch", "tile", "limit", "predicted", "measured (MiB)")
    console.table(columns, map(_memory_row, report.results), title="peak memory")


def _row(result: VolumeResult) -> tuple[str, ...]:
    return (
        str(result.slices),
        f"{result.size}x{result.size}",
        f"{result.seconds:.3g}",
        f"{result.seconds_min:.3g} - {result.seconds_max:.3g}",
        f"{result.seconds_per_slice:.3g}",
        f"{result.seconds_per_megapixel:.3g}",
        f"{result.slice_seconds:.3g}",
        f"{result.over_slices:.3f}",
        f"{result.over_files:.3f}",
    )


def _memory_row(result: VolumeResult) -> tuple[str, ...]:
    memory = result.memory
    sizes = (memory["limit_bytes"], memory["predicted_peak_bytes"], result.peak_rss_bytes)
    return (
        str(result.slices),
        f"{result.size}x{result.size}",
        memory["scan"],
        *("" if memory[key] is None else str(memory[key]) for key in ("block", "batch", "tile")),
        *("" if size is None else f"{size / 2**20:.0f}" for size in sizes),
    )
