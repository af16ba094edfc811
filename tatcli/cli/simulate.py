"""``tat simulate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tatcli.cli import console
from tatcli.cli.options import (
    AxisOption,
    InputArgument,
    OverwriteOption,
    PetOption,
    QuietOption,
    SeriesOption,
    TaskOption,
    UnitsOption,
    parse_pet,
    parse_units,
)

__all__ = ["simulate"]


def simulate(
    scan: InputArgument,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", show_default=False, help="Output.")],
    task: TaskOption = "auto",
    strength: Annotated[
        float | None,
        typer.Option(
            metavar="X",
            show_default="0.25, 12, 4",
            help="Dose fraction (CT), dose reduction factor (PET) or k-space factor (MRI).",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Of the noise.")] = 0,
    axis: AxisOption = "auto",
    reference_noise: Annotated[
        float | None,
        typer.Option(
            metavar="X",
            show_default="measured",
            help="The scan's own noise in uniform tissue: HU (CT), coefficient of variation (PET).",
        ),
    ] = None,
    kernel: Annotated[
        str, typer.Option(metavar="NAME", help="CT reconstruction kernel. auto: like the scan's own noise.")
    ] = "auto",
    slice_correlation: Annotated[
        float | None,
        typer.Option(
            metavar="X", show_default="measured", help="Of the noise of neighbouring CT slices; 0: each has its own."
        ),
    ] = None,
    series: SeriesOption = None,
    units: UnitsOption = None,
    pet: PetOption = None,
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
) -> None:
    """Degrade a scan: less dose, fewer counts, less k-space."""
    from tatcli.workflows.simulate import SimulateConfig, simulate_scan

    done = simulate_scan(
        SimulateConfig(
            input=scan,
            output=output,
            task=task,
            strength=strength,
            seed=seed,
            axis=axis,
            reference_noise=reference_noise,
            kernel=kernel,
            slice_correlation=slice_correlation,
            series=series,
            units=parse_units(units),
            pet=parse_pet(pet),
            overwrite=overwrite,
        )
    )
    if quiet:
        return
    for warning in done.warnings:
        console.warn(f"{scan.name}: {warning}")
    console.note(f"{done.output}: {done.step}")
