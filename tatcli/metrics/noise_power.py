"""Noise power spectra of a scan's most uniform patches: how strong noise is, and how fine its grain.

A restoration that only blurs moves the spectrum to low frequencies: patches look blotchy ("plastic") although the
standard deviation is right. The measures are those of AAPM Task Group 233 (2019), section on noise texture: the peak
and the mean frequency of the radial spectrum. The patches are found on the reference, so all methods are measured in
the same places.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import scipy.ndimage

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["NoiseSpectrum", "Patches", "noise_spectrum", "uniform_patches"]

_SIDE: Final = 24
"""Pixels: liver, white matter and muscle hold such squares; the spectrum has a bin each 1/24 of the sampling rate."""
_STRIDE: Final = 6
_SMOOTHING: Final = 2.0
"""Pixels; takes the noise off when uniformity is judged, so that structure alone decides."""
_SHARE: Final = 0.05
_FEWEST: Final = 8
_MOST: Final = 200
_SAME: Final = 1e-4
"""Pixel sizes that differ by less are the same: a NIfTI header rounds what DICOM says."""


@dataclass(frozen=True)
class Patches:
    """Squares in which a scan is uniform.

    Attributes:
        corners: (slice, row, column) of each.
        side: pixels.
    """

    corners: tuple[tuple[int, int, int], ...]
    side: int = _SIDE


@dataclass(frozen=True, eq=False)
class NoiseSpectrum:
    """A radial noise power spectrum.

    Attributes:
        frequency: (bins,), cycles/mm, rising, without the two lowest bins, which the removed trend takes.
        power: (bins,), squared units times mm^2.
        deviation: standard deviation of the patches without their trend, in the scan's units.
        patches: how many were averaged.
    """

    frequency: NDArray[np.float64]
    power: NDArray[np.float64]
    deviation: float
    patches: int

    @property
    def mean_frequency(self) -> float:
        """sum(f NPS) / sum(NPS), cycles/mm; NaN without any power."""
        total = float(self.power.sum())
        return float((self.frequency * self.power).sum() / total) if total > 0.0 else float("nan")

    @property
    def peak_frequency(self) -> float:
        """Where the spectrum is highest, by a parabola through the three bins there, cycles/mm; NaN without power."""
        if not self.power.max() > 0.0:
            return float("nan")
        top = int(self.power.argmax())
        if top in (0, len(self.power) - 1):
            return float(self.frequency[top])
        before, at, after = self.power[top - 1 : top + 2]
        curvature = before - 2.0 * at + after
        offset = 0.5 * (before - after) / curvature if curvature < 0.0 else 0.0
        step = (
            self.frequency[top + 1] - self.frequency[top]
            if offset > 0
            else self.frequency[top] - self.frequency[top - 1]
        )
        return float(self.frequency[top] + offset * step)


def uniform_patches(reference: NDArray[np.floating[Any]], mask: NDArray[np.bool_]) -> Patches | None:
    """The reference's most uniform squares of 24x24 pixels inside the mask.

    The twentieth part of all positions (six pixels apart), at least 8 and at most 200, whose smoothed reference varies
    least.

    Args:
        reference: (slices, rows, columns); not finite voxels count as 0.
        mask: the same shape, the body.

    Returns:
        None where fewer than 8 squares lie inside the mask.
    """
    found: list[tuple[float, tuple[int, int, int]]] = []
    if min(reference.shape[1:]) < _SIDE:
        return None
    for index, (slice_, inside) in enumerate(zip(reference, mask, strict=True)):
        if not inside.any():
            continue
        smooth = scipy.ndimage.gaussian_filter(_finite(slice_), _SMOOTHING)
        windows = np.lib.stride_tricks.sliding_window_view(smooth, (_SIDE, _SIDE))[::_STRIDE, ::_STRIDE]
        within = np.lib.stride_tricks.sliding_window_view(inside, (_SIDE, _SIDE))[::_STRIDE, ::_STRIDE].all(axis=(2, 3))
        for row, column in np.argwhere(within):
            corner = (index, int(row) * _STRIDE, int(column) * _STRIDE)
            found.append((float(windows[row, column].std()), corner))
    if len(found) < _FEWEST:
        return None
    found.sort()
    count = min(_MOST, max(_FEWEST, round(_SHARE * len(found))))
    return Patches(tuple(corner for _, corner in found[:count]))


def noise_spectrum(
    stack: NDArray[np.floating[Any]], patches: Patches, *, spacing: tuple[float, float]
) -> NoiseSpectrum:
    """The mean spectrum of the patches, each freed from a quadratic trend and weighted with a Hann window.

    NPS(f) = dx dy / sum(w^2) * mean |DFT(w (patch - trend))|^2 (ICRU Report 87, section on noise), averaged over rings.
    Of white noise of variance s^2 it is s^2 dx dy everywhere.

    Args:
        stack: (slices, rows, columns), physical units; not finite voxels count as 0.
        patches: from :func:`uniform_patches`.
        spacing: (row, column) pixel size, mm.
    """
    side = patches.side
    cut = np.stack([_finite(stack[s, r : r + side, c : c + side]) for s, r, c in patches.corners])
    residual = _without_trend(cut)
    window = np.outer(np.hanning(side + 2)[1:-1], np.hanning(side + 2)[1:-1])
    power = np.square(np.abs(np.fft.fft2(residual * window))).mean(axis=0)
    power *= spacing[0] * spacing[1] / np.square(window).sum()
    radius = np.hypot(np.fft.fftfreq(side, spacing[0])[:, None], np.fft.fftfreq(side, spacing[1]))
    step = 1.0 / (side * max(spacing))
    ring = np.rint(radius / step).astype(int)
    waves = np.fft.fftfreq(side, 1.0 / side)  # along the patch's sides: the trend takes what has hardly more than one
    used = (np.rint(np.hypot(waves[:, None], waves)) > 1) & (radius <= (1.0 + _SAME) * 0.5 / max(spacing))
    count = np.bincount(ring[used])
    filled = count > 0
    return NoiseSpectrum(
        frequency=np.bincount(ring[used], radius[used])[filled] / count[filled],
        power=np.bincount(ring[used], power[used])[filled] / count[filled],
        deviation=float(np.sqrt(np.square(residual).sum() / (residual.size * (1.0 - 6.0 / side**2)))),
        patches=len(cut),
    )


def _finite(values: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    return np.nan_to_num(np.asarray(values, np.float64), posinf=0.0, neginf=0.0)


def _without_trend(patches: NDArray[np.float64]) -> NDArray[np.float64]:
    side = patches.shape[1]
    y, x = np.meshgrid(np.linspace(-1.0, 1.0, side), np.linspace(-1.0, 1.0, side), indexing="ij")
    columns = np.stack([np.ones_like(x), x, y, x * y, x * x, y * y], axis=-1).reshape(-1, 6)
    basis = np.linalg.qr(columns)[0]
    flat = patches.reshape(len(patches), -1)
    return np.asarray((flat - (flat @ basis) @ basis.T).reshape(patches.shape))
