"""Two scans on one grid: to half a voxel at every corner."""

import numpy as np
import pytest

from tatcli.errors import GeometryError
from tatcli.volumes.geometry import Geometry
from tatcli.volumes.grids import check_grid
from tatcli.volumes.volume import Provenance, Volume

SHAPE = (4, 21, 101)
PLACE = np.array([[1.0, 0, 0, -50], [0, 2, 0, -20], [0, 0, 4, 7], [0, 0, 0, 1]])
"""Columns of 1 mm, rows of 2, slices of 4: half of the smallest is 0.5 mm."""


def scan(affine: np.ndarray = PLACE, shape: tuple[int, ...] = SHAPE, kind: str = "nifti") -> Volume:
    return Volume(np.zeros(shape, np.float32), Geometry(affine, shape[-3:]), provenance=Provenance(format=kind))


def changed(row: int, column: int, change: float) -> np.ndarray:
    affine = PLACE.copy()
    affine[row, column] += change
    return affine


def turned(degrees: float) -> np.ndarray:
    """About the axis of the slices, and its first voxel."""
    cosine, sine = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    affine = PLACE.copy()
    affine[:2, :2] = np.array([[cosine, -sine], [sine, cosine]]) @ PLACE[:2, :2]
    return affine


@pytest.mark.parametrize(
    ("affine", "apart"),
    [
        (PLACE, None),
        (changed(0, 3, 0.49), None),
        (changed(0, 3, -0.51), "0.51"),
        (changed(2, 3, 0.6), "0.6"),  # little of a slice, but more than half of a pixel
        (changed(0, 0, 0.004), None),  # over 100 columns 0.4 mm
        (changed(0, 0, 0.006), "0.6"),
        (changed(1, 1, 0.02), None),  # over 20 rows 0.4 mm
        (changed(1, 1, 0.03), "0.6"),
        (changed(2, 2, -0.16), None),  # over 3 slices 0.48 mm
        (changed(2, 2, -0.2), "0.6"),
        (changed(1, 2, 0.2), "0.6"),  # a tilted gantry
        (turned(0.25), None),  # the far corner is 107.7 mm away: 0.47 mm
        (turned(0.28), "0.526"),
        (PLACE @ np.array([[1, 0, 0, 0], [0, -1, 0, 20], [0, 0, 1, 0], [0, 0, 0, 1]]), "40"),  # upside down
    ],
)
def test_corners_lie_within_half_a_voxel(affine: np.ndarray, apart: str | None) -> None:
    if apart is None:
        check_grid(scan(affine), scan(), "mask.nii")
        return
    with pytest.raises(GeometryError, match=rf"^mask.nii: .* lie up to {apart} mm away; resample it"):
        check_grid(scan(affine), scan(), "mask.nii")


@pytest.mark.parametrize("shape", [(4, 21, 100), (5, 21, 101), (2, 4, 21, 101)])
def test_shapes_are_equal(shape: tuple[int, ...]) -> None:
    with pytest.raises(GeometryError, match=r"expected the reference's shape \(4, 21, 101\), got"):
        check_grid(scan(shape=shape), scan(), "mask.nii")


@pytest.mark.parametrize("kind", ["npy", "tensor"])
def test_of_bare_arrays_the_shape_is_known(kind: str) -> None:
    check_grid(scan(np.eye(4), kind=kind), scan(), "mask.npy")
    check_grid(scan(), scan(np.eye(4), kind=kind), "mask.nii")
    with pytest.raises(GeometryError, match="shape"):
        check_grid(scan(shape=(4, 21, 100), kind=kind), scan(), "mask.npy")
