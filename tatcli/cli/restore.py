"""``tat restore``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tatcli.cli import console
from tatcli.cli.options import (
    AxisOption,
    DeviceOption,
    InputArgument,
    OverwriteOption,
    PetOption,
    PrecisionOption,
    QuietOption,
    SeriesOption,
    TaskOption,
    ThreadsOption,
    UnitsOption,
    VerboseOption,
    completes,
    parse_pet,
    parse_units,
)
from tatcli.tasks import TASKS

__all__ = ["restore"]


def restore(
    input_: InputArgument,
    task: TaskOption = "auto",
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", show_default="<name>_restored.<ext> beside the input", help="Output."
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(metavar="NAME|PATH", show_default="tat-small", help="Weights: see tat weights list."),
    ] = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    mode: Annotated[
        str,
        typer.Option(
            metavar="slice|patch",
            autocompletion=completes("slice", "patch"),
            help="Whole slices, or overlapping tiles of them, which take less memory.",
        ),
    ] = "slice",
    tile: Annotated[
        int | None, typer.Option(metavar="N", show_default="256", help="Side of the tiles, pixels (patch mode).")
    ] = None,
    overlap: Annotated[
        int | None,
        typer.Option(metavar="N", show_default="tile / 4", help="Overlap of the tiles, pixels (patch mode)."),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(metavar="N", show_default="1 on a CPU, more on a GPU", help="Slices at a time."),
    ] = None,
    axis: AxisOption = "auto",
    scale: Annotated[
        int, typer.Option(metavar="N", help="mri-sr: first zero-fill k-space to N times the in-plane matrix.")
    ] = 1,
    threads: ThreadsOption = None,
    series: SeriesOption = None,
    units: UnitsOption = None,
    pet: PetOption = None,
    ignore_modality: Annotated[
        bool, typer.Option("--ignore-modality", help="Take a scan whose header names another modality than the task's.")
    ] = False,
    overwrite: OverwriteOption = False,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a JSON report of the run.", show_default=False)
    ] = None,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Restore a scan. Not for diagnosis.

    The output keeps the scan's grid, units and voxel type. It appears under its name only when it is complete.
    """
    from tatcli.inference.options import RestoreOptions
    from tatcli.workflows.restore import RestoreConfig
    from tatcli.workflows.restore import restore as run

    config = RestoreConfig(
        input=input_,
        task=task,
        output=output,
        weights=weights,
        device=device,
        precision=precision,
        threads=threads,
        options=RestoreOptions(
            mode=mode,
            tile=tile,
            overlap=overlap,
            batch=batch,
            axis=axis,
            scale=scale,
            ignore_modality=ignore_modality,
        ),
        series=series,
        units=parse_units(units),
        pet=parse_pet(pet),
        overwrite=overwrite,
        report=report,
    )
    with console.progress_bar(input_.name, unit="slice", quiet=quiet) as progress:
        done = run(config, progress=progress)
    if quiet:
        return
    for warning in done.warnings:
        console.warn(f"{input_.name}: {warning}")
    console.note(f"{done.output.path}: {done.task} with {done.weights['name']} in {done.seconds['total']:.1f} s")
    if verbose:
        stages = ", ".join(f"{stage} {seconds:.2f} s" for stage, seconds in done.seconds.items())
        console.note(f"{done.device}, {done.precision}, {done.threads} threads; {stages}")
        if done.peak_rss_bytes is not None:
            console.note(f"peak memory {done.peak_rss_bytes / 2**20:.0f} MiB")
        if done.change is not None:
            units = TASKS[done.task].units
            console.note(f"change {done.change.rms:.4g} {units} (rms), largest {done.change.largest:.4g} {units}")
