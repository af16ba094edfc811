"""The error tree. Every error a user can cause is a child of :class:`TatError` and carries its exit code.

A message is one line: what was expected, what came, what to do, with the file's name in front.
Exit code 1 is kept for bugs (an uncaught exception with its traceback), 130 for Ctrl-C.
"""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from pathlib import Path

__all__ = [
    "DeviceError",
    "EmptyMaskError",
    "GeometryError",
    "MissingPartnerError",
    "OutputError",
    "PartialFailure",
    "TaskMismatchError",
    "TatError",
    "UnitsError",
    "UsageError",
    "VolumeReadError",
    "WeightsError",
    "place_of",
    "reason_of",
    "some_of",
]


class TatError(Exception):
    """Base of every error that tat raises on purpose."""

    exit_code = 1


class UsageError(TatError):
    """The command or call is wrong: an unknown task, an option out of range."""

    exit_code = 2


class MissingPartnerError(UsageError):
    """A scan has no scan of equal name where one is needed: no reference, no input, no mask."""


class OutputError(UsageError):
    """The output can't be written where asked: it exists, equals the input, or its folder is not writable."""


class VolumeReadError(TatError):
    """The input is missing, damaged, or not an image that tat restores."""

    exit_code = 3


class GeometryError(VolumeReadError):
    """The input's grid is unusable: zero-sized axes, 5-D, slices that don't form a stack."""


class EmptyMaskError(VolumeReadError):
    """A mask has no voxel, or none where the scan can be scored."""


class UnitsError(VolumeReadError):
    """The values can't be in the units that the task needs."""


class TaskMismatchError(VolumeReadError):
    """The input's modality contradicts the task."""


class WeightsError(TatError):
    """The weights are missing, damaged, unsafe to load, or of another architecture."""

    exit_code = 4


class DeviceError(TatError):
    """The device is unknown, absent, or out of memory after every fall-back."""

    exit_code = 5


class PartialFailure(TatError):
    """Some scans of a batch failed; the rest is complete."""

    exit_code = 6


def reason_of(error: Exception) -> str:
    """What to say after "got" of an error that isn't ours: the system's words for its own, else kind and text."""
    if isinstance(error, FileNotFoundError):
        return "nothing there"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"{type(error).__name__}: {error}"


def place_of(error: BaseException) -> str:
    """Kind and place of an exception, not its text: that may quote the header of a scan."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" in {Path(frames[-1].filename).name}, line {frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{place}"


def some_of(names: Sequence[str]) -> str:
    """The first five names, for a line that tells of them all."""
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
