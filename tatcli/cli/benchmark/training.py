"""``tat benchmark training``."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from tatcli.cli import console
from tatcli.cli.benchmark.measuring import JsonOption, measure
from tatcli.cli.options import DeviceOption, OverwriteOption, QuietOption, ThreadsOption, completes, parse_list

if TYPE_CHECKING:
    from tatcli.workflows.benchmark.training import TrainingReport

__all__ = ["training"]


def training(
    preset: Annotated[str, typer.Option(metavar="NAME,...", help="Networks.")] = "tat-small,tat-base",
    patch: Annotated[int, typer.Option(metavar="N", help="Side of the crops, pixels.")] = 128,
    batch: Annotated[int, typer.Option(metavar="N", help="Crops in a step.")] = 3,
    precision: Annotated[
        str,
        typer.Option(
            metavar="fp32|bf16,...", autocompletion=completes("fp32", "bf16"), help="What the network computes in."
        ),
    ] = "fp32,bf16",
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    repeats: Annotated[int, typer.Option(metavar="N", help="Timed steps of each case.")] = 5,
    json: JsonOption = None,
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
) -> None:
    """Samples per second of a training step.

    Through the fused kernels and through PyTorch's operations, in turn.
    """
    from tatcli.workflows.benchmark.training import TrainingConfig, benchmark_training

    config = TrainingConfig(
        presets=parse_list("--preset", preset, str),
        patch=patch,
        batch=batch,
        precisions=parse_list("--precision", precision, str),
        device=device,
        threads=threads,
        repeats=repeats,
    )
    measure(
        lambda progress: benchmark_training(config, progress=progress),
        show=partial(_show, quiet=quiet),
        json=json,
        overwrite=overwrite,
        quiet=quiet,
    )


def _show(report: TrainingReport, *, quiet: bool) -> None:
    rows = [
        (
            r.preset,
            r.precision,
            r.way,
            f"{r.samples_per_s:.3g}",
            f"{r.samples_per_s_min:.3g} - {r.samples_per_s_max:.3g}",
        )
        for r in report.results
    ]
    console.table(
        ("preset", "precision", "through", "samples/s", "min - max"),
        rows,
        title=f"{report.batch} crops of {report.patch}x{report.patch}, {report.threads} threads, {report.device}",
    )
    if report.why_no_kernels and not quiet:
        console.note(f"no fused kernels: {report.why_no_kernels}")
