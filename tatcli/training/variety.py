"""Variety for MRI references: other shapes, other matrices and other contrasts of the same slice.

MR scanners and sequences differ far more than a training set of a few dozen scans shows, and a network that learns
those scans by heart restores them better than it restores others. All variations come before the degradation, so
that the pair stays a true one.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import scipy.fft
import torch
from numpy.typing import NDArray
from torch.nn import functional

__all__ = ["bent", "resampled", "varied", "with_contrast"]

ZOOMS: Final = (0.6, 1.3)
"""Range of matrix sizes over the scan's own; axes differ by up to ``ANISOTROPY``."""
ANISOTROPY: Final = 0.1
BENT: Final = 0.5
"""Share of slices that are turned and bent: the others keep their sampling, and so their finest detail."""
BEND: Final = 0.03
"""Standard deviation of the displacements, in sides of the slice."""
BEND_POINTS: Final = 5
GAMMA: Final = 0.5
"""A power law's exponent is drawn from exp(+-GAMMA)."""
SHARES: Final = (0.4, 0.3)
"""Of slices with their own contrast, and with a power law of it; the rest gets a random tone curve."""
CONTROL_POINTS: Final = 5


def varied(slice_: NDArray[np.float32], upper: float, least: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Another shape, another matrix and another contrast of an MR slice.

    Args:
        slice_: (rows, columns), non-negative.
        upper: the network range's upper bound, in the slice's units.
        least: no axis gets shorter than this (or than it was).
        rng: draws all three.

    Returns:
        (other rows, other columns), non-negative, in the same units.
    """
    if rng.random() < BENT:
        slice_ = bent(slice_, rng.uniform(-np.pi, np.pi), rng.normal(0, BEND, (2, BEND_POINTS, BEND_POINTS)))
    zoom = np.exp(rng.uniform(*np.log(ZOOMS)))
    shape = [
        max(round(length * zoom * rng.uniform(1 - ANISOTROPY, 1 + ANISOTROPY)), min(least, length))
        for length in slice_.shape
    ]
    shape = [scipy.fft.next_fast_len(length) for length in shape]  # a prime length takes twice the time
    return with_contrast(resampled(slice_, (shape[0], shape[1])), upper, rng)


def bent(slice_: NDArray[np.float32], angle: float, bends: NDArray[np.float64]) -> NDArray[np.float32]:
    """The slice turned about its centre and bent: as another patient, in another position, would have been.

    Values come from cubic convolution; what lies outside the slice is mirrored in.

    Args:
        slice_: (rows, columns), non-negative.
        angle: radians, from rows towards columns.
        bends: (2, m, n) displacements along columns and rows, in sides of the slice, on an even grid from edge to edge;
            cubic between.

    Returns:
        (rows, columns), non-negative.
    """
    rows, columns = slice_.shape
    across = (torch.arange(columns) + 0.5) - columns / 2  # pixels from the centre
    down = ((torch.arange(rows) + 0.5) - rows / 2)[:, None]
    cosine, sine = float(np.cos(angle)), float(np.sin(angle))
    grid = torch.stack([(cosine * across - sine * down) * (2 / columns), (sine * across + cosine * down) * (2 / rows)])
    shifts = functional.interpolate(
        torch.from_numpy(bends.astype(np.float32))[None], (rows, columns), mode="bicubic", align_corners=True
    )
    places = (grid + 2 * shifts[0]).permute(1, 2, 0)[None]
    image = torch.from_numpy(np.array(slice_, dtype=np.float32))[None, None]  # a copy: memory maps can't be written to
    moved = functional.grid_sample(image, places, mode="bicubic", padding_mode="reflection", align_corners=False)
    return np.asarray(moved[0, 0].clamp_(min=0).numpy())


def resampled(slice_: NDArray[np.float32], shape: tuple[int, int]) -> NDArray[np.float32]:
    """The slice on another matrix over the same field of view: its k-space cut or zero-filled; magnitude.

    As another choice of matrix would at the scanner: fewer lines lose resolution per field of view, not per pixel.
    """
    k_space = scipy.fft.rfft2(np.asarray(slice_, dtype=np.float32))  # of real values: half of it tells all
    rows, columns = (min(old, new) for old, new in zip(slice_.shape, shape, strict=True))
    kept = np.zeros((shape[0], shape[1] // 2 + 1), dtype=k_space.dtype)
    upper, lower, right = rows - rows // 2, rows // 2, columns // 2 + 1
    kept[:upper, :right] = k_space[:upper, :right]
    kept[shape[0] - lower :, :right] = k_space[slice_.shape[0] - lower :, :right]
    if slice_.shape[1] % 2 == 0 and shape[1] > slice_.shape[1]:
        kept[:, right - 1] /= 2  # the border's line stood for both signs of its frequency, which now has a line each
    image = np.abs(scipy.fft.irfft2(kept, shape, overwrite_x=True))
    image *= np.float32(image.size / slice_.size)
    return np.asarray(image, dtype=np.float32)


def with_contrast(slice_: NDArray[np.float32], upper: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """The slice as it is, or through a power law or a random smooth tone curve that keeps 0 and the range."""
    draw = rng.random()
    if draw < SHARES[0]:
        return slice_
    tones = np.linspace(0.0, 1.0, 256)
    if draw < sum(SHARES):
        curve = tones ** np.exp(rng.uniform(-GAMMA, GAMMA))
    else:
        knots = np.linspace(0.0, 1.0, CONTROL_POINTS)
        values = np.concatenate([[0.0], rng.uniform(0.15, 1.0, CONTROL_POINTS - 1)])
        curve = np.interp(tones, knots, values)
        curve = np.convolve(np.pad(curve, 24, mode="edge"), np.ones(49) / 49, mode="valid")  # no kinks
        curve *= np.minimum(tones * 8, 1.0)  # air stays dark
    return _through_curve(slice_, curve * upper, upper)


def _through_curve(slice_: NDArray[np.float32], values: NDArray[np.float64], upper: float) -> NDArray[np.float32]:
    """``np.interp`` on evenly spaced points from 0 to ``upper``, which needs no search and so a third of the time."""
    position: NDArray[np.float32] = np.clip(slice_ * np.float32((len(values) - 1) / upper), 0, len(values) - 1)
    index = np.minimum(position.astype(np.int32), len(values) - 2)
    position -= index
    table = values.astype(np.float32)
    position *= np.diff(table)[index]
    position += table[index]
    return position
