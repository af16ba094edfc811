"""Variety for MRI references: other matrices and other contrasts of the same slice.

MR scanners and sequences differ far more than a training set of a few dozen scans shows, and a network that learns
those scans by heart restores them better than it restores others. Both variations come before the degradation, so
that the pair stays a true one.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import scipy.fft
from numpy.typing import NDArray

__all__ = ["resampled", "varied", "with_contrast"]

ZOOMS: Final = (0.6, 1.3)
"""Range of matrix sizes over the scan's own; axes differ by up to ``ANISOTROPY``."""
ANISOTROPY: Final = 0.1
GAMMA: Final = 0.5
"""A power law's exponent is drawn from exp(+-GAMMA)."""
SHARES: Final = (0.4, 0.3)
"""Of slices with their own contrast, and with a power law of it; the rest gets a random tone curve."""
CONTROL_POINTS: Final = 5


def varied(slice_: NDArray[np.float32], upper: float, least: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Another matrix and another contrast of an MR slice.

    Args:
        slice_: (rows, columns), non-negative.
        upper: the network range's upper bound, in the slice's units.
        least: no axis gets shorter than this (or than it was).
        rng: draws both.

    Returns:
        (other rows, other columns), non-negative, in the same units.
    """
    zoom = np.exp(rng.uniform(*np.log(ZOOMS)))
    shape = [
        max(round(length * zoom * rng.uniform(1 - ANISOTROPY, 1 + ANISOTROPY)), min(least, length))
        for length in slice_.shape
    ]
    return with_contrast(resampled(slice_, (shape[0], shape[1])), upper, rng)


def resampled(slice_: NDArray[np.float32], shape: tuple[int, int]) -> NDArray[np.float32]:
    """The slice on another matrix over the same field of view: its k-space cut or zero-filled; magnitude.

    As another choice of matrix would at the scanner: fewer lines lose resolution per field of view, not per pixel.
    """
    k_space = scipy.fft.fftshift(scipy.fft.fft2(slice_))
    for axis, (old, new) in enumerate(zip(slice_.shape, shape, strict=True)):
        # the shifted spectrum has its DC at length // 2, before and after
        before = new // 2 - old // 2
        after = (new - new // 2) - (old - old // 2)
        if before > 0 or after > 0:
            widths = [(0, 0), (0, 0)]
            widths[axis] = (max(before, 0), max(after, 0))
            k_space = np.pad(k_space, widths)
        start, stop = max(-before, 0), k_space.shape[axis] - max(-after, 0)
        k_space = k_space[start:stop] if axis == 0 else k_space[:, start:stop]
    image = np.abs(scipy.fft.ifft2(scipy.fft.ifftshift(k_space)))
    return np.asarray(image * (image.size / slice_.size), dtype=np.float32)


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
    toned = np.interp(slice_ / np.float32(upper), tones, curve) * upper
    return np.asarray(toned, dtype=np.float32)
