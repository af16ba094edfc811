"""Score restored files against their references: one pair, or folders whose scans have equal names."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

import tatcli
from tatcli.errors import GeometryError, UsageError, VolumeReadError
from tatcli.metrics import evaluation_window, find_protocol, score_volume
from tatcli.tasks import TASKS, Task, find_task, task_for_modality
from tatcli.volumes.formats import extension_of
from tatcli.volumes.reading import read_volume
from tatcli.volumes.slices import slices_along, through_plane_axis
from tatcli.workflows.evaluation.report import INPUT, EvaluateReport, ScanScores, TaskReport, summarise

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tatcli.metrics import Protocol
    from tatcli.volumes.volume import Volume
    from tatcli.workflows.evaluation.config import EvaluateConfig
    from tatcli.workflows.evaluation.report import Kind

__all__ = ["evaluate_files", "match_scans"]

RESTORED: Final = "restored"
_SUFFIX: Final = "_restored"


def evaluate_files(
    config: EvaluateConfig, *, progress: Callable[[str, int, int], None] = lambda *_: None
) -> EvaluateReport:
    """Score the config's restored scans, and their inputs where given.

    Raises:
        UsageError: a scan has no partner, the task can't be told, or the scans need different tasks.
        VolumeReadError: a scan can't be read, or holds NaN where its reference has values.
        GeometryError: a scan's grid isn't its reference's.
    """
    start = time.perf_counter()
    if config.restored is None or config.reference is None:
        msg = "evaluate: expected a restored scan and its reference"
        raise UsageError(msg)
    protocol = find_protocol(config.protocol)
    folders = {RESTORED: config.restored} | ({INPUT: config.input} if config.input is not None else {})
    matched = match_scans(config.reference, folders)
    task = find_task(config.tasks[0]) if config.tasks else None
    scans = []
    for index, (name, (reference, partners)) in enumerate(matched.items()):
        truth = _read(reference, task)
        task = task or _task_of(truth, reference)
        scans.append(_score(name, truth, partners, task=task, protocol=protocol))
        progress("scoring", index + 1, len(matched))
    if task is None:  # pragma: no cover - match_scans finds at least one
        raise AssertionError
    kinds: dict[str, Kind] = {INPUT: "input"} if config.input is not None else {}
    kinds[RESTORED] = "network"
    rows = summarise(scans, kinds)
    if not rows:
        msg = f"{config.reference}: expected slices with structure inside the evaluation window, got constant ones only"
        raise VolumeReadError(msg)
    return EvaluateReport(
        version=tatcli.__version__,
        protocol=protocol.name,
        protocol_summary=protocol.summary,
        averaging=f"per {protocol.per}, then mean over scans",
        settings={key: str(path) for key, path in {"reference": config.reference, **folders}.items()},
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
            ),
        ),
        seconds=time.perf_counter() - start,
    )


def match_scans(reference: Path, others: dict[str, Path]) -> dict[str, tuple[Path, dict[str, Path]]]:
    """Pair references with their restored scans and inputs.

    Args:
        reference: a scan, or a folder of scans.
        others: role -> a scan, or a folder with a scan for each of the restored ones.

    Returns:
        Name -> (reference, role -> partner), sorted. Every restored scan is there; references beyond them are not.

    Raises:
        UsageError: folders and single scans are mixed, a folder is empty, names collide or have no partner.
    """
    folders = {role: _is_folder_of_scans(path) for role, path in {"reference": reference, **others}.items()}
    if len(set(folders.values())) > 1:
        among = ", ".join(role for role, folder in folders.items() if folder)
        msg = f"evaluate: expected single scans or folders of scans throughout, got a folder as {among} only"
        raise UsageError(msg)
    if not folders["reference"]:
        return {_stem(reference): (reference, dict(others))}
    truths = _scans_in(reference)
    found = {role: _scans_in(path) for role, path in others.items()}
    matched = {}
    for name in found[RESTORED]:
        for folder, scans in ((reference, truths), *((others[role], scans) for role, scans in found.items())):
            if name not in scans:
                msg = f"{found[RESTORED][name].name}: expected a scan of equal name in {folder}, found none"
                raise UsageError(msg)
        matched[name] = (truths[name], {role: scans[name] for role, scans in found.items()})
    return matched


def _score(name: str, truth: Volume, partners: dict[str, Path], *, task: Task, protocol: Protocol) -> ScanScores:
    axis = through_plane_axis(truth.geometry)
    window = evaluation_window(task, truth.array)
    reference = _stack(truth, axis)
    methods = {}
    for role, path in partners.items():
        volume = _read(path, task)
        _check_grid(volume, truth, path)
        try:
            methods[role] = score_volume(_stack(volume, axis), reference, task=task, window=window, protocol=protocol)
        except ValueError as error:
            msg = f"{path.name}: {error}"
            raise VolumeReadError(msg) from error
    return ScanScores(name, (window.lower, window.upper), tuple(range(len(reference))), methods)


def _read(path: Path, task: Task | None) -> Volume:
    """A volume in the task's units, where the file doesn't say its own."""
    return read_volume(path, units=None if task is None else task.units)


def _task_of(volume: Volume, path: Path) -> Task:
    task = task_for_modality(volume.provenance.modality)
    if task is None:
        got = volume.provenance.modality or "a file that doesn't say"
        msg = f"{path.name}: expected a modality to tell the task by, got {got}; add --tasks ({', '.join(TASKS)})"
        raise UsageError(msg)
    return task


def _check_grid(volume: Volume, truth: Volume, path: Path) -> None:
    ours, expected = volume.geometry, truth.geometry
    if volume.array.shape != truth.array.shape:
        msg = f"{path.name}: expected the reference's shape {truth.array.shape}, got {volume.array.shape}"
        raise GeometryError(msg)
    if "npy" in (volume.provenance.format, truth.provenance.format):
        return  # bare arrays have no grid
    corners = np.array([[x, y, z, 1.0] for x in (0, 1) for y in (0, 1) for z in (0, 1)])
    corners[:, :3] *= np.array(expected.shape[::-1]) - 1.0
    apart = np.linalg.norm((corners @ (ours.affine - expected.affine).T)[:, :3], axis=1).max()
    if apart > 0.5 * min(expected.spacing):
        msg = f"{path.name}: expected the reference's grid, got one whose corners lie up to {apart:.3g} mm away"
        raise GeometryError(msg)


def _stack(volume: Volume, axis: int) -> NDArray[np.float32]:
    """The slices of all frames, (frames * slices, rows, columns)."""
    stacks = [slices_along(frame, axis) for frame in volume.iter_frames()]
    return stacks[0] if len(stacks) == 1 else np.concatenate(stacks)


def _is_folder_of_scans(path: Path) -> bool:
    """False for files and for a folder that is one DICOM series; the scans' folder has image files or folders in it."""
    if not path.exists():
        msg = f"{path}: expected a scan or a folder of scans, got nothing there; check the path"
        raise VolumeReadError(msg)
    return path.is_dir() and bool(_entries(path))


def _entries(folder: Path) -> list[Path]:
    """Image files other than DICOM, and folders."""
    return [
        entry
        for entry in sorted(folder.iterdir())
        if not entry.name.startswith(".") and (entry.is_dir() or extension_of(entry) not in (None, ".dcm", ".ima"))
    ]


def _scans_in(folder: Path) -> dict[str, Path]:
    scans: dict[str, Path] = {}
    for entry in _entries(folder):
        name = _stem(entry)
        if name in scans:
            msg = f"{folder}: expected one scan named {name}, got {scans[name].name} and {entry.name}"
            raise UsageError(msg)
        scans[name] = entry
    return scans


def _stem(path: Path) -> str:
    """The name without its extension and without the suffix that restore gives."""
    extension = extension_of(path)
    return path.name[: len(path.name) - len(extension or "")].removesuffix(_SUFFIX)
