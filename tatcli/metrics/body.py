"""Where the patient is: the voxels that scores inside the body count."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import scipy.ndimage

from tatcli.intensity import Units

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tatcli.tasks import Task

__all__ = ["body_mask", "body_threshold"]

_AIR_HU: Final = -500.0
"""Halfway between air and soft tissue; lungs come back when holes are filled."""
_AIR_SUV: Final = 0.1
_AIR_MAGNITUDE: Final = 0.1
"""Of the 99.5th percentile of an MR scan's positive voxels."""
_SMALL_PART: Final = 0.05
"""Parts smaller than this share of the largest (table, tubes) are not the body; two legs are."""


def body_threshold(reference: NDArray[np.floating[Any]], task: Task) -> float:
    """What a voxel exceeds where it belongs to the body, in the task's units."""
    if task.units is Units.HU:
        return _AIR_HU
    if task.units is Units.SUVBW:
        return _AIR_SUV
    positive = reference[np.isfinite(reference) & (reference > 0)]
    return _AIR_MAGNITUDE * float(np.percentile(positive, 99.5)) if positive.size else np.inf


def body_mask(reference: NDArray[np.floating[Any]], task: Task) -> NDArray[np.bool_]:
    """The body in a reference: above air, opened by one pixel, large parts only, holes of each slice filled.

    Args:
        reference: (slices, rows, columns), the task's units.
        task: decides what air is: below -500 HU, below 0.1 SUV, or below a tenth of an MR scan's 99.5th percentile.

    Returns:
        The same shape; nowhere true where nothing exceeds the threshold.
    """
    cross = scipy.ndimage.generate_binary_structure(2, 1)[None]
    above = np.nan_to_num(reference, nan=-np.inf) > body_threshold(reference, task)
    parts, _ = scipy.ndimage.label(scipy.ndimage.binary_opening(above, cross))
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    kept = (sizes >= _SMALL_PART * sizes.max())[parts] & (parts > 0)
    return np.stack([scipy.ndimage.binary_fill_holes(slice_) for slice_ in kept]).astype(np.bool_)
