"""``tat benchmark``: one file per subcommand."""

from __future__ import annotations

import typer

from tatcli.cli.benchmark.speed import speed
from tatcli.cli.benchmark.volume import volume

__all__ = ["benchmark"]

benchmark = typer.Typer(name="benchmark", help="Measure tat on this machine.", rich_markup_mode=None)
benchmark.command()(speed)
benchmark.command()(volume)
