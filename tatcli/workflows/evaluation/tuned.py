"""The classical baselines of an evaluation, each tuned on slices of the training split."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from tatcli.baselines import SliceContext, TrainingSlice, every_baseline, find_baseline, tune, usual_baselines
from tatcli.errors import UsageError, VolumeReadError
from tatcli.inference.guards import check_scan
from tatcli.metrics import evaluation_window, find_protocol
from tatcli.training.pairs import find_scans
from tatcli.volumes.members import members_of
from tatcli.volumes.slices import slices_along, through_plane_axis
from tatcli.workflows.evaluation.degraded import (
    is_constant,
    read_partner,
    read_scan,
    scan_seed,
    simulate_slices,
)

if TYPE_CHECKING:
    from tatcli.baselines import Baseline, TunedBaseline
    from tatcli.intensity import IntensityRule
    from tatcli.tasks import Task
    from tatcli.training.pairs import ScanPair
    from tatcli.workflows.evaluation.config import EvaluateConfig

__all__ = ["EVERY", "TuningData", "chosen_baselines", "draw_slices", "tuned_baselines"]

EVERY: Final = "all"
"""Asks for every baseline of the task that is installed."""


@dataclass(frozen=True)
class TuningData:
    """Where the baselines are tuned.

    Attributes:
        root: of the dataset.
        split: of the training scans.
        slices: how many to draw.
        strength: of the simulation.
        seed: of the draw and the noise.
    """

    root: Path
    split: str
    slices: int
    strength: float
    seed: int


def chosen_baselines(config: EvaluateConfig, task: Task, *, strength_known: bool) -> list[Baseline]:
    """The baselines that a task is compared with.

    Args:
        config: names them, or leaves it to the task.
        task: one of the config's.
        strength_known: whether the LQ scans are simulated.

    Raises:
        UsageError: an unknown baseline, one whose package is missing, or one that needs simulated scans.
    """
    if config.baselines is None:
        return usual_baselines(task, strength_known=strength_known)
    if config.baselines == (EVERY,):
        return every_baseline(task, strength_known=strength_known)
    named = [find_baseline(name) for name in config.baselines]
    for baseline in named:
        if baseline.needs_strength and task.name in baseline.tasks and not strength_known:
            msg = f"baseline {baseline.name}: expected LQ scans of a known strength, got LQ files; leave it out"
            raise UsageError(msg)
    # one that needs the strength reads it as its own tasks' (a k-space factor), so it stays with them
    return [baseline for baseline in named if not baseline.needs_strength or task.name in baseline.tasks]


def tuned_baselines(
    baselines: list[Baseline],
    data: TuningData,
    *,
    task: Task,
    rule: IntensityRule,
    protocol: str,
    progress: Callable[[str, int, int], None],
) -> list[TunedBaseline]:
    """Tune each baseline on the same slices.

    Raises:
        UsageError: no training scans, or none with a usable slice.
    """
    if not baselines:
        return []
    examples = draw_slices(data, task=task, rule=rule)
    tuned = []
    for index, baseline in enumerate(baselines):
        progress(f"{task.name}: tuning {baseline.name}", index, len(baselines))
        tuned.append(tune(baseline, examples, task=task, protocol=find_protocol(protocol)))
    return tuned


def draw_slices(data: TuningData, *, task: Task, rule: IntensityRule) -> list[TrainingSlice]:
    """Seeded random slices of the training split with something in them.

    Scans are drawn in proportion to their size on disk, a stand-in for their voxels that needs no reading, and their
    slices evenly.

    Raises:
        UsageError: no training scans, or none with a usable slice.
    """
    rng = np.random.default_rng(zlib.crc32(f"{data.seed}/{task.name}/tuning".encode()))
    pairs = find_scans(data.root, task, data.split)
    size = np.array([_bytes(pair.reference) for pair in pairs], dtype=np.float64)
    drawn = Counter(rng.choice(len(pairs), size=data.slices, p=size / size.sum()).tolist())
    examples: list[TrainingSlice] = []
    reason = ""
    for index, count in sorted(drawn.items()):
        try:
            examples += _examples(pairs[index], data, rng, task=task, rule=rule, count=count)
        except (UsageError, VolumeReadError) as error:  # such a scan costs its slices; the report says how many were
            reason = reason or f": {error}"
    if not examples:
        msg = f"{data.root}: expected {data.split} scans of {task.name} to tune baselines on, got none that can be used"
        raise UsageError(msg + reason)
    return examples


def _examples(
    pair: ScanPair, data: TuningData, rng: np.random.Generator, *, task: Task, rule: IntensityRule, count: int
) -> list[TrainingSlice]:
    hq = read_scan(pair.reference, task)
    check_scan(hq, task)
    window = evaluation_window(task, hq.array, rule=rule)
    stack = slices_along(hq.array, through_plane_axis(hq.geometry))
    order = (int(index) for index in rng.permutation(len(stack)))
    indices = list(islice((index for index in order if not is_constant(stack[index], window)), count))
    if not indices:
        return []
    if pair.lq is None:
        seed = scan_seed(data.seed, task, pair.place)
        lq = simulate_slices(hq, task, indices, strength=data.strength, seed=seed)
    else:
        partner = read_partner(pair.lq, hq, task)
        lq = slices_along(partner.array, through_plane_axis(hq.geometry))[indices]
        if (np.isnan(lq) & ~np.isnan(stack[indices])).any():
            msg = f"{pair.lq.name}: expected values wherever the reference has some, got NaN"
            raise VolumeReadError(msg)
    known = data.strength if pair.lq is None else None
    return [
        TrainingSlice(low, high, SliceContext.of(low, window=window, strength=known))
        for low, high in zip(lq, stack[indices], strict=True)
    ]


def _bytes(path: Path) -> int:
    return max(1, sum(file.stat().st_size for file in members_of(path)))
