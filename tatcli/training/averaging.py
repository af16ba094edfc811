"""Cleaner CT references: neighbouring thin slices averaged into thick ones."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Final

import numpy as np

from tatcli.degradation.reference_noise import estimate_noise
from tatcli.volumes import Geometry, Volume, slices_along, through_plane_axis
from tatcli.volumes.slices import in_plane

__all__ = ["averaged_along", "cleaner_reference"]

_FEWEST_SLICES: Final = 8
"""Averaging leaves at least so many."""


def cleaner_reference(volume: Volume, *, thickness: float, quiet: float) -> tuple[Volume, int]:
    """A CT as a reference: averaged along its slice axis where its slices are thin and noisy, else as it is.

    n slices whose noise is independent have sqrt(n) less of it when averaged; that of neighbouring slices is shared in
    part, so the gain is smaller. Anatomy is blurred along the slice axis as in a thicker acquisition, and not at all
    within the slices, which is what a slice-wise network sees.

    Args:
        volume: HU.
        thickness: slice spacing to come close to, mm; 0: never average.
        quiet: a reference with at most this much noise stays, HU.

    Returns:
        The reference, and how many slices each of its slices is the mean of (1: none were averaged).
    """
    axis = through_plane_axis(volume.geometry)
    spacing = volume.geometry.spacing
    count = min(round(thickness / spacing[axis]), volume.geometry.shape[axis] // _FEWEST_SLICES)
    if count < 2:
        return volume, 1
    stack = np.ascontiguousarray(slices_along(next(volume.iter_frames()), axis))
    noise = estimate_noise(stack, in_plane(spacing, axis))
    if math.isnan(noise) or noise <= quiet:
        return volume, 1
    return averaged_along(volume, axis, count), count


def averaged_along(volume: Volume, axis: int, count: int) -> Volume:
    """Means of ``count`` neighbouring slices each, without overlap; slices that are left over are dropped.

    Args:
        volume: any orientation; each frame of a dynamic scan.
        axis: array axis (0, 1 or 2) to average along.
        count: at least 1.

    Returns:
        A volume whose slices lie at the middle of those that they are the mean of.
    """
    shape = list(volume.geometry.shape)
    kept = shape[axis] // count
    shape[axis] = kept
    frames = []
    for frame in volume.iter_frames():
        stack = slices_along(frame, axis)[: kept * count]
        mean = np.stack([stack[start : start + count].mean(axis=0) for start in range(0, kept * count, count)])
        frames.append(np.moveaxis(mean, 0, axis))
    affine = volume.geometry.affine.copy()
    step = affine[:3, 2 - axis].copy()  # columns run (column, row, slice), the array's axes the other way
    affine[:3, 2 - axis] = count * step
    affine[:3, 3] += step * (count - 1) / 2
    array = np.stack(frames) if volume.array.ndim == 4 else frames[0]
    provenance = replace(
        volume.provenance,
        stored=None,
        steps=(*volume.provenance.steps, f"means of {count} slices along axis {axis}"),
    )
    geometry = Geometry(affine, (shape[0], shape[1], shape[2]))
    return replace(volume, array=np.ascontiguousarray(array), geometry=geometry, provenance=provenance)
