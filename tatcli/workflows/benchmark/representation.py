"""``tat benchmark representation``: what the task representation Z of real slices tells apart.

The network is given no task label: TREN must find the task in the image. Z of degraded slices, and of their clean
references, is projected onto its two principal components; numbers say how well tasks separate, and whether a clean
slice is told from a degraded one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tatcli.errors import UsageError, VolumeReadError, WeightsError
from tatcli.tasks import find_task
from tatcli.workflows.benchmark.representation_report import (
    CLEAN,
    DEGRADED,
    Point,
    RepresentationReport,
    summarise_points,
)

if TYPE_CHECKING:
    from tatcli.intensity import IntensityRule
    from tatcli.model.tat import Tat
    from tatcli.tasks import Task
    from tatcli.training.pairs import ScanPair

__all__ = ["RepresentationConfig", "represent"]

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, kw_only=True)
class RepresentationConfig:
    """Options of ``tat benchmark representation``.

    Attributes:
        data: a dataset.
        split: of it.
        tasks: names or aliases; empty: all that the dataset has.
        weights: name or path; None: the released ones.
        max_slices: evenly spaced slices of each scan; 0: all.
        seed: of the simulated noise, at the tasks' default strengths.
        device, threads: of the machine.
        picture: a PNG; None: none.
        overwrite: whether it may exist.
    """

    data: Path
    split: str = "val"
    tasks: tuple[str, ...] = ()
    weights: str | None = None
    max_slices: int = 6
    seed: int = 0
    device: str = "auto"
    threads: int | None = None
    picture: Path | None = None
    overwrite: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "tasks", tuple(dict.fromkeys(find_task(name).name for name in self.tasks)))
        if self.max_slices < 0:
            msg = f"--max-slices: expected 0 (all) or more, got {self.max_slices}"
            raise UsageError(msg)
        if self.seed < 0:
            msg = f"--seed: expected 0 or more, got {self.seed}"
            raise UsageError(msg)


def represent(config: RepresentationConfig, *, progress: Progress = lambda *_: None) -> RepresentationReport:
    """Take Z of slices of each scan, degraded and clean; scans that can't be used are listed in the report.

    Args:
        config: of what.
        progress: is called with (what is being done, done, in all).

    Raises:
        UsageError: no dataset, no scans of a task, a picture that isn't named .png, or fewer than three slices.
        WeightsError: the weights are missing, damaged, or not trained for a task.
        DeviceError: the device is absent, or doesn't compute as it should.
        OutputError: the picture exists, or can't be written.
    """
    from tatcli.inference.gpus import check_it_computes
    from tatcli.inference.runtime import check_against_cpu, prepare_runtime
    from tatcli.model.weights import DEFAULT_WEIGHTS, load_weights
    from tatcli.reporting.figures import check_png
    from tatcli.training.pairs import find_pairs
    from tatcli.workflows.evaluation.dataset import tasks_of

    if config.picture is not None:
        check_png(config.picture, overwrite=config.overwrite)
    tasks = tasks_of(config.data, config.tasks, config.split)
    runtime = prepare_runtime(device=config.device, precision="fp32", threads=config.threads)
    check_it_computes(runtime.device)
    network, card = load_weights(config.weights or DEFAULT_WEIGHTS)
    if runtime.device.type == "mps":
        check_against_cpu(network, runtime.device)
    network = network.to(runtime.device).eval()
    rules = {task.name: card.intensity_rule(task) for task in tasks}
    pairs: list[tuple[Task, ScanPair]] = []
    failures: dict[str, str] = {}
    for task in tasks:
        found, lonely = find_pairs(config.data, task, config.split)
        pairs += [(task, pair) for pair in found]
        for name in lonely:
            failures[f"{task.name}: {name}"] = f"{name}: expected a scan of equal name in LQ, found none"
    points: list[Point] = []
    for number, (task, pair) in enumerate(pairs):
        progress(f"{task.name}: {pair.place}", number, len(pairs))
        try:
            points += _points_of_scan(pair, task, network, rules[task.name], config)
        except (UsageError, VolumeReadError) as error:
            failures[f"{task.name}: {pair.place}"] = str(error)
    progress("done", len(pairs), len(pairs))
    return summarise_points(
        points,
        weights={"name": card.name, "sha256": card.sha256},
        failures=failures,
        picture=config.picture,
        overwrite=config.overwrite,
    )


def _points_of_scan(
    pair: ScanPair, task: Task, network: Tat, rule: IntensityRule, config: RepresentationConfig
) -> list[Point]:
    import torch

    from tatcli.inference.holes import filled
    from tatcli.workflows.evaluation.degraded import degrade, mid_positions

    scan = degrade(pair, task, rule=rule, strength=task.default_strength, seed=config.seed)
    if scan is None:
        return []
    window = rule.window_for(scan.lq.array)
    chosen = mid_positions(scan.count, config.max_slices or None)
    device = next(network.parameters()).device
    points = []
    for kind, slices in zip((DEGRADED, CLEAN), scan.slices(chosen), strict=True):
        for slice_ in (filled(each, fallback=window.lower) for each in slices):
            if slice_.min() == slice_.max():
                continue
            x = torch.from_numpy(window.normalise(window.clip(slice_)).astype(np.float32))[None, None]
            with torch.inference_mode():
                z = network.task_representation(x.to(device))[0]
            if not torch.isfinite(z).all():
                msg = "weights: expected a finite task representation, got NaN or infinity; choose other --weights"
                raise WeightsError(msg)
            points.append(Point(task=task.name, scan=scan.name, kind=kind, z=tuple(z.tolist())))
    return points
