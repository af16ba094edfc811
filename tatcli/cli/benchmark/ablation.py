"""``tat benchmark ablation``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tatcli.cli import console
from tatcli.cli.benchmark.measuring import JsonOption, measure
from tatcli.cli.options import (
    DeviceOption,
    OverwriteOption,
    QuietOption,
    SubjectsOption,
    ThreadsOption,
    completes,
    parse_list,
    tasks_option,
)
from tatcli.errors import PartialFailure
from tatcli.training.recipes import RECIPES
from tatcli.training.settings import resolve

if TYPE_CHECKING:
    from tatcli.workflows.benchmark.ablation_report import AblationReport, ArmRow

__all__ = ["ablation"]


def ablation(
    data: Annotated[
        Path | None, typer.Option(metavar="ROOT", show_default=False, help="A dataset, as of tat train --data.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="STUDY", show_default=False, help="Study folder; goes on where it was."),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", show_default=False, help="TOML with any options of tat train.")
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            metavar="|".join(RECIPES),
            show_default="quick",
            autocompletion=completes(*RECIPES),
            help="quick: minutes on a CPU. paper: of the paper.",
        ),
    ] = None,
    arms: Annotated[
        str, typer.Option(metavar="NAME,...", show_default="all", help="tat, static, l1, static-l1, and so on.")
    ] = "",
    seeds: Annotated[str, typer.Option(metavar="N,...", help="Each arm is trained with every one.")] = "0,1",
    tasks: Annotated[str | None, tasks_option("all")] = None,
    preset: Annotated[str | None, typer.Option(metavar="NAME", show_default="the recipe's", help="Size.")] = None,
    steps: Annotated[int | None, typer.Option(metavar="N", show_default="the recipe's", help="Of every arm.")] = None,
    patch: Annotated[str | None, typer.Option(metavar="N,...", show_default="the recipe's", help="Crops.")] = None,
    batch: Annotated[
        str | None, typer.Option(metavar="N,...", show_default="the recipe's", help="Samples of each task.")
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option("--lr", metavar="X", show_default="the recipe's", help="Peak learning rate.")
    ] = None,
    subjects: SubjectsOption = None,
    split: Annotated[str, typer.Option(metavar="NAME", help="That is scored.")] = "val",
    max_slices: Annotated[int, typer.Option(metavar="N", help="Of each scan that are scored; 0: all.")] = 6,
    interference: Annotated[
        int, typer.Option(metavar="N", help="Batches to compare the tasks' gradients on; 0: none.")
    ] = 128,
    cache: Annotated[
        Path | None, typer.Option(metavar="FOLDER", show_default="STUDY/cache", help="Of prepared references.")
    ] = None,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    json: JsonOption = None,
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
) -> None:
    """Train TAT, and TAT less its parts, and compare.

    All on the same data, steps and seeds; a table per task. Arms: tat; static (no adaptive kernels); l1 (no loss
    balancing); static-l1 (neither); uncertainty and psnr (other losses); single (a network for each task). What is
    finished in STUDY isn't trained again.
    """
    from tatcli.inference.runtime import choose_device
    from tatcli.workflows.benchmark.ablation import AblationConfig, ablate

    given = {
        "data": data,
        "output": output,
        "recipe": recipe or (None if config else "quick"),
        "tasks": tasks,
        "preset": preset,
        "steps": steps,
        "patch": patch,
        "batch": batch,
        "learning_rate": learning_rate,
        "subjects": subjects,
        "cache": cache,
        "threads": threads,
        "device": None if config and device == "auto" else device,
    }
    training = resolve({option: value for option, value in given.items() if value is not None}, config)
    study = AblationConfig(
        training=replace(training, device=str(choose_device(training.device))),
        arms=parse_list("--arms", arms, str),
        seeds=parse_list("--seeds", seeds, int),
        split=split,
        max_slices=max_slices,
        interference=interference,
    )
    report = measure(
        lambda progress: ablate(study, progress=progress), show=_show, json=json, overwrite=overwrite, quiet=quiet
    )
    if failed := report.failed:
        told = "; ".join(f"{name}: {reason}" for name, reason in failed.items())
        msg = f"{study.training.output}: {len(failed)} trainings gave no result, so that their arms lack rows ({told})"
        raise PartialFailure(msg)


def _show(report: AblationReport) -> None:
    columns = ("arm", "PSNR", "gain (dB)", "95 % interval", "over seeds", "difference", "SSIM", "RMSE")
    for task in dict.fromkeys(row.task for row in report.rows):
        rows = [row for row in report.rows if row.task == task]
        title = f"{task}: subjects {rows[0].subjects}, seeds {', '.join(map(str, report.seeds))}"
        first = next(iter(report.arms))
        shown = (*columns[:5], f"less {first} (dB)", *columns[6:])
        console.table(shown, [_cells(row) for row in rows], title=title)
    pairs = list(dict.fromkeys(pair for groups in report.cosines.values() for told in groups.values() for pair in told))
    if pairs:
        lines = [
            (arm, group, *(_spread(told[pair]) for pair in pairs))
            for arm, groups in report.cosines.items()
            for group, told in groups.items()
        ]
        console.table(
            ("arm", "parameters", *pairs), lines, title="cosine of the tasks' gradients: below 0 they interfere"
        )


def _spread(values: list[float]) -> str:
    mean = f"{sum(values) / len(values):+.2f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):+.2f} to {max(values):+.2f})"


def _cells(row: ArmRow) -> tuple[str, ...]:
    interval = f"{row.interval.lower:.2f} - {row.interval.upper:.2f}" if row.interval else "-"
    several = row.seeds > 1
    low, high = row.difference_spread
    return (
        row.arm,
        f"{row.psnr:.2f}",
        f"{row.gain:+.2f}",
        interval,
        f"{row.spread[0]:.2f} - {row.spread[1]:.2f}" if several else "-",
        f"{row.difference:+.2f}" + (f" ({low:+.2f} to {high:+.2f})" if several else ""),
        f"{row.ssim:.4f}",
        f"{row.rmse:.3g}",
    )
