"""Everything that decides a training run."""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final, Literal, Self, get_args, get_origin, get_type_hints

from tatcli.errors import UsageError
from tatcli.intensity import IntensityRule
from tatcli.processor import MOST_THREADS
from tatcli.tasks import MRI_RANGES, TASKS, Task, find_task

__all__ = ["LARGEST_SEED", "MOST_FIELDS", "PLACES", "WITH_WIDTH", "LossName", "Precision", "TrainConfig", "flag"]

LossName = Literal["balanced", "l1", "psnr", "uncertainty"]
Precision = Literal["fp32", "bf16", "fp16"]

_PATHS: Final = ("data", "output", "cache")
PLACES: Final = (*_PATHS, "also")
"""Options that say where things lie."""
_FREE: Final = (
    *PLACES, "recipe", "accumulate", "workers", "threads", "device", "log_every", "validate_every", "checkpoint_every",
    "checkpoint_minutes", "validation_slices", "samples", "sample_values", "tensorboard", "explode",
)  # fmt: skip
"""Options that don't change the outcome, and so may differ when a run is resumed (accumulation: with the processes)."""
WITH_WIDTH: Final = ("unet", "red-cnn", "edsr")
"""Networks whose size is their width; that of the others is the preset's."""
_DEFAULT_PRESET: Final = "tat-small"
_FLAGS: Final = {"learning_rate": "--lr"}
MOST_FIELDS: Final = 1000
"""Noise realisations of a slice; so many take hours a scan, and a hundred times the room of the slice itself."""
LARGEST_SEED: Final = 2**63
"""What PyTorch's generators take is below."""


def flag(option: str) -> str:
    """The command line's name of an option."""
    return _FLAGS.get(option, "--" + option.replace("_", "-"))


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Options of ``tat train``. A resumed run must have the same ones (but for paths, threads and intervals).

    Attributes:
        data: root of a dataset in one of the layouts of ``pairs.find_scans``.
        output: run folder: checkpoints, log, cache.
        also: further datasets, or prepared sets, whose scans to train on are added, of the tasks that they have.
        recipe: where the options came from that nobody named, see ``recipes``.
        tasks: names or aliases.
        network: ``tat``, or one of the comparison networks (``baselines.networks``).
        preset: network size, see ``model.config``; of ``tat`` and of the networks that share its backbone. None: that
            of ``init``, without which it is ``tat-small``.
        network_width: channels of ``unet``, ``red-cnn`` and ``edsr``; 0: their own default.
        init: weights (name or path) to start from instead of a random initialisation.
        grow: deepen them to the preset's numbers of blocks.
        teacher: weights (names or paths, also of comparison networks), comma-separated, whose restorations are mixed
            into the targets of the tasks that they were trained for, see ``teacher``; None: no one's.
        teacher_share: of them in the targets, one for all tasks or one for each; a task of 0 isn't taught.
        steps: optimiser updates; the learning rate falls to its end over them.
        patch: sides of the random crops, one for each phase of the run.
        batch: samples of each task in a pass of one process, one for each phase.
        milestones: fractions of the steps where the next phase starts.
        accumulate: passes of each process before an update, which averages over all of them.
        optimizer: ``adamw``, or ``muon`` for the weights that are matrices, see ``optimisers``.
        learning_rate: peak of the cosine schedule, reached after ``warmup`` steps.
        weight_decay: of either optimiser, for each step and rate.
        clip: largest gradient norm; 0: not clipped.
        ema: decay of the averaged weights, which are validated and released.
        loss: ``balanced`` (task-adaptive loss balancing), ``l1``, ``psnr`` or ``uncertainty``, see ``losses``.
        task_weights: factors of each task's loss, in the order of ``tasks``; empty: all 1.
        task_multiples: each task has ``batch`` times this many samples in a pass; empty: all 1, equal shares.
        sampling: ``subjects``: every subject of a task is as likely as any other; ``voxels``: every voxel.
        crops: ``foreground``: anywhere on the patient; ``error``: where the LQ's error is, see ``crops``.
        subjects: regular expression whose first group (or all of its match) names the subject in a scan's path below
            the split (a prepared set: in its name); None: the path itself, see ``subjects``.
        planes: ``acquired``: the slices as they were acquired; ``all``: isotropic volumes, and PET whose
            voxels are nearly cubes, in all three directions.
        mri_range: MR scans' network range: ``robust``, each scan's own, or ``paper``, [0, 4095].
        augment: random flips and quarter turns; for MRI other shapes, matrices, contrasts and ranges too.
        default_share: share of samples at a task's default strength (one for all, or one for each task); the others are
            log-uniform over its range.
        noise_fields: precomputed noise realisations for each reference slice (CT, PET).
        max_slices: evenly spaced slices taken from each scan; 0: all.
        precision: ``fp32``, ``bf16`` or ``fp16`` (autocast; fp16 with scaled gradients).
        deterministic: refuse operations that give other sums each time, as some do on a GPU.
        explode: stop where a sample's error is this many times its input's error plus 0.01; 0: never.
        log_every, validate_every, checkpoint_every: steps between.
        checkpoint_minutes: a checkpoint after so many minutes too; 0: only after steps.
        validation_slices: evenly spaced slices of each validation scan.
        samples: validation scans of each task of which a slice is drawn at each validation.
        sample_values: keep these slices' values too (NPZ).
        tensorboard: write the log for TensorBoard too.
        seed: of initialisation, noise and crops.
        workers: threads that prepare batches.
        threads: CPU threads; 0: PyTorch's choice.
        device: where to train.
        cache: where prepared references are kept; ``output / "cache"`` by default.
    """

    data: Path
    output: Path
    also: tuple[Path, ...] = ()
    recipe: str = "default"
    tasks: tuple[str, ...] = tuple(TASKS)
    network: str = "tat"
    preset: str | None = None
    network_width: int = 0
    init: str | None = None
    grow: bool = False
    teacher: str | None = None
    teacher_share: tuple[float, ...] = (0.8,)
    steps: int = 400_000
    patch: tuple[int, ...] = (128,)
    batch: tuple[int, ...] = (4,)
    milestones: tuple[float, ...] = ()
    accumulate: int = 1
    optimizer: Literal["adamw", "muon"] = "adamw"
    learning_rate: float = 2e-4
    warmup: int = 0
    weight_decay: float = 0.01
    clip: float = 1.0
    ema: float = 0.999
    loss: LossName = "balanced"
    task_weights: tuple[float, ...] = ()
    task_multiples: tuple[int, ...] = ()
    sampling: Literal["subjects", "voxels"] = "subjects"
    crops: Literal["foreground", "error"] = "foreground"
    subjects: str | None = None
    planes: Literal["acquired", "all"] = "acquired"
    mri_range: Literal["robust", "paper"] = "robust"
    augment: bool = True
    default_share: tuple[float, ...] = (0.3,)
    noise_fields: int = 4
    max_slices: int = 0
    precision: Precision = "fp32"
    deterministic: bool = False
    explode: float = 10.0
    log_every: int = 50
    validate_every: int = 1000
    checkpoint_every: int = 250
    checkpoint_minutes: float = 10.0
    validation_slices: int = 3
    samples: int = 1
    sample_values: bool = False
    tensorboard: bool = False
    seed: int = 0
    workers: int = 1
    threads: int = 0
    device: str = "cpu"
    cache: Path | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "tasks", tuple(dict.fromkeys(find_task(name).name for name in self.tasks)))
        if self.preset is None and not (self.init and self.network == "tat" and not self.grow):
            object.__setattr__(self, "preset", _DEFAULT_PRESET)
        for name, hint in get_type_hints(type(self)).items():
            known, value = get_args(hint), getattr(self, name)
            if get_origin(hint) is Literal and value not in known:
                msg = f"{flag(name)} {value!r}: expected one of {', '.join(known)}"
                raise UsageError(msg)
        for option, holds in (self._schedule_checks() | self._sample_checks()).items():
            if not holds:
                msg = f"train: {option}: value out of range, got {self._told(option)}"
                raise UsageError(msg)
        try:
            re.compile(self.subjects or "")
        except re.error as error:
            msg = f"--subjects {self.subjects!r}: expected a regular expression, got one with {error}"
            raise UsageError(msg) from error

    def _schedule_checks(self) -> dict[str, bool]:
        every = (self.log_every, self.validate_every, self.checkpoint_every)
        return {
            "--steps (at least 1)": self.steps >= 1,
            "--patch (multiples of 8)": all(side >= 8 and side % 8 == 0 for side in self.patch),
            "--batch (at least 1)": all(size >= 1 for size in self.batch),
            "--patch, --batch and --milestones (one more patch and batch than milestones)": len(self.patch)
            == len(self.batch)
            == len(self.milestones) + 1,
            "--milestones (rising, between 0 and 1)": list(self.milestones) == sorted(self.milestones)
            and all(0 < at < 1 for at in self.milestones),
            "--accumulate (at least 1)": self.accumulate >= 1,
            "--lr (above 0, below 1)": 0 < self.learning_rate < 1,
            "--warmup (0 or more)": self.warmup >= 0,
            "--weight-decay (0 or more)": 0 <= self.weight_decay < math.inf,
            "--clip (0 or more)": 0 <= self.clip < math.inf,
            "--ema (0 or more, below 1)": 0 <= self.ema < 1,
            "--log-every, --validate-every and --checkpoint-every (at least 1)": min(every) >= 1,
            "--checkpoint-minutes (0 or more)": 0 <= self.checkpoint_minutes < math.inf,
            "--explode (0 or more)": 0 <= self.explode < math.inf,
        }

    def _sample_checks(self) -> dict[str, bool]:
        return {
            "--tasks (at least one)": bool(self.tasks),
            "--task-weights (one for each task, positive)": not self.task_weights
            or (
                len(self.task_weights) == len(self.tasks) and all(0 < weight < math.inf for weight in self.task_weights)
            ),
            "--task-multiples (one for each task, at least 1)": not self.task_multiples
            or (len(self.task_multiples) == len(self.tasks) and min(self.task_multiples) >= 1),
            "--default-share (one, or one for each task, 0 to 1)": self._are_shares(self.default_share),
            "--teacher-share (one, or one for each task, 0 to 1, not all 0)": self._are_shares(self.teacher_share)
            and any(self.teacher_share),
            f"--noise-fields (1 to {MOST_FIELDS})": 1 <= self.noise_fields <= MOST_FIELDS,
            "--network-width, --max-slices, --samples and --seed (0 or more)": min(
                self.network_width, self.max_slices, self.samples, self.seed
            )
            >= 0,
            "--seed (below 2**63)": self.seed < LARGEST_SEED,
            f"--threads (0 to {MOST_THREADS})": 0 <= self.threads <= MOST_THREADS,
            "--validation-slices (at least 1)": self.validation_slices >= 1,
            f"--workers (1 to {MOST_THREADS})": 1 <= self.workers <= MOST_THREADS,
            "--patch (red-cnn: at least 24)": self.network != "red-cnn" or min(self.patch, default=0) >= 24,
            "--patch and --batch (unet: 32, or 2 samples in a pass, to normalise over)": self.network != "unet"
            or all(side > 16 or size * len(self.tasks) > 1 for side, size in zip(self.patch, self.batch, strict=False)),
            "--max-slices (0 with --planes all, which takes whole volumes)": self.planes == "acquired"
            or not self.max_slices,
        }

    def _told(self, text: str) -> str:
        """The values of the options that a text names."""
        names = {flag(field.name): field.name for field in fields(self)}
        values = (_plain(getattr(self, names[word])) for word in re.findall(r"--[a-z-]+", text))
        return ", ".join(
            ",".join(map(str, value)) or "none" if isinstance(value, list) else str(value) for value in values
        )

    def _are_shares(self, values: tuple[float, ...]) -> bool:
        """Whether there is one for all tasks or one for each, from 0 to 1."""
        return len(values) in (1, len(self.tasks)) and all(0 <= value <= 1 for value in values)

    @property
    def size(self) -> str:
        """The preset, also where it is left to the weights to start from."""
        return self.preset or _DEFAULT_PRESET

    def phase(self, step: int) -> tuple[int, int]:
        """(patch, samples of each task) at this step."""
        index = sum(step >= at * self.steps for at in self.milestones)
        return self.patch[index], self.batch[index]

    def weight(self, task: str) -> float:
        """Factor of a task's loss."""
        return self.task_weights[self.tasks.index(task)] if self.task_weights else 1.0

    def multiple(self, task: str) -> int:
        """How many times a task's share of samples is drawn."""
        return self.task_multiples[self.tasks.index(task)] if self.task_multiples else 1

    def share(self, task: str) -> float:
        """How much of a task's samples has its default strength."""
        return self._of_task(self.default_share, task)

    def taught(self, task: str) -> float:
        """How much of a task's targets is its teachers'."""
        return self._of_task(self.teacher_share, task)

    def _of_task(self, values: tuple[float, ...], task: str) -> float:
        """A task's own value, or the one for all."""
        return values[self.tasks.index(task) if len(values) > 1 else 0]

    def intensity(self, task: Task) -> IntensityRule:
        """The map of a task's scans onto the network's range."""
        return MRI_RANGES[self.mri_range] if task.modality == "MR" else task.intensity

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {key: _plain(value) for key, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Self:
        """The inverse of :meth:`to_dict`."""
        values: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in fields.items()}
        paths: dict[str, Any] = {key: Path(values[key]) for key in _PATHS if values.get(key)}
        return cls(**values | paths | {"also": tuple(Path(path) for path in values.get("also", ()))})

    def fixed(self) -> dict[str, Any]:
        """The options that a resumed run may not change."""
        kept = {key: value for key, value in self.to_dict().items() if key not in _FREE}
        return kept | {"preset": self.size}

    @classmethod
    def default(cls, option: str) -> Any:
        """An option's default; None where it has none."""
        return {field.name: field.default for field in fields(cls)}.get(option)


def _plain(value: Any) -> Any:
    """A value as JSON has it."""
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    return str(value) if isinstance(value, Path) else value
