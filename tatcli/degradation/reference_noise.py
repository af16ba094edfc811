"""How noisy a CT reference is, in which slices, with which spectrum, and how much of it neighbouring slices share.

All of it is measured in the most homogeneous patches of soft tissue.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import scipy.optimize

from tatcli.degradation.ct_kernel import KernelSpec
from tatcli.degradation.tissue_patches import TissuePatches, telling

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["estimate_correlation", "estimate_noise", "match_kernel", "noise_power_spectrum", "noise_profile"]

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

_PROFILE_STEP_MM: Final = 3.0
_PROFILE_WIDTH_MM: Final = 10.0
"""A scanner's tube current follows the patient smoothly: the profile is a mean over neighbours within about so much."""

_MOST_WEIGHT: Final = 50
"""Patches of a slice beyond which more of them (they overlap) say no more of its noise."""

_PRIOR_WEIGHT: Final = 1.0
"""Patches that evidence for the scan's own level counts as much as, which decides far from all soft tissue."""

_PROFILE_RANGE: Final = (0.2, 5.0)
"""Beyond any scanner's: slices that were drawn, not scanned, may have no noise at all, or look as if."""

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


def noise_profile(
    volume_hu: NDArray[np.floating[Any]], spacing_mm: tuple[float, float], step_mm: float
) -> NDArray[np.float64]:
    """How much noisier or quieter each slice of a CT volume is than the volume's quieter soft tissue altogether.

    Scanners choose a tube current for the whole scan or let it follow the patient, never as exactly as the patient's
    thickness changes: noise differs by a factor of two and more from shoulders to lungs, or from abdomen to pelvis.
    Compared are the same quiet patches that :func:`estimate_noise` goes by, above the frequencies where anatomy has
    some power; neighbouring slices are averaged.

    Args:
        volume_hu: (slices, rows, columns).
        spacing_mm: (row, column) pixel size.
        step_mm: from slice to slice.

    Returns:
        (slices,): standard deviation of each slice's noise over that of the volume; 1 where there is no soft tissue
        near, or where pixels are too coarse to tell noise from anatomy; from 0.2 to 5.
    """
    tiling = TissuePatches(spacing_mm, _SIGMA_PATCH_MM)
    count, above = len(volume_hu), tiling.radius > _TRUSTED_FREQUENCY
    if count < 2 or not above.any() or not tiling.fits(volume_hu[0]):
        return np.ones(count)
    places = np.arange(0, count, max(1, int(_PROFILE_STEP_MM / step_mm)))
    powers = [_power(tiling, volume_hu[place], above) for place in places]
    if sum(map(len, powers)) < _FEWEST_PATCHES:
        return np.ones(count)
    level = np.log(np.percentile(np.concatenate(powers), _PERCENTILE))
    found = np.array([np.log(np.percentile(power, _PERCENTILE)) - level if len(power) else 0.0 for power in powers])
    found = np.clip(found, *(2.0 * np.log(_PROFILE_RANGE)))
    weight = np.array([min(len(power), _MOST_WEIGHT) for power in powers], dtype=np.float64)
    near = np.exp(-0.5 * np.square((np.arange(count)[:, None] - places) * step_mm / _PROFILE_WIDTH_MM)) * weight
    # rounded, as the noise is
    return np.asarray(np.round(np.exp(near @ found / (near.sum(axis=1) + _PRIOR_WEIGHT) / 2.0), 4))


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
    tiling = TissuePatches(spacing_mm, _SPECTRUM_PATCH_MM)
    taper, radius = tiling.taper, tiling.radius
    power = np.square(np.abs(np.fft.fft2(quiet * taper))).mean(axis=0) * np.prod(spacing_mm) / np.square(taper).sum()
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
    tiling = TissuePatches(spacing_mm, _SPECTRUM_PATCH_MM)
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
    patches = patches[:, telling(patches[0]) & telling(patches[1])]
    if patches.shape[1] < _FEWEST_PAIRS:
        return 0.0
    variance = patches.var(axis=2).sum(axis=0)
    quiet = patches[:, variance <= np.percentile(variance, _PERCENTILE)].reshape(2, -1, *tiling.size)
    one, other = np.fft.fft2(quiet * tiling.taper)[:, :, tiling.radius > _TRUSTED_FREQUENCY]
    power = float(np.sqrt(np.square(np.abs(one)).sum() * np.square(np.abs(other)).sum()))
    return round(float(np.clip((one * other.conj()).real.sum() / power, 0.0, 1.0)), 4) if power > 0 else 0.0


def _residuals(
    volume_hu: NDArray[np.floating[Any]], spacing_mm: tuple[float, float], *, patch_mm: float, difference: bool
) -> NDArray[np.float64]:
    """Overlapping patches of soft tissue without their quadratic trend: (patches, rows, columns)."""
    tiling = TissuePatches(spacing_mm, patch_mm)
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
    residuals = residuals[telling(residuals)]
    return residuals.reshape(-1, *tiling.size)


def _power(tiling: TissuePatches, slice_hu: NDArray[np.floating[Any]], above: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Power of each patch of soft tissue at these frequencies, in an arbitrary unit: (patches,)."""
    slice_ = np.asarray(slice_hu, dtype=np.float64)
    patches = tiling.residuals(slice_, tiling.tissue(slice_))
    patches = patches[telling(patches)].reshape(-1, *tiling.size)
    return np.asarray(np.square(np.abs(np.fft.fft2(patches * tiling.taper)[:, above])).sum(axis=1))


def _quietest(patches: NDArray[np.float64]) -> NDArray[np.float64]:
    """The fifth of the patches with the lowest variance; none where there are too few to tell."""
    if len(patches) < _FEWEST_PATCHES:
        return patches[:0]
    variance = patches.var(axis=(1, 2))
    limit = max(float(np.percentile(variance, _PERCENTILE)), float(np.sort(variance)[_FEWEST_PATCHES - 1]))
    return np.asarray(patches[variance <= limit])
