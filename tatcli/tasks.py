"""The one table of tasks: CLI choices, documentation, guards and tests all derive from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tatcli.errors import UsageError
from tatcli.intensity import FixedRange, IntensityRule, RobustRange, Units, Window

__all__ = ["MRI_RANGES", "TASKS", "Task", "find_task", "find_units", "task_for_modality"]


@dataclass(frozen=True)
class Task:
    """A restoration task: which scans it takes, in which units, and how it is scored.

    Attributes:
        name: the CLI name, such as ``ct-denoise``.
        aliases: other names that :func:`find_task` takes.
        modality: DICOM Modality (0008,0060): CT, PT or MR.
        folder: modality folder of the published dataset layout (PET, CT, MRI).
        units: units that the network was trained in.
        intensity: default map onto the network's [0, 1]; a weights card overrides it.
        evaluation_window: scores are computed inside it; None: the scan's own network range.
        default_strength: the published benchmark's degradation strength.
        strength_name: what the strength means.
        training_strengths: the range of strengths that training draws from.
    """

    name: str
    aliases: tuple[str, ...]
    modality: str
    folder: str
    units: Units
    intensity: IntensityRule
    evaluation_window: Window | None
    default_strength: float
    strength_name: str
    training_strengths: tuple[float, float]
    summary: str


TASKS: Final[dict[str, Task]] = {
    task.name: task
    for task in (
        Task(
            name="ct-denoise",
            aliases=("ct",),
            modality="CT",
            folder="CT",
            units=Units.HU,
            intensity=FixedRange(Window(-1024.0, 3072.0)),
            evaluation_window=Window(-160.0, 240.0),
            default_strength=0.25,
            strength_name="dose fraction",
            training_strengths=(0.05, 0.6),
            summary="low-dose CT to full-dose CT",
        ),
        Task(
            name="pet-synthesis",
            aliases=("pet",),
            modality="PT",
            folder="PET",
            units=Units.SUVBW,
            intensity=FixedRange(Window(0.0, 20.0)),
            evaluation_window=Window(0.0, 20.0),
            default_strength=12.0,
            strength_name="dose reduction factor",
            training_strengths=(4.0, 40.0),
            summary="low-count PET to full-count PET",
        ),
        Task(
            name="mri-sr",
            aliases=("mri", "mr"),
            modality="MR",
            folder="MRI",
            units=Units.ARBITRARY,
            intensity=RobustRange(99.5),
            evaluation_window=None,
            default_strength=4.0,
            strength_name="k-space factor",
            training_strengths=(1.0, 4.0),
            summary="low-resolution MRI to high-resolution MRI on the same matrix",
        ),
    )
}


MRI_RANGES: Final[dict[str, IntensityRule]] = {"paper": FixedRange(Window(0.0, 4095.0)), "robust": RobustRange(99.5)}
"""Network ranges that MR scans are brought to: the paper's, for 12 bits, and each scan's own."""


def find_task(name: str) -> Task:
    """The task of this name or alias (case-insensitive).

    Raises:
        UsageError: no such task; the message lists the known ones.
    """
    wanted = name.strip().lower()
    for task in TASKS.values():
        if wanted == task.name or wanted in task.aliases:
            return task
    known = ", ".join(f"{task.name} ({', '.join(task.aliases)})" for task in TASKS.values())
    msg = f"unknown task {name!r}: expected one of {known}"
    raise UsageError(msg)


def find_units(word: str) -> Units:
    """The units of this name (case-insensitive); units are themselves.

    Raises:
        UsageError: no such units; the message lists those that a caller can vouch for.
    """
    if isinstance(word, Units):
        return word
    known = [units for units in Units if units is not Units.UNKNOWN]
    for units in known:
        if word.strip().lower() == units.lower():
            return units
    msg = f"units {word!r}: expected one of {', '.join(known)}"
    raise UsageError(msg)


def task_for_modality(modality: str | None) -> Task | None:
    """The task that fits a DICOM modality, or None."""
    return next((task for task in TASKS.values() if task.modality == modality), None)
