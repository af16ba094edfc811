"""Low-count PET: Poisson counts in the projections, reconstructed by OSEM, their noise added to the reference.

SUV -> expected counts of every line of response (attenuated, with a smooth background of randoms and scatter) -> fewer
counts -> OSEM (Hudson & Larkin, IEEE TMI 13:601, 1994) with a Gaussian post-filter. The difference between the
reconstruction of noisy and of noiseless counts is added to the reference, which keeps its sharpness and its mean.

Non-negativity without bias: with x the reference, n and m the noisy and the noiseless reconstruction (both >= 0 by
OSEM), the result is x + w (n - m) with w = min(1, x / m). It can't be negative, as w m <= x; nothing is clipped, and as
w doesn't depend on the noise, the mean stays as far as OSEM's does (n averages to m).

A scanner's noise correlates from slice to slice, too. In a volume the counts' deviations are filtered along the slices
by a Gaussian before the reconstruction. What a slice takes from a neighbour's draw is thinned, or added to, until it
has the slice's own mean: a sum of Poisson counts of that mean, drawn so few that the weighted sum's variance is what it
would have been. Its mean is right where activity changes along the slices, too, and it can't be negative either.

The reference's noise is part of it already. Thinning its counts to the fraction 1/r adds the variance (1/r)(1 - 1/r)
per expected count; after scaling back by r that is r - 1 times the reference's own, r times in total.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import scipy.ndimage

from tatcli.degradation.axial_filter import gaussian_weights, within_reach
from tatcli.degradation.pet_scanner import PetReconstruction, pet_scanner

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["BODY_SUV", "ScannedSlice", "low_count_slices", "low_count_volume"]

WATER_ATTENUATION: Final = 0.0096
"""Linear attenuation of water at 511 keV, per mm (NIST XCOM)."""

_FWHM: Final = 2.0 * float(np.sqrt(2.0 * np.log(2.0)))
BODY_SUV: Final = 0.15
"""Activity of the body, and none of air."""
_FINEST_MM: Final = 3.4
"""Finer pixels are binned, up to this size: PET noise holds nothing finer, and large matrices are slow."""


def low_count_slices(
    slice_suv: NDArray[np.floating[Any]],
    *,
    spacing_mm: tuple[float, float],
    drf: Sequence[float],
    counts: float,
    seed: int | np.random.SeedSequence,
    reconstruction: PetReconstruction | None = None,
) -> NDArray[np.float32]:
    """The slice as scans with fewer counts would show it, one for each dose reduction factor.

    Their noise is independent.

    Args:
        slice_suv: (rows, columns), SUV.
        spacing_mm: (row, column) pixel size.
        drf: dose reduction factors relative to the reference, each at least 1.
        counts: the reference's own count level, from :func:`~tatcli.degradation.pet_count_level.count_level`.
        seed: of the generator.
        reconstruction: default: 3 iterations of 8 subsets, 6 mm.

    Returns:
        (len(drf), rows, columns), SUV, non-negative where the reference is. Infinite and NaN pixels stay as they are.
    """
    reconstruction = reconstruction or PetReconstruction()
    rng = np.random.default_rng(seed)
    reference = np.asarray(slice_suv, dtype=np.float32)
    noise = ScannedSlice(reference, spacing_mm, reconstruction).added_noise(
        np.asarray(drf, dtype=np.float64), counts, rng
    )
    return _with_noise(reference, noise)


def low_count_volume(
    stack_suv: NDArray[np.floating[Any]],
    *,
    spacing_mm: tuple[float, float, float],
    drf: float,
    counts: float,
    seeds: Sequence[int | np.random.SeedSequence],
    reconstruction: PetReconstruction | None = None,
) -> NDArray[np.float32]:
    """The volume as a scan with fewer counts would show it; its noise correlates along the slices.

    Args:
        stack_suv: (slices, rows, columns), SUV.
        spacing_mm: (slice, row, column) distances.
        drf: dose reduction factor relative to the reference, at least 1.
        counts: the reference's own count level, from :func:`~tatcli.degradation.pet_count_level.count_level`.
        seeds: of the generator, one for each slice.
        reconstruction: default: as for :func:`low_count_slices`, and 5.5 mm along the slices.

    Returns:
        As given, non-negative where the reference is; each slice with the noise variance that
        :func:`low_count_slices` gives it. Infinite and NaN voxels stay as they are.
    """
    reconstruction = reconstruction or PetReconstruction()
    reference = np.asarray(stack_suv, dtype=np.float32)
    kernel = gaussian_weights(reconstruction.axial_filter_mm / _FWHM / spacing_mm[0])
    kept = float(np.square(kernel).sum())  # of the variance
    factor = np.array([drf], dtype=np.float64)
    drawn: dict[int, _Draw] = {}  # those within reach
    result = np.empty_like(reference)
    for index, slice_ in enumerate(reference):
        around, weights = within_reach(kernel, index, len(reference))
        for other in around:
            if other not in drawn:
                scan = ScannedSlice(reference[other], spacing_mm[1:], reconstruction)
                drawn[other] = _Draw(scan, scan.lost(factor, counts * kept), np.random.default_rng(seeds[other]))
        own = drawn[index]
        weights = weights / weights.sum()
        missing = np.sqrt(kept / np.square(weights).sum())  # the first and last slices have fewer neighbours to average
        total = sum(weight * own.like(drawn[other]) for weight, other in zip(weights, around, strict=True))
        deviations = (total - own.mean) * (missing * drf / (counts * kept))
        result[index] = _with_noise(slice_, own.scan.noise(deviations)[0])
        drawn.pop(index - len(kernel) // 2, None)
    return result


class _Draw:
    """Counts of one slice as a Poisson draw, for itself and its neighbours.

    Args:
        scan: of the slice.
        mean: of its counts, (1, subsets, lines).
        generator: the slice's own: what it draws doesn't depend on the order of the slices.
    """

    def __init__(self, scan: ScannedSlice, mean: NDArray[np.float64], generator: np.random.Generator) -> None:
        self.scan, self.mean, self._generator = scan, mean, generator
        self._counts = generator.poisson(mean)

    def like(self, other: _Draw) -> NDArray[np.int64]:
        """Poisson counts of this slice's mean that share with the other's draw all that they can."""
        if other is self:
            return self._counts
        kept = np.divide(self.mean, other.mean, out=np.zeros_like(self.mean), where=other.mean > 0)
        fewer = self._generator.binomial(other._counts, np.minimum(kept, 1.0))
        return np.asarray(fewer + self._generator.poisson(np.maximum(self.mean - other.mean, 0.0)))


def _with_noise(reference: NDArray[np.float32], noise: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Their sum; the weighted noise can't make it negative but for rounding."""
    return np.asarray(np.where(reference >= 0, np.maximum(reference + noise, 0.0), reference + noise), dtype=np.float32)


def _activity(reference: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """What emits: neither negative nor infinite."""
    return np.where(np.isfinite(reference), np.maximum(reference, 0.0), 0.0).astype(np.float32)


def _share(whole: NDArray[np.float32], of: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    """The share of ``of``, up to all of it, that can be taken from ``whole`` without going below zero."""
    return np.asarray(np.minimum(1.0, np.divide(whole, of, out=np.zeros_like(of), where=of > 0)))


class ScannedSlice:
    """One slice on the scanner: everything that doesn't depend on the noise.

    Args:
        reference: (rows, columns), SUV.
        spacing_mm: (row, column) pixel size.
        reconstruction: of its counts.

    Attributes:
        expected: counts of every line of response at a count level of 1, (subsets, lines).
    """

    def __init__(
        self, reference: NDArray[np.floating[Any]], spacing_mm: tuple[float, float], reconstruction: PetReconstruction
    ) -> None:
        self._recipe = reconstruction
        self._activity = _activity(reference)
        self._binning = (max(1, int(_FINEST_MM / spacing_mm[0])), max(1, int(_FINEST_MM / spacing_mm[1])))
        binned = _binned(self._activity, self._binning)
        self._spacing = (float(spacing_mm[0] * self._binning[0]), float(spacing_mm[1] * self._binning[1]))
        self._scanner = pet_scanner(binned.shape, self._spacing, reconstruction.subsets)
        self._survival = np.exp(-WATER_ATTENUATION * self._scanner.project(_body(binned)))
        trues = self._survival * self._scanner.project(binned)
        self._background = reconstruction.background * float(trues.sum()) / max(1, int((trues > 0).sum()))
        self.expected = trues + np.float32(self._background)
        self._noiseless = self._reconstruct(self.expected[None])[0] if binned.any() else np.zeros_like(self._activity)
        self._weight = _share(self._activity, self._noiseless)

    def added_noise(self, drf: NDArray[np.float64], counts: float, rng: np.random.Generator) -> NDArray[np.float32]:
        """The noise w (n - m) of the module's head for each dose reduction factor: (len(drf), rows, columns)."""
        return self.noise(self.deviations(drf, counts, rng))

    def deviations(self, drf: NDArray[np.float64], counts: float, rng: np.random.Generator) -> NDArray[np.float64]:
        """Of the counts from the expected ones, at a count level of 1: (len(drf), subsets, lines)."""
        lost = self.lost(drf, counts)
        return np.asarray((rng.poisson(lost) - lost) * drf[:, None, None] / counts)

    def lost(self, drf: NDArray[np.float64], counts: float) -> NDArray[np.float64]:
        """Mean (and variance) of the counts whose deviations are the added noise: (len(drf), subsets, lines)."""
        kept = 1.0 / drf[:, None, None]
        return np.asarray(counts * self.expected * (kept * (1.0 - kept)))

    def noise(self, deviations: NDArray[np.float64]) -> NDArray[np.float32]:
        """Weighted noise w (n - m) of counts with these deviations: (count, rows, columns)."""
        if not self._activity.any():
            return np.zeros((len(deviations), *self._activity.shape), dtype=np.float32)
        measured = np.maximum(self.expected + deviations, 0.0).astype(np.float32)
        return np.asarray(self._weight * (self._reconstruct(measured) - self._noiseless), dtype=np.float32)

    def _reconstruct(self, measured: NDArray[np.float32]) -> NDArray[np.float32]:
        """OSEM and post-filter, on the reference's grid: (count, rows, columns)."""
        images = self._scanner.osem(measured, self._survival, self._background, self._recipe.iterations)
        sigma = [self._recipe.post_filter_mm / _FWHM / step for step in self._spacing]
        images = scipy.ndimage.gaussian_filter(images, (0.0, *sigma), mode="nearest")
        if max(self._binning) > 1:
            images = scipy.ndimage.zoom(images, (1, *self._binning), order=1, mode="nearest", grid_mode=True)
        rows, columns = self._activity.shape
        return np.asarray(images[:, :rows, :columns], dtype=np.float32)


def _binned(image: NDArray[np.float32], binning: tuple[int, int]) -> NDArray[np.float32]:
    """Means over blocks of pixels; the last rows and columns are repeated where the blocks don't fit."""
    if max(binning) == 1:
        return image
    padding = [(0, -count % block) for count, block in zip(image.shape, binning, strict=True)]
    padded = np.pad(image, padding, mode="edge")
    rows, columns = (count // block for count, block in zip(padded.shape, binning, strict=True))
    return np.asarray(padded.reshape(rows, binning[0], columns, binning[1]).mean(axis=(1, 3)), dtype=np.float32)


def _body(activity: NDArray[np.float32]) -> NDArray[np.float32]:
    """The attenuating body as 0 and 1: smoothed activity above that of air, holes (lungs, cold tissue) filled."""
    smooth = scipy.ndimage.uniform_filter(activity, 5)
    return np.asarray(scipy.ndimage.binary_fill_holes(smooth > BODY_SUV), dtype=np.float32)
