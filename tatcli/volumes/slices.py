"""Which way to slice a volume: the axis that 2-D restoration iterates over."""

from __future__ import annotations

from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from tatcli.errors import UsageError
from tatcli.volumes.geometry import Geometry

__all__ = [
    "PLANES",
    "acquired_plane",
    "evenly_spaced",
    "has_cubic_voxels",
    "in_plane",
    "is_isotropic",
    "plane_across",
    "slices_along",
    "through_plane_axis",
]

T = TypeVar("T")

PLANES: Final = ("auto", "axial", "coronal", "sagittal")
"""The values of ``axis`` that :func:`through_plane_axis` takes."""

_COARSER: Final = 1.2
"""An axis is the acquisition's slice axis for certain once its spacing exceeds the others' by this factor."""
_NEARLY: Final = 2.0
"""Largest over smallest spacing of voxels that are nearly cubes."""
_FEWEST: Final = 16
"""Voxels along an axis: fewer are no slice to restore."""
_SLAB: Final = 4
"""Where spacings don't tell: a scan this many times shorter along one axis than along both others is a slab of few
slices, and that is its slice axis."""


def evenly_spaced(count: int, wanted: int) -> NDArray[np.intp]:
    """At most ``wanted`` of ``count`` indices, first and last among them; all of them where ``wanted`` is 0."""
    if not 0 < wanted < count:
        return np.arange(count)
    return np.unique(np.linspace(0, count - 1, wanted).round().astype(np.intp))


def has_cubic_voxels(geometry: Geometry) -> bool:
    """Whether voxels are nearly cubes, and slices along every axis images: spacings within 2, 16 voxels each way."""
    return max(geometry.spacing) <= _NEARLY * min(geometry.spacing) and min(geometry.shape) >= _FEWEST


def is_isotropic(geometry: Geometry) -> bool:
    """Whether slices along every axis are alike in resolution: spacings within 20 %, more than one slice each way."""
    return max(geometry.spacing) <= _COARSER * min(geometry.spacing) and min(geometry.shape) > 1


def through_plane_axis(geometry: Geometry, axis: str = "auto") -> int:
    """The array axis (0, 1 or 2 of slices, rows, columns) to iterate over.

    Args:
        geometry: grid of one frame.
        axis: ``axial``, ``coronal`` or ``sagittal`` for that anatomical plane (the closest one in oblique scans);
            ``auto`` for the axis whose spacing is clearly the coarsest (more than 1.2 times the others'), which is
            how multi-slice scans are acquired; else the axis along which the scan is a slab (less than a quarter of
            its other axes' voxels), as a part of a 3-D acquisition is; else axial. A single-slice image is taken along
            its one-voxel axis.

    Raises:
        UsageError: an unknown plane.
    """
    if axis not in PLANES:
        msg = f"axis {axis!r}: expected one of {', '.join(PLANES)}"
        raise UsageError(msg)
    sagittal, coronal, axial = geometry.anatomical_axes
    if axis == "auto":
        thin = [index for index, length in enumerate(geometry.shape) if length == 1]
        if len(thin) == 1:
            return thin[0]
        coarsest, second = sorted(range(3), key=lambda index: -geometry.spacing[index])[:2]
        if geometry.spacing[coarsest] > _COARSER * geometry.spacing[second]:
            return coarsest
        shortest, middle = sorted(range(3), key=lambda index: geometry.shape[index])[:2]
        return shortest if _SLAB * geometry.shape[shortest] < geometry.shape[middle] else axial
    return {"sagittal": sagittal, "coronal": coronal, "axial": axial}[axis]


def plane_across(geometry: Geometry, axis: int) -> str:
    """The anatomical plane of the slices along an array axis: ``axial``, ``coronal`` or ``sagittal``."""
    sagittal, coronal, _ = geometry.anatomical_axes
    return {sagittal: "sagittal", coronal: "coronal"}.get(axis, "axial")


def acquired_plane(geometry: Geometry, axis: str) -> str:
    """The plane of slices at uneven distances: that of the images, as there is none across them.

    Args:
        geometry: grid of one frame; the images are the slices along its first array axis.
        axis: what was asked for, as for :func:`through_plane_axis`.

    Raises:
        UsageError: another plane was asked for.
    """
    plane = plane_across(geometry, 0)
    if axis not in ("auto", plane):
        msg = f"--axis {axis}: expected {plane}, the acquired plane, since the slices lie at uneven distances"
        raise UsageError(msg)
    return plane


def in_plane(values: tuple[T, T, T], axis: int) -> tuple[T, T]:
    """Of a value for each array axis (lengths, spacings): those of the rows and columns of slices along one of them."""
    row, column = values[:axis] + values[axis + 1 :]
    return row, column


def slices_along(array: NDArray[Any], axis: int) -> NDArray[Any]:
    """A view (n, rows, columns) of one frame's 3-D array with ``axis`` first; the other axes keep their order.

    Writing to the view writes to ``array``.

    Raises:
        ValueError: the array is not 3-D.
    """
    if array.ndim != 3:
        msg = f"slices_along: expected one frame's 3-D array, got {array.ndim} axes"
        raise ValueError(msg)
    return np.moveaxis(array, axis, 0)
