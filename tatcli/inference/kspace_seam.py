"""The cross in k-space of images whose opposite sides differ.

A discrete Fourier transform joins an image's last row to its first one. Where anatomy reaches both, and they differ,
that seam alone puts power into all lines of k-space, as a line of 1/|k|, and hides which of them are empty. Scanners
that cut off the oversampled part of the field of view make such images of spectra that had a border, as does every
later crop. The seam's share is known from the sides alone: an image is the sum of a periodic part and of a smooth one
that has the jumps and no structure (Moisan, J Math Imaging Vis 39:161, 2011).
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np
import scipy.fft

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from jaxtyping import Complex128, Float64
    from numpy.typing import NDArray

__all__ = ["powers", "seam_lines"]


def powers(slices: Sequence[NDArray[np.float32]]) -> Iterator[NDArray[np.float64]]:
    """Power of k-space, summed over slices: first as it is, then, if that is asked for, without the seams' share.

    Args:
        slices: (rows, columns) each, finite; at least one.

    Yields:
        (rows, columns), in FFT order.
    """
    for seamless in (False, True):
        yield np.asarray(functools.reduce(np.add, (_power(slice_.astype(np.float64), seamless) for slice_ in slices)))


def _power(slice_: NDArray[np.float64], seamless: bool) -> NDArray[np.float64]:  # noqa: FBT001
    lines = scipy.fft.fft2(slice_)
    return np.asarray(np.square(np.abs(lines - seam_lines(slice_) if seamless else lines)))


def seam_lines(slice_: Float64[np.ndarray, "rows columns"]) -> Complex128[np.ndarray, "rows columns"]:
    """K-space of a slice's smooth part, in FFT order: what its own k-space holds on account of the seams.

    Args:
        slice_: finite.

    Returns:
        Zero where the sides match.
    """
    # the Laplacian of the smooth part, one jump on either side of each seam
    jumps = (
        (slice_[-1] - slice_[0], slice_.shape[0]),
        (slice_[:, -1] - slice_[:, 0], slice_.shape[1]),
    )
    down, across = (2.0 * np.pi * np.arange(count) / count for _, count in jumps)
    along_rows, along_columns = (scipy.fft.fft(jump) for jump, _ in jumps)
    laplacian = along_rows * (1.0 - np.exp(1j * down))[:, None] + along_columns[:, None] * (1.0 - np.exp(1j * across))
    curvature = 2.0 * np.cos(down)[:, None] + 2.0 * np.cos(across) - 4.0
    curvature[0, 0] = 1.0  # the mean belongs to the periodic part
    laplacian[0, 0] = 0.0
    return np.asarray(laplacian / curvature, dtype=np.complex128)
