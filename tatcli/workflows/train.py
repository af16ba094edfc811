"""``tat train``: prepare references, train or resume, write weights with their card."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import torch

from tatcli.errors import DeviceError, OutputError, UsageError, reason_of, some_of
from tatcli.inference.gpus import check_it_computes
from tatcli.inference.runtime import choose_device, refuse_tf32, set_threads
from tatcli.tasks import TASKS
from tatcli.training.config import TrainConfig
from tatcli.training.distributed import World, this_world
from tatcli.training.log import board_writer
from tatcli.training.loop import Progress, Trainer
from tatcli.training.references import Reference, prepare_references
from tatcli.training.settings import SETTINGS_FILE, to_toml
from tatcli.training.sources import check_sources, has_references
from tatcli.training.subjects import check_found, named_by, subject_in
from tatcli.training.validation import Sample, ValidationScore
from tatcli.volumes.replacing import TEMPORARY, replaced
from tatcli.workflows.lock import locked
from tatcli.workflows.training.card_file import read_card_fields
from tatcli.workflows.training.network import make_network
from tatcli.workflows.training.room import check_crops, check_pass, largest_pass, memory_watched
from tatcli.workflows.training.samples import save_sample
from tatcli.workflows.training.teachers import load_teachers
from tatcli.workflows.training.weights import Best, RunWeights, parameter_count
from tatcli.workflows.usable_scans import usable_scan

__all__ = ["TrainReport", "train"]

_WRITTEN: Final = (".pt", ".safetensors", ".json", ".toml", ".jsonl")
"""Endings of what a run replaces in its folder."""


@dataclass(frozen=True)
class TrainReport:
    """What a run gave.

    Attributes:
        output: run folder.
        weights: averaged weights, with their card beside them.
        steps: optimiser updates.
        seconds: of training, over all resumptions.
        parameters: of the network.
        validation: scores of each task by the last validation.
        other_data: the run was at its end before, and its data were others: weights, card and options were left as they
            are.
        best: the weights of the validation with the largest gain; None: nothing was validated.
    """

    output: Path
    weights: Path
    steps: int
    seconds: float
    parameters: int
    validation: dict[str, ValidationScore]
    other_data: bool = False
    best: Best | None = None

    def to_json(self) -> dict[str, Any]:
        """JSON form."""
        scores = {task: asdict(score) | {"gain": score.gain} for task, score in self.validation.items()}
        best = None if self.best is None else asdict(self.best) | {"path": str(self.best.path)}
        places = {"output": str(self.output), "weights": str(self.weights)}
        return asdict(self) | places | {"validation": scores, "best": best}


def train(
    config: TrainConfig,
    *,
    card: Path | None = None,
    command: str = "",
    on_prepare: Callable[[str, str], None] = lambda *_: None,
    on_step: Callable[[Progress], None] = lambda _: None,
    on_warning: Callable[[str], None] = lambda _: None,
) -> TrainReport:
    """Train, or go on with the run in ``config.output``, together with the processes that ``torchrun`` started.

    Args:
        config: options of the run.
        card: JSON with further fields of the weights' card (name, limits, license, training).
        command: the command line, for the card.
        on_prepare: called with each scan's name before it is read, and again with why where it is left out.
        on_step: called after each step.
        on_warning: called before the first step with what makes its outcome doubtful.

    Returns:
        What the run gave. The first process writes everything, and it alone validates.

    Raises:
        UsageError: no scans, the folder holds a run with other options, or a teacher fits no task.
        VolumeReadError: a scan can't be read, or none of a task's can be used.
        GeometryError: an LQ partner lies on another grid than its reference.
        WeightsError: a teacher, or the weights to start from, are missing or damaged.
        OutputError: the run folder can't be written, or another process trains in it.
        DeviceError: fewer GPUs than processes on this machine, one that doesn't compute; not enough memory; another
            process stopped.
        TrainingDiverged: the loss became NaN or infinite, or exploded, or the network died.
    """
    world = this_world()
    settings, config = to_toml(config), _on_its_device(config, world)
    if torch.device(config.device).type == "cuda":
        refuse_tf32()  # as validation does: no step may depend on whether one came before it
        check_it_computes(torch.device(config.device))
    _check_precision(config)
    set_threads(config.threads or None)
    extra = read_card_fields(card)
    check_sources(config)
    check_crops(config)
    if config.tensorboard:
        board_writer()  # says at once where it is missing
    network = make_network(config)
    patch, samples = largest_pass(config)
    check_pass(
        "train",
        network.module,
        patch=patch,
        samples=samples,
        precision=config.precision,
        device=torch.device(config.device),
    )
    teachers = load_teachers(config)
    for option, folder in (("--output", config.output), ("--cache", config.cache or config.output)):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            msg = f"{option} {folder}: expected a folder, or a name for one, got {reason_of(error)}; choose another"
            raise OutputError(msg) from error
    with memory_watched("train", config.device), world.joined(torch.device(config.device)), _alone(config, world):
        with world.first_goes_first():
            references = {
                task: prepare_references(TASKS[task], "train", config, on_scan=on_prepare, check=usable_scan)
                for task in config.tasks
            }
            validation = {task: _validation(task, config, on_prepare) for task in config.tasks}
        check_found(config.subjects, (scan.name for scans in references.values() for scan in scans))
        _warn((*network.doubts, *_leaks(references, validation, config)), on_warning)
        trainer = Trainer(
            config,
            references,
            {task: scans for task, scans in validation.items() if scans},
            network=network.module,
            world=world,
            teachers=teachers,
        )
        trainer.start = network.start
        weights = RunWeights(network, trainer, extra, references=references, command=command)
        path = weights.path
        other_data = weights.has_other_data and trainer.step >= config.steps
        if other_data and not path.is_file():
            msg = f"{config.output}: expected the scans that the run was trained on to write {path.name}, got others"
            raise UsageError(msg)
        if weights.has_other_data and not other_data:
            told = f"{weights.gone} that it was trained on are gone or changed, {weights.new} are new"
            on_warning(f"{config.output}: the run goes on with other scans: {told}; its card will name both")
        if world.first and not other_data:
            with replaced(config.output / SETTINGS_FILE, extension=".toml") as temporary:
                temporary.write_text(settings, encoding="utf-8")

        def on_sample(step: int, sample: Sample) -> None:
            save_sample(sample, config.output, step, values=config.sample_values)

        scores = trainer.run(on_step=on_step, on_sample=on_sample, on_validation=weights.offer)
    if not other_data:
        weights.save()
    count = parameter_count(trainer.network)
    return TrainReport(config.output, path, trainer.step, trainer.seconds, count, scores, other_data, weights.best)


def _warn(doubts: Iterable[str], on_warning: Callable[[str], None]) -> None:
    for doubt in doubts:
        on_warning(doubt)


def _leaks(
    references: Mapping[str, Sequence[Reference]], validation: Mapping[str, Sequence[Reference]], config: TrainConfig
) -> Iterator[str]:
    for task, scans in validation.items():
        shared = sorted(_subjects(references[task], config) & _subjects(scans, config))
        if shared:
            told = "trained and validated on subjects of the same name, so that scores flatter"
            yield f"{task}: {told}: {some_of([subject.rpartition('/')[2] for subject in shared])}"


def _subjects(scans: Iterable[Reference], config: TrainConfig) -> set[str]:
    """Whom scans are of, where the pattern or their folders tell."""
    told = (scan for scan in scans if scan.subject or named_by(config.subjects, scan.name))
    return {subject_in(scan.root, scan.name, config.subjects, otherwise=scan.subject) for scan in told}


@contextmanager
def _alone(config: TrainConfig, world: World) -> Iterator[None]:
    """Keep another run out of the folder, and take away what one that was killed was writing (by the first process).

    Raises:
        OutputError: another run is in.
    """
    if not world.first:
        yield
        return
    with locked(config.output, "tat train", required=False) as alone:
        if alone:
            for path in config.output.glob(f"{TEMPORARY}*"):
                if path.suffix in _WRITTEN:  # others may be writing here, too: restorations
                    path.unlink(missing_ok=True)
            for folder in (config.output / "cache").glob("*/.*-*/") if config.cache is None else ():
                shutil.rmtree(folder, ignore_errors=True)
        yield


def _on_its_device(config: TrainConfig, world: World) -> TrainConfig:
    """With several processes on one machine, each takes the GPU of its number.

    Raises:
        UsageError: they were given one GPU for all.
        DeviceError: there is none of its number.
    """
    if world.size == 1 or config.device == "cpu":
        return config
    if config.device != "cuda" and (world.local_size > 1 or config.device == "mps"):
        msg = f"--device {config.device}: expected cuda or cpu with several processes, each of which takes the GPU of"
        raise UsageError(msg + " its number, got one for all; leave it out")
    device = choose_device(f"cuda:{world.local_rank}" if config.device == "cuda" else config.device)
    torch.cuda.set_device(device)
    return replace(config, device=str(device))


def _check_precision(config: TrainConfig) -> None:
    """Refuse fp16 where its gradients can't be scaled: on Apple's GPU before PyTorch 2.8 (its pull request 150255).

    Raises:
        DeviceError: it is asked for there.
    """
    if (config.device, config.precision) == ("mps", "fp16") and torch.__version__ < "2.8":  # (it compares as versions)
        msg = f"--precision fp16: expected PyTorch 2.8 or newer with --device mps, got {torch.__version__}"
        raise DeviceError(msg + "; use bf16 or fp32, or a newer one")


def _validation(task: str, config: TrainConfig, on_prepare: Callable[[str, str], None]) -> list[Reference]:
    """Validation scans of a task; a dataset need not have the split."""
    if not has_references(config.data, TASKS[task], "val"):
        return []
    return prepare_references(TASKS[task], "val", config, on_scan=on_prepare, check=usable_scan)
