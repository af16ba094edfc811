"""``tat weights list | show | verify | import``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tatcli.cli import console
from tatcli.cli.options import OverwriteOption, completes
from tatcli.errors import WeightsError

__all__ = ["weights"]

weights = typer.Typer(name="weights", help="List, show, verify and import weights.", rich_markup_mode=None)

JsonOption = Annotated[bool, typer.Option("--json", help="As JSON.")]


@weights.command("list")
def list_(json: JsonOption = False) -> None:
    """The installed weights."""
    from tatcli.workflows.weights import installed_weights, weights_json

    found = installed_weights()
    if json:
        from json import dumps

        console.result(dumps([weights_json(path, card) for path, card in found.values()], indent=2))
        return
    rows = [
        (name, ", ".join(card["tasks"]), card.get("license", ""), f"{path.stat().st_size / 2**20:.1f} MiB", str(path))
        for name, (path, card) in found.items()
    ]
    console.table(("name", "tasks", "license", "size", "file"), rows)


@weights.command()
def show(
    name: Annotated[str, typer.Argument(metavar="NAME|PATH", help="Installed weights or a file.")] = "tat-small",
) -> None:
    """The card of some weights, as JSON.

    It tells training data, recipe, metrics and limits.
    """
    from json import dumps

    from tatcli.workflows.weights import show_weights, weights_json

    console.result(dumps(weights_json(*show_weights(name)), indent=2))


@weights.command()
def verify(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME|PATH]...", help="Which.", show_default="all that are installed")
    ] = None,
) -> None:
    """Compare weights with the hash and the config in their cards."""
    from tatcli.workflows.weights import verify_weights

    reports = verify_weights(tuple(names or ()))
    for report in reports:
        if not report.problem:
            console.result(f"{report.name}: ok")
    problems = [report.problem for report in reports if report.problem]
    if problems:
        raise WeightsError("; ".join(problems))


@weights.command("import")
def import_(
    checkpoint: Annotated[
        Path, typer.Argument(metavar="CHECKPOINT", show_default=False, help="A .pt, .pth or .safetensors file.")
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", show_default="CHECKPOINT.safetensors", help="The .safetensors file."
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", show_default="the output's", help="Of the weights.")
    ] = None,
    mri_range: Annotated[
        str,
        typer.Option(
            metavar="paper|robust",
            autocompletion=completes("paper", "robust"),
            help="The range that MR scans were trained in: [0, 4095], or each scan's own.",
        ),
    ] = "paper",
    overwrite: OverwriteOption = False,
) -> None:
    """Turn an official checkpoint into safetensors and a card.

    Its parameters have the official names. Only tensors are read from it: a pickle that needs code to load is refused.
    """
    from tatcli.workflows.weights import ImportConfig, import_weights

    config = ImportConfig(checkpoint=checkpoint, output=output, name=name, mri_range=mri_range, overwrite=overwrite)
    done = import_weights(config)
    console.note(f"{done.output}: {done.card.name}, {done.parameters / 1e6:.2f} M parameters; its card lies beside it")


@weights.command()
def domain(
    name: Annotated[str, typer.Argument(metavar="NAME|PATH", show_default=False, help="Weights; their card changes.")],
    data: Annotated[Path, typer.Option(metavar="ROOT", show_default=False, help="The dataset of the training.")],
    split: Annotated[str, typer.Option(metavar="NAME", help="Of the dataset.")] = "train",
    scans: Annotated[int, typer.Option(metavar="N", help="At most so many of each task.")] = 12,
    slices: Annotated[int, typer.Option(metavar="N", help="Of each scan.")] = 4,
    seed: Annotated[int, typer.Option(metavar="N", help="Of the simulated noise.")] = 0,
) -> None:
    """Note in the card what the training's scans are like.

    That is their noise, pixel size and range: tat restore warns when a scan lies outside.
    """
    from tatcli.workflows.domain import DomainConfig, measure_domain

    config = DomainConfig(weights=name, data=data, split=split, scans=scans, slices=slices, seed=seed)
    with console.stage_bar() as progress:
        path, card = measure_domain(config, progress=progress)
    rows = [
        (task, quantity, f"{low:g}", f"{high:g}")
        for task, known in card.tasks.items()
        for quantity, (low, high) in known.domain.items()
    ]
    console.table(("task", "quantity", "lowest", "highest"), rows)
    for what, reason in card.left_out.items():
        told = "not measured, the card says what it said" if what in card.tasks else "left out"
        console.warn(f"{what}: {told}: {reason}")
    console.note(f"{path}: the card of {card.name}")
