"""FDG uptake of a made-up brain, in the field of view of a dedicated brain scan, as a scanner without noise shows it.

The cortex is a folded ribbon: grey matter lines the brain's surface and both banks of its sulci, whose middles are the
zeros of a random field above a depth. Ribbons of 2 to 4 mm, apart by less than two widths of the scanner's point
spread, at the highest uptake of the body, are what nothing else in it resembles.

The cortex is 1 to 4.5 mm thick, 2.5 mm on average (Fischl & Dale, PNAS 97:11050, 2000). White matter takes up a quarter
of the grey matter's FDG (4 to 1: Hoffman et al., IEEE Trans Nucl Sci 37:616, 1990) to two fifths. The cerebellum's
SUV is 8.0 +- 2.2 (Wang et al., Mol Imaging Biol 9:83, 2007), after the scanner's blur; grey matter lies above.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import scipy.ndimage
from numpy.typing import NDArray

from tatcli.intensity import Units
from tatcli.phantoms.shapes import Grid, bent_grid, ellipsoid, filled, paint, smooth_field
from tatcli.volumes import Geometry, Provenance, Volume

__all__ = ["Head", "brain_pet", "draw_head"]

_FWHM: Final = 2.0 * float(np.sqrt(2.0 * np.log(2.0)))
_VOXELS: Final = ((1.22, 1.22), (2.0, 2.0), (2.04, 2.03), (2.57, 2.43), (1.95, 3.27), (4.07, 3.0))
"""In-plane and slice spacings of brain scans, mm."""
_HALF: Final = (100.0, 122.0)
_BOTTOM, _TOP = -85.0, 88.0
"""The field of view, mm from the brain's middle: to the left and right, to front and back, down and up."""
_BEND: Final = (4.0, 40.0)
_FISSURE: Final = 1.2
"""Half the width of the cleft between the hemispheres, mm."""


@dataclass(frozen=True)
class Head:
    """Whose brain it is, and of which scanner.

    Attributes:
        grey: SUV of the cortex.
        white: of white matter, relative to it.
        thickness: of the cortex, mm.
        gap: half the width of a sulcus, mm: wide ones are those of the old.
        depth: of the sulci, mm.
        folding: correlation length of the field whose zeros are the sulci, mm.
        resolution: full width at half maximum of the scanner's point spread, mm.
        voxel: in-plane and slice spacing, mm.
    """

    grey: float
    white: float
    thickness: float
    gap: float
    depth: float
    folding: float
    resolution: float
    voxel: tuple[float, float]


def draw_head(rng: np.random.Generator) -> Head:
    """A head: SUV of grey matter 4 to 16, resolution 3.5 to 7.5 mm."""
    return Head(
        grey=float(np.exp(rng.uniform(np.log(4.0), np.log(16.0)))),
        white=float(rng.uniform(0.24, 0.4)),
        thickness=float(rng.uniform(2.0, 4.0)),
        gap=float(rng.uniform(0.2, 1.8)),
        depth=float(rng.uniform(16.0, 32.0)),
        folding=float(rng.uniform(4.5, 8.0)),
        resolution=float(rng.uniform(3.5, 7.5)),
        voxel=_VOXELS[int(rng.integers(len(_VOXELS)))],
    )


def brain_pet(seed: int, *, head: Head | None = None) -> Volume:
    """A made-up FDG scan of a brain without noise.

    Args:
        seed: of everything.
        head: brain and scanner; default: drawn too.

    Returns:
        (slices, rows, columns), SUVbw, feet first; LPS.
    """
    head_rng, place_rng, fold_rng, uptake_rng = (
        np.random.default_rng(stream) for stream in np.random.SeedSequence([seed, 1024]).spawn(4)
    )
    head = head or draw_head(head_rng)
    grid, geometry = _grid(head, place_rng)
    sides = geometry.spacing
    image = np.zeros(geometry.shape, dtype=np.float32)
    size = place_rng.normal(1.0, 0.04, 3)
    for centre, radii, uptake in (
        ((0.0, 2.0, -2.0), (78.0, 98.0, 76.0), uptake_rng.uniform(0.4, 1.0)),  # scalp
        ((0.0, 2.0, -2.0), (73.0, 92.0, 71.0), uptake_rng.uniform(0.3, 0.8)),  # skull and what lies under it
        ((0.0, -40.0, -70.0), (60.0, 55.0, 40.0), uptake_rng.uniform(0.8, 1.8)),  # face and throat
    ):
        paint(image, *ellipsoid(grid, np.array(centre), np.array(radii) * size), float(uptake))
    grey = head.grey * _regions(uptake_rng, geometry)
    cerebrum = _Part((0.0, 0.0, 0.0), tuple(np.array([66.0, 84.0, 62.0]) * size), 1.0)
    _paint_folded(image, grid, cerebrum, head, fold_rng, grey)
    fine = _Part((0.0, 48.0, -52.0), tuple(np.array([52.0, 32.0, 26.0]) * size), 0.45)
    _paint_folded(image, grid, fine, head, fold_rng, grey * np.float32(uptake_rng.uniform(0.65, 0.95)))
    for centre, radii, least, most in _DEEP:
        for side in (1.0, -1.0) if centre[0] else (1.0,):
            place = np.array(centre) * [side, 1.0, 1.0] * size + place_rng.normal(0.0, 1.0, 3)
            box, share = ellipsoid(grid, place, np.array(radii) * size * place_rng.lognormal(0.0, 0.1))
            paint(image, box, share, head.grey * float(uptake_rng.uniform(least, most)))
    image = scipy.ndimage.gaussian_filter(image, [head.resolution / _FWHM / side for side in sides], mode="nearest")
    provenance = Provenance(modality="PT", dtype=np.dtype(np.float32), steps=(f"made up: brain FDG, seed {seed}",))
    return Volume(image, geometry, Units.SUVBW, provenance)


_DEEP: Final = (
    ((11.0, -8.0, 6.0), (5.0, 28.0, 9.0), 0.03, 0.1),  # lateral ventricles
    ((12.0, -16.0, 6.0), (6.0, 14.0, 9.0), 0.9, 1.2),  # caudate
    ((24.0, -4.0, 0.0), (7.0, 18.0, 10.0), 1.0, 1.3),  # putamen
    ((11.0, 14.0, 2.0), (9.0, 15.0, 9.0), 0.8, 1.1),  # thalamus
    ((0.0, 26.0, -52.0), (13.0, 12.0, 30.0), 0.4, 0.6),  # brain stem
    ((30.0, -74.0, -42.0), (13.0, 14.0, 12.0), 0.05, 0.25),  # eyes
)
"""Centre and radii, mm, and range of uptake relative to the cortex."""


@dataclass(frozen=True)
class _Part:
    """A folded part of the brain: an ellipsoid, and the size of its folds relative to the cortex's."""

    centre: tuple[float, float, float]
    radii: tuple[float, ...]
    scale: float


def _grid(head: Head, rng: np.random.Generator) -> tuple[Grid, Geometry]:
    """A grid around the head, and the same in the brain's own coordinates, bent a little."""
    in_plane, step = head.voxel
    columns, rows = (2 * int(np.ceil(half / in_plane)) for half in _HALF)
    slices = int(np.ceil((_TOP - _BOTTOM) / step))
    affine = np.diag([in_plane, in_plane, step, 1.0])
    affine[:3, 3] = -(columns - 1) / 2 * in_plane, -(rows - 1) / 2 * in_plane, _BOTTOM
    geometry = Geometry(affine, (slices, rows, columns))
    return bent_grid(geometry, rng, *_BEND), geometry


def _regions(rng: np.random.Generator, geometry: Geometry) -> NDArray[np.float32]:
    """How the cortex's uptake varies from region to region: a factor for every voxel."""
    field = smooth_field(rng, geometry.shape, tuple(22.0 / side for side in geometry.spacing))  # type: ignore[arg-type]
    return np.asarray(np.exp(np.float32(rng.uniform(0.05, 0.2)) * field))


def _paint_folded(
    image: NDArray[np.float32],
    grid: Grid,
    part: _Part,
    head: Head,
    rng: np.random.Generator,
    grey: NDArray[np.float32],
) -> None:
    """Fluid in the sulci, grey matter along them and along the surface, white matter within."""
    centre, radii = np.array(part.centre), np.array(part.radii)
    x, y, z = (axis - np.float32(middle) for axis, middle in zip((grid.x, grid.y, grid.z), centre, strict=True))
    inside = (1.0 - np.sqrt((x / radii[0]) ** 2 + (y / radii[1]) ** 2 + (z / radii[2]) ** 2)) * float(radii.min())
    field = smooth_field(rng, image.shape, tuple(head.folding * part.scale / side for side in grid.sides))  # type: ignore[arg-type]
    slope = np.sqrt(sum(np.square(d) for d in np.gradient(field, *grid.sides)))
    bank = np.abs(field) / np.maximum(slope, np.float32(0.02))  # mm to the middle of a sulcus, to first order
    bank = np.where(inside < head.depth * part.scale, bank, np.hypot(bank, inside - head.depth * part.scale))
    cleft = np.where((z > -0.3 * radii[2]) & (part.scale == 1.0), np.abs(x) - np.float32(_FISSURE), np.float32(1e3))
    pial = np.minimum(np.minimum(inside, bank - head.gap * part.scale), cleft)
    ribbon = head.thickness * (1.0 if part.scale == 1.0 else 0.6)
    within, brain = filled(ribbon - pial, grid.voxel), filled(-inside, grid.voxel)
    matter = filled(-pial, grid.voxel)
    fluid = np.float32(0.06 * head.grey)
    value = fluid + (matter - within) * (grey - fluid) + within * (head.white * grey - fluid)
    image += brain * (value - image)
