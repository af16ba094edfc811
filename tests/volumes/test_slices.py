import numpy as np
import pytest

from tatcli.errors import GeometryError, UsageError
from tatcli.volumes import Geometry, slices_along, through_plane_axis
from tatcli.volumes.slices import evenly_spaced, has_cubic_voxels, in_plane, is_isotropic, plane_across

# Columns to the left, rows to the back, slices up: array axes (axial, coronal, sagittal).
AXIAL = np.diag([1.0, 1.0, 1.0, 1.0])


def geometry(spacing: tuple[float, float, float], shape: tuple[int, int, int] = (8, 8, 8)) -> Geometry:
    slice_, row, column = spacing
    return Geometry(AXIAL @ np.diag([column, row, slice_, 1.0]), shape)


@pytest.mark.parametrize(
    ("affine", "shape", "message"),
    [
        (np.diag([1.0, 1.0, np.nan, 1.0]), (2, 3, 4), "finite 4x4 affine"),
        (np.diag([1.0, np.inf, 1.0, 1.0]), (2, 3, 4), "finite 4x4 affine"),
        (np.eye(3), (2, 3, 4), r"4x4 affine, got shape \(3, 3\)"),
        (np.eye(4), (2, 3), "at least one voxel"),
        (np.eye(4), (2, 3, 4, 5), "at least one voxel"),
        (np.eye(4), (2, 0, 4), "at least one voxel"),
    ],
)
def test_grids_that_are_none(affine: np.ndarray, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(GeometryError, match=message):
        Geometry(affine, shape)  # type: ignore[arg-type]


@pytest.mark.parametrize(("plane", "axis"), [("axial", 0), ("coronal", 1), ("sagittal", 2)])
def test_named_planes_are_anatomical(plane: str, axis: int) -> None:
    assert through_plane_axis(geometry((1, 1, 1)), plane) == axis


def test_named_planes_follow_the_orientation(orientation: np.ndarray) -> None:
    affine = np.eye(4)
    affine[:3, :3] = orientation
    grid = Geometry(affine, (4, 5, 6))
    for plane, patient_axis in (("sagittal", 0), ("coronal", 1), ("axial", 2)):
        column_row_slice = int(np.abs(orientation[patient_axis]).argmax())
        assert through_plane_axis(grid, plane) == 2 - column_row_slice


@pytest.mark.parametrize(
    ("spacing", "axis"),
    [
        ((5.0, 0.7, 0.7), 0),
        ((0.9, 4.0, 0.9), 1),  # acquired coronally
        ((0.9, 0.9, 4.0), 2),
        ((1.0, 1.0, 1.0), 0),  # isotropic: axial
        ((1.0, 1.19, 1.0), 0),  # not clearly coarser
        ((1.0, 1.21, 1.0), 1),
        ((0.8, 2.0, 1.9), 0),  # two coarse axes: none is clear
    ],
)
def test_auto_takes_the_clearly_coarsest_axis(spacing: tuple[float, float, float], axis: int) -> None:
    assert through_plane_axis(geometry(spacing)) == axis


def test_a_single_slice_is_taken_whatever_its_thickness() -> None:
    assert through_plane_axis(geometry((0.1, 3.0, 1.0), (1, 64, 64))) == 0


@pytest.mark.parametrize(
    ("shape", "axis"),
    [
        ((256, 24, 256), 1),  # a coronal slab of isotropic voxels
        ((256, 256, 24), 2),
        ((96, 24, 256), 0),  # a quarter of one of the others: any crop may be that
        ((40, 30, 70), 0),
    ],
)
def test_auto_takes_a_slab_across(shape: tuple[int, int, int], axis: int) -> None:
    assert through_plane_axis(geometry((1.0, 1.0, 1.0), shape)) == axis


def test_unknown_plane_lists_the_known_ones() -> None:
    with pytest.raises(UsageError, match="auto, axial, coronal, sagittal"):
        through_plane_axis(geometry((1, 1, 1)), "transverse")


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slices_along_is_a_view_in_order(axis: int) -> None:
    array = np.arange(2 * 3 * 4, dtype=np.float32).reshape(2, 3, 4)
    view = slices_along(array, axis)
    for index in range(array.shape[axis]):
        np.testing.assert_array_equal(view[index], array.take(index, axis=axis))
    view[0] = -1
    assert (array.take(0, axis=axis) == -1).all()


def test_slices_along_takes_one_frame() -> None:
    with pytest.raises(ValueError, match="3-D"):
        slices_along(np.zeros((2, 2, 2, 2)), 0)


@pytest.mark.parametrize(
    ("count", "wanted", "chosen"),
    [
        (10, 4, [0, 3, 6, 9]),
        (7, 2, [0, 6]),
        (7, 1, [0]),
        (5, 5, [0, 1, 2, 3, 4]),
        (3, 7, [0, 1, 2]),
        (4, 0, [0, 1, 2, 3]),  # 0: all
    ],
)
def test_evenly_spaced_indices_have_both_ends(count: int, wanted: int, chosen: list[int]) -> None:
    assert evenly_spaced(count, wanted).tolist() == chosen


@pytest.mark.parametrize(
    ("spacing", "shape", "isotropic", "cubic"),
    [
        ((1.2, 1.0, 1.0), (16, 16, 16), True, True),
        ((1.0, 1.25, 1.0), (16, 16, 16), False, True),
        ((2.0, 1.0, 1.5), (16, 40, 40), False, True),
        ((2.1, 1.0, 2.1), (40, 40, 40), False, False),
        ((1.0, 1.0, 1.0), (15, 40, 40), True, False),
        ((1.0, 1.0, 1.0), (40, 40, 1), False, False),
    ],
)
def test_voxels_that_are_nearly_cubes(
    spacing: tuple[float, float, float], shape: tuple[int, int, int], isotropic: bool, cubic: bool
) -> None:
    grid = geometry(spacing, shape)
    assert (is_isotropic(grid), has_cubic_voxels(grid)) == (isotropic, cubic)


def test_the_plane_across_each_axis() -> None:
    assert [plane_across(geometry((1, 1, 1)), axis) for axis in range(3)] == ["axial", "coronal", "sagittal"]


@pytest.mark.parametrize(("axis", "pixel"), [(0, (0.7, 0.8)), (1, (3.0, 0.8)), (2, (3.0, 0.7))])
def test_the_rows_and_columns_of_slices_along_an_axis(axis, pixel) -> None:
    assert in_plane((3.0, 0.7, 0.8), axis) == pixel
    assert in_plane((5, 6, 7), axis) == slices_along(np.zeros((5, 6, 7)), axis).shape[1:]
