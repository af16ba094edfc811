"""Scans on a coarse grid: k-space zero-filled to a finer one before super-resolution."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tatcli.errors import UsageError
from tatcli.inference.holes import filled
from tatcli.tasks import Task
from tatcli.volumes.slices import slices_along
from tatcli.volumes.volume import Volume

__all__ = ["refined"]


def refined(volume: Volume, task: Task, *, scale: int, axis: int) -> Volume:
    """The volume on ``scale`` times the in-plane matrix.

    Voxels that are NaN or infinite would spread over their slice in k-space: they are filled before, and the fine
    voxels in their place are NaN.

    Args:
        volume: any orientation.
        task: must be mri-sr.
        scale: at least 1.
        axis: array axis that is stacked through the slice plane.

    Raises:
        UsageError: another task's scan is to be refined.
    """
    if scale == 1:
        return volume
    if task.name != "mri-sr":
        msg = f"--scale: expected only with mri-sr, got {task.name}; leave it out"
        raise UsageError(msg)
    from tatcli.degradation.low_resolution_mri import zero_fill_volume  # its Fourier transforms take long to load

    if np.isfinite(volume.array).all():
        return zero_fill_volume(volume, scale, axis)
    whole = volume.array.copy()
    for frame in whole.reshape(-1, *volume.geometry.shape):
        stack = slices_along(frame, axis)
        for index, slice_ in enumerate(stack):
            stack[index] = filled(slice_, fallback=0.0)
    fine = zero_fill_volume(replace(volume, array=whole), scale, axis)
    holes = ~np.isfinite(volume.array)
    for in_plane in {0, 1, 2} - {axis}:
        holes = holes.repeat(scale, axis=in_plane - 3)
    array = fine.array.copy()
    array[holes] = np.nan
    return replace(fine, array=array)
