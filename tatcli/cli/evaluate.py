"""``tat evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tatcli.cli import console
from tatcli.cli.options import (
    DeviceOption,
    OverwriteOption,
    PrecisionOption,
    QuietOption,
    ThreadsOption,
    completes,
    parse_list,
)
from tatcli.errors import PartialFailure, UsageError
from tatcli.tasks import TASKS

if TYPE_CHECKING:
    from tatcli.workflows.evaluation.report import MethodSummary, TaskReport

__all__ = ["evaluate"]


def evaluate(
    restored: Annotated[
        Path | None,
        typer.Argument(metavar="RESTORED", show_default=False, help="A restored scan, or a folder of them."),
    ] = None,
    beside: Annotated[
        Path | None, typer.Argument(metavar="REFERENCE", show_default=False, help="The same as --reference.")
    ] = None,
    reference: Annotated[
        Path | None, typer.Option(metavar="PATH", show_default=False, help="The HQ scan, or a folder with equal names.")
    ] = None,
    input_: Annotated[
        Path | None,
        typer.Option("--input", metavar="PATH", show_default=False, help="The LQ scan or folder, scored too."),
    ] = None,
    tasks: Annotated[
        str | None,
        typer.Option(
            "--task",
            "--tasks",
            metavar="NAME,...",
            show_default="by the files",
            autocompletion=completes(*TASKS),
            help="Tasks.",
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(metavar="ROOT", show_default=False, help="A dataset: degrade, restore and score its scans."),
    ] = None,
    split: Annotated[str, typer.Option(metavar="NAME", help="Of the dataset, to score.")] = "val",
    tune_split: Annotated[
        str, typer.Option(metavar="NAME", help="Of the dataset, to tune the baselines on.")
    ] = "train",
    weights: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|PATH|none", show_default="tat-small", help="What restores; none: the baselines alone."
        ),
    ] = None,
    strength: Annotated[
        float | None, typer.Option(metavar="X", show_default="0.25, 12, 4", help="Of the simulated degradation.")
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Of the simulated noise.")] = 0,
    baselines: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,...|none", show_default="those that suit the task", help="Classical filters beside it."
        ),
    ] = None,
    protocol: Annotated[
        str,
        typer.Option(
            metavar="paper|fixed|volume",
            autocompletion=completes("paper", "fixed", "volume"),
            help="Data range and average.",
        ),
    ] = "paper",
    max_slices: Annotated[
        int | None, typer.Option(metavar="N", show_default="all", help="Evenly spaced slices of each scan.")
    ] = None,
    tune_slices: Annotated[int, typer.Option(metavar="N", help="Slices to tune the baselines on.")] = 12,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    threads: ThreadsOption = None,
    json: Annotated[bool, typer.Option("--json", help="Everything as JSON.")] = False,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE", show_default=False, help="Write everything as JSON.")
    ] = None,
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
) -> None:
    """Score restored scans, or a network on a dataset.

    Either RESTORED with --reference, or --data: then the scans are degraded and restored first, and classical filters,
    tuned on the training split, are scored beside the network.
    """
    from tatcli.volumes.replacing import checked_output
    from tatcli.workflows.evaluate import EvaluateConfig
    from tatcli.workflows.evaluate import evaluate as run

    if beside is not None and reference is not None:
        msg = "evaluate: expected one reference, got two; leave --reference out"
        raise UsageError(msg)
    config = EvaluateConfig(
        restored=restored,
        reference=reference or beside,
        input=input_,
        data=data,
        split=split,
        tune_split=tune_split,
        tasks=parse_list("--tasks", tasks or "", str),
        weights=weights,
        strength=strength,
        seed=seed,
        baselines=None if baselines is None else parse_list("--baselines", baselines.removeprefix("none"), str),
        protocol=protocol,
        max_slices=max_slices,
        tune_slices=tune_slices,
        device=device,
        precision=precision,
        threads=threads,
    )
    if report is not None:
        checked_output(report, source=None, overwrite=overwrite)
    with console.stage_bar(quiet=quiet) as progress:
        found = run(config, progress=progress)
    if report is not None:
        from tatcli.reporting.run_report import write_json

        write_json(found.to_json(), report)
    if json:
        console.result(found.to_json().rstrip())
    else:
        for task in found.tasks:
            columns = (
                "method",
                "PSNR (dB)",
                "gain",
                "SSIM",
                f"RMSE ({task.units})",
                f"MAE ({task.units})",
                "parameter",
            )
            console.table(columns, map(_row, task.methods), title=_title(task, found.protocol))
    for name, reason in found.failures.items():
        console.warn(f"{name}: {reason}")
    if found.failures:
        scans = sum(len(task.scans) + len(task.failures) for task in found.tasks)
        msg = f"{len(found.failures)} of {scans} scans could not be evaluated"
        raise PartialFailure(msg)


def _title(task: TaskReport, protocol: str) -> str:
    strength = "" if task.strength is None else f", {task.strength_name} {task.strength:g}"
    scans = f"{len(task.scans)} scan{'' if len(task.scans) == 1 else 's'}"
    return f"{task.task}{strength}: {scans}, protocol {protocol}"


def _row(method: MethodSummary) -> tuple[str, ...]:
    score = method.score
    gain = "" if method.gain is None else f"{method.gain:+.2f}"
    numbers = (f"{score.psnr:.2f}", gain, f"{score.ssim:.4f}", f"{score.rmse:.4g}", f"{score.mae:.4g}")
    return (method.method, *numbers, method.parameter)
