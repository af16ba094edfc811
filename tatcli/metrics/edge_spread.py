"""Edge sharpness: the width of the same edges in a restored scan and in its reference.

An edge spread function (ESF) is the profile across a border of two tissues; its 10-90 % rise distance is the usual
measure of its width (an ideal border blurred by a Gaussian of sigma has 2.563 sigma). Here the ESF is the mean of many
profiles across the reference's strongest edges, since one alone drowns in noise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import scipy.ndimage

from tatcli.volumes.slices import evenly_spaced

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["EDGE_SLICES", "edge_spread_ratio", "edge_widths"]

EDGE_SLICES: Final = 12
"""At most so many slices, evenly spaced, are searched for edges."""

_SMOOTHING: Final = 1.0
_STRONGEST: Final = 0.03
"""Share of the body's pixels whose gradient makes them edge pixels."""
_PER_SLICE: Final = 400
_FEWEST: Final = 20
_REACH: Final = 7.0
_STEP: Final = 0.125
_BEYOND: Final = 0.25
_UNREST: Final = 0.1
"""Of the step: where the ends of a mean profile vary by more (standard deviation), its 10 and 90 % are the noise's."""


def edge_spread_ratio(
    restored: NDArray[np.floating[Any]],
    reference: NDArray[np.floating[Any]],
    mask: NDArray[np.bool_],
    *,
    spacing: tuple[float, float],
) -> float | None:
    """Edge width of the restored scan over that of the reference: 1 as sharp, 2 twice as wide, below 1 sharper.

    Args: as for :func:`edge_widths`.

    Returns:
        None where there are too few edges or a width can't be told.
    """
    ours, truth = edge_widths([restored, reference], reference, mask, spacing=spacing)
    return None if ours is None or truth is None else ours / truth


def edge_widths(
    images: list[NDArray[np.floating[Any]]],
    reference: NDArray[np.floating[Any]],
    mask: NDArray[np.bool_],
    *,
    spacing: tuple[float, float],
) -> list[float | None]:
    """The 10-90 % width of the mean edge profile of each image, mm, at the reference's edges.

    Edge pixels are local maxima of the reference's gradient (of a Gaussian of 1 pixel) along its own direction, among
    the strongest 3 % of the mask. Profiles reach 7 (larger) pixels to both sides along the gradient, are centred where
    the reference crosses the middle of its two ends, and are averaged with the reference's step as their weight. Only
    borders of two tissues count: where the smoothed reference goes beyond its ends by more than a quarter of its step,
    it shows a vessel, a rim or noise.

    Args:
        images: (slices, rows, columns) each.
        reference: the same shape.
        mask: the same shape, the body.
        spacing: (row, column) pixel size, mm.

    Returns:
        None for each image where fewer than 20 edge pixels are found, or the mean profile doesn't rise, or is so noisy
        that its ends vary by more than a tenth of its step.
    """
    chosen = evenly_spaced(len(reference), EDGE_SLICES)
    profiles: list[list[NDArray[np.float64]]] = [[] for _ in images]
    for index in chosen:
        truth = np.nan_to_num(np.asarray(reference[index], np.float64), posinf=0.0, neginf=0.0)
        points, directions = _edge_pixels(truth, mask[index], spacing)
        if not len(points):
            continue
        expected = _profiles(truth, points, directions, spacing)
        shift, low, step = _alignment(expected)
        usable = step > 0
        for found, image in zip(profiles, images, strict=True):
            values = np.nan_to_num(np.asarray(image[index], np.float64), posinf=0.0, neginf=0.0)
            moved = _profiles(values, points, directions, spacing, shift=shift)
            found.append((moved - low[:, None])[usable])
    count = sum(len(part) for part in profiles[0])
    if count < _FEWEST:
        return [None] * len(images)
    return [_rise(np.concatenate(found).mean(axis=0), max(spacing)) for found in profiles]


def _edge_pixels(
    image: NDArray[np.float64], mask: NDArray[np.bool_], spacing: tuple[float, float]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Positions (n, 2) in pixels and unit gradients (n, 2) in mm, well inside the image."""
    gradient = np.stack(
        [
            scipy.ndimage.gaussian_filter(image, _SMOOTHING, order=order) / step
            for order, step in zip(((1, 0), (0, 1)), spacing, strict=True)
        ]
    )
    strength = np.hypot(*gradient)
    inner = np.zeros_like(mask)
    row, column = (int(_REACH * max(spacing) / step) + 2 for step in spacing)
    inner[row:-row, column:-column] = True
    if not (mask & inner).any():
        return np.zeros((0, 2)), np.zeros((0, 2))
    threshold = np.quantile(strength[mask], 1.0 - _STRONGEST)
    candidates = np.argwhere(mask & inner & (strength >= max(threshold, 1e-12)))
    unit = (gradient / np.where(strength > 0, strength, 1.0))[:, candidates[:, 0], candidates[:, 1]].T
    step_pixels = unit * (min(spacing) / np.array(spacing))
    ahead, behind = (
        scipy.ndimage.map_coordinates(strength, (candidates + sign * step_pixels).T, order=1) for sign in (1.0, -1.0)
    )
    own = strength[candidates[:, 0], candidates[:, 1]]
    ridge = (own >= ahead) & (own >= behind)
    candidates, unit, own = candidates[ridge].astype(np.float64), unit[ridge], own[ridge]
    strongest = np.argsort(-own, kind="stable")[:_PER_SLICE]
    return candidates[strongest], unit[strongest]


def _profiles(
    image: NDArray[np.float64],
    points: NDArray[np.float64],
    directions: NDArray[np.float64],
    spacing: tuple[float, float],
    *,
    shift: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """(n, samples) along the gradient, in steps of an eighth of the larger pixel size."""
    offsets = np.arange(-_REACH, _REACH + 0.5 * _STEP, _STEP)
    along = offsets[None] + (0.0 if shift is None else shift[:, None])
    pixels = directions * (max(spacing) / np.array(spacing))
    positions = points[:, None] + along[..., None] * pixels[:, None]
    return np.asarray(scipy.ndimage.map_coordinates(image, positions.transpose(2, 0, 1), order=3, mode="nearest"))


def _alignment(
    profiles: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """For each of the reference's profiles: where it crosses the middle (larger pixel sizes), lower end, step.

    The ends are the means of the outer eighths; a profile that isn't a step, or doesn't cross within 2 pixels, gets a
    step of 0.
    """
    end = profiles.shape[1] // 8
    low, high = profiles[:, :end].mean(axis=1), profiles[:, -end:].mean(axis=1)
    smooth = scipy.ndimage.gaussian_filter1d(profiles, 0.5 / _STEP, axis=1, mode="nearest")
    offsets = np.arange(-_REACH, _REACH + 0.5 * _STEP, _STEP)
    above = smooth - (0.5 * (low + high))[:, None]
    crossing = (above[:, :-1] < 0) & (above[:, 1:] >= 0)
    slack = _BEYOND * (high - low)
    stepwise = (smooth.max(axis=1) <= high + slack) & (smooth.min(axis=1) >= low - slack)
    near = np.where(crossing & stepwise[:, None], np.abs(offsets[:-1])[None], np.inf)
    place = near.argmin(axis=1)
    rows = np.arange(len(profiles))
    before, after = above[rows, place], above[rows, place + 1]
    found = near[rows, place] <= 2.0
    fraction = np.where(found, before / np.where(before == after, 1.0, before - after), 0.0)
    shift = np.where(found, offsets[place] + fraction * _STEP, 0.0)
    return shift, low, np.where(found, high - low, 0.0)


def _rise(profile: NDArray[np.float64], pixel: float) -> float | None:
    """Distance between 10 % and 90 % of the profile's own step, mm."""
    outer = len(profile) // 8
    ends = profile[:outer], profile[-outer:]
    low, high = (float(end.mean()) for end in ends)
    if not high > low or max(end.std() for end in ends) > _UNREST * (high - low):
        return None
    share = (profile - low) / (high - low)
    crossings = np.flatnonzero((share[:-1] < 0.5) & (share[1:] >= 0.5))  # off the centre where the image is displaced
    middle = int(crossings[np.abs(crossings - len(share) // 2).argmin()])
    below = np.flatnonzero(share[: middle + 1] <= 0.1)
    beyond = np.flatnonzero(share[middle + 1 :] >= 0.9)
    if not below.size or not beyond.size:
        return None
    first, last = int(below[-1]), int(beyond[0]) + middle + 1
    start = first + (0.1 - share[first]) / (share[first + 1] - share[first])
    end = last - (share[last] - 0.9) / (share[last] - share[last - 1])
    return float((end - start) * _STEP * pixel)
