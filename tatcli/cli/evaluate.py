"""``tat evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tatcli.cli import console
from tatcli.cli.options import (
    ConsistencyOption,
    DeviceOption,
    EnsembleOption,
    OverwriteOption,
    PlanesOption,
    PrecisionOption,
    QuietOption,
    SubjectsOption,
    ThreadsOption,
    UnitsOption,
    completes,
    parse_list,
    parse_methods,
    parse_units,
    tasks_option,
)
from tatcli.cli.scores import DEFAULT_SLICES, EvaluationOutputs, end_with_failures, pictured_slices, show_task
from tatcli.errors import UsageError

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
    tasks: Annotated[str | None, tasks_option("by the files")] = None,
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
            metavar="NAME,...|all|none", show_default="those that suit the task", help="Classical filters beside it."
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
        int | None, typer.Option(metavar="N", show_default="all", help="Evenly spaced slices of each scan; 0: all.")
    ] = None,
    tune_slices: Annotated[int, typer.Option(metavar="N", help="Slices to tune the baselines on.")] = 12,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    threads: ThreadsOption = None,
    ensemble: EnsembleOption = False,
    planes: PlanesOption = None,
    data_consistency: ConsistencyOption = None,
    compare: Annotated[
        Path | None,
        typer.Option(metavar="PATH", show_default=False, help="Another method's scan or folder: scored, and tested."),
    ] = None,
    mask: Annotated[
        Path | None,
        typer.Option(metavar="PATH", show_default=False, help="Only its voxels count; a folder: by equal names."),
    ] = None,
    units: UnitsOption = None,
    subjects: SubjectsOption = None,
    json: Annotated[
        Path | None,
        typer.Option("--json", "--report", metavar="FILE|-", show_default=False, help="Everything as JSON; -: stdout."),
    ] = None,
    csv: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", show_default=False, help="Tables of slices, volumes, tasks and tests."),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(metavar="FILE", show_default=False, help="A self-contained page: tables, plots, pictures."),
    ] = None,
    html_slices: Annotated[
        int, typer.Option(metavar="N", help="Slices of each scan that the page shows.")
    ] = DEFAULT_SLICES,
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
) -> None:
    """Score restored scans, or a network on a dataset.

    Either RESTORED with --reference, or --data: then the scans are degraded and restored first, and classical filters,
    tuned on the training split, are scored beside the network.
    """
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
        baselines=None if baselines is None else parse_methods("--baselines", baselines),
        protocol=protocol,
        max_slices=max_slices or None,
        tune_slices=tune_slices,
        device=device,
        precision=precision,
        threads=threads,
        ensemble=ensemble,
        planes=planes,
        data_consistency=data_consistency,
        compare=compare,
        mask=mask,
        units=parse_units(units),
        subjects=subjects,
        pictures=pictured_slices(html_slices, html),
    )
    outputs = EvaluationOutputs(json=json, csv=csv, html=html)
    outputs.check(sources=(restored, config.reference, input_, compare, mask), overwrite=overwrite)
    with console.stage_bar(quiet=quiet) as progress:
        found = run(config, progress=progress)
    outputs.write(found, title="tat evaluate")
    if not outputs.on_stdout:
        for task in found.tasks:
            show_task(task, found.protocol)
    end_with_failures(found)
