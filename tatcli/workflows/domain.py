"""Measure what the training's LQ scans were like, for the guards, and write it into the weights' card."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from tatcli.errors import UsageError, VolumeReadError, WeightsError
from tatcli.inference.domain import stack_statistics
from tatcli.inference.guards import check_scan
from tatcli.metrics import evaluation_window
from tatcli.model.weights import TaskCard, card_fields, find_weights
from tatcli.tasks import TASKS, Task
from tatcli.training.pairs import ScanPair, find_scans
from tatcli.volumes.replacing import replaced
from tatcli.volumes.slices import in_plane, slices_along, through_plane_axis
from tatcli.workflows.evaluation.degraded import (
    is_constant,
    mid_positions,
    read_partner,
    read_scan,
    scan_seed,
    simulate_slices,
)

if TYPE_CHECKING:
    from tatcli.intensity import IntensityRule

__all__ = ["DomainConfig", "DomainReport", "measure_domain"]

_MEASURED: Final = ("noise", "spacing_mm", "beyond")


@dataclass(frozen=True, kw_only=True)
class DomainConfig:
    """Options of ``tat weights domain``.

    Attributes:
        weights: a name or path; its card is rewritten.
        data: root of the training's dataset.
        split: of the scans.
        scans: at most so many of each task, evenly spaced in the list.
        slices: of each scan.
        seed: of the simulated noise.
    """

    weights: str
    data: Path
    split: str = "train"
    scans: int = 12
    slices: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        for option, value in (("--scans", self.scans), ("--slices", self.slices)):
            if value < 1:
                msg = f"{option}: expected a positive number, got {value}"
                raise UsageError(msg)


@dataclass(frozen=True)
class DomainReport:
    """What the card says now.

    Attributes:
        name: of the weights.
        tasks: its tasks by name.
        left_out: task, or task and scan -> why nothing was measured there.
    """

    name: str
    tasks: Mapping[str, TaskCard]
    left_out: Mapping[str, str] = field(default_factory=dict)


def measure_domain(
    config: DomainConfig, *, progress: Callable[[str, int, int], None] = lambda *_: None
) -> tuple[Path, DomainReport]:
    """Simulate training scans at both ends of the card's strengths, and keep the range of their statistics.

    Nothing else in the card changes, whatever network it is of and whichever version of tat wrote it.

    Returns:
        The card's file, and what it says now.

    Raises:
        WeightsError: no such weights, no card.
        UsageError: no scans of any of the card's tasks.
        OutputError: the card can't be written.
    """
    path = find_weights(config.weights)
    fields = card_fields(path)
    tasks = _tasks(path, fields)
    measured: dict[str, TaskCard] = {}
    left_out: dict[str, str] = {}
    for name, known in tasks.items():
        try:
            pairs = find_scans(config.data, TASKS[name], config.split)
        except UsageError as error:
            left_out[name] = str(error)
            continue
        found: list[dict[str, float]] = []
        chosen = [pairs[index] for index in mid_positions(len(pairs), config.scans)]
        for index, pair in enumerate(chosen):
            progress(f"{name}: {pair.place}", index, len(chosen))
            try:
                found += _statistics(pair, TASKS[name], known.intensity, known.strengths, config)
            except (UsageError, VolumeReadError) as error:
                left_out[f"{name}: {pair.place}"] = str(error)  # a scan that can't be simulated tells nothing
        if found:
            measured[name] = replace(known, domain=_ranges(found))
    if not measured:
        msg = f"{config.data}: expected {config.split} scans of {', '.join(tasks)}, got none that can be used:"
        msg += f" {next(iter(left_out.values()))}"
        raise UsageError(msg)
    for name, known in measured.items():
        fields["tasks"][name]["domain"] = {quantity: list(ends) for quantity, ends in known.domain.items()}
    target = path.with_suffix(".json")
    with replaced(target, extension=".json") as temporary:
        temporary.write_text(json.dumps(fields, indent=2) + "\n", encoding="utf-8")
    return target, DomainReport(str(fields.get("name", path.stem)), tasks | measured, left_out)


def _tasks(path: Path, fields: Mapping[str, Any]) -> dict[str, TaskCard]:
    """The card's tasks that this version of tat knows."""
    try:
        return {name: TaskCard.from_dict(task) for name, task in fields["tasks"].items() if name in TASKS}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        msg = f"{path.with_suffix('.json')}: expected a weights card (JSON), got {type(error).__name__}: {error}"
        raise WeightsError(msg) from error


def _statistics(
    pair: ScanPair, task: Task, rule: IntensityRule, strengths: tuple[float, float], config: DomainConfig
) -> list[dict[str, float]]:
    """One scan's, at each end of the strengths (of an LQ file: its own)."""
    hq = read_scan(pair.reference, task)
    check_scan(hq, task)
    axis = through_plane_axis(hq.geometry)
    stack = slices_along(hq.array, axis)
    window = evaluation_window(task, hq.array, rule=rule)
    usable = [index for index in range(len(stack)) if not is_constant(stack[index], window)]
    indices = [usable[place] for place in mid_positions(len(usable), config.slices)]
    if not indices:
        msg = f"{pair.reference.name}: expected slices with structure inside the window, got constant ones only"
        raise VolumeReadError(msg)
    if pair.lq is not None:
        degraded = [slices_along(read_partner(pair.lq, hq, task).array, axis)[indices]]
    else:
        seed = scan_seed(config.seed, task, pair.place)
        degraded = [simulate_slices(hq, task, indices, strength=strength, seed=seed) for strength in strengths]
    spacing = in_plane(hq.geometry.spacing, axis)
    return [stack_statistics(np.ascontiguousarray(lq), task, rule, spacing=spacing) for lq in degraded]


def _ranges(found: list[dict[str, float]]) -> dict[str, tuple[float, float]]:
    ranges = {}
    for name in _MEASURED:
        values = [statistics[name] for statistics in found if name in statistics]
        if values:
            ranges[name] = (float(f"{min(values):.4g}"), float(f"{max(values):.4g}"))
    return ranges
