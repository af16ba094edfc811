"""Scans that can be references: of the task, in its units, and large enough to show something."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

from tatcli.errors import GeometryError, TaskMismatchError, UnitsError
from tatcli.inference.guards import check_scan
from tatcli.intensity import Units
from tatcli.volumes.padding import without_padding
from tatcli.volumes.slices import in_plane, through_plane_axis

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tatcli.tasks import Task
    from tatcli.volumes.volume import Volume

__all__ = ["usable_scan"]

_SMALLEST: Final = 16
"""Pixels along an axis of a slice; smaller ones show nothing to learn from."""
_FEW: Final = 32
"""Whole numbers that a label map has at most: an image has more."""


def usable_scan(volume: Volume, task: Task) -> Volume:
    """The scan without its padding, in the task's units where it doesn't say its own.

    Raises:
        TaskMismatchError, UnitsError, VolumeReadError: the task can't take it, as
            :func:`tatcli.inference.guards.check_scan` says it (but for its advice, which is on restoring).
        GeometryError: slices of fewer than 16 pixels each way.
        TaskMismatchError: a label map, which has the geometry of a scan and is no image.
    """
    try:
        check_scan(volume, task)
    except (TaskMismatchError, UnitsError) as error:
        raise type(error)(str(error).partition("; ")[0]) from error
    rows, columns = in_plane(volume.geometry.shape, through_plane_axis(volume.geometry))
    if min(rows, columns) < _SMALLEST:
        msg = f"expected slices of at least {_SMALLEST} pixels each way, got {rows} x {columns}"
        raise GeometryError(msg)
    if _is_label_map(volume.array):
        msg = f"expected an image, got a label map: whole numbers, {_FEW} of them at most"
        raise TaskMismatchError(msg)
    volume, _ = without_padding(volume, task.intensity)
    return replace(volume, units=task.units) if volume.units is Units.UNKNOWN else volume


def _is_label_map(array: NDArray[np.float32]) -> bool:
    """Few whole numbers, over and over: what segments an image, not the image."""
    few = np.unique(array[:: max(1, len(array) // 8)])  # (of some slices: most scans have many values in each)
    if few.size > _FEW or not np.equal(few, np.round(few)).all():
        return False
    found = np.unique(array)
    return 1 < found.size <= _FEW and bool(np.equal(found, np.round(found)).all())
