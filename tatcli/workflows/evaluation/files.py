"""Score restored files against their references: one pair, or folders whose scans have equal names."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

import tatcli
from tatcli.errors import MissingPartnerError, PartialFailure, TatError, UsageError, VolumeReadError
from tatcli.inference.guards import check_header, check_values, name_of
from tatcli.inference.value_summary import summarise as values_of
from tatcli.metrics import evaluation_window, find_protocol
from tatcli.tasks import TASKS, Task, find_task, task_for_modality
from tatcli.training.subjects import check_found
from tatcli.volumes.grids import check_grid
from tatcli.volumes.padding import without_padding
from tatcli.volumes.reading import read_volume
from tatcli.volumes.slices import through_plane_axis
from tatcli.workflows.evaluation.grids import read_mask, stack_of, step_sizes
from tatcli.workflows.evaluation.matching import RESTORED, Matched, match_scans
from tatcli.workflows.evaluation.report import INPUT, EvaluateReport, ScanScores, TaskReport, averaging
from tatcli.workflows.evaluation.scoring import ScanStacks, score_scan
from tatcli.workflows.evaluation.summary import compare_methods, summarise

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tatcli.volumes.volume import Volume
    from tatcli.workflows.evaluation.config import EvaluateConfig
    from tatcli.workflows.evaluation.report import Kind

__all__ = ["evaluate_files"]

OTHER: Final = "other"
"""The second method's restored scans."""


def evaluate_files(
    config: EvaluateConfig, *, progress: Callable[[str, int, int], None] = lambda *_: None
) -> EvaluateReport:
    """Score the config's restored scans, and their inputs and another method's where given.

    Of folders, scans that can't be scored are listed in the report with the error's name; a single scan's error is
    raised.

    Raises:
        UsageError: the task can't be told, or the scans need different tasks.
        TaskMismatchError, UnitsError: a scan's modality or values aren't the task's.
        VolumeReadError: a scan can't be read, or holds NaN where its reference has values.
        GeometryError: a scan's grid isn't its reference's.
        EmptyMaskError: nothing is left by the mask.
        PartialFailure: no scan of the folders could be scored.
    """
    start = time.perf_counter()
    if config.restored is None or config.reference is None:
        msg = "evaluate: expected a restored scan and its reference"
        raise UsageError(msg)
    protocol = find_protocol(config.protocol)
    roles = {RESTORED: config.restored, INPUT: config.input, OTHER: config.compare}
    folders = {role: path for role, path in roles.items() if path is not None}
    matched = match_scans(config.reference, folders)
    check_found(config.subjects, matched.scans)
    task, scans, failures = _scored(matched, config, progress)
    kinds: dict[str, Kind] = {INPUT: "input"} if config.input is not None else {}
    kinds[RESTORED] = "network"
    if config.compare is not None:
        kinds[OTHER] = "network"
    rows = summarise(scans, kinds)
    if not rows or task is None:
        if failures:
            msg = f"{config.restored}: expected scans that can be scored, got none ({next(iter(failures.values()))})"
            raise PartialFailure(msg)
        msg = f"{config.reference}: expected slices with structure inside the evaluation window, got constant ones only"
        raise VolumeReadError(msg)
    settings: dict[str, object] = {
        "reference": config.reference,
        **folders,
        "mask": config.mask,
        "subjects": config.subjects,
    }
    settings["units"] = config.units
    return EvaluateReport(
        version=tatcli.__version__,
        protocol=protocol.name,
        protocol_summary=protocol.summary,
        averaging=averaging(protocol),
        settings={key: str(value) for key, value in settings.items() if value is not None},
        weights={},
        tasks=(
            TaskReport(
                task=task.name,
                units=task.units.value,
                strength=None,
                strength_name=task.strength_name,
                methods=rows,
                scans=tuple(scans),
                tuning={},
                failures=failures,
                unused=matched.unused,
                tests=compare_methods(scans, RESTORED, [kind for kind in kinds if kind != RESTORED]),
            ),
        ),
        seconds=time.perf_counter() - start,
    )


def _scored(
    matched: Matched, config: EvaluateConfig, progress: Callable[[str, int, int], None]
) -> tuple[Task | None, list[ScanScores], dict[str, str]]:
    """The task, the scans' scores, and name -> error of those that can't be scored."""
    task = find_task(config.tasks[0]) if config.tasks else None
    scans = []
    failures = {name: str(error) for name, error in matched.missing.items()}
    for index, (name, (reference, partners)) in enumerate(matched.scans.items()):
        try:
            truth = _read(reference, task, config)
            task = task or _task_of(truth, reference)
            _check(truth, task, config)
            scans.append(_score(name, truth, partners, task=task, config=config))
        except TatError as error:
            of_the_call = isinstance(error, UsageError) and not isinstance(error, MissingPartnerError)
            if of_the_call or not matched.folders:
                raise
            failures[name] = str(error)
        progress("scoring", index + 1, len(matched.scans))
    return task, scans, failures


def _score(name: str, truth: Volume, partners: dict[str, Path], *, task: Task, config: EvaluateConfig) -> ScanScores:
    axis = through_plane_axis(truth.geometry)
    truth, hidden = without_padding(truth, task.intensity)  # (padding is no anatomy)
    reference = stack_of(truth, axis)
    methods: dict[str, NDArray[np.float32]] = {}
    for role in (INPUT, RESTORED, OTHER):
        if role not in partners:
            continue
        volume = _read(partners[role], task, config)
        _check(volume, task, config)
        check_grid(volume, truth, partners[role].name)
        if hidden is not None:
            volume = replace(volume, array=np.where(hidden, truth.array, volume.array))
        methods[role] = stack_of(volume, axis)
    mask = None if config.mask is None else read_mask(config.mask, name, truth, axis=axis)
    stacks = ScanStacks(
        name=name,
        reference=reference,
        methods=methods,
        window=evaluation_window(task, truth.array),
        indices=tuple(range(len(reference))),
        geometry=truth.geometry,
        axis=axis,
        spacing=step_sizes(truth, axis),
        whole=truth.frames == 1,
        mask=mask,
    )
    return score_scan(stacks, task, config)


def _read(path: Path, task: Task | None, config: EvaluateConfig) -> Volume:
    """A volume in the task's units, where neither the file nor the caller says others."""
    return read_volume(path, units=config.units or (None if task is None else task.units))


def _check(volume: Volume, task: Task, config: EvaluateConfig) -> None:
    """The guards of restoring, but for those against scans with nothing to restore: such may have been restored."""
    check_header(volume.header, task)
    found = values_of(volume)
    if config.units is None and found.lower < found.upper:
        check_values(found, task, name_of(volume))


def _task_of(volume: Volume, path: Path) -> Task:
    task = task_for_modality(volume.provenance.modality)
    if task is None:
        got = volume.provenance.modality or "a file that doesn't say"
        msg = f"{path.name}: expected a modality to tell the task by, got {got}; add --tasks ({', '.join(TASKS)})"
        raise UsageError(msg)
    return task
