"""``tat phantom``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from tatcli.cli import console
from tatcli.cli.options import OverwriteOption, QuietOption

__all__ = ["phantom"]


def phantom(
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", show_default=False, help="Output, such as pet.nii.gz.")
    ],
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Decides the patient, the organs and the lesions.")] = 0,
    region: Annotated[
        Literal["whole-body", "brain"], typer.Option(help="What it shows, from the thighs up or the head alone.")
    ] = "whole-body",
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
) -> None:
    """Make up an FDG PET of a whole body or a brain without noise.

    tat prepare --synthetic-pet and --synthetic-brain add such ones to a training set.
    """
    from tatcli.workflows.phantom import PhantomConfig, make_phantom

    done = make_phantom(PhantomConfig(output=output, seed=seed, region=region, overwrite=overwrite))
    if not quiet:
        slices, rows, columns = done.shape
        console.note(f"{done.output}: {done.step}, {columns} x {rows} x {slices} voxels, SUVbw")
