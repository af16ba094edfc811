"""The ablation's table: each arm's quality per task, over subjects and seeds, and its difference from the first arm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

import tatcli
from tatcli.metrics import Interval, bootstrap_interval
from tatcli.workflows.benchmark.ablation_arms import Arm

if TYPE_CHECKING:
    from tatcli.training.config import TrainConfig

__all__ = ["AblationReport", "ArmRow", "Scored", "summarise_arms"]

Subjects = Mapping[str, Mapping[str, float]]
"""Subject -> ``psnr``, ``ssim``, ``rmse``, and the same of the LQ scans with ``lq_``."""


@dataclass(frozen=True, kw_only=True)
class Scored:
    """One training's scores.

    Attributes:
        arm, seed: which.
        tasks: task -> subject -> scores.
        parameters: of its network.
        seconds: of training.
        cosines: group of parameters -> "task | task" -> cosine of their gradients, see ``training.interference``.
    """

    arm: str
    seed: int
    tasks: Mapping[str, Subjects]
    parameters: int
    seconds: float
    cosines: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ArmRow:
    """An arm's quality in one task.

    Attributes:
        task, arm: which.
        psnr, ssim, rmse: mean over subjects and seeds.
        gain: PSNR above the LQ scans', dB.
        interval: 95 % bootstrap interval of the PSNR over subjects (each one's mean over seeds); None for one subject.
        spread: lowest and highest PSNR among the seeds' means.
        difference: PSNR less the first arm's, dB: mean over seeds; 0 for the first arm itself.
        difference_spread: its lowest and highest among the seeds; a sign that all share is worth more than the mean.
        subjects, seeds: how many.
    """

    task: str
    arm: str
    psnr: float
    ssim: float
    rmse: float
    gain: float
    interval: Interval | None
    spread: tuple[float, float]
    difference: float
    difference_spread: tuple[float, float]
    subjects: int
    seeds: int


@dataclass(frozen=True, kw_only=True)
class AblationReport:
    """The study.

    Attributes:
        version: of tat.
        training: options that all arms share.
        arms: name -> what it is.
        seeds: of the trainings.
        parameters: arm -> of its network (one of a task, where there is one for each).
        seconds: arm -> of training, all seeds and tasks together.
        rows: by task, then arm.
        cosines: arm -> group of parameters -> "task | task" -> of their gradients, one for each seed.
        failed: training -> why it has no result.
    """

    version: str
    training: Mapping[str, Any]
    arms: Mapping[str, str]
    seeds: tuple[int, ...]
    parameters: Mapping[str, int]
    seconds: Mapping[str, float]
    rows: tuple[ArmRow, ...]
    cosines: Mapping[str, Mapping[str, Mapping[str, list[float]]]]
    failed: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        """Everything."""
        from tatcli.reporting.run_report import to_json

        return to_json(self)


def summarise_arms(
    results: Sequence[Scored], training: TrainConfig, *, seeds: Sequence[int], arms: Sequence[Arm]
) -> AblationReport:
    """All arms' rows; an arm has one where it has a result of every seed.

    Args:
        results: of every arm and seed but for those that failed; several for an arm with a network for each task.
        training: what they share.
        seeds: of the study.
        arms: of the study, in the table's order.
    """
    told = {key: value for key, value in training.fixed().items() if key not in ("network", "loss", "seed")}
    rows = []
    for task in training.tasks:
        means = {arm.name: _seed_means(results, arm.name, task) for arm in arms}
        first = np.array(means[arms[0].name]["psnr"])
        rows += [
            _row(task, arm.name, means[arm.name], first, _subject_means(results, arm.name, task))
            for arm in arms
            if len(means[arm.name].get("psnr", ())) == len(seeds)
        ]
    return AblationReport(
        version=tatcli.__version__,
        training=told,
        arms={arm.name: arm.summary for arm in arms},
        seeds=tuple(seeds),
        parameters={
            arm.name: sizes[0] for arm in arms if (sizes := [r.parameters for r in results if r.arm == arm.name])
        },
        seconds={arm.name: sum(r.seconds for r in results if r.arm == arm.name) for arm in arms},
        rows=tuple(rows),
        cosines={arm.name: found for arm in arms if (found := _cosines(results, arm.name))},
    )


def _cosines(results: Sequence[Scored], arm: str) -> dict[str, dict[str, list[float]]]:
    found: dict[str, dict[str, list[float]]] = {}
    for result in results:
        for group, pairs in result.cosines.items() if result.arm == arm else ():
            for pair, value in pairs.items():
                found.setdefault(group, {}).setdefault(pair, []).append(value)
    return found


def _row(task: str, arm: str, means: Mapping[str, list[float]], first: Any, subjects: Sequence[float]) -> ArmRow:
    psnr = np.array(means["psnr"])
    differences = psnr - first
    return ArmRow(
        task=task,
        arm=arm,
        psnr=float(psnr.mean()),
        ssim=float(np.mean(means["ssim"])),
        rmse=float(np.mean(means["rmse"])),
        gain=float(np.mean(psnr - np.array(means["lq_psnr"]))),
        interval=bootstrap_interval(subjects),
        spread=(float(psnr.min()), float(psnr.max())),
        difference=float(differences.mean()),
        difference_spread=(float(differences.min()), float(differences.max())),
        subjects=len(subjects),
        seeds=len(psnr),
    )


def _of(results: Sequence[Scored], arm: str, task: str) -> list[Subjects]:
    """The scores of each seed."""
    return [result.tasks[task] for result in results if result.arm == arm and task in result.tasks]


def _seed_means(results: Sequence[Scored], arm: str, task: str) -> dict[str, list[float]]:
    """Quantity -> mean over subjects, for each seed."""
    found: dict[str, list[float]] = {}
    for subjects in _of(results, arm, task):
        for quantity in next(iter(subjects.values())):
            mean = float(np.mean([scores[quantity] for scores in subjects.values()]))
            found.setdefault(quantity, []).append(mean)
    return found


def _subject_means(results: Sequence[Scored], arm: str, task: str) -> list[float]:
    """PSNR of each subject, mean over seeds."""
    seeds = _of(results, arm, task)
    return [float(np.mean([subjects[name]["psnr"] for subjects in seeds])) for name in seeds[0]]
