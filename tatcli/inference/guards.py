"""Scans that a task must not take: another modality, other units, values that can't be in its units.

The checks refuse what is impossible, not what is unusual: a crop of soft tissue has no air, a late PET has low uptake.
Each can be overridden by the caller's word.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from tatcli.errors import TaskMismatchError, UnitsError, VolumeReadError
from tatcli.inference.value_summary import ValueSummary, summarise
from tatcli.intensity import Units
from tatcli.tasks import Task, task_for_modality
from tatcli.volumes.volume import ScanHeader, Volume

__all__ = ["check_header", "check_scan", "check_summary", "check_values", "name_of"]

_SMALLEST_HU_RANGE: Final = 2.0
_WATER_WITH_OFFSET: Final = (850.0, 1250.0)
"""Soft tissue as scanners store it: HU + 1000 or HU + 1024."""
_MUCH_TISSUE: Final = 0.15
_MARROW: Final = -50.0
"""Fat and fatty marrow, lung and air lie below; of stored numbers hardly any, whose air is at 0 to 24 or so."""
_FEW: Final = 1e-3
_ZERO_BACKGROUND: Final = 0.02
_LARGEST_HU: Final = 3100.0
"""12-bit HU end at 3071; single voxels of metal may exceed it, half of a scan can't."""
_LARGEST_SUV: Final = 300.0
"""Its mean over a body is below 1 by definition; a bladder reaches 100."""
_LOWEST_SUV: Final = -100.0
_LARGEST_NEGATIVE_FRACTION: Final = 0.25
"""MR magnitudes are positive; filters ring a little below zero, phase and real images are negative by halves."""

_NO_MAGNITUDE: Final = {
    **dict.fromkeys(("P", "PHASE", "PHASE MAP", "PHASE_MAP"), "phases"),
    **dict.fromkeys(("R", "REAL", "I", "IMAGINARY"), "a part of complex images"),
    **dict.fromkeys(("VELOCITY MAP", "VELOCITY_MAP"), "velocities"),
    **dict.fromkeys(
        ("ADC", "FA", "T1 MAP", "T1_MAP", "T2 MAP", "T2_MAP", "T2_STAR MAP", "DENSITY MAP", "FIELD_MAP"), "a map"
    ),
}
"""Words from the third value of ImageType on: PS3.3 C.8.3.1.1.1 (MR) and C.8.13.3.1 (enhanced MR), and those of Siemens
and Philips (dcm2niix, of the same)."""


def check_scan(
    volume: Volume,
    task: Task,
    *,
    trust_values: bool = False,
    ignore_modality: bool = False,
    summary: ValueSummary | None = None,
) -> ValueSummary:
    """Refuse a scan that the task can't take.

    Args:
        volume: the scan.
        task: what is to be done with it.
        trust_values: skip the check of the values' plausibility.
        ignore_modality: take a scan whose header names another modality.
        summary: of its values, where it was made already.

    Returns:
        The summary of its values.

    Raises:
        TaskMismatchError: the modality is not the task's, or an MR image is no magnitude.
        UnitsError: the units are known and not the task's, or the values can't be in them.
        VolumeReadError: there is nothing to restore: no finite voxel, or a constant image.
    """
    check_header(volume.header, task, ignore_modality=ignore_modality)
    summary = summary or summarise(volume)
    check_summary(summary, task, name_of(volume), trust_values=trust_values)
    return summary


def check_summary(summary: ValueSummary, task: Task, name: str, *, trust_values: bool = False) -> None:
    """What can be refused once the values are known, beside :func:`check_header`.

    Args:
        summary: of the scan's values.
        task: what is to be done with it.
        name: of the scan, for messages.
        trust_values: skip the check of the values' plausibility.

    Raises:
        UnitsError: the values can't be in the task's units.
        VolumeReadError: there is nothing to restore.
    """
    check_content(summary, name)
    if not trust_values:
        check_values(summary, task, name)


def check_header(scan: ScanHeader, task: Task, *, ignore_modality: bool = False) -> None:
    """What can be refused before the voxels are read.

    Raises:
        TaskMismatchError: the modality is not the task's, or an MR image is no magnitude.
        UnitsError: the units are known and not the task's.
    """
    name = name_of(scan)
    if not ignore_modality:
        check_modality(scan.provenance.modality, task, name)
        check_kind(scan.provenance.kind, task, name)
    check_units(scan.units, task, name)


def name_of(scan: Volume | ScanHeader) -> str:
    """What messages call a scan."""
    path = scan.provenance.path
    return "volume" if path is None else path.name or str(path)


def check_modality(modality: str | None, task: Task, name: str) -> None:
    """Compare a scan's modality, where it is known, with the task's.

    Raises:
        TaskMismatchError: they differ.
    """
    if modality is None or modality == task.modality:
        return
    fitting = task_for_modality(modality)
    advice = (
        f"choose --task {fitting.name}" if fitting else "no task takes it; if the header is wrong, --ignore-modality"
    )
    msg = f"{name}: expected {task.modality} for {task.name}, got {modality}; {advice}"
    raise TaskMismatchError(msg)


def check_kind(kind: tuple[str, ...], task: Task, name: str) -> None:
    """Refuse MR images of a phase, of a complex image's parts, or of a quantity, by the words of their ImageType.

    Their values may look like magnitudes, but no scanner's k-space led to them as it leads to a magnitude: restored, a
    phase would be torn at its wraps, and a map would show other quantities than were measured.

    Raises:
        TaskMismatchError: one of them.
    """
    found = next((word for word in kind[2:] if word in _NO_MAGNITUDE), None)
    if task.modality == "MR" and found is not None:
        msg = f"{name}: expected MR magnitudes for {task.name}, got {_NO_MAGNITUDE[found]} (ImageType {found}); "
        raise TaskMismatchError(msg + "if the header is wrong, --ignore-modality")


def check_units(units: Units, task: Task, name: str) -> None:
    """Compare a scan's units, where they are known, with the task's.

    Raises:
        UnitsError: they differ.
    """
    if units in (task.units, Units.UNKNOWN):
        return
    msg = f"{name}: expected {task.units} for {task.name}, got {units}; convert it first"
    raise UnitsError(msg)


def check_content(summary: ValueSummary, name: str) -> None:
    """Refuse scans with nothing to restore.

    Raises:
        VolumeReadError: no voxel is finite, or all finite ones have the same value.
    """
    if not np.isfinite(summary.lower):
        msg = f"{name}: expected an image, got {summary.nonfinite} voxels that are all NaN or infinite; export it again"
        raise VolumeReadError(msg)
    if summary.lower == summary.upper:
        msg = f"{name}: expected an image, got a constant of {summary.lower:g}; there is nothing to restore"
        raise VolumeReadError(msg)


def check_values(summary: ValueSummary, task: Task, name: str) -> None:
    """Refuse values that can't be in the task's units.

    Raises:
        UnitsError: with what they look like.
    """
    problem = _PROBLEMS[task.units](summary)
    if problem:
        msg = (
            f"{name}: expected {task.units} for {task.name}, got values from {summary.lower:g} to {summary.upper:g}, "
            f"{problem}; {_advice(task, name)}, or vouch for it with --units {task.units}"
        )
        raise UnitsError(msg)


def _advice(task: Task, name: str) -> str:
    if task.units is Units.SUVBW and name.endswith((".nii", ".nii.gz")):
        return "convert it, put its BIDS sidecar beside it (NAME_pet.nii.gz, NAME_pet.json)"
    return "convert it"


def _hu_problem(summary: ValueSummary) -> str:
    sample = summary.sample
    if summary.upper - summary.lower <= _SMALLEST_HU_RANGE:
        return "which look normalised"
    if summary.integer_bits == 8:
        return "stored as 8-bit grey values"
    if sample.size and np.median(sample) > _LARGEST_HU:
        return "most of them beyond any tissue"
    padded = summary.padding is not None and summary.lower < 0  # by -2000, say, in stored numbers too
    shown = sample[sample != np.float32(summary.lower)] if padded else sample
    if not shown.size or np.mean(shown < _MARROW) > _FEW:
        return ""
    lowest, highest = _WATER_WITH_OFFSET
    # As HU these would be dense bone, which never comes without marrow or fat.
    if np.mean((shown >= lowest) & (shown <= highest)) > _MUCH_TISSUE:
        return "which look like stored numbers with an offset of 1000 or 1024"
    # Air is -1000, so a background of zeros is another modality's, or a mask's.
    zeros = summary.lower == 0 and np.mean(sample == 0) > _ZERO_BACKGROUND
    return "with a background of 0 instead of air" if zeros else ""


def _suv_problem(summary: ValueSummary) -> str:
    if (summary.lower, summary.upper) == (0.0, 1.0):
        return "which look normalised"
    if summary.integer_bits is not None:
        return "stored as whole numbers without rescale"
    if summary.lower < _LOWEST_SUV:
        return "which are too far below zero"
    positive = summary.sample[summary.sample > 0]
    if positive.size and np.percentile(positive, 99) > _LARGEST_SUV:
        return "which look like Bq/ml or counts"
    return ""


def _magnitude_problem(summary: ValueSummary) -> str:
    if summary.upper <= 0:
        return "none of them positive"
    if summary.sample.size and np.mean(summary.sample < 0) > _LARGEST_NEGATIVE_FRACTION:
        return "too many below zero for MR magnitudes"
    return ""


_PROBLEMS: Final = {Units.HU: _hu_problem, Units.SUVBW: _suv_problem, Units.ARBITRARY: _magnitude_problem}
