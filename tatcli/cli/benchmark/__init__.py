"""``tat benchmark``: one file per subcommand."""

from __future__ import annotations

import typer

from tatcli.cli.benchmark.ablation import ablation
from tatcli.cli.benchmark.quality import quality
from tatcli.cli.benchmark.representation import representation
from tatcli.cli.benchmark.speed import speed
from tatcli.cli.benchmark.training import training
from tatcli.cli.benchmark.volume import volume

__all__ = ["benchmark"]

benchmark = typer.Typer(
    name="benchmark", help="Measure speed, and quality beside other methods.", rich_markup_mode=None
)
benchmark.command()(speed)
benchmark.command()(volume)
benchmark.command()(training)
benchmark.command()(quality)
benchmark.command()(ablation)
benchmark.command()(representation)
