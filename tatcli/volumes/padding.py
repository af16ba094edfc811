"""Padding: what a scanner or converter wrote where nothing was measured, by its value or by the header's word."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

from tatcli.intensity import FixedRange, IntensityRule

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tatcli.volumes.volume import Volume

__all__ = ["in_squares", "padded", "put_back", "without_padding"]

_SIDE: Final = 7
"""Pixels. Of air whose noise was cut off at the same value no square so large is alike."""


def padded(slice_: NDArray[np.float32], lowest: float) -> NDArray[np.bool_]:
    """Pixels of squares of 7x7 that all hold one value, at or below the lowest that the network sees.

    CT is padded by -1024 HU as often as by less, PET and MRI by 0. Beyond each side of the slice its outermost pixels
    are taken to go on, so that what lies between the reconstruction circle and the side counts, however thin it is.

    Args:
        slice_: (rows, columns), finite.
        lowest: lower end of the network's range.
    """
    low = slice_ <= lowest
    if np.count_nonzero(low) < _SIDE:
        return np.zeros_like(low)
    margin = _SIDE - 1
    return np.asarray(low & (_alike(slice_, (margin, 0)) | _alike(slice_, (0, margin))))


def without_padding(volume: Volume, rule: IntensityRule) -> tuple[Volume, NDArray[np.bool_] | None]:
    """The scan with air, or nothing, in place of the padding that its header names and the network would see.

    A number that fills the matrix may lie anywhere: 63000, or 0 where that is water. Squares of 7x7 of it are padding,
    as in :func:`padded`; single voxels of a number within the range are tissue.

    Args:
        volume: the scan.
        rule: the network's; what lies at or below its lower end looks like nothing already.

    Returns:
        The volume to show, and which voxels were hidden; the volume itself and None where there are none.
    """
    lowest = rule.window.lower if isinstance(rule, FixedRange) else 0.0
    ranges = [(lower, upper) for lower, upper in volume.provenance.padding if upper > lowest]
    if not ranges:
        return volume, None
    hidden = np.zeros(volume.array.shape, dtype=np.bool_)
    planes = volume.array.reshape(-1, *volume.array.shape[-2:])
    for index, out in enumerate(hidden.reshape(planes.shape)):
        for lower, upper in ranges:
            out[(planes[index] > lowest) & (planes[index] >= lower) & (planes[index] <= upper)] = True
        if out.any():
            out[:] = in_squares(out)
    if not hidden.any():
        return volume, None
    return replace(volume, array=np.where(hidden, np.float32(lowest), volume.array)), hidden


def in_squares(marked: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which marked pixels lie in squares of 7x7 of them, beyond the slice's sides as in :func:`padded`.

    Args:
        marked: (rows, columns).
    """
    alike = np.where(marked, np.float32(0.0), np.float32(np.nan))  # which is like nothing
    margin = _SIDE - 1
    return np.asarray(marked & (_alike(alike, (margin, 0)) | _alike(alike, (0, margin))))


def put_back(array: NDArray[np.float32], volume: Volume, hidden: NDArray[np.bool_] | None) -> None:
    """Give an array the padding of a volume in place, on the volume's grid or a finer one."""
    if hidden is None:
        return
    values = volume.array
    for axis in (-3, -2, -1):
        times = array.shape[axis] // hidden.shape[axis]
        hidden, values = hidden.repeat(times, axis=axis), values.repeat(times, axis=axis)
    array[hidden] = values[hidden]


def _alike(slice_: NDArray[np.float32], margins: tuple[int, int]) -> NDArray[np.bool_]:
    """Pixels of squares of one value in a slice that goes on by these margins."""
    rows, columns = slice_.shape
    wide = np.pad(slice_, [(margin, margin) for margin in margins], mode="edge")
    if min(wide.shape) < _SIDE:
        return np.zeros(slice_.shape, dtype=np.bool_)
    # a square is of one value where its rows are, and its first column is
    across = _all_of(wide[:, 1:] == wide[:, :-1], 1, count=_SIDE - 1)
    down = _all_of(wide[1:] == wide[:-1], 0, count=_SIDE - 1)[:, : across.shape[1]]
    squares = np.pad(_all_of(across, 0, count=_SIDE) & down, _SIDE - 1)
    covered = ~_all_of(_all_of(~squares, 0, count=_SIDE), 1, count=_SIDE)
    return covered[margins[0] : margins[0] + rows, margins[1] : margins[1] + columns]


def _all_of(true: NDArray[np.bool_], axis: int, *, count: int) -> NDArray[np.bool_]:
    """Whether so many neighbours along an axis, from each on, are all true; ``count - 1`` fewer."""
    reach = 1
    while reach < count:  # of twice as many, from those of half as many
        step = min(reach, count - reach)
        ahead, behind = (slice(step, None), slice(None, -step))
        true = true[ahead] & true[behind] if axis == 0 else true[:, ahead] & true[:, behind]
        reach += step
    return true
