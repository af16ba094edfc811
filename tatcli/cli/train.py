"""``tat train``."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, get_args

import typer

from tatcli.cli import console
from tatcli.cli.options import DeviceOption, QuietOption, ThreadsOption, completes
from tatcli.cli.progress_lines import in_hours
from tatcli.errors import VolumeReadError
from tatcli.tasks import TASKS
from tatcli.training.config import LossName, Precision, TrainConfig
from tatcli.training.recipes import RECIPES
from tatcli.training.settings import resolve

if TYPE_CHECKING:
    from tatcli.training.loop import Progress
    from tatcli.workflows.train import TrainReport

__all__ = ["train"]

_DEFAULT: Final = TrainConfig(data=Path(), output=Path())
_NETWORKS: Final = ("tat", "static-tat", "unet", "red-cnn", "edsr", "routed")
_LOSSES: Final = get_args(LossName)
_OPTIMIZERS: Final = ("adamw", "muon")
_PRECISIONS: Final = get_args(Precision)
_OTHERS: Final = ("context", "config", "card", "quiet")
"""Parameters of the command that are no options of a run."""


def _listed(values: tuple[float, ...]) -> str:
    return ",".join(f"{value:g}" for value in values)


def _choice(*words: str, help: str) -> Any:  # noqa: A002 - Typer's word
    return typer.Option(metavar="|".join(words), autocompletion=completes(*words), help=help)


def train(
    context: typer.Context,
    data: Annotated[
        Path | None,
        typer.Option(metavar="ROOT", show_default=False, help="ROOT/<PET|CT|MRI>/<train|val>: scans, or LQ and HQ."),
    ] = None,
    also: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="ROOT",
            show_default=False,
            help="Train on the scans in here too (validation: --data's alone); may be repeated.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="RUN", show_default=False, help="Run folder; one that exists is resumed."
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", show_default=False, help="TOML with these options, such as RUN/config.toml; flags win."
        ),
    ] = None,
    recipe: Annotated[
        str, _choice(*RECIPES, help="Defaults. quick: to try; paper: the paper's, with tat-base.")
    ] = _DEFAULT.recipe,
    tasks: Annotated[
        str,
        typer.Option(
            "--task", "--tasks", metavar="NAME,...", autocompletion=completes(*TASKS), help="Tasks or aliases."
        ),
    ] = ",".join(_DEFAULT.tasks),
    network: Annotated[str, _choice(*_NETWORKS, help="TAT, or what it is compared with.")] = _DEFAULT.network,
    preset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            show_default="tat-small, or --init's",
            autocompletion=completes("tat-base", "tat-small", "tat-tiny"),
            help="Size of tat, static-tat, routed.",
        ),
    ] = _DEFAULT.preset,
    network_width: Annotated[
        int, typer.Option(metavar="N", show_default="32, 96, 64", help="Channels of unet, red-cnn, edsr.")
    ] = _DEFAULT.network_width,
    init: Annotated[
        str | None,
        typer.Option(metavar="NAME|PATH|none", show_default="none", help="Weights to start from; none: random ones."),
    ] = _DEFAULT.init,
    grow: Annotated[
        bool,
        typer.Option("--grow/--no-grow", help="Deepen it to the preset's blocks; new ones begin as identities."),
    ] = _DEFAULT.grow,
    teacher: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|PATH,...|none", show_default="none", help="Weights whose restorations go into the targets."
        ),
    ] = _DEFAULT.teacher,
    teacher_share: Annotated[
        str, typer.Option(metavar="X,...", help="Their share, for all tasks or for each (0: from references alone).")
    ] = _listed(_DEFAULT.teacher_share),
    steps: Annotated[int, typer.Option(metavar="N", help="Optimiser updates.")] = _DEFAULT.steps,
    patch: Annotated[str, typer.Option(metavar="N,...", help="Side of the crops, one per phase.")] = _listed(
        _DEFAULT.patch
    ),
    batch: Annotated[
        str, typer.Option(metavar="N,...", help="Samples of each task in a pass of a process, one per phase.")
    ] = _listed(_DEFAULT.batch),
    milestones: Annotated[
        str, typer.Option(metavar="X,...", help="Fractions of the steps where the next phase starts.")
    ] = _listed(_DEFAULT.milestones),
    accumulate: Annotated[
        int, typer.Option(metavar="N", help="Passes of a process before an update.")
    ] = _DEFAULT.accumulate,
    optimizer: Annotated[
        str, _choice(*_OPTIMIZERS, help="AdamW, or Muon for the weights that are matrices.")
    ] = _DEFAULT.optimizer,
    learning_rate: Annotated[
        float, typer.Option("--lr", metavar="X", help="Peak learning rate.")
    ] = _DEFAULT.learning_rate,
    warmup: Annotated[int, typer.Option(metavar="N", help="Steps until the peak.")] = _DEFAULT.warmup,
    weight_decay: Annotated[float, typer.Option(metavar="X", help="Per step and rate.")] = _DEFAULT.weight_decay,
    clip: Annotated[float, typer.Option(metavar="X", help="Largest gradient norm; 0: any.")] = _DEFAULT.clip,
    ema: Annotated[float, typer.Option(metavar="X", help="Decay of the averaged weights.")] = _DEFAULT.ema,
    loss: Annotated[
        str, _choice(*_LOSSES, help="Task-adaptive balancing, L1, decibels, or Kendall's uncertainty of each task.")
    ] = _DEFAULT.loss,
    task_weights: Annotated[
        str, typer.Option(metavar="X,...", show_default="all 1", help="Factor of each task's loss.")
    ] = _listed(_DEFAULT.task_weights),
    task_multiples: Annotated[
        str,
        typer.Option(metavar="N,...", show_default="all 1", help="Each task has --batch times this many samples."),
    ] = _listed(_DEFAULT.task_multiples),
    sampling: Annotated[
        str, _choice("subjects", "voxels", help="What is equally likely to be drawn.")
    ] = _DEFAULT.sampling,
    crops: Annotated[
        str, _choice("foreground", "error", help="Crops lie anywhere on the patient, or where the LQ's error is.")
    ] = _DEFAULT.crops,
    subjects: Annotated[
        str | None,
        typer.Option(
            metavar="REGEX",
            show_default="sub-..., its topmost folder",
            help="What in a scan's path tells the subject (first group).",
        ),
    ] = _DEFAULT.subjects,
    planes: Annotated[
        str, _choice("acquired", "all", help="all: slices of isotropic volumes (PET: nearly so) in all directions.")
    ] = _DEFAULT.planes,
    mri_range: Annotated[
        str, _choice("robust", "paper", help="MR scans' range: each scan's own, or [0, 4095].")
    ] = _DEFAULT.mri_range,
    augment: Annotated[
        bool, typer.Option(help="Random flips and quarter turns; other shapes, matrices, contrasts of MRI.")
    ] = _DEFAULT.augment,
    default_share: Annotated[
        str,
        typer.Option(metavar="X,...", help="Share of samples at the default strength, for all tasks or for each."),
    ] = _listed(_DEFAULT.default_share),
    noise_fields: Annotated[
        int, typer.Option(metavar="N", help="Prepared noise realisations per slice.")
    ] = _DEFAULT.noise_fields,
    max_slices: Annotated[int, typer.Option(metavar="N", help="Slices of each scan; 0: all.")] = _DEFAULT.max_slices,
    precision: Annotated[str, _choice(*_PRECISIONS, help="What is computed in.")] = _DEFAULT.precision,
    deterministic: Annotated[
        bool, typer.Option("--deterministic/--no-deterministic", help="The same sums each time, on a GPU too.")
    ] = _DEFAULT.deterministic,
    explode: Annotated[
        float, typer.Option(metavar="X", help="Stop where an error is X times the input's; 0: never.")
    ] = _DEFAULT.explode,
    log_every: Annotated[int, typer.Option(metavar="N", help="Steps.")] = _DEFAULT.log_every,
    validate_every: Annotated[int, typer.Option(metavar="N", help="Steps.")] = _DEFAULT.validate_every,
    checkpoint_every: Annotated[int, typer.Option(metavar="N", help="Steps.")] = _DEFAULT.checkpoint_every,
    checkpoint_minutes: Annotated[
        float, typer.Option(metavar="X", help="A checkpoint after so long, too; 0: not.")
    ] = _DEFAULT.checkpoint_minutes,
    validation_slices: Annotated[
        int, typer.Option(metavar="N", help="Of each validation scan.")
    ] = _DEFAULT.validation_slices,
    samples: Annotated[
        int, typer.Option(metavar="N", help="Validation scans per task that are drawn into RUN/samples.")
    ] = _DEFAULT.samples,
    sample_values: Annotated[
        bool, typer.Option("--sample-values/--no-sample-values", help="Their values too, as NPZ.")
    ] = _DEFAULT.sample_values,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard/--no-tensorboard", help="Curves in RUN/tensorboard, too.")
    ] = _DEFAULT.tensorboard,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Of everything random.")] = _DEFAULT.seed,
    workers: Annotated[int, typer.Option(metavar="N", help="Threads that prepare batches.")] = _DEFAULT.workers,
    threads: ThreadsOption = None,
    device: DeviceOption = "auto",
    cache: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", show_default="RUN/cache", help="Where prepared references are kept."),
    ] = _DEFAULT.cache,
    card: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            show_default=False,
            help="JSON: name, limits, license of the weights. Not kept in config.toml.",
        ),
    ] = None,
    quiet: QuietOption = False,
) -> None:
    """Train a network, or go on with a run that stopped.

    The weights and their card appear in RUN, with the losses in RUN/log.jsonl and all options but --card in
    RUN/config.toml.
    Several GPUs: torchrun --nproc-per-node N --no-python tat train ...
    """
    values = locals()
    if context.invoked_subcommand is not None:
        return
    named = {name: value for name, value in values.items() if name not in _OTHERS and _named(context, name)}
    options = _with_device(resolve(named, config))
    quiet = quiet or os.environ.get("RANK", "0") != "0"
    done = _run(options, card=card, quiet=quiet)
    if not quiet:
        _show(done)


def _named(context: typer.Context, name: str) -> bool:
    """Whether an option stands on the command line."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _with_device(options: TrainConfig) -> TrainConfig:
    from tatcli.inference.runtime import choose_device

    return replace(options, device=str(choose_device(options.device)))


def _run(options: TrainConfig, *, card: Path | None, quiet: bool) -> TrainReport:
    from tatcli.training.checkpoints import CHECKPOINT
    from tatcli.workflows.train import train as run
    from tatcli.workflows.training.advice import for_training

    def on_prepare(name: str, left_out: str) -> None:
        if left_out and not quiet:
            console.warn(f"{name}: left out: {for_training(left_out)}")

    with console.progress_bar("train", unit="step", quiet=quiet, resumes=True) as progress:

        def on_step(state: Progress) -> None:
            if progress is not None:
                progress(state.step, options.steps)
            if state.validation and not quiet and state.step < options.steps:  # the last one is shown as a table
                gains = ", ".join(f"{task} {score.gain:+.2f} dB" for task, score in state.validation.items())
                console.note(f"step {state.step} of {options.steps}: {gains}")

        try:
            return run(
                options,
                card=card,
                command=console.command_line(),
                on_prepare=on_prepare,
                on_step=on_step,
                on_warning=(lambda _: None) if quiet else console.warn,
            )
        except VolumeReadError as error:
            raise type(error)(for_training(str(error))) from error
        except (KeyboardInterrupt, SystemExit):
            if not quiet and (options.output / CHECKPOINT).exists():
                console.note(f"{options.output / CHECKPOINT}: the same command goes on from here")
            raise


def _show(done: TrainReport) -> None:
    rows = [
        (task, f"{score.psnr_lq:.2f}", f"{score.psnr_restored:.2f}", f"{score.gain:+.2f}", str(score.slices))
        for task, score in done.validation.items()
    ]
    if rows:
        console.table(("task", "PSNR before", "after", "gain (dB)", "slices"), rows, title="validation")
    if done.other_data:
        told = f"{done.output}: the run had reached its last step with other data than these"
        console.warn(f"{told}; nothing was trained, and its weights, card and config.toml stay as they are")
    size = f"{done.parameters / 1e6:.2f} M parameters"
    console.note(f"{done.weights}: {size}, {done.steps} steps, {in_hours(done.seconds)}")
    best = done.best
    if best is not None:
        when = "the last step" if best.step == done.steps else f"step {best.step}"
        console.note(f"{best.path}: the best validation, {best.gain:+.2f} dB in the mean of tasks, at {when}")
