"""Low-count PET: Poisson counts in the projections, reconstructed by OSEM, their noise added to the reference.

SUV -> expected counts of every line of response (attenuated, with a smooth background of randoms and scatter) -> fewer
counts -> OSEM (Hudson & Larkin, IEEE TMI 13:601, 1994) with a Gaussian post-filter. The difference between the
reconstruction of noisy and of noiseless counts is added to the reference, which keeps its sharpness and its mean.

Non-negativity without bias: with x the reference, n and m the noisy and the noiseless reconstruction (both >= 0 by
OSEM), the result is x + w (n - m) with w = min(1, x / m). It can't be negative, as w m <= x; nothing is clipped, and as
w doesn't depend on the noise, the mean stays as far as OSEM's does (n averages to m).

The reference's noise is part of it already. Thinning its counts to the fraction 1/r adds the variance (1/r)(1 - 1/r)
per expected count; after scaling back by r that is r - 1 times the reference's own, r times in total.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import scipy.ndimage

from tatcli.degradation.pet_scanner import PetReconstruction, pet_scanner, random_reconstruction
from tatcli.volumes.slices import evenly_spaced

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["PetReconstruction", "count_level", "estimate_variation", "low_count_slices", "random_reconstruction"]

WATER_ATTENUATION: Final = 0.0096
"""Linear attenuation of water at 511 keV, per mm (NIST XCOM)."""

_FWHM: Final = 2.0 * float(np.sqrt(2.0 * np.log(2.0)))
_BODY_SUV: Final = 0.15
_FINEST_MM: Final = 3.4
"""Finer pixels are binned, up to this size: PET noise holds nothing finer, and large matrices are slow."""

_PATCH_MM: Final = 24.0
_PERCENTILE: Final = 20.0
_FEWEST_PATCHES: Final = 20
_MOST_SLICES: Final = 24


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
        counts: the reference's own count level, from :func:`count_level`.
        seed: of the generator.
        reconstruction: default: 3 iterations of 8 subsets, 6 mm.

    Returns:
        (len(drf), rows, columns), SUV, non-negative where the reference is. Infinite and NaN pixels stay as they are.
    """
    reconstruction = reconstruction or PetReconstruction()
    rng = np.random.default_rng(seed)
    reference = np.asarray(slice_suv, dtype=np.float32)
    noise = _Simulation(reference, spacing_mm, reconstruction).added_noise(
        np.asarray(drf, dtype=np.float64), counts, rng
    )
    # w m <= x holds but for rounding
    return np.asarray(np.where(reference >= 0, np.maximum(reference + noise, 0.0), reference + noise), dtype=np.float32)


def count_level(
    volume_suv: NDArray[np.floating[Any]],
    *,
    spacing_mm: tuple[float, float],
    variation: float | None = None,
    reconstruction: PetReconstruction | None = None,
    seed: int | np.random.SeedSequence = 0,
    slices: int = 6,
) -> float:
    """The count level of a reference: expected counts of a line of response per SUV and mm of activity along it.

    A probe simulation at dose reduction factor 2 must add as much variance to uniform tissue as the reference has
    already. Both are measured by the same estimator, so that its own bias cancels.

    Args:
        volume_suv: (slices, rows, columns), SUV.
        spacing_mm: (row, column) pixel size.
        variation: the reference's coefficient of variation in uniform tissue, if known; default: estimated.
        reconstruction: as for :func:`low_count_slices` (a smoother one needs fewer counts for the same noise).
        seed: of the probe.
        slices: how many slices to probe, those with the most tissue.

    Returns:
        The count level; NaN where there is no uniform tissue to probe.
    """
    reconstruction = reconstruction or PetReconstruction()
    rng = np.random.default_rng(seed)
    chosen = volume_suv[evenly_spaced(len(volume_suv), _MOST_SLICES)]
    tissue = [int((slice_ > _BODY_SUV).sum()) for slice_ in chosen]
    probed = chosen[np.argsort(tissue, kind="stable")[::-1][:slices]]
    own = estimate_variation(probed, spacing_mm) if variation is None else variation
    if not own > 0:
        return float("nan")
    simulations = [_Simulation(slice_, spacing_mm, reconstruction) for slice_ in probed]
    counts = 1.0
    for _ in range(3):  # the noise falls nearly, not exactly, with the square root of the counts
        noise = np.concatenate([simulation.added_noise(np.array([2.0]), counts, rng) for simulation in simulations])
        patches = _local_variation(noise, probed, spacing_mm, detrended=variation is None)
        if len(patches) < _FEWEST_PATCHES:
            return float("nan")
        added = np.percentile(patches, _PERCENTILE) if variation is None else np.sqrt(np.square(patches).mean())
        counts *= float((added / own) ** 2)
    return float(f"{counts:.6g}")  # not to depend on the last bit of threaded sums


def estimate_variation(volume_suv: NDArray[np.floating[Any]], spacing_mm: tuple[float, float]) -> float:
    """Coefficient of variation of a reference's uniform tissue at the scale of its texture.

    The 20th percentile of the local one over body patches of 24 mm, each freed from a quadratic trend: structure only
    adds to it. The trend takes some of the noise's low frequencies too, so this is a lower bound of what a large region
    shows; :func:`count_level` compares like with like.

    Args:
        volume_suv: (slices, rows, columns).
        spacing_mm: (row, column) pixel size.

    Returns:
        Standard deviation over mean; NaN where there is no tissue.
    """
    chosen = volume_suv[evenly_spaced(len(volume_suv), _MOST_SLICES)]
    patches = _local_variation(chosen, chosen, spacing_mm, detrended=True)
    return float(np.percentile(patches, _PERCENTILE)) if len(patches) >= _FEWEST_PATCHES else float("nan")


def _local_variation(
    deviations: NDArray[np.floating[Any]],
    references: NDArray[np.floating[Any]],
    spacing_mm: tuple[float, float],
    *,
    detrended: bool,
) -> NDArray[np.float64]:
    """Local standard deviation of one stack over the local mean of another, within the body: (patches,)."""
    size = (max(5, round(_PATCH_MM / spacing_mm[0])), max(5, round(_PATCH_MM / spacing_mm[1])))
    if min(references.shape[1] - size[0], references.shape[2] - size[1]) < 0:
        return np.zeros(0)
    y, x = np.meshgrid(*(np.linspace(-1.0, 1.0, n) for n in size), indexing="ij")
    trend = np.stack([np.ones_like(x), x, y, x * y, x * x, y * y], axis=-1).reshape(-1, 6)
    basis = np.linalg.qr(trend)[0] if detrended else np.zeros((trend.shape[0], 0))
    stride = [max(1, n // 5) for n in size]
    found = [np.zeros(0)]
    for deviation, reference in zip(deviations, references, strict=True):
        around = np.lib.stride_tricks.sliding_window_view(reference, size)[:: stride[0], :: stride[1]]
        mean = around.mean(axis=(2, 3))
        body = (around.min(axis=(2, 3)) > _BODY_SUV) & np.isfinite(mean)
        windows = np.lib.stride_tricks.sliding_window_view(deviation, size)[:: stride[0], :: stride[1]]
        flat = windows[body].reshape(-1, size[0] * size[1]).astype(np.float64)
        squares = np.square(flat - (flat @ basis) @ basis.T).sum(axis=1)
        found.append(np.sqrt(squares / (flat.shape[1] - basis.shape[1])) / mean[body])
    variation = np.concatenate(found)
    return variation[variation > 0]


class _Simulation:
    """One slice on the scanner: everything that doesn't depend on the noise."""

    def __init__(
        self, reference: NDArray[np.floating[Any]], spacing_mm: tuple[float, float], reconstruction: PetReconstruction
    ) -> None:
        self._recipe = reconstruction
        self._activity = np.where(np.isfinite(reference), np.maximum(reference, 0.0), 0.0).astype(np.float32)
        self._binning = (max(1, int(_FINEST_MM / spacing_mm[0])), max(1, int(_FINEST_MM / spacing_mm[1])))
        binned = _binned(self._activity, self._binning)
        self._spacing = (float(spacing_mm[0] * self._binning[0]), float(spacing_mm[1] * self._binning[1]))
        self._scanner = pet_scanner(binned.shape, self._spacing, reconstruction.subsets)
        self._survival = np.exp(-WATER_ATTENUATION * self._scanner.project(_body(binned)))
        trues = self._survival * self._scanner.project(binned)
        self._background = reconstruction.background * float(trues.sum()) / max(1, int((trues > 0).sum()))
        self._expected = trues + np.float32(self._background)
        self._noiseless = self._reconstruct(self._expected[None])[0] if binned.any() else np.zeros_like(self._activity)
        share = np.divide(self._activity, self._noiseless, out=np.zeros_like(self._activity), where=self._noiseless > 0)
        self._weight = np.minimum(1.0, share)

    def added_noise(self, drf: NDArray[np.float64], counts: float, rng: np.random.Generator) -> NDArray[np.float32]:
        """The noise w (n - m) of the module's head for each dose reduction factor: (len(drf), rows, columns)."""
        if not self._activity.any():
            return np.zeros((len(drf), *self._activity.shape), dtype=np.float32)
        factor = drf[:, None, None]
        added = counts * self._expected * ((1.0 / factor) * (1.0 - 1.0 / factor))
        deviation = (rng.poisson(added) - added) * factor / counts
        measured = np.maximum(self._expected + deviation, 0.0).astype(np.float32)
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
    return np.asarray(scipy.ndimage.binary_fill_holes(smooth > _BODY_SUV), dtype=np.float32)
