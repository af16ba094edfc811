"""Implicit surfaces on a voxel grid: how much of each voxel an ellipsoid, a trunk or a limb fills."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import scipy.ndimage
from numpy.typing import NDArray

if TYPE_CHECKING:
    from tatcli.volumes import Geometry

__all__ = ["BENT", "Grid", "Wave", "bent_grid", "ellipsoid", "filled", "limb", "paint", "smooth_field", "trunk"]

Field = NDArray[np.float32]
Vector = NDArray[np.floating[Any]]
BENT: Final = 18.0
"""mm that a bent grid's coordinates differ by from straight ones, at most."""


@dataclass(frozen=True, eq=False)
class Grid:
    """Voxel centres in the body's own coordinates, mm.

    Attributes:
        x, y, z: (slices, rows, columns) each: to the left, back and head. They may be bent: organs then are.
        voxel: the largest side of a voxel, over which edges are soft.
        sides: of a voxel along slices, rows and columns, mm.
    """

    x: Field
    y: Field
    z: Field
    voxel: float
    sides: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def near(self, centre: Vector, reach: float) -> tuple[slice, slice, slice]:
        """The box of voxels that may lie within reach of a point."""
        axes = (self.z[:, 0, 0], self.y[0, :, 0], self.x[0, 0, :])
        box = []
        for axis, middle in zip(axes, centre[::-1], strict=True):
            inside = np.flatnonzero(
                np.abs(axis - middle) < reach + 2 * BENT
            )  # this edge of the grid one way, what is there another
            box.append(slice(int(inside[0]), int(inside[-1]) + 1) if inside.size else slice(0, 0))
        return box[0], box[1], box[2]


@dataclass(frozen=True)
class Wave:
    """Bumps on a surface: amplitude as a fraction of the radius, and the phases of three ripples."""

    amplitude: float = 0.0
    phases: tuple[float, float, float] = (0.0, 0.0, 0.0)


def bent_grid(geometry: Geometry, rng: np.random.Generator, size: float, length: float, *, height: float = 1.0) -> Grid:
    """An upright grid's voxel centres in body coordinates that are bent, so that no two bodies are alike.

    Args:
        geometry: axes along those of the body.
        rng: draws the bends.
        size: standard deviation of the bends, mm.
        length: over which they vary, mm.
        height: of the body, relative to its coordinates.
    """
    slices, rows, columns = geometry.shape
    step, down, across = (float(side) for side in geometry.spacing)
    bends = [
        size * smooth_field(rng, geometry.shape, (length / step, length / down, length / across)) for _ in range(3)
    ]
    left, back, bottom = geometry.affine[:3, 3]
    x = left + across * np.arange(columns, dtype=np.float32)
    y = back + down * np.arange(rows, dtype=np.float32)
    z = (bottom + step * np.arange(slices, dtype=np.float32)) / height
    bent = (x + bends[0], y[:, None] + bends[1], z[:, None, None] + bends[2])
    limit = np.float32(BENT)
    straight = np.broadcast_arrays(x, y[:, None], z[:, None, None])
    fields = [np.clip(b, s - limit, s + limit).astype(np.float32) for b, s in zip(bent, straight, strict=True)]
    return Grid(fields[0], fields[1], fields[2], max(across, step), (step, down, across))


def ellipsoid(
    grid: Grid, centre: Vector, radii: Vector, *, tilt: float = 0.0, wave: Wave | None = None
) -> tuple[tuple[slice, slice, slice], Field]:
    """How much of each voxel an ellipsoid fills.

    Args:
        grid: where.
        centre: (x, y, z), mm.
        radii: (x, y, z), mm, before it is tilted.
        tilt: degrees in the coronal plane: its top leans to the left.
        wave: bumps.

    Returns:
        The box of the grid that it lies in, and the filled share of its voxels, 0 to 1.
    """
    box = grid.near(centre, 1.3 * float(max(radii)))
    turn = np.deg2rad(tilt)
    dx, dy, dz = (axis[box] - np.float32(middle) for axis, middle in zip((grid.x, grid.y, grid.z), centre, strict=True))
    u = (np.cos(turn) * dx - np.sin(turn) * dz) / radii[0]
    v = dy / radii[1]
    w = (np.sin(turn) * dx + np.cos(turn) * dz) / radii[2]
    radius = np.sqrt(u * u + v * v + w * w)
    if wave is not None and wave.amplitude:
        a, b, c = wave.phases
        ripple = np.sin(4 * u + a) * np.sin(4 * v + b) + np.sin(5 * w + c) * np.cos(3 * u - b)
        radius -= np.float32(wave.amplitude) * ripple
    return box, filled((radius - 1.0) * min(radii), grid.voxel)


def limb(
    grid: Grid, start: Vector, end: Vector, radii: tuple[float, float]
) -> tuple[tuple[slice, slice, slice], Field]:
    """How much of each voxel a limb fills: a cone between two spheres.

    Args:
        grid: where.
        start: (x, y, z), mm.
        end: the same.
        radii: at its start and end, mm.
    """
    middle = (np.asarray(start) + np.asarray(end)) / 2
    along = np.asarray(end, dtype=np.float64) - np.asarray(start)
    length = max(float(np.linalg.norm(along)), 1e-3)  # one of no length is a sphere
    box = grid.near(middle, length / 2 + max(radii))
    dx, dy, dz = (axis[box] - np.float32(at) for axis, at in zip((grid.x, grid.y, grid.z), start, strict=True))
    share = np.clip((dx * along[0] + dy * along[1] + dz * along[2]) / length**2, 0.0, 1.0)
    distance = np.sqrt((dx - share * along[0]) ** 2 + (dy - share * along[1]) ** 2 + (dz - share * along[2]) ** 2)
    return box, filled(distance - (radii[0] + share * (radii[1] - radii[0])), grid.voxel)


def trunk(grid: Grid, outline: Vector, *, shrunk: float = 0.0) -> Field:
    """How much of each voxel the trunk fills: ellipses whose axes follow an outline, between its ends.

    Args:
        grid: where.
        outline: (landmarks, 3): z, half width and half depth, mm, rising in z.
        shrunk: this far below the surface, mm.
    """
    heights = outline[:, 0]
    width = np.interp(grid.z, heights, outline[:, 1]) - shrunk
    depth = np.interp(grid.z, heights, outline[:, 2]) - shrunk
    safe = np.maximum(np.minimum(width, depth), 1.0)
    radius = (np.abs(grid.x / np.maximum(width, 1.0)) ** 2.4 + np.abs(grid.y / np.maximum(depth, 1.0)) ** 2.4) ** (
        1 / 2.4
    )
    beyond = np.maximum(heights[0] - grid.z, grid.z - heights[-1])
    return filled(np.maximum((radius - 1.0) * safe, beyond), grid.voxel)


def smooth_field(rng: np.random.Generator, shape: tuple[int, int, int], sigma: tuple[float, float, float]) -> Field:
    """A Gaussian random field of unit variance with these correlation lengths, in voxels; coarse where it is smooth."""
    steps = tuple(max(1, int(length / 2)) for length in sigma)
    coarse = tuple(-(-n // step) + 2 for n, step in zip(shape, steps, strict=True))
    noise = rng.standard_normal(coarse).astype(np.float32)
    noise = scipy.ndimage.gaussian_filter(noise, [s / step for s, step in zip(sigma, steps, strict=True)], mode="wrap")
    noise /= max(float(noise.std()), 1e-6)
    if max(steps) > 1:
        noise = scipy.ndimage.zoom(noise, steps, order=1, grid_mode=True, mode="nearest")
    return np.ascontiguousarray(noise[tuple(slice(0, n) for n in shape)], dtype=np.float32)


def filled(distance: NDArray[Any], voxel: float) -> Field:
    """Share of a voxel inside a surface at this signed distance from its centre, mm."""
    return np.clip(0.5 - distance / voxel, 0.0, 1.0).astype(np.float32)


def paint(image: Field, box: tuple[slice, slice, slice], share: Field, uptake: float) -> None:
    """Cover what is there, in proportion to how much of each voxel is filled."""
    image[box] += share * (np.float32(uptake) - image[box])
