"""Masks, which must lie on their reference's grid, and the slices of scans on it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np

from tatcli.errors import EmptyMaskError, MissingPartnerError
from tatcli.volumes.grids import check_grid
from tatcli.volumes.reading import read_volume
from tatcli.volumes.slices import in_plane, slices_along
from tatcli.workflows.evaluation.matching import partner_in

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tatcli.volumes.volume import Volume

__all__ = ["read_mask", "stack_of", "step_sizes"]


def read_mask(masks: Path, name: str, truth: Volume, *, axis: int) -> NDArray[np.bool_]:
    """The voxels that count, (slices, rows, columns) along the axis; frames in a row.

    Args:
        masks: a mask, or a folder with one of the scan's name, in the same folders below it.
        name: of the scan, with the folders that it lies in.
        truth: the reference, on whose grid the mask must lie; one mask serves all frames.
        axis: that is sliced through.

    Raises:
        MissingPartnerError: the folder has no mask of the name.
        VolumeReadError: it can't be read.
        GeometryError: another grid than the reference's.
        EmptyMaskError: no voxel of it is set.
    """
    place = PurePosixPath(name)
    if place.parent.name and masks.is_dir() and not (masks / place.parent).is_dir():
        msg = f"{name}: expected a mask at the same place below {masks}, found no folder {place.parent}"
        raise MissingPartnerError(msg)
    path = partner_in(masks / place.parent if masks.is_dir() else masks, place.name)
    volume = read_volume(path)
    frames = truth.frames
    if frames > 1 and volume.frames == 1:
        volume = replace(volume, array=np.repeat(volume.array.reshape(1, *volume.geometry.shape), frames, axis=0))
    check_grid(volume, truth, path.name)
    mask = stack_of(volume, axis) > 0
    if not mask.any():
        msg = f"{path.name}: expected a mask with voxels above 0, got none; leave --mask out to score every voxel"
        raise EmptyMaskError(msg)
    return np.asarray(mask, dtype=np.bool_)


def stack_of(volume: Volume, axis: int) -> NDArray[np.float32]:
    """The slices of all frames, (frames * slices, rows, columns)."""
    stacks = [slices_along(frame, axis) for frame in volume.iter_frames()]
    return stacks[0] if len(stacks) == 1 else np.concatenate(stacks)


def step_sizes(volume: Volume, axis: int) -> tuple[float, float, float]:
    """(slice, row, column) steps of the stack, mm."""
    spacing = volume.geometry.spacing
    return (spacing[axis], *in_plane(spacing, axis))
