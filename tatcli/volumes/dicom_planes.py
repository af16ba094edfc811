"""A restored volume, file by file: the planes of every derived object, and how their voxels are stored."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tatcli.errors import OutputError
from tatcli.intensity import FixedRange
from tatcli.tasks import task_for_modality
from tatcli.volumes.dicom_checks import is_same_grid
from tatcli.volumes.dicom_coding import Coding, coding_of, encoded, own_slope, wider_codings
from tatcli.volumes.dicom_files import read_dataset, tolerant
from tatcli.volumes.dicom_images import DicomImage
from tatcli.volumes.dicom_mosaic import tile_of
from tatcli.volumes.dicom_padding import padding_of
from tatcli.volumes.dicom_pixels import stored_of
from tatcli.volumes.encoding import decode
from tatcli.volumes.padding import in_squares
from tatcli.volumes.volume import Volume

if TYPE_CHECKING:
    from pydicom.dataset import FileDataset

    from tatcli.volumes.dicom import DicomHeader

__all__ = ["Plane", "SourceObject", "source_objects"]


@dataclass(frozen=True)
class Plane:
    """One slice, ready to be stored.

    Attributes:
        image: where it comes from.
        pixels: (rows, columns), stored numbers.
        coding: how they are stored.
        own: how the source's are.
        position: ImagePositionPatient, None where it is the source's.
        spacing: PixelSpacing, None where it is the source's.
        factor: stored values / the source's: 1, but for PET in SUVbw instead of the source's units.
    """

    image: DicomImage
    pixels: NDArray[Any]
    coding: Coding
    own: Coding
    position: tuple[float, float, float] | None = None
    spacing: tuple[float, float] | None = None
    factor: float = 1.0

    @property
    def in_suv(self) -> bool:
        """Whether values are SUVbw instead of the source's units."""
        return self.factor != 1.0

    @property
    def recoded(self) -> bool:
        """Whether stored numbers mean something else than in the source."""
        return (self.coding.slope, self.coding.intercept) != (self.own.slope, self.own.intercept)

    @property
    def rescaled(self) -> bool:
        """Whether stored numbers mean something else than in the source, or the same in other units."""
        return self.recoded or self.in_suv

    @property
    def remapped(self) -> bool:
        """Whether real world values are of other stored numbers than the source's, or of more."""
        return self.rescaled or self.coding.limits != self.own.limits


@dataclass(frozen=True)
class SourceObject:
    """A source file and the planes that were made of it.

    Attributes:
        dataset: its header, with its pixel data.
        canvas: (frames, rows, columns), its stored numbers.
        planes: in the order of its frames.
    """

    dataset: FileDataset
    canvas: NDArray[Any]
    planes: tuple[Plane, ...]


def source_objects(volume: Volume, header: DicomHeader, *, in_suv: bool = False) -> Iterator[SourceObject]:
    """Every source file with its restored planes, in the volume's order.

    Args:
        volume: what is to be stored, on a grid that was checked.
        header: its source.
        in_suv: store PET in SUVbw instead of the source's units.

    Raises:
        OutputError: voxels without a number.
        VolumeReadError: a source file has gone since it was read.
    """
    grid = _Grid.of(volume, header)
    if not np.isfinite(volume.array).all():
        msg = "output: expected numbers in every voxel, got NaN or infinite ones, which DICOM can't hold; write .nii.gz"
        raise OutputError(msg)
    images = [image for frame in header.frames for image in frame]
    arrays = volume.array.reshape(-1, *volume.array.shape[-2:])
    by_file: dict[Path, list[int]] = {}
    for index, image in enumerate(images):
        by_file.setdefault(image.path, []).append(index)
    pet = header.series.modality == "PT"
    negative = pet and bool(volume.array.min() < 0)
    widening = _Widening() if pet else _Widening.of(by_file, images, arrays, header.factor)
    for path, indices in by_file.items():
        dataset = read_dataset(path, with_pixels=True)
        frames = stored_of(dataset, path)
        members = sorted(indices, key=lambda index: images[index].frame)
        own = [coding_of(dataset, slope=images[index].slope, intercept=images[index].intercept) for index in members]
        values = [
            _Values.of(arrays[index], images[index], frames, dataset, header.factor, same_grid=grid.same)
            for index in members
        ]
        least, greatest = own[0].limits
        strays = int(frames.min()) < least or int(frames.max()) > greatest  # padding beyond the stored bits
        changed = strays or any(value.changed for value in values)
        factor = header.factor if in_suv else 1.0
        planes = []
        for index, coding, value in zip(members, own, values, strict=True):
            image = images[index]
            if not pet:
                chosen = widening.widened(coding)
                pixels = value.stored(chosen, coding)
            elif changed:
                chosen = own_slope(value.whole * factor, signed=coding.signed or negative)
                pixels = encoded(value.whole * factor, chosen)
            else:
                chosen, pixels = coding.times(factor), value.stored(coding, coding)
            place = grid.position(image)
            planes.append(Plane(image, pixels, chosen, coding, place, grid.spacing, factor))
        yield SourceObject(dataset, frames, tuple(planes))


@dataclass(frozen=True)
class _Widening:
    """How far codings must be widened so that they hold all images: the same for all, as readers expect.

    Attributes:
        level: of :func:`~tatcli.volumes.dicom_coding.wider_codings`.
        lower, upper: the least and the greatest value of all images, padding included.
    """

    level: int = 0
    lower: float = 0.0
    upper: float = 0.0

    @classmethod
    def of(
        cls,
        by_file: dict[Path, list[int]],
        images: list[DicomImage],
        arrays: NDArray[np.float32],
        factor: float,
    ) -> _Widening:
        level, ends = 0, []
        for path, indices in by_file.items():
            dataset = read_dataset(path)
            strays = _strays(dataset, path)
            for index in indices:
                lower, upper = float(arrays[index].min()) / factor, float(arrays[index].max()) / factor
                with tolerant(path):
                    own = coding_of(dataset, slope=images[index].slope, intercept=images[index].intercept)
                    for number in strays:
                        value = number * own.slope + own.intercept
                        lower, upper = min(lower, value), max(upper, value)
                fitting = wider_codings(own, lower, upper)
                level = max(level, next(i for i, coding in enumerate(fitting) if coding.holds(lower, upper)))
                ends += [lower, upper]
                if (padding := images[index].padding) is not None and not padding.stray:
                    ends += [number * own.slope + own.intercept for number in (padding.first, padding.last)]
        return cls(level, min(ends), max(ends))

    def widened(self, own: Coding) -> Coding:
        return wider_codings(own, self.lower, self.upper)[self.level]


def _strays(dataset: FileDataset, path: Path) -> tuple[int, ...]:
    """The ends of the padding that takes more than the source's stored bits; none where no voxel has it."""
    with tolerant(path):
        padding = padding_of(dataset)
    if padding is None or not padding.stray:
        return ()
    stored = stored_of(read_dataset(path, with_pixels=True), path)
    found = stored[padding.holds(stored)]
    return (int(found.min()), int(found.max())) if found.size else ()


@dataclass(frozen=True)
class _Values:
    """A plane in the file's units: everywhere, and with NaN where the source's stored numbers hold."""

    whole: NDArray[np.float64]
    sparse: NDArray[np.float64]
    original: NDArray[Any] | None

    @classmethod
    def of(
        cls,
        array: NDArray[np.float32],
        image: DicomImage,
        frames: NDArray[Any],
        dataset: FileDataset,
        factor: float,
        *,
        same_grid: bool,
    ) -> _Values:
        whole = array.astype(np.float64) / factor
        if not same_grid:
            return cls(whole, whole, None)
        original = tile_of(image, frames[image.frame])
        before = decode(original, slope=image.slope * factor, intercept=image.intercept * factor)
        kept = before == array
        padding = padding_of(dataset)
        if padding is not None:
            kept |= _unrestored(padding.holds(original), before, image.modality)
        # Where the source's numbers hold, so does their exact value, which float32 may not have.
        exact = original.astype(np.float64) * image.slope + image.intercept
        return cls(np.where(kept, exact, whole), np.where(kept, np.nan, whole), original)

    @property
    def changed(self) -> bool:
        return self.original is None or not bool(np.isnan(self.sparse).all())

    def stored(self, coding: Coding, own: Coding) -> NDArray[Any]:
        if self.original is not None and (coding.slope, coding.intercept) == (own.slope, own.intercept):
            return encoded(self.sparse, coding, self.original)
        return encoded(self.whole, coding)


def _unrestored(padding: NDArray[np.bool_], values: NDArray[np.float32], modality: str) -> NDArray[np.bool_]:
    """Which voxels of the padding's numbers are padding: all below the network's range, and squares within it.

    Single voxels of a number within the range are tissue (:mod:`~tatcli.volumes.padding`): 0 may be padding and water.
    """
    task = task_for_modality(modality)
    if task is None or not padding.any():
        return padding
    lowest = task.intensity.window.lower if isinstance(task.intensity, FixedRange) else 0.0
    return padding & ((values < lowest) | in_squares(padding))


@dataclass(frozen=True)
class _Grid:
    """How the volume's grid differs from the source's: not at all, or by a finer matrix in the plane."""

    same: bool
    shift: NDArray[np.float64]
    spacing: tuple[float, float] | None

    @classmethod
    def of(cls, volume: Volume, header: DicomHeader) -> _Grid:
        old, new = header.geometry, volume.geometry
        shift = new.affine[:3, 3] - old.affine[:3, 3]
        if is_same_grid(new, old):
            return cls(same=True, shift=shift, spacing=None)
        return cls(same=False, shift=shift, spacing=(new.spacing[1], new.spacing[2]))

    def position(self, image: DicomImage) -> tuple[float, float, float] | None:
        if self.same or image.position is None:
            return None
        x, y, z = (float(value) for value in np.array(image.position) + self.shift)
        return x, y, z
