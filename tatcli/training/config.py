"""Everything that decides a training run."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal, Self

from tatcli.errors import UsageError
from tatcli.tasks import TASKS, find_task

__all__ = ["LossName", "TrainConfig"]

LossName = Literal["balanced", "l1", "psnr"]
_PATHS: Final = ("data", "output", "cache")
_FREE: Final = (*_PATHS, "threads", "device", "validate_every", "checkpoint_every", "validation_slices")
"""Options that don't change the outcome, and so may differ when a run is resumed."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Options of ``tat train``. A resumed run must have the same ones (but for paths, threads and intervals).

    Attributes:
        data: root of a dataset in one of the layouts of ``pairs.find_scans``.
        output: run folder: checkpoints, log, cache.
        tasks: names or aliases.
        preset: network size, see ``model.config``.
        steps: optimiser updates; the learning rate falls to its end over them.
        patch: sides of the random crops, one for each phase of the run.
        batch: samples of each task in a step, one for each phase.
        milestones: fractions of the steps where the next phase starts.
        learning_rate: peak of the cosine schedule, reached after ``warmup`` steps.
        weight_decay: AdamW's.
        clip: largest gradient norm.
        ema: decay of the averaged weights, which are validated and released.
        loss: ``balanced`` (task-adaptive loss balancing), ``l1`` or ``psnr``, see ``losses``.
        task_weights: factors of each task's loss, in the order of ``tasks``; empty: all 1.
        task_multiples: each task has ``batch`` times this many samples in a step; empty: all 1, equal shares.
        augment: random flips and quarter turns.
        default_share: share of samples at the task's default strength; the others are log-uniform over its range.
        noise_fields: precomputed noise realisations for each reference slice (CT, PET).
        max_slices: evenly spaced slices taken from each scan; 0: all.
        precision: ``fp32`` or ``bf16`` (autocast).
        validate_every, checkpoint_every: steps between.
        validation_slices: evenly spaced slices of each validation scan.
        seed: of initialisation, noise and crops.
        threads: CPU threads; 0: PyTorch's choice.
        device: where to train.
        init: weights (name or path) to start from instead of a random initialisation.
        grow: deepen them to the preset's numbers of blocks.
        cache: where prepared references are kept; ``output / "cache"`` by default.
    """

    data: Path
    output: Path
    tasks: tuple[str, ...] = tuple(TASKS)
    preset: str = "tat-small"
    steps: int = 400_000
    patch: tuple[int, ...] = (128,)
    batch: tuple[int, ...] = (4,)
    milestones: tuple[float, ...] = ()
    learning_rate: float = 2e-4
    warmup: int = 0
    weight_decay: float = 0.01
    clip: float = 1.0
    ema: float = 0.999
    loss: LossName = "balanced"
    task_weights: tuple[float, ...] = ()
    task_multiples: tuple[int, ...] = ()
    augment: bool = True
    default_share: float = 0.3
    noise_fields: int = 4
    max_slices: int = 0
    precision: Literal["fp32", "bf16"] = "fp32"
    validate_every: int = 1000
    checkpoint_every: int = 250
    validation_slices: int = 3
    seed: int = 0
    threads: int = 0
    device: str = "cpu"
    init: str | None = None
    grow: bool = False
    cache: Path | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "tasks", tuple(dict.fromkeys(find_task(name).name for name in self.tasks)))
        checks = {
            "--steps": self.steps >= 1,
            "--patch (multiples of 8)": all(side >= 8 and side % 8 == 0 for side in self.patch),
            "--batch": all(size >= 1 for size in self.batch),
            "--patch, --batch and --milestones (one more patch and batch than milestones)": len(self.patch)
            == len(self.batch)
            == len(self.milestones) + 1,
            "--milestones (rising, between 0 and 1)": list(self.milestones) == sorted(self.milestones)
            and all(0 < at < 1 for at in self.milestones),
            "--lr": 0 < self.learning_rate < 1,
            "--ema": 0 <= self.ema < 1,
            "--noise-fields": self.noise_fields >= 1,
            "--tasks": bool(self.tasks),
            "--task-weights (one for each task, positive)": not self.task_weights
            or (len(self.task_weights) == len(self.tasks) and min(self.task_weights) > 0),
            "--task-multiples (one for each task, at least 1)": not self.task_multiples
            or (len(self.task_multiples) == len(self.tasks) and min(self.task_multiples) >= 1),
            "--default-share (0 to 1)": 0 <= self.default_share <= 1,
        }
        for option, holds in checks.items():
            if not holds:
                msg = f"train: {option}: value out of range"
                raise UsageError(msg)

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

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {
            key: list(value) if isinstance(value, tuple) else str(value) if isinstance(value, Path) else value
            for key, value in asdict(self).items()
        }

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Self:
        """The inverse of :meth:`to_dict`."""
        values: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in fields.items()}
        return cls(**values | {key: Path(values[key]) for key in _PATHS if values.get(key)})

    def fixed(self) -> dict[str, Any]:
        """The options that a resumed run may not change."""
        return {key: value for key, value in self.to_dict().items() if key not in _FREE}
