"""Low-resolution MRI: the outer k-space of each slice is zeroed, the matrix stays.

Which lines are kept: an axis of n samples has the k-space lines k = -floor(n/2) ... ceil(n/2) - 1 (DC is k = 0). With
the factor f, m = min(n, max(1, round(n / f))) of them are kept (halves rounded up): |k| <= (m - 1) / 2 for odd m; for
even m the m - 1 lines |k| <= m/2 - 1 and one more, k = -m/2, as an acquisition of m lines does. Only that line breaks
the symmetry, and it is why the magnitude is taken of a slightly complex image. f = 4 keeps 1/4 along each axis, 6.25 %
of k-space.

The inverse for a scan that comes on a coarse grid, :func:`zero_fill`, puts its lines at the centre of a larger k-space.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.fft

from tatcli.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tatcli.volumes.volume import Volume

__all__ = ["kept_lines", "low_resolution", "truncate_k_space", "zero_fill", "zero_fill_volume"]


def kept_lines(count: int, factor: float) -> NDArray[np.bool_]:
    """Which of an axis' k-space lines the factor keeps, in FFT order (DC first): (count,)."""
    kept = min(count, max(1, int(np.floor(count / factor + 0.5))))
    line = np.fft.fftfreq(count, 1.0 / count).round().astype(np.int64)
    return np.asarray((line >= -(kept // 2)) & (line < kept - kept // 2), dtype=np.bool_)


def truncate_k_space(slices: NDArray[np.floating[Any]], factor: float) -> NDArray[np.complex64]:
    """The complex image of the kept lines alone; k-space outside them is zero. (..., rows, columns) in and out."""
    rows, columns = slices.shape[-2:]
    k_space = scipy.fft.fft2(np.asarray(slices, dtype=np.float32))
    k_space *= kept_lines(rows, factor)[:, None] & kept_lines(columns, factor)
    return np.asarray(scipy.fft.ifft2(k_space, overwrite_x=True), dtype=np.complex64)


def low_resolution(slices: NDArray[np.floating[Any]], factor: float) -> NDArray[np.float32]:
    """Slices of 1/factor of the in-plane resolution on the same matrix: the magnitude of :func:`truncate_k_space`.

    Args:
        slices: (..., rows, columns), any intensities.
        factor: at least 1; any real number.

    Returns:
        The same shape, non-negative; the slices as they are, whatever their sign, where the factor keeps every line.
        Constants keep their value. Infinite and NaN pixels stay as they are; their neighbours see zeros in their place.
    """
    slices = np.asarray(slices, dtype=np.float32)
    if all(kept_lines(count, factor).all() for count in slices.shape[-2:]):
        return slices.copy()
    finite = np.isfinite(slices)
    if finite.all():
        return np.abs(truncate_k_space(slices, factor))
    return np.where(finite, np.abs(truncate_k_space(np.where(finite, slices, 0.0), factor)), slices)


def zero_fill(slices: NDArray[np.floating[Any]], factor: int, *, signed: bool | None = None) -> NDArray[np.float32]:
    """Interpolate slices onto a finer matrix over the same field of view by zero-filling their k-space.

    Voxel centres of the coarse grid lie amid the fine ones: coarse pixel i covers the fine pixels factor * i to
    factor * (i + 1) - 1, and a phase ramp in k-space shifts the samples accordingly. Intensities (the mean) are
    preserved.

    Args:
        slices: (..., rows, columns), real.
        factor: whole number of at least 1.
        signed: the image was stored with its sign, which is kept; else its magnitude is taken. None: where any of these
            values is below 0.

    Returns:
        (..., factor * rows, factor * columns) (for factor 1 the input as it is).
    """
    slices = np.asarray(slices, dtype=np.float32)
    if factor == 1:
        return slices
    rows, columns = slices.shape[-2:]
    k_space = scipy.fft.fft2(slices).astype(np.complex64)
    filled = np.zeros((*slices.shape[:-2], rows * factor, columns * factor), dtype=np.complex64)
    row, column = (np.fft.fftfreq(n, 1.0 / n).round().astype(np.int64) for n in (rows, columns))
    # the fine grid starts (factor - 1) / 2 fine pixels before the coarse grid's first centre
    shift = -(factor - 1) / (2.0 * factor)
    ramp = np.exp(2j * np.pi * shift * row / rows)[:, None] * np.exp(2j * np.pi * shift * column / columns)
    filled[..., row[:, None], column[None, :]] = k_space * ramp.astype(np.complex64)
    signed = bool((slices < 0.0).any()) if signed is None else signed
    whole = scipy.fft.ifft2(filled, overwrite_x=True)
    fine = whole.real if signed else np.abs(whole)
    return np.asarray(fine * np.float32(factor**2), dtype=np.float32)


def zero_fill_volume(volume: Volume, factor: int, axis: int) -> Volume:
    """Zero-fill every slice through an array axis; spacing and origin change so that the field of view stays.

    Args:
        volume: any orientation; each frame of a 4-D volume.
        factor: whole number of at least 1.
        axis: array axis (0, 1 or 2) that is stacked through the slice plane; the other two are refined.

    Returns:
        A volume with ``factor`` times the samples along the two in-plane axes. It has no stored native values.

    Raises:
        UsageError: the factor is no whole number of at least 1.
    """
    if factor != int(factor) or factor < 1:
        msg = f"zero-filling: expected a whole factor of at least 1, got {factor}"
        raise UsageError(msg)
    factor = int(factor)
    if factor == 1:
        return volume
    signed = bool((volume.array < 0.0).any())
    frames = [
        np.stack([zero_fill(slice_, factor, signed=signed) for slice_ in np.moveaxis(frame, axis, 0)], axis=axis)
        for frame in volume.iter_frames()
    ]
    array = np.stack(frames) if volume.array.ndim == 4 else frames[0]
    provenance = replace(
        volume.provenance,
        stored=None,
        steps=(*volume.provenance.steps, f"k-space zero-filled to {factor} x matrix in plane"),
    )
    return replace(volume, array=array, geometry=volume.geometry.finer(factor, axis), provenance=provenance)
