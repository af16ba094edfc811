"""``tat benchmark quality``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tatcli.cli import console
from tatcli.cli.options import (
    ConsistencyOption,
    DatasetOption,
    DatasetTasksOption,
    DeviceOption,
    EnsembleOption,
    OverwriteOption,
    PlanesOption,
    PrecisionOption,
    QuietOption,
    SubjectsOption,
    ThreadsOption,
    completes,
    parse_list,
    parse_methods,
)
from tatcli.cli.scores import DEFAULT_SLICES, EvaluationOutputs, end_with_failures, pictured_slices, show_task
from tatcli.errors import UsageError

__all__ = ["quality"]


def quality(
    data: DatasetOption,
    tasks: DatasetTasksOption = None,
    split: Annotated[str, typer.Option(metavar="NAME", help="Of the dataset, to score.")] = "val",
    tune_split: Annotated[
        str, typer.Option(metavar="NAME", help="Of the dataset, to tune the classical methods on.")
    ] = "train",
    weights: Annotated[
        str | None, typer.Option(metavar="NAME|PATH|none", show_default="tat-small", help="TAT's weights.")
    ] = None,
    networks: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=WEIGHTS",
            show_default=False,
            help="A trained comparison network: static-tat, unet, red-cnn, edsr, routed, or tat; may be repeated.",
        ),
    ] = None,
    methods: Annotated[
        str,
        typer.Option(metavar="NAME,...|all|none", help="Classical methods; all: those of the task that are installed."),
    ] = "all",
    strength: Annotated[
        float | None, typer.Option(metavar="X", show_default="0.25, 12, 4", help="Of the simulated degradation.")
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Of the simulated noise.")] = 0,
    protocol: Annotated[
        str,
        typer.Option(
            metavar="paper|fixed|volume",
            autocompletion=completes("paper", "fixed", "volume"),
            help="Data range and average.",
        ),
    ] = "paper",
    max_slices: Annotated[int, typer.Option(metavar="N", help="Evenly spaced slices of each scan; 0: all.")] = 6,
    tune_slices: Annotated[int, typer.Option(metavar="N", help="Slices to tune the classical methods on.")] = 12,
    subjects: SubjectsOption = None,
    ensemble: EnsembleOption = False,
    planes: PlanesOption = None,
    data_consistency: ConsistencyOption = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    threads: ThreadsOption = None,
    json: Annotated[
        Path | None, typer.Option(metavar="FILE|-", show_default=False, help="Everything as JSON; -: stdout.")
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
    """Compare methods on the same scans.

    The input, classical filters, comparison networks, TAT. Classical methods are tuned on the tuning split first. The
    table has quality with intervals over subjects, time for a slice, and by how much memory grew.
    """
    from tatcli.workflows.evaluate import EvaluateConfig, evaluate

    config = EvaluateConfig(
        data=data,
        split=split,
        tune_split=tune_split,
        tasks=parse_list("--tasks", tasks or "", str),
        weights=weights,
        networks=tuple(map(_network, networks or ())),
        strength=strength,
        seed=seed,
        baselines=parse_methods("--methods", methods),
        protocol=protocol,
        max_slices=max_slices or None,
        tune_slices=tune_slices,
        device=device,
        precision=precision,
        threads=threads,
        ensemble=ensemble,
        planes=planes,
        data_consistency=data_consistency,
        subjects=subjects,
        pictures=pictured_slices(html_slices, html),
        costs=True,
    )
    outputs = EvaluationOutputs(json=json, csv=csv, html=html)
    outputs.check(overwrite=overwrite)
    with console.stage_bar(quiet=quiet) as progress:
        found = evaluate(config, progress=progress)
    outputs.write(found, title="tat benchmark quality")
    if not outputs.on_stdout:
        for task in found.tasks:
            show_task(task, found.protocol)
    end_with_failures(found)


def _network(text: str) -> tuple[str, str]:
    name, separator, weights = text.partition("=")
    if not (name and separator and weights):
        msg = f"--networks {text!r}: expected NAME=WEIGHTS, such as unet=unet.safetensors"
        raise UsageError(msg)
    return name.strip().lower(), weights.strip()
