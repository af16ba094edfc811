"""PET uptake in hot regions: SUVmax, SUVpeak and SUVmean of the reference's regions, and how far off a method is.

Hot regions are the connected voxels (26 neighbours) at or above SUV 4.0 of the reference, at least 1 ml large: the
fixed threshold of Barrington & Meignan (J Nucl Med 60:1096, 2019). Some are physiological (brain, heart, bladder); an
error there is an error all the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import scipy.ndimage

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["HOT_SUV", "HotRegion", "UptakeError", "hot_regions", "peak_sphere", "uptake_errors"]

HOT_SUV: Final = 4.0
SMALLEST_ML: Final = 1.0
MOST_REGIONS: Final = 20
PEAK_RADIUS_MM: Final = (3.0 * 1000.0 / (4.0 * np.pi)) ** (1.0 / 3.0)
"""Of a sphere of 1 ml: 6.204 mm."""
_SUBDIVISION: Final = 7
"""A voxel's share of the sphere is counted over so many points along each axis."""


@dataclass(frozen=True, eq=False)
class HotRegion:
    """A region of a reference.

    Attributes:
        index: 1 is the one with the highest voxel.
        mask: a box's (slices, rows, columns), true inside the region.
        box: where that box lies in the volume.
        volume_ml: of the region.
    """

    index: int
    mask: NDArray[np.bool_]
    box: tuple[slice, slice, slice]
    volume_ml: float


@dataclass(frozen=True)
class UptakeError:
    """A region's values in the reference and in another scan.

    Attributes:
        region: its index.
        volume_ml: of the region.
        reference: (SUVmax, SUVpeak, SUVmean).
        restored: the same of the other scan.
    """

    region: int
    volume_ml: float
    reference: tuple[float, float, float]
    restored: tuple[float, float, float]

    @property
    def percent(self) -> tuple[float, float, float]:
        """100 (restored - reference) / reference for SUVmax, SUVpeak, SUVmean."""
        maximum, peak, mean = (
            100.0 * (ours - truth) / truth for ours, truth in zip(self.restored, self.reference, strict=True)
        )
        return maximum, peak, mean

    def to_dict(self) -> dict[str, float]:
        """JSON form."""
        fields: dict[str, float] = {"region": self.region, "volume_ml": self.volume_ml}
        for name, truth, ours, percent in zip(
            ("suv_max", "suv_peak", "suv_mean"), self.reference, self.restored, self.percent, strict=True
        ):
            fields |= {f"{name}_reference": truth, name: ours, f"{name}_error_percent": percent}
        return fields


def hot_regions(reference: NDArray[np.floating[Any]], *, spacing: tuple[float, float, float]) -> list[HotRegion]:
    """The reference's hot regions, hottest first, at most 20.

    Args:
        reference: (slices, rows, columns), SUV.
        spacing: (slice, row, column) steps, mm.
    """
    values = np.nan_to_num(np.asarray(reference, dtype=np.float64), posinf=0.0, neginf=0.0)
    labels, count = scipy.ndimage.label(values >= HOT_SUV, structure=np.ones((3, 3, 3)))
    voxel_ml = float(np.prod(spacing)) / 1000.0
    boxes: list[Any] = scipy.ndimage.find_objects(labels)
    found = []
    for label in range(1, count + 1):
        box = boxes[label - 1]
        mask = labels[box] == label
        volume = float(mask.sum()) * voxel_ml
        if volume >= SMALLEST_ML:
            found.append((float(values[box][mask].max()), box, mask, volume))
    found.sort(key=lambda region: -region[0])
    return [
        HotRegion(index, mask, box, volume)
        for index, (_, box, mask, volume) in enumerate(found[:MOST_REGIONS], start=1)
    ]


def uptake_errors(
    restored: NDArray[np.floating[Any]],
    reference: NDArray[np.floating[Any]],
    regions: list[HotRegion],
    *,
    spacing: tuple[float, float, float],
) -> tuple[UptakeError, ...]:
    """SUVmax, SUVpeak and SUVmean of every region in both scans.

    SUVmax and SUVmean are over the region's voxels. SUVpeak is the highest mean of a 1 ml sphere whose centre is a
    voxel of the region (EANM procedure guidelines 2.0, Boellaard et al., EJNMMI 42:328, 2015; QIBA Profile FDG-PET/CT):
    voxels count by the share of them that lies inside the sphere. Spheres may reach beyond the region, and at the
    volume's border the nearest voxels stand for what is outside.

    Args:
        restored: (slices, rows, columns), SUV.
        reference: the same shape.
        regions: from :func:`hot_regions`.
        spacing: (slice, row, column) steps, mm.
    """
    sphere = peak_sphere(spacing)
    errors = []
    for region in regions:
        truth, ours = (_uptake(volume, region, sphere) for volume in (reference, restored))
        errors.append(UptakeError(region.index, region.volume_ml, truth, ours))
    return tuple(errors)


def peak_sphere(spacing: tuple[float, float, float]) -> NDArray[np.float64]:
    """Weights of voxels around a centre voxel in the mean over a 1 ml sphere; they sum to 1, odd lengths."""
    axes = []
    for step in spacing:
        reach = int(np.ceil(max(0.0, PEAK_RADIUS_MM / step - 0.5)))
        axes.append(np.arange(-reach, reach + 1) * step)
    inside = np.zeros([len(axis) for axis in axes])
    parts = (np.arange(_SUBDIVISION) + 0.5) / _SUBDIVISION - 0.5
    for offsets in np.ndindex(_SUBDIVISION, _SUBDIVISION, _SUBDIVISION):
        z, y, x = (axis + parts[offset] * step for axis, offset, step in zip(axes, offsets, spacing, strict=True))
        inside += z[:, None, None] ** 2 + y[None, :, None] ** 2 + x[None, None, :] ** 2 <= PEAK_RADIUS_MM**2
    return np.asarray(inside / inside.sum())


def _uptake(
    volume: NDArray[np.floating[Any]], region: HotRegion, sphere: NDArray[np.float64]
) -> tuple[float, float, float]:
    values = np.nan_to_num(np.asarray(volume[region.box], dtype=np.float64), posinf=0.0, neginf=0.0)
    reach = [length // 2 for length in sphere.shape]
    around, inner = [], []
    for part, margin, length in zip(region.box, reach, volume.shape, strict=True):
        start = max(0, part.start - margin)
        around.append(slice(start, min(length, part.stop + margin)))
        inner.append(slice(part.start - start, part.stop - start))
    wide = np.nan_to_num(np.asarray(volume[tuple(around)], dtype=np.float64), posinf=0.0, neginf=0.0)
    means = scipy.ndimage.correlate(wide, sphere, mode="nearest")[tuple(inner)]
    return float(values[region.mask].max()), float(means[region.mask].max()), float(values[region.mask].mean())
