"""``tat train``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal, cast

import typer

from tatcli.cli import console
from tatcli.cli.options import DeviceOption, QuietOption, ThreadsOption, completes, parse_list
from tatcli.errors import UsageError
from tatcli.tasks import TASKS
from tatcli.training.config import TrainConfig

if TYPE_CHECKING:
    from tatcli.training.config import LossName
    from tatcli.training.loop import Progress

__all__ = ["train"]

_DEFAULT: Final = TrainConfig(data=Path(), output=Path())
_LOSSES: Final = ("balanced", "l1", "psnr")
_PRECISIONS: Final = ("fp32", "bf16")


def _listed(values: tuple[float, ...]) -> str:
    return ",".join(f"{value:g}" for value in values)


def train(
    data: Annotated[
        Path,
        typer.Option(metavar="ROOT", show_default=False, help="ROOT/<PET|CT|MRI>/<train|val>: scans, or LQ and HQ."),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", metavar="RUN", show_default=False, help="Run folder; one that exists is resumed."
        ),
    ],
    tasks: Annotated[
        str, typer.Option(metavar="NAME,...", autocompletion=completes(*TASKS), help="Tasks or aliases.")
    ] = ",".join(_DEFAULT.tasks),
    preset: Annotated[
        str, typer.Option(metavar="NAME", autocompletion=completes("tat-base", "tat-small"), help="Network size.")
    ] = _DEFAULT.preset,
    steps: Annotated[int, typer.Option(metavar="N", help="Optimiser updates.")] = _DEFAULT.steps,
    patch: Annotated[str, typer.Option(metavar="N,...", help="Side of the crops, one per phase.")] = _listed(
        _DEFAULT.patch
    ),
    batch: Annotated[
        str, typer.Option(metavar="N,...", help="Samples of each task in a step, one per phase.")
    ] = _listed(_DEFAULT.batch),
    milestones: Annotated[
        str, typer.Option(metavar="X,...", help="Fractions of the steps where the next phase starts.")
    ] = _listed(_DEFAULT.milestones),
    learning_rate: Annotated[
        float, typer.Option("--lr", metavar="X", help="Peak learning rate.")
    ] = _DEFAULT.learning_rate,
    warmup: Annotated[int, typer.Option(metavar="N", help="Steps until the peak.")] = _DEFAULT.warmup,
    weight_decay: Annotated[float, typer.Option(metavar="X", help="AdamW's.")] = _DEFAULT.weight_decay,
    clip: Annotated[float, typer.Option(metavar="X", help="Largest gradient norm.")] = _DEFAULT.clip,
    ema: Annotated[float, typer.Option(metavar="X", help="Decay of the averaged weights.")] = _DEFAULT.ema,
    loss: Annotated[
        str,
        typer.Option(
            metavar="balanced|l1|psnr",
            autocompletion=completes(*_LOSSES),
            help="Task-adaptive loss balancing, L1, or decibels.",
        ),
    ] = _DEFAULT.loss,
    task_weights: Annotated[
        str, typer.Option(metavar="X,...", show_default="all 1", help="Factor of each task's loss.")
    ] = _listed(_DEFAULT.task_weights),
    task_multiples: Annotated[
        str,
        typer.Option(metavar="N,...", show_default="all 1", help="Each task has --batch times this many samples."),
    ] = _listed(_DEFAULT.task_multiples),
    augment: Annotated[bool, typer.Option(help="Random flips and quarter turns.")] = _DEFAULT.augment,
    default_share: Annotated[
        float,
        typer.Option(metavar="X", help="Share of samples at the default strength; the others span the task's range."),
    ] = _DEFAULT.default_share,
    noise_fields: Annotated[
        int, typer.Option(metavar="N", help="Prepared noise realisations per slice.")
    ] = _DEFAULT.noise_fields,
    max_slices: Annotated[int, typer.Option(metavar="N", help="Slices of each scan; 0: all.")] = _DEFAULT.max_slices,
    precision: Annotated[
        str, typer.Option(metavar="fp32|bf16", autocompletion=completes(*_PRECISIONS), help="What is computed in.")
    ] = _DEFAULT.precision,
    validate_every: Annotated[int, typer.Option(metavar="N", help="Steps.")] = _DEFAULT.validate_every,
    checkpoint_every: Annotated[int, typer.Option(metavar="N", help="Steps.")] = _DEFAULT.checkpoint_every,
    validation_slices: Annotated[
        int, typer.Option(metavar="N", help="Of each validation scan.")
    ] = _DEFAULT.validation_slices,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Of everything random.")] = _DEFAULT.seed,
    threads: ThreadsOption = None,
    device: DeviceOption = "auto",
    init: Annotated[
        str | None, typer.Option(metavar="NAME|PATH", show_default="random", help="Weights to start from.")
    ] = _DEFAULT.init,
    grow: Annotated[
        bool, typer.Option(help="Deepen the --init network to the preset's blocks; the new ones begin as identities.")
    ] = _DEFAULT.grow,
    cache: Annotated[
        Path | None, typer.Option(metavar="DIR", show_default="RUN/cache", help="Where prepared references are kept.")
    ] = _DEFAULT.cache,
    card: Annotated[
        Path | None,
        typer.Option(metavar="FILE", show_default=False, help="JSON: name, limits, license of the weights."),
    ] = None,
    quiet: QuietOption = False,
) -> None:
    """Train a network, or go on with a run that stopped.

    The weights and their card appear in RUN, with the losses in RUN/log.jsonl.
    """
    for option, value, known in (("--loss", loss, _LOSSES), ("--precision", precision, _PRECISIONS)):
        if value not in known:
            msg = f"{option} {value!r}: expected one of {', '.join(known)}"
            raise UsageError(msg)
    from tatcli.inference.runtime import choose_device
    from tatcli.workflows.train import train as run

    config = TrainConfig(
        data=data,
        output=output,
        tasks=parse_list("--tasks", tasks, str),
        preset=preset,
        steps=steps,
        patch=parse_list("--patch", patch, int),
        batch=parse_list("--batch", batch, int),
        milestones=parse_list("--milestones", milestones, float),
        learning_rate=learning_rate,
        warmup=warmup,
        weight_decay=weight_decay,
        clip=clip,
        ema=ema,
        loss=cast("LossName", loss),
        task_weights=parse_list("--task-weights", task_weights, float),
        task_multiples=parse_list("--task-multiples", task_multiples, int),
        augment=augment,
        default_share=default_share,
        noise_fields=noise_fields,
        max_slices=max_slices,
        precision=cast("Literal['fp32', 'bf16']", precision),
        validate_every=validate_every,
        checkpoint_every=checkpoint_every,
        validation_slices=validation_slices,
        seed=seed,
        threads=threads or 0,
        device=str(choose_device(device)),
        init=init,
        grow=grow,
        cache=cache,
    )
    with console.progress_bar("train", unit="step", quiet=quiet, resumes=True) as progress:

        def on_step(state: Progress) -> None:
            if progress is not None:
                progress(state.step, steps)

        def on_prepare(name: str, left_out: str) -> None:
            if left_out:
                console.warn(f"{name}: left out: {left_out}")

        done = run(config, card=card, command=console.command_line(), on_prepare=on_prepare, on_step=on_step)
    rows = [
        (task, f"{score.psnr_lq:.2f}", f"{score.psnr_restored:.2f}", f"{score.gain:+.2f}", str(score.slices))
        for task, score in done.validation.items()
    ]
    if rows and not quiet:
        console.table(("task", "PSNR before", "after", "gain (dB)", "slices"), rows, title="validation")
    if not quiet:
        hours = done.seconds / 3600
        console.note(f"{done.weights}: {done.parameters / 1e6:.2f} M parameters, {done.steps} steps, {hours:.2f} h")
