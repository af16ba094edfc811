"""What PSNR and SSIM don't tell of a restored volume: bias, noise texture, edge sharpness, lost structure, uptake."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from tatcli.intensity import Units
from tatcli.metrics.bias import bias
from tatcli.metrics.body import body_mask
from tatcli.metrics.edge_spread import edge_spread_ratio
from tatcli.metrics.noise_power import NoiseSpectrum, Patches, noise_spectrum, uniform_patches
from tatcli.metrics.residual_structure import residual_structure
from tatcli.metrics.uptake import HotRegion, UptakeError, hot_regions, uptake_errors

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tatcli.tasks import Task

__all__ = ["PHYSICAL_QUANTITIES", "PhysicalScores", "ReferenceFacts", "reference_facts", "score_physically"]

PHYSICAL_QUANTITIES: Final = {
    "bias": "mean of restored - reference inside the body, in the task's units",
    "noise_ratio": "standard deviation in uniform patches over the reference's",
    "noise_peak": "peak frequency of the noise power spectrum, cycles/mm",
    "noise_peak_shift": "its difference from the reference's, cycles/mm",
    "noise_mean": "mean frequency of the noise power spectrum, cycles/mm",
    "noise_mean_shift": "its difference from the reference's, cycles/mm",
    "edge_ratio": "10-90 % edge width over the reference's: above 1 blurred, below 1 sharper than the reference",
    "residual_structure": "correlation of what was removed with the reference's edges: 0 noise alone, 1 edges",
    "suv_max_error": "mean |error| of SUVmax over hot regions, %",
    "suv_peak_error": "mean |error| of SUVpeak (1 ml sphere) over hot regions, %",
    "suv_mean_error": "mean |error| of SUVmean over hot regions, %",
}
"""Field -> what it is."""


@dataclass(frozen=True, eq=False)
class ReferenceFacts:
    """What is found once on a reference and used for every method.

    Attributes:
        body: (slices, rows, columns).
        patches: uniform ones; None where there are too few.
        spectrum: the reference's own.
        regions: hot ones of a PET; empty for others and where only some slices are scored.
        spacing: (slice, row, column) steps, mm.
    """

    body: NDArray[np.bool_]
    patches: Patches | None
    spectrum: NoiseSpectrum | None
    regions: tuple[HotRegion, ...]
    spacing: tuple[float, float, float]


@dataclass(frozen=True, kw_only=True, eq=False)
class PhysicalScores:
    """See :data:`PHYSICAL_QUANTITIES`; None where it can't be told, or isn't defined for the task.

    Attributes:
        spectrum: of the noise, for curves.
        regions: uptake of each hot region.
    """

    bias: float | None = None
    noise_ratio: float | None = None
    noise_peak: float | None = None
    noise_peak_shift: float | None = None
    noise_mean: float | None = None
    noise_mean_shift: float | None = None
    edge_ratio: float | None = None
    residual_structure: float | None = None
    suv_max_error: float | None = None
    suv_peak_error: float | None = None
    suv_mean_error: float | None = None
    spectrum: NoiseSpectrum | None = None
    regions: tuple[UptakeError, ...] = ()

    def quantities(self) -> dict[str, float | None]:
        """The numbers by name."""
        return {name: getattr(self, name) for name in PHYSICAL_QUANTITIES}

    def to_dict(self) -> dict[str, Any]:
        """JSON form, with the spectrum's curve and each region."""
        curve = self.spectrum and {
            "frequency": [round(float(value), 5) for value in self.spectrum.frequency],
            "power": [float(value) for value in self.spectrum.power],
        }
        return self.quantities() | {
            "noise_spectrum": curve,
            "regions": [region.to_dict() for region in self.regions],
        }


def reference_facts(
    reference: NDArray[np.floating[Any]],
    task: Task,
    *,
    spacing: tuple[float, float, float],
    whole: bool = True,
    mask: NDArray[np.bool_] | None = None,
) -> ReferenceFacts:
    """Body, patches, spectrum and hot regions of a reference.

    Args:
        reference: (slices, rows, columns), the task's units.
        task: decides what air is and whether there is uptake.
        spacing: (slice, row, column) steps, mm.
        whole: whether the slices are all of the scan's: spheres need neighbours.
        mask: voxels that count beside those of the body; None: all.
    """
    body = body_mask(reference, task)
    if mask is not None:
        body &= mask
    patches = uniform_patches(reference, body)
    spectrum = noise_spectrum(reference, patches, spacing=spacing[1:]) if patches else None
    with_uptake = task.units is Units.SUVBW and whole
    regions = hot_regions(np.where(body, reference, 0.0), spacing=spacing) if with_uptake else []
    return ReferenceFacts(body, patches, spectrum, tuple(regions), spacing)


def score_physically(
    restored: NDArray[np.floating[Any]],
    reference: NDArray[np.floating[Any]],
    facts: ReferenceFacts,
    *,
    lq: NDArray[np.floating[Any]] | None = None,
) -> PhysicalScores:
    """Everything beyond the paper's metrics.

    Args:
        restored: (slices, rows, columns), the task's units.
        reference: the same shape.
        facts: of the reference.
        lq: the input, the same shape; where it isn't known, or is the restored scan itself, residual structure is that
            of reference - restored.
    """
    in_plane = facts.spacing[1:]
    spectrum = noise_spectrum(restored, facts.patches, spacing=in_plane) if facts.patches else None
    with np.errstate(invalid="ignore"):  # infinity less infinity
        removed = np.subtract(reference if lq is None or lq is restored else lq, restored)
    regions = uptake_errors(restored, reference, list(facts.regions), spacing=facts.spacing)
    errors = [_mean_error(regions, which) for which in range(3)]
    return PhysicalScores(
        bias=bias(restored, reference, facts.body),
        edge_ratio=edge_spread_ratio(restored, reference, facts.body, spacing=in_plane),
        residual_structure=residual_structure(removed, reference, facts.body),
        spectrum=spectrum,
        regions=regions,
        suv_max_error=errors[0],
        suv_peak_error=errors[1],
        suv_mean_error=errors[2],
        **_noise(spectrum, facts.spectrum),
    )


def _noise(ours: NoiseSpectrum | None, truth: NoiseSpectrum | None) -> dict[str, float | None]:
    if ours is None or truth is None:
        return {}
    peak, mean = ours.peak_frequency, ours.mean_frequency
    found = {
        "noise_ratio": ours.deviation / truth.deviation if truth.deviation else math.nan,
        "noise_peak": peak,
        "noise_peak_shift": peak - truth.peak_frequency,
        "noise_mean": mean,
        "noise_mean_shift": mean - truth.mean_frequency,
    }
    return {name: value if math.isfinite(value) else None for name, value in found.items()}


def _mean_error(regions: tuple[UptakeError, ...], which: int) -> float | None:
    return float(np.mean([abs(region.percent[which]) for region in regions])) if regions else None
