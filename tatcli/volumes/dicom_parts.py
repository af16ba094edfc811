"""One series, several stacks: scanners file magnitude and phase, field maps, planes and echoes under one series UID.

What belongs together is told by matrix, direction and kind of image, and, where contrasts don't share their positions,
by echo and b-value; where stacks of different places lie across each other, by time point and acquisition. Each part
gets a label, by which ``--series NUMBER:LABEL`` chooses it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations, pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tatcli.volumes.dicom_images import DicomImage

__all__ = ["split_parts"]

_SAME_DIRECTION: Final = 1e-3
_CONTRASTS: Final = (("EchoTime", "TE"), ("DiffusionBValue", "b"))
"""Dimensions in which stacks are apart unless they repeat the same positions, and how a label calls them."""
_ACQUISITIONS: Final = (("TemporalPosition", "t"), ("AcquisitionNumber", "acq"))
"""Dimensions in which stacks that lie across each other are apart, and how a label calls them."""
_SAME_POSITION: Final = 0.01
"""mm."""
_EVEN: Final = 0.1
"""How far distances may lie from their median, relative: positions are rounded."""
_FEWEST: Final = 3
"""Slices whose even distances make a stack of them."""


def split_parts(images: Sequence[DicomImage]) -> list[tuple[str, tuple[DicomImage, ...]]]:
    """(label, images) of every stack in a series; one part with the label '' in the ordinary case."""
    parts: list[tuple[str, tuple[DicomImage, ...]]] = [("", tuple(images))]
    for naming in (_by_matrix, _by_direction, _by_spacing, _by_kind, _by_contrast, _by_acquisition):
        parts = [
            (",".join(filter(None, (label, more))), members)
            for label, part in parts
            for more, members in _grouped(part, naming(part))
        ]
    return parts


def _grouped(
    images: Sequence[DicomImage], label_of: Callable[[DicomImage], str] | None
) -> list[tuple[str, tuple[DicomImage, ...]]]:
    if label_of is None:
        return [("", tuple(images))]
    groups: dict[str, list[DicomImage]] = {}
    for image in images:
        groups.setdefault(label_of(image), []).append(image)
    if len(groups) == 1:
        return [("", tuple(images))]
    return [(label, tuple(members)) for label, members in sorted(groups.items())]


def _by_matrix(images: Sequence[DicomImage]) -> Callable[[DicomImage], str]:
    del images
    return lambda image: f"{image.columns}x{image.rows}"


def _by_direction(images: Sequence[DicomImage]) -> Callable[[DicomImage], str] | None:
    """Planes of a localizer, or stacks along a curved spine."""
    directions: list[tuple[float, ...]] = []
    for image in images:
        if image.orientation is None:
            return None
        if not any(_close(image.orientation, known) for known in directions):
            directions.append(image.orientation)
    if len(directions) == 1:
        return None
    names = [_plane(direction) for direction in directions]
    unique = len(set(names)) == len(names)

    def label(image: DicomImage) -> str:
        index = next(i for i, known in enumerate(directions) if _close(image.orientation, known))
        return names[index] if unique else f"{names[index]}{index + 1}"

    return label


def _by_spacing(images: Sequence[DicomImage]) -> Callable[[DicomImage], str] | None:
    if any(image.pixel_spacing is None for image in images):
        return None
    first = images[0].pixel_spacing
    if all(_close(image.pixel_spacing, first) for image in images):
        return None
    return lambda image: "x".join(f"{step:.4g}" for step in reversed(image.pixel_spacing or ())) + "mm"


def _by_kind(images: Sequence[DicomImage]) -> Callable[[DicomImage], str] | None:
    """MR: magnitude, phase, field map ...: values 3 and 4 of ImageType, of which only those that differ are named."""
    if images[0].modality != "MR":
        return None
    columns = [position for position in (2, 3) if len({_word(image, position) for image in images}) > 1]
    if not columns:
        return None
    return lambda image: "+".join(filter(None, (_word(image, position) for position in columns))) or "plain"


def _by_contrast(images: Sequence[DicomImage]) -> Callable[[DicomImage], str] | None:
    """Echoes and b-values that don't all have the same positions; those that do are frames of one scan."""
    heights = _heights(images)
    for dimension, word in _CONTRASTS:
        places = [_distinct(values) for values in _by_value(images, heights, dimension).values()]
        if not all(_same(other, places[0]) for other in places):
            return lambda image, dimension=dimension, word=word: f"{word}{image.dimensions.get(dimension, 0.0):g}"  # type: ignore[misc]
    return None


def _by_acquisition(images: Sequence[DicomImage]) -> Callable[[DicomImage], str] | None:
    """Acquisitions of different extent or offset, each a regular stack, whose extents overlap.

    Those that lie one after the other are pieces of one stack (a CT's step and shoot), those of the same positions
    frames. Acquisitions whose slices make one stack together, one image a position, may be packages of it in MR.
    """
    if any(image.position is None or image.orientation is None for image in images):
        return None
    heights = _heights(images)
    regular = _is_regular(heights)
    for dimension, word in _ACQUISITIONS:
        if regular and dimension == "AcquisitionNumber" and images[0].modality != "CT":
            continue
        found = _by_value(images, heights, dimension)
        stacks = sorted(found.values(), key=min)
        if None in found or len(stacks) == 1 or not all(map(_is_regular, stacks)):
            continue
        across = any(min(upper) < max(lower) for lower, upper in pairwise(stacks))
        places = [_distinct(stack) for stack in stacks]
        if across and not any(_same(one, other) for one, other in combinations(places, 2)):
            return lambda image, dimension=dimension, word=word: f"{word}{image.dimensions[dimension]:g}"  # type: ignore[misc]
    return None


def _is_regular(heights: list[float]) -> bool:
    """Whether slices lie at even distances, one at each position."""
    gaps = np.diff(np.sort(heights))
    return len(heights) >= _FEWEST and bool(
        gaps.min() > _SAME_POSITION and np.abs(gaps - np.median(gaps)).max() <= _EVEN * np.median(gaps)
    )


def _heights(images: Sequence[DicomImage]) -> list[float]:
    """Of each image along its normal, 0 where it has no place."""
    nowhere = (0.0,) * 3
    positions = np.array([image.position or nowhere for image in images])
    directions = np.array([image.orientation or nowhere * 2 for image in images])
    return [float(height) for height in (np.cross(directions[:, :3], directions[:, 3:]) * positions).sum(axis=1)]


def _by_value(images: Sequence[DicomImage], heights: list[float], dimension: str) -> dict[float | None, list[float]]:
    found: dict[float | None, list[float]] = {}
    for image, height in zip(images, heights, strict=True):
        found.setdefault(image.dimensions.get(dimension), []).append(height)
    return found


def _distinct(heights: list[float]) -> NDArray[np.float64]:
    ordered = np.sort(np.array(heights, dtype=np.float64))
    return ordered[np.diff(ordered, prepend=-np.inf) > _SAME_POSITION]


def _same(a: NDArray[np.float64], b: NDArray[np.float64]) -> bool:
    return a.shape == b.shape and bool(np.allclose(a, b, rtol=0, atol=_SAME_POSITION))


def _word(image: DicomImage, position: int) -> str:
    return image.kind[position] if len(image.kind) > position else ""


def _plane(direction: tuple[float, ...]) -> str:
    normal = np.abs(np.cross(direction[:3], direction[3:]))
    return ("sagittal", "coronal", "axial")[int(normal.argmax())]


def _close(a: tuple[float, ...] | None, b: tuple[float, ...] | None) -> bool:
    if a is None or b is None:
        return False
    return all(abs(one - other) <= _SAME_DIRECTION for one, other in zip(a, b, strict=True))
