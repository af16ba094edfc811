"""How noisy a CT reference is, with which spectrum, and how much of it neighbouring slices share.

All of it is measured in the most homogeneous patches of soft tissue.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import scipy.ndimage
import scipy.optimize

from tatcli.degradation.ct_kernel import KernelSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["estimate_correlation", "estimate_noise", "match_kernel", "noise_power_spectrum"]

_TISSUE: Final = (0.0, 150.0)
"""A patch is soft tissue where its mean lies in this range, HU, and its structure is slight:"""

_TISSUE_DEVIATION: Final = 45.0
"""its standard deviation after smoothing, which takes off the noise, is below this: no bone, air or much fat in it."""

_SMOOTHING_MM: Final = 5.0
_AIR: Final = -1000.0

_SIGMA_PATCH_MM: Final = 16.0
"""Small enough for liver, spleen and muscle, large enough to hold the noise's low frequencies. With noise of known
strength inserted into real scans, the estimate at this size and percentile rises as it should (to 1.98-2.07 times for
twice the noise)."""

_SPECTRUM_PATCH_MM: Final = 22.0
_PERCENTILE: Final = 20.0
_FEWEST_PATCHES: Final = 20
_FEWEST_PAIRS: Final = 100
"""Of which a fifth is used: their correlation is then known to some hundredths."""

_MOST_SLICES: Final = 24

_LOWEST_FREQUENCY: Final = 0.09
"""Cycles/mm; below it the removed trend and anatomy (vessels, fat in muscle) decide, not the noise."""

_TRUSTED_FREQUENCY: Final = 0.16
"""Cycles/mm; below it anatomy still adds some power, and a fit follows the data less closely."""

# (cutoff, order, rise, remainder): what a fit may return, and where it stays without evidence (log-normal)
_LOWER: Final = (0.2, 1.5, 0.03, 0.2)
_UPPER: Final = (0.9, 10.0, 0.3, 1.5)  # more remainder than that is anatomy: air around the same patients shows less
_PRIOR_CENTRE: Final = (0.42, 3.5, 0.09, 0.7)
_PRIOR_WIDTH: Final = (1.0, 0.7, 0.5, 0.5)


def estimate_noise(volume_hu: NDArray[np.floating[Any]], spacing_mm: tuple[float, float]) -> float:
    """Standard deviation of a CT volume's noise in soft tissue, HU.

    The 20th percentile of the local standard deviation over patches of 16 mm of soft tissue, each freed from a
    quadratic trend: anatomy only adds to the local variance, so the quieter patches show the noise.

    Args:
        volume_hu: (slices, rows, columns).
        spacing_mm: (row, column) pixel size.

    Returns:
        sigma, HU; NaN where there is no homogeneous soft tissue.
    """
    patches = _residuals(volume_hu, spacing_mm, patch_mm=_SIGMA_PATCH_MM, difference=False)
    if len(patches) < _FEWEST_PATCHES:
        return float("nan")
    pixels = patches.shape[1] * patches.shape[2]
    variance = np.square(patches).sum(axis=(1, 2)) / (pixels - 6)  # the trend took six degrees of freedom
    # rounded, so that what is simulated from it doesn't depend on the last bit of threaded sums
    return round(float(np.sqrt(np.percentile(variance, _PERCENTILE))), 4)


def match_kernel(volume_hu: NDArray[np.floating[Any]], spacing_mm: tuple[float, float]) -> KernelSpec | None:
    """The kernel whose noise power spectrum is closest to the reference's own.

    A least-squares fit to the logarithm of the radial spectrum, held near a clinical soft-tissue kernel where the data
    say little.

    Args:
        volume_hu: (slices, rows, columns).
        spacing_mm: (row, column) pixel size.

    Returns:
        The kernel; None where there is too little homogeneous soft tissue, or where coarse pixels (of 4.5 mm) hide
        what the noise alone decides.
    """
    spectrum = noise_power_spectrum(volume_hu, spacing_mm)
    if spectrum is None:
        return None
    frequency, power = spectrum
    usable = frequency >= _LOWEST_FREQUENCY
    if usable.any():
        usable &= power > 0.02 * np.median(power[frequency < 0.3])
    if not usable.any():
        return None
    frequency, target = frequency[usable], np.log(power[usable])
    weight = np.where(frequency < _TRUSTED_FREQUENCY, 2.5, 10.0)  # one over the expected misfit of the logarithm
    centre, width = np.log(_PRIOR_CENTRE), np.array(_PRIOR_WIDTH)

    def misfit(parameters: NDArray[np.float64]) -> NDArray[np.float64]:
        model = np.log(KernelSpec(*np.exp(parameters)).noise_power(frequency))
        difference = target - model
        level = np.average(difference, weights=weight**2)  # the spectra's scale is free
        return np.concatenate([(difference - level) * weight, (parameters - centre) / width])

    fit = scipy.optimize.least_squares(misfit, centre, bounds=(np.log(_LOWER), np.log(_UPPER)))
    cutoff, order, rise, remainder = (round(float(value), 4) for value in np.exp(fit.x))
    return KernelSpec(cutoff=cutoff, order=order, rise=rise, remainder=remainder, name="matched")


def noise_power_spectrum(
    volume_hu: NDArray[np.floating[Any]], spacing_mm: tuple[float, float]
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Radial noise power spectrum of a volume's quietest soft tissue.

    Where neighbouring slices are alike, it is that of their second difference, which takes most of the anatomy away.
    Noise that neighbours share changes its size, not its shape.

    Args:
        volume_hu: (slices, rows, columns).
        spacing_mm: (row, column) pixel size.

    Returns:
        Frequencies (cycles/mm) and power (HU^2 mm^2), (bins,) each; None where there is too little homogeneous soft
        tissue.
    """
    candidates = [
        _quietest(_residuals(volume_hu, spacing_mm, patch_mm=_SPECTRUM_PATCH_MM, difference=difference))
        for difference in ((False, True) if len(volume_hu) >= 3 else (False,))
    ]
    quiet = min(
        (patches for patches in candidates if len(patches)), key=lambda patches: float(patches.var()), default=None
    )
    if quiet is None:
        return None
    size = (quiet.shape[1], quiet.shape[2])
    window = _window(size)
    power = np.square(np.abs(np.fft.fft2(quiet * window))).mean(axis=0) * np.prod(spacing_mm) / np.square(window).sum()
    radius = _radius(size, spacing_mm)
    step = 1.0 / _SPECTRUM_PATCH_MM
    bins = np.rint(radius / step).astype(int)
    used = (bins > 0) & (radius < 0.5 / max(spacing_mm))
    count = np.bincount(bins[used])
    kept = count > 0
    mean_radius = np.bincount(bins[used], radius[used])[kept] / count[kept]
    return mean_radius, np.bincount(bins[used], power[used])[kept] / count[kept]


def estimate_correlation(volume_hu: NDArray[np.floating[Any]], spacing_mm: tuple[float, float]) -> float:
    """Correlation of the noise of neighbouring slices.

    Slices that overlap, or that a helical scan interpolates from the same turns, share some of their noise. It is the
    real part of the two slices' cross-spectrum over their power in the quietest patches of soft tissue, above the
    frequencies where anatomy, which they share as well, has some power.

    Args:
        volume_hu: (slices, rows, columns).
        spacing_mm: (row, column) pixel size.

    Returns:
        From 0 to 1; 0 where there is too little homogeneous soft tissue to tell.
    """
    tiling = _Tiling(spacing_mm, _SPECTRUM_PATCH_MM)
    pixels = tiling.size[0] * tiling.size[1]
    pairs = [np.zeros((2, 0, pixels))]
    count = len(volume_hu) - 1
    for index in np.unique(np.linspace(0, count - 1, min(_MOST_SLICES, count)).round().astype(int)):
        one, other = (np.asarray(slice_, dtype=np.float64) for slice_ in volume_hu[index : index + 2])
        if not tiling.fits(one):
            break
        tissue = tiling.tissue(one) & tiling.tissue(other)
        pairs.append(np.stack([tiling.residuals(slice_, tissue) for slice_ in (one, other)]))
    patches = np.concatenate(pairs, axis=1)
    patches = patches[:, _telling(patches[0]) & _telling(patches[1])]
    if patches.shape[1] < _FEWEST_PAIRS:
        return 0.0
    variance = patches.var(axis=2).sum(axis=0)
    quiet = patches[:, variance <= np.percentile(variance, _PERCENTILE)].reshape(2, -1, *tiling.size)
    one, other = np.fft.fft2(quiet * _window(tiling.size))[:, :, _radius(tiling.size, spacing_mm) > _TRUSTED_FREQUENCY]
    power = float(np.sqrt(np.square(np.abs(one)).sum() * np.square(np.abs(other)).sum()))
    return round(float(np.clip((one * other.conj()).real.sum() / power, 0.0, 1.0)), 4) if power > 0 else 0.0


def _window(size: tuple[int, int]) -> NDArray[np.float64]:
    return np.outer(np.hanning(size[0] + 2)[1:-1], np.hanning(size[1] + 2)[1:-1])


def _radius(size: tuple[int, int], spacing_mm: tuple[float, float]) -> NDArray[np.float64]:
    """Spatial frequency of every coefficient of a patch's Fourier transform, cycles/mm."""
    rows, columns = (np.fft.fftfreq(n, step) for n, step in zip(size, spacing_mm, strict=True))
    return np.asarray(np.hypot(rows[:, None], columns))


def _residuals(
    volume_hu: NDArray[np.floating[Any]], spacing_mm: tuple[float, float], *, patch_mm: float, difference: bool
) -> NDArray[np.float64]:
    """Overlapping patches of soft tissue without their quadratic trend: (patches, rows, columns)."""
    tiling = _Tiling(spacing_mm, patch_mm)
    found = [np.zeros((0, tiling.size[0] * tiling.size[1]))]
    border = 1 if difference else 0
    indices = np.linspace(border, len(volume_hu) - 1 - border, min(_MOST_SLICES, len(volume_hu) - 2 * border))
    for index in np.unique(indices.round().astype(int)):
        slice_ = np.asarray(volume_hu[index], dtype=np.float64)
        if not tiling.fits(slice_):
            break
        tissue = tiling.tissue(slice_)
        if difference:
            slice_ = (2.0 * slice_ - volume_hu[index - 1] - volume_hu[index + 1]) / np.sqrt(6.0)
        found.append(tiling.residuals(slice_, tissue))
    residuals = np.concatenate(found)
    residuals = residuals[_telling(residuals)]
    return residuals.reshape(-1, *tiling.size)


class _Tiling:
    """Overlapping patches of a slice.

    Args:
        spacing_mm: (row, column) pixel size.
        patch_mm: side of a patch.

    Attributes:
        size: (rows, columns) of a patch.
    """

    def __init__(self, spacing_mm: tuple[float, float], patch_mm: float) -> None:
        self.size = (max(8, round(patch_mm / spacing_mm[0])), max(8, round(patch_mm / spacing_mm[1])))
        self._smoothing = [max(1, round(_SMOOTHING_MM / step)) for step in spacing_mm]
        self._basis = _trend_basis(self.size)

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


def _telling(residuals: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which patches tell something: not those with holes, nor a synthetic scan's without noise."""
    return np.asarray(np.isfinite(residuals).all(axis=1) & residuals.any(axis=1))


def _quietest(patches: NDArray[np.float64]) -> NDArray[np.float64]:
    """The fifth of the patches with the lowest variance; none where there are too few to tell."""
    if len(patches) < _FEWEST_PATCHES:
        return patches[:0]
    variance = patches.var(axis=(1, 2))
    limit = max(float(np.percentile(variance, _PERCENTILE)), float(np.sort(variance)[_FEWEST_PATCHES - 1]))
    return np.asarray(patches[variance <= limit])


def _trend_basis(size: tuple[int, int]) -> NDArray[np.float64]:
    """Orthonormal quadratic polynomials on a patch: (pixels, 6)."""
    y, x = np.meshgrid(*(np.linspace(-1.0, 1.0, n) for n in size), indexing="ij")
    columns = np.stack([np.ones_like(x), x, y, x * y, x * x, y * y], axis=-1).reshape(-1, 6)
    return np.asarray(np.linalg.qr(columns)[0])
