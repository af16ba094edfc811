"""The count level of a PET reference, from the noise of its uniform tissue: what dose reduction is relative to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from tatcli.degradation.low_count_pet import BODY_SUV, ScannedSlice
from tatcli.degradation.pet_scanner import PetReconstruction
from tatcli.volumes.slices import evenly_spaced

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["count_level", "estimate_variation"]

_PATCH_MM: Final = 24.0
_PERCENTILE: Final = 20.0
_FEWEST_PATCHES: Final = 20
_MOST_SLICES: Final = 24
_LEAST_VARIATION: Final = 1e-4
"""Of any scan: a hundredth of a clinical one's; below lies what was computed, whose counts would be infinite."""


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
        reconstruction: of the reference; a smoother one needs fewer counts for the same noise.
        seed: of the probe.
        slices: how many slices to probe, those with the most tissue.

    Returns:
        The count level; NaN where there is no uniform tissue to probe, or no noise in it (less than 1/10000).
    """
    reconstruction = reconstruction or PetReconstruction()
    rng = np.random.default_rng(seed)
    chosen = volume_suv[evenly_spaced(len(volume_suv), _MOST_SLICES)]
    tissue = [int((slice_ > BODY_SUV).sum()) for slice_ in chosen]
    probed = chosen[np.argsort(tissue, kind="stable")[::-1][:slices]]
    own = estimate_variation(probed, spacing_mm) if variation is None else variation
    if not own > _LEAST_VARIATION:
        return float("nan")
    simulations = [ScannedSlice(slice_, spacing_mm, reconstruction) for slice_ in probed]
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
        body = (around.min(axis=(2, 3)) > BODY_SUV) & np.isfinite(mean)
        windows = np.lib.stride_tricks.sliding_window_view(deviation, size)[:: stride[0], :: stride[1]]
        flat = windows[body].reshape(-1, size[0] * size[1]).astype(np.float64)
        squares = np.square(flat - (flat @ basis) @ basis.T).sum(axis=1)
        found.append(np.sqrt(squares / (flat.shape[1] - basis.shape[1])) / mean[body])
    variation = np.concatenate(found)
    return variation[variation > 0]
