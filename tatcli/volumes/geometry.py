"""Where voxels lie in the patient: an affine in LPS millimetres and the array's shape."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from tatcli.errors import GeometryError

__all__ = ["RAS_FROM_LPS", "Geometry"]

RAS_FROM_LPS: Final[NDArray[np.float64]] = np.diag([-1.0, -1.0, 1.0, 1.0])
"""NIfTI and nibabel speak RAS, DICOM and ITK LPS. This matrix is its own inverse; readers and writers apply it once."""


@dataclass(frozen=True, eq=False)
class Geometry:
    """A voxel grid.

    Attributes:
        affine: (4, 4) float64, index (column, row, slice, 1) -> LPS millimetres. Sheared grids (gantry tilt) are kept.
        shape: (slices, rows, columns), the array's own axis order.
    """

    affine: NDArray[np.float64]
    shape: tuple[int, int, int]

    def __post_init__(self) -> None:
        affine = np.array(self.affine, dtype=np.float64)
        if affine.shape != (4, 4) or not np.isfinite(affine).all():
            msg = f"geometry: expected a finite 4x4 affine, got shape {affine.shape}"
            raise GeometryError(msg)
        if len(self.shape) != 3 or min(self.shape) < 1:
            msg = f"geometry: expected (slices, rows, columns) of at least one voxel, got {self.shape}"
            raise GeometryError(msg)
        affine.setflags(write=False)
        object.__setattr__(self, "affine", affine)
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.affine.setflags(write=False)  # which neither pickles nor copies keep

    @classmethod
    def from_spacing(cls, spacing: tuple[float, float, float], shape: tuple[int, int, int]) -> Self:
        """The grid of axial slices whose place isn't known: columns to the left, rows to the back, slices upwards.

        Args:
            spacing: mm along the array's axes: (slice, row, column) steps.
            shape: (slices, rows, columns).

        Raises:
            GeometryError: not three steps above zero, or not three axes.
        """
        if len(spacing) != 3 or not all(step > 0 for step in spacing):
            msg = f"geometry: expected (slice, row, column) steps in mm above zero, got {spacing}"
            raise GeometryError(msg)
        return cls(np.diag([*reversed(spacing), 1.0]), shape)

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel size in mm along the array's axes: (slice, row, column) steps."""
        column, row, slice_ = (float(np.linalg.norm(self.affine[:3, axis])) for axis in range(3))
        return slice_, row, column

    @property
    def origin(self) -> tuple[float, float, float]:
        """LPS position of voxel (0, 0, 0), mm."""
        x, y, z = (float(v) for v in self.affine[:3, 3])
        return x, y, z

    @property
    def direction(self) -> NDArray[np.float64]:
        """(3, 3): unit vectors of the (column, row, slice) index axes, as columns, in LPS."""
        matrix: NDArray[np.float64] = self.affine[:3, :3]
        lengths = np.linalg.norm(matrix, axis=0)
        return np.asarray(matrix / np.where(lengths > 0, lengths, 1.0), dtype=np.float64)

    @property
    def orientation(self) -> str:
        """Where each array axis points, in nibabel's letters: 'SPL' is (slices up, rows back, columns left)."""
        letters = (("R", "L"), ("A", "P"), ("I", "S"))  # towards negative, positive LPS
        axes = _closest_axes(self.direction)
        codes = [letters[axis][int(self.direction[axis, index] > 0)] for index, axis in enumerate(axes)]
        return "".join(reversed(codes))

    @property
    def anatomical_axes(self) -> tuple[int, int, int]:
        """For the planes (sagittal, coronal, axial): the array axis that is stacked through that plane."""
        axes = _closest_axes(self.direction)  # index axis (column, row, slice) -> LPS axis
        sagittal, coronal, axial = (2 - axes.index(axis) for axis in range(3))
        return sagittal, coronal, axial

    @property
    def is_sheared(self) -> bool:
        """True where the axes are not orthogonal (a tilted gantry)."""
        gram = self.direction.T @ self.direction
        return bool(np.abs(gram - np.eye(3)).max() > 1e-4)

    def finer(self, factor: int, axis: int) -> Geometry:
        """The grid of ``factor`` times the samples along the array axes but ``axis``; the field of view stays."""
        affine = self.affine.copy()
        for other in {0, 1, 2} - {axis}:
            step = affine[:3, 2 - other].copy()  # columns run (column, row, slice), the array's axes the other way
            affine[:3, 2 - other] = step / factor
            affine[:3, 3] -= step * (factor - 1) / (2 * factor)
        slices, rows, columns = (n if index == axis else n * factor for index, n in enumerate(self.shape))
        return Geometry(affine, (slices, rows, columns))


def _closest_axes(direction: NDArray[np.float64]) -> tuple[int, int, int]:
    """The permutation of LPS axes that agrees best with the index axes (each used once)."""
    from itertools import permutations

    weight = np.abs(direction)
    best = max(permutations(range(3)), key=lambda order: sum(weight[axis, i] for i, axis in enumerate(order)))
    return best[0], best[1], best[2]
