"""Patches of a CT slice's soft tissue, freed from their trend: where reference noise is measured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import scipy.ndimage

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["TissuePatches", "telling"]

_TISSUE: Final = (0.0, 150.0)
"""A patch is soft tissue where its mean lies in this range, HU, and its structure is slight:"""

_TISSUE_DEVIATION: Final = 45.0
"""its standard deviation after smoothing, which takes off the noise, is below this: no bone, air or much fat in it."""

_SMOOTHING_MM: Final = 5.0
_AIR: Final = -1000.0


class TissuePatches:
    """Overlapping patches of a slice.

    Args:
        spacing_mm: (row, column) pixel size.
        patch_mm: side of a patch.

    Attributes:
        size: (rows, columns) of a patch.
        taper: (rows, columns), what it is multiplied by before it is transformed.
        radius: (rows, columns), the spatial frequency of every coefficient of its Fourier transform, cycles/mm.
    """

    def __init__(self, spacing_mm: tuple[float, float], patch_mm: float) -> None:
        self.size = (max(8, round(patch_mm / spacing_mm[0])), max(8, round(patch_mm / spacing_mm[1])))
        self._smoothing = [max(1, round(_SMOOTHING_MM / step)) for step in spacing_mm]
        self._basis = _trend_basis(self.size)
        self.taper = np.outer(*(np.hanning(n + 2)[1:-1] for n in self.size))
        rows, columns = (np.fft.fftfreq(n, step) for n, step in zip(self.size, spacing_mm, strict=True))
        self.radius = np.hypot(rows[:, None], columns)

    def fits(self, slice_: NDArray[np.float64]) -> bool:
        """Whether the slice holds a patch."""
        return bool(np.all(np.greater_equal(slice_.shape, self.size)))

    def tissue(self, slice_: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which patches are soft tissue."""
        known = np.where(np.isfinite(slice_), slice_, _AIR)  # (the filter would spread a NaN along its whole line)
        windows = self._windows(scipy.ndimage.uniform_filter(known, self._smoothing))
        mean, deviation = windows.mean(axis=(2, 3)), windows.std(axis=(2, 3))
        return np.asarray((mean > _TISSUE[0]) & (mean < _TISSUE[1]) & (deviation < _TISSUE_DEVIATION))

    def residuals(self, slice_: NDArray[np.float64], chosen: NDArray[np.bool_]) -> NDArray[np.float64]:
        """The chosen patches without their quadratic trend: (patches, pixels)."""
        flat = self._windows(slice_)[chosen].reshape(-1, self.size[0] * self.size[1])
        return np.asarray(flat - (flat @ self._basis) @ self._basis.T)

    def _windows(self, slice_: NDArray[np.float64]) -> NDArray[np.float64]:
        stride = [max(1, n // 3) for n in self.size]
        return np.lib.stride_tricks.sliding_window_view(slice_, self.size)[:: stride[0], :: stride[1]]


def telling(residuals: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which patches tell something: not those with holes, nor a synthetic scan's without noise."""
    return np.asarray(np.isfinite(residuals).all(axis=1) & residuals.any(axis=1))


def _trend_basis(size: tuple[int, int]) -> NDArray[np.float64]:
    """Orthonormal quadratic polynomials on a patch: (pixels, 6)."""
    y, x = np.meshgrid(*(np.linspace(-1.0, 1.0, n) for n in size), indexing="ij")
    columns = np.stack([np.ones_like(x), x, y, x * y, x * x, y * y], axis=-1).reshape(-1, 6)
    return np.asarray(np.linalg.qr(columns)[0])
