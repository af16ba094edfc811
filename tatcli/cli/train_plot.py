"""``tat train plot``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tatcli.cli import console
from tatcli.cli.options import OverwriteOption

__all__ = ["plot"]


def plot(
    run: Annotated[Path, typer.Argument(metavar="RUN", show_default=False, help="A run folder of tat train.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", show_default="RUN/curves.png", help="A PNG."),
    ] = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Draw a run's curves as PNG.

    Errors, decibels gained on validation scans, sigma, and the learning rate.
    """
    from tatcli.workflows.training.curves import plot_run

    console.result(str(plot_run(run, output, overwrite=overwrite)))
