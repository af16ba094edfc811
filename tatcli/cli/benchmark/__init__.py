"""``tat benchmark``: one file per subcommand."""

from __future__ import annotations

import typer

from tatcli.cli.benchmark.quality import quality
from tatcli.cli.benchmark.speed import speed
from tatcli.cli.benchmark.training import training

__all__ = ["benchmark"]

benchmark = typer.Typer(
    name="benchmark", help="Measure speed on this machine, and quality beside other methods.", rich_markup_mode=None
)
benchmark.command()(speed)
benchmark.command()(training)
benchmark.command()(quality)


@benchmark.callback()
def _start() -> None:
    """Keeps the subcommand's name needed however many there are."""
