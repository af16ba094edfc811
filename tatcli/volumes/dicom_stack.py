"""Sort the images of a series into a stack: by position along the slice normal, never by file name or number."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tatcli.errors import GeometryError
from tatcli.volumes.dicom_images import DISCRETE_DIMENSIONS, TIME_DIMENSIONS, DicomImage
from tatcli.volumes.geometry import Geometry

__all__ = ["DicomStack", "stack_images"]

_SAME_POSITION: Final = 1e-3
"""mm along the normal: repeats of a slice carry the same position but for its rounding."""
_SAME_DIRECTION: Final = 1e-3
_SPACING_TOLERANCE: Final = 0.01
"""Relative; highdicom's tolerance for a regular volume."""
_DICOM_CAN: Final = "or write DICOM, where each slice keeps its place"
_ROUNDED_POSITION: Final = 0.06
"""mm: positions written with one decimal lie this far from the grid that fits them best."""


@dataclass(frozen=True)
class DicomStack:
    """A regular stack.

    Attributes:
        frames: for every frame its images by position, lowest along the normal first.
        geometry: grid of one frame.
        dimension: what tells the frames apart, '' for a single frame.
        warnings: what was odd.
        uneven: the slices don't lie at even distances; the grid's step between them is their mean then.
    """

    frames: tuple[tuple[DicomImage, ...], ...]
    geometry: Geometry
    dimension: str = ""
    warnings: tuple[str, ...] = ()
    uneven: bool = False


def stack_images(images: Sequence[DicomImage], name: str, *, uneven: bool = False) -> DicomStack:
    """Build the stack of a series.

    Args:
        images: of one series, in any order.
        name: the folder or file, for messages.
        uneven: take slices at uneven distances (missing ones, variable spacing), which no affine describes; for
            callers who give every slice back its own position.

    Raises:
        GeometryError: images of different size, direction or kind; positions missing, doubled or unevenly spaced.
    """
    first = images[0]
    warnings: list[str] = []
    _check_alike(images, name)
    row, column, normal = _directions(first, name)
    spacing = first.pixel_spacing
    if spacing is None or min(spacing) <= 0:
        _only_single(images, f"PixelSpacing, got {spacing}", name)
        spacing = (1.0, 1.0)
        warnings.append("no pixel spacing in the header: 1 mm is assumed")
    if not (first.oriented and all(image.position for image in images)):
        _only_single(images, "a position and orientation, got none", name)
        warnings.append("no position or orientation in the header: the orientation is assumed")
    origin = np.array(first.position or (0.0, 0.0, 0.0))
    if len(images) == 1:
        step = normal * (first.slice_spacing if first.slice_spacing and first.slice_spacing > 0 else 1.0)
        groups, dimension, irregular = [[first]], "", False
    else:
        groups = _by_position(images, normal)
        dimension = _sort_frames(groups, name)
        # the images of an enhanced object or a mosaic share its number
        if dimension == "InstanceNumber" and (
            len(groups) == 1 or len({group[0].dimensions[dimension] for group in groups}) > 1
        ):
            words = f"{len(groups[0])} images at every position differ in their InstanceNumber alone"
            warnings.append(f"{words}: taken for frames in its order")
        try:
            origin, step = _regular_step([group[0] for group in groups], normal, name, warnings)
            irregular = False
        except GeometryError as error:
            if not uneven:
                raise
            origin, step, irregular = *_mean_step([group[0] for group in groups]), True
            warnings.append(f"{str(error).removeprefix(f'{name}: ').split(';')[0]}: every slice keeps its own position")
    affine = np.eye(4)
    # The first direction cosine runs along a row, that is, across columns, whose distance is the second spacing.
    affine[:3, 0], affine[:3, 1], affine[:3, 2], affine[:3, 3] = row * spacing[1], column * spacing[0], step, origin
    frames = tuple(tuple(group[index] for group in groups) for index in range(len(groups[0])))
    geometry = Geometry(affine=affine, shape=(len(groups), first.rows, first.columns))
    return DicomStack(frames, geometry, dimension, tuple(warnings), irregular)


def _only_single(images: Sequence[DicomImage], what: str, name: str) -> None:
    if len(images) > 1:
        msg = f"{name}: expected {what}; the {len(images)} images can't be stacked, restore them one by one"
        raise GeometryError(msg)


def _check_alike(images: Sequence[DicomImage], name: str) -> None:
    """One matrix, one direction, one pixel spacing, one kind of MR image."""
    first = images[0]
    sizes = Counter((image.rows, image.columns) for image in images)
    if len(sizes) > 1:
        listed = ", ".join(f"{count} of {rows}x{columns}" for (rows, columns), count in sizes.items())
        msg = f"{name}: expected images of one size, got {listed}; put them into folders of their own"
        raise GeometryError(msg)
    if not all(_close(image.orientation, first.orientation) for image in images):
        msg = f"{name}: expected slices in one direction, got several orientations; put them into folders of their own"
        raise GeometryError(msg)
    if not all(_close(image.pixel_spacing, first.pixel_spacing) for image in images):
        msg = f"{name}: expected one pixel spacing, got several; put the images into folders of their own"
        raise GeometryError(msg)
    kinds = {image.kind[2:4] for image in images}
    if first.modality == "MR" and len(kinds) > 1:
        listed = ", ".join(sorted("\\".join(kind) for kind in kinds))
        msg = f"{name}: expected one kind of MR image, got {listed} mixed; put each kind into a folder of its own"
        raise GeometryError(msg)


def _close(a: tuple[float, ...] | None, b: tuple[float, ...] | None) -> bool:
    if a is None or b is None:
        return a is b
    return bool(np.allclose(a, b, rtol=0, atol=_SAME_DIRECTION))


def _directions(image: DicomImage, name: str) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Unit vectors along a row, down a column, and their normal."""
    cosines = np.array(image.orientation or (1.0, 0.0, 0.0, 0.0, 1.0, 0.0))
    row, column = cosines[:3], cosines[3:]
    lengths = np.linalg.norm(row), np.linalg.norm(column)
    if min(lengths) < 0.9 or max(lengths) > 1.1 or abs(row @ column) > 0.01:
        msg = f"{name}: expected two orthogonal unit vectors in ImageOrientationPatient, got {image.orientation}"
        raise GeometryError(msg + "; repair the header")
    row, column = row / lengths[0], column / lengths[1]
    normal = np.cross(row, column)
    return row, column, normal / np.linalg.norm(normal)


def _by_position(images: Sequence[DicomImage], normal: NDArray[np.float64]) -> list[list[DicomImage]]:
    """Images of the same position together, the lowest along the normal first."""
    heights = [float(np.array(image.position) @ normal) for image in images]
    groups: list[list[DicomImage]] = []
    last = -np.inf
    for index in np.argsort(heights, kind="stable"):
        if not groups or heights[index] - last > _SAME_POSITION:
            groups.append([])
        groups[-1].append(images[index])
        last = heights[index]
    return groups


def _sort_frames(groups: list[list[DicomImage]], name: str) -> str:
    """Sort each position's images into the order of frames, in place; returns what tells the frames apart."""
    counts = Counter(len(group) for group in groups)
    if set(counts) == {1}:
        _check_one_contrast(groups, name)
        return ""
    if len(counts) > 1:
        listed = ", ".join(f"{count} positions with {repeats}" for repeats, count in sorted(counts.items()))
        msg = f"{name}: expected as many images at every position, got {listed}; images are missing or doubled"
        raise GeometryError(msg + ", complete the series")
    repeats = len(groups[0])
    for dimension in (*DISCRETE_DIMENSIONS, *TIME_DIMENSIONS):
        values = [[image.dimensions.get(dimension) for image in group] for group in groups]
        if any(None in row or len(set(row)) < repeats for row in values):
            continue
        if dimension in DISCRETE_DIMENSIONS and any(set(row) != set(values[0]) for row in values):
            continue
        if dimension == "InstanceNumber" and not _are_counted(values):
            continue
        for group in groups:
            group.sort(key=lambda image: image.dimensions[dimension])
        return dimension
    position = groups[0][0].position
    msg = f"{name}: expected one image per position, got {repeats} at {position}, which no echo, time, b-value or"
    raise GeometryError(msg + " number tells apart; remove the duplicates")


def _are_counted(numbers: list[list[float | None]]) -> bool:
    """Whether the numbers of each position, in order, tell frames: one stack after the other, or slice by slice."""
    table = np.sort(np.array(numbers, dtype=np.float64))
    stacks = (table.max(axis=0)[:-1] < table.min(axis=0)[1:]).all()
    return bool(stacks or (np.diff(table, axis=1) == 1).all())


def _check_one_contrast(groups: list[list[DicomImage]], name: str) -> None:
    """Slices of different contrasts that happen to complete a stack are no volume."""
    for dimension in ("EchoTime", "DiffusionBValue"):
        values = Counter(group[0].dimensions.get(dimension) for group in groups)
        if len(values) > 1:
            listed = ", ".join(f"{count} of {value}" for value, count in sorted(values.items(), key=str))
            msg = f"{name}: expected one {dimension} throughout the stack, got {listed}; the other half is missing"
            raise GeometryError(msg + ", complete the series or separate it")


def _regular_step(
    stack: list[DicomImage], normal: NDArray[np.float64], name: str, warnings: list[str]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Origin and the vector from each slice to the next, which a tilted gantry doesn't have along the normal."""
    positions = np.array([image.position for image in stack])
    if len(stack) == 1:  # one position, several frames
        thickness = stack[0].slice_spacing
        return positions[0], normal * (thickness if thickness and thickness > 0 else 1.0)
    step = (positions[-1] - positions[0]) / (len(stack) - 1)
    gap = float(step @ normal)
    gaps = np.diff(positions @ normal)
    residual = float(np.linalg.norm(positions - positions[0] - np.outer(np.arange(len(stack)), step), axis=1).max())
    if residual <= _SPACING_TOLERANCE * gap:
        return positions[0], step
    fitted, fitted_step, misfit = _fitted_line(positions)
    if misfit <= min(_ROUNDED_POSITION, 0.15 * gap):
        warnings.append(f"slice positions are rounded: up to {misfit:.3f} mm off a regular spacing of {gap:.4g} mm")
        return fitted, fitted_step
    typical = float(np.median(gaps))
    missing = np.rint(gaps / typical)
    if (missing > 1).any() and np.abs(gaps - missing * typical).max() <= 0.1 * typical:
        lost = int((missing - 1).sum())
        msg = f"{name}: expected slices every {typical:.4g} mm, got gaps up to {gaps.max():.4g} mm; {lost} missing"
        raise GeometryError(msg + f" slices, complete the series, {_DICOM_CAN}")
    if gaps.max() - gaps.min() <= 2 * _SPACING_TOLERANCE * typical:
        msg = f"{name}: expected slices on a line, got positions up to {residual:.3g} mm beside it; separate the stacks"
        raise GeometryError(msg)
    msg = f"{name}: expected evenly spaced slices, got gaps of {gaps.min():.4g} to {gaps.max():.4g} mm"
    raise GeometryError(msg + f"; separate the parts, resample the series, {_DICOM_CAN}")


def _mean_step(stack: list[DicomImage]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Origin and mean vector from slice to slice."""
    positions = np.array([image.position for image in stack])
    return positions[0], (positions[-1] - positions[0]) / (len(stack) - 1)


def _fitted_line(positions: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """The evenly spaced points that fit best: first point, step, and the largest distance from them."""
    index = np.arange(len(positions)) - (len(positions) - 1) / 2
    centre = positions.mean(axis=0)
    step = index @ (positions - centre) / (index @ index)
    first = centre + index[0] * step
    misfit = positions - centre - np.outer(index, step)
    return first, step, float(np.linalg.norm(misfit, axis=1).max())
