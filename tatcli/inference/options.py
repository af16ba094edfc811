"""How a scan is put through the network. Free of torch, so that the command line can check it first."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tatcli.errors import UsageError

if TYPE_CHECKING:
    from tatcli.tasks import Task
    from tatcli.volumes.geometry import Geometry

__all__ = ["DEFAULT_TILE", "MODES", "PRECISIONS", "VIEWS", "RestoreOptions"]

MODES: Final = ("slice", "patch")
"""``slice``: whole slices; ``patch``: overlapping tiles of them, blended."""
PRECISIONS: Final = ("auto", "fp32", "bf16", "fp16")
"""What the network computes in."""

VIEWS: Final = tuple((turns, flipped) for turns in range(4) for flipped in (False, True))
"""(Quarter turns, mirrored before): the eight ways to show a slice, whose restorations an ensemble averages.

Self-ensemble: R. Timofte et al., "Seven ways to improve example-based single image super resolution", CVPR 2016.
"""

DEFAULT_TILE: Final = 256
SMALLEST_TILE: Final = 32
"""Below this a tile's border is most of it."""


@dataclass(frozen=True, kw_only=True)
class RestoreOptions:
    """Options of one restoration; those of the machine (device, precision, threads) belong to the restorer.

    Attributes:
        mode: ``slice`` or ``patch``.
        tile: side of the tiles in patch mode, pixels; None: 256.
        overlap: of neighbouring tiles, pixels; None: a quarter of the tile.
        batch: slices (or tiles of the same place) per pass; None: 1 on a CPU, as many as fill a GPU.
        ensemble: restore every slice in eight views and average, see ``VIEWS``.
        axis: ``auto``, ``axial``, ``coronal`` or ``sagittal``: the plane that is restored.
        planes: in how many planes, whose restorations are averaged: 1, that plane; 2, the two that cross it; 3, all.
            None: 3 for PET where ``axis`` is ``auto`` and the voxels are nearly cubes, else 1; see :meth:`axes`.
        scale: mri-sr only: zero-fill k-space to this many times the in-plane matrix first.
        data_consistency: mri-sr only: put the measured k-space back (:mod:`tatcli.inference.data_consistency`); None:
            where the scan's spectrum shows which lines were measured.
        kspace_factor: mri-sr only: how many times more lines the matrix has than were measured; None: by the spectrum.
        check_values: refuse values that can't be in the task's units.
        ignore_modality: take scans whose header names another modality than the task's.

    Raises:
        UsageError: a value out of range, or options that contradict each other.
    """

    mode: str = "slice"
    tile: int | None = None
    overlap: int | None = None
    batch: int | None = None
    ensemble: bool = False
    axis: str = "auto"
    planes: int | None = None
    scale: int = 1
    data_consistency: bool | None = None
    kspace_factor: float | None = None
    check_values: bool = True
    ignore_modality: bool = False

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            msg = f"--mode {self.mode!r}: expected one of {', '.join(MODES)}"
            raise UsageError(msg)
        if self.mode == "slice" and (self.tile is not None or self.overlap is not None):
            msg = "--tile and --overlap: expected with --mode patch only, got --mode slice; add --mode patch"
            raise UsageError(msg)
        if self.tile is not None and self.tile < SMALLEST_TILE:
            msg = f"--tile: expected at least {SMALLEST_TILE} pixels, got {self.tile}"
            raise UsageError(msg)
        if not 0 <= self.tile_overlap < self.tile_side:
            msg = f"--overlap: expected 0 to {self.tile_side - 1} (less than the tile), got {self.overlap}"
            raise UsageError(msg)
        if self.batch is not None and self.batch < 1:
            msg = f"--batch: expected at least 1, got {self.batch}"
            raise UsageError(msg)
        if self.planes not in (None, 1, 2, 3):
            msg = f"--planes: expected 1, 2 or 3, got {self.planes}"
            raise UsageError(msg)
        if self.scale < 1:
            msg = f"--scale: expected a whole number of at least 1, got {self.scale}"
            raise UsageError(msg)
        if self.kspace_factor is not None:
            self._check_factor(self.kspace_factor)

    def _check_factor(self, factor: float) -> None:
        if not 1.0 <= factor < math.inf:
            msg = f"--kspace-factor: expected a number from 1, got {factor:g}"
            raise UsageError(msg)
        if factor < self.scale:
            msg = f"--kspace-factor: expected at least --scale, {self.scale}, being of the finer matrix, got {factor:g}"
            raise UsageError(msg + "; leave it out, or count in what zero-filling left empty")
        if self.data_consistency is False:
            msg = "--kspace-factor: expected without --no-data-consistency, as that has no use for it; leave one out"
            raise UsageError(msg)

    def axes(self, task: Task, geometry: Geometry) -> tuple[int, ...]:
        """The array axes of a frame that are sliced along; several restorations are averaged.

        Noise of neighbouring slices is more independent than that within a slice, so planes that cross the slices tell
        more of a scan whose voxels are nearly cubes. PET's are, and small; elsewhere the caller has to ask for them.

        Raises:
            UsageError: an unknown plane; several planes asked for of mri-sr, whose resolution was lost within slices,
                or of a single slice.
        """
        from tatcli.volumes.slices import has_cubic_voxels, through_plane_axis

        own = through_plane_axis(geometry, self.axis)
        planes = self.planes
        if planes is None:
            planes = 3 if task.modality == "PT" and self.axis == "auto" and has_cubic_voxels(geometry) else 1
        if planes > 1 and task.name == "mri-sr":
            msg = f"--planes {planes}: expected 1 with mri-sr, whose resolution was lost within slices; leave it out"
            raise UsageError(msg)
        if planes > 1 and min(geometry.shape) == 1:
            msg = f"--planes {planes}: expected a volume, got a single slice; leave it out"
            raise UsageError(msg)
        across = tuple(axis for axis in range(3) if axis != own)
        return {1: (own,), 2: across, 3: (own, *across)}[planes]

    def puts_back(self, task: Task) -> bool:
        """Whether measured k-space may be put back.

        Raises:
            UsageError: it is asked for, but of another task than mri-sr.
        """
        if task.name == "mri-sr":
            return self.data_consistency is not False
        if self.data_consistency or self.kspace_factor is not None:
            option = "--data-consistency" if self.data_consistency else "--kspace-factor"
            msg = f"{option}: expected only with mri-sr, got {task.name}; leave it out"
            raise UsageError(msg)
        return False

    @property
    def told(self) -> str:
        """What of it changes a scan's values, for its history; '' where nothing was asked for.

        Of the planes and of k-space, what became of them tells more.
        """
        words = [f"{self.axis} slices"] if self.axis != "auto" else []
        if self.mode == "patch":
            words.append(f"tiles of {self.tile_side} pixels that overlap by {self.tile_overlap}")
        if self.ensemble:
            words.append(f"the mean of {len(VIEWS)} views")
        return "".join(f", {word}" for word in words)

    @property
    def known_factor(self) -> float | None:
        """By how much k-space was cut, by the caller's word or as ``scale`` refines the grid; None: not known."""
        return self.kspace_factor or (float(self.scale) if self.scale > 1 else None)

    @property
    def tile_side(self) -> int:
        """The tile that patch mode uses."""
        return DEFAULT_TILE if self.tile is None else self.tile

    @property
    def tile_overlap(self) -> int:
        """The overlap that patch mode uses."""
        return self.tile_side // 4 if self.overlap is None else self.overlap
