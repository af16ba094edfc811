"""Low-dose CT: noise inserted in the projection domain.

HU -> attenuation -> line integrals -> photon counts at the lower dose -> filtered back-projection of the added noise
alone, which is then added to the reference. The reference keeps its sharpness, and the noise is what a scanner's is:
correlated, streaky along dense paths, and different from place to place (Zabic et al., Med Phys 40:031102, 2013; Yu et
al., JCAT 36:477, 2012).

What is added is the noise of a scan of its own: a ray through the attenuation p detects n exp(-p) photons, and its line
integral has the variance exp(p) / n + (s exp(p) / n)^2, where s is the detector's electronic noise. The photon count n
of a slice is chosen so that its soft tissue gains (1/d - 1) times its own noise variance: the total is 1/d times it.
The noise of a reference changes along its slices, with the patient's thickness and the tube current
(:func:`~tatcli.degradation.reference_noise.noise_profile`).

Slices that overlap, or that a helical scan interpolates from the same turns, share noise. In a volume the slices'
noise is therefore filtered along them by a Gaussian whose width gives neighbours the correlation that the reference's
own noise has (:func:`~tatcli.degradation.reference_noise.estimate_correlation`); each slice keeps its variance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import scipy.ndimage

from tatcli.degradation.axial_filter import correlating_weights, within_reach
from tatcli.degradation.projector import parallel_beam
from tatcli.degradation.ray_noise import ray_noise

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tatcli.degradation.ct_kernel import KernelSpec
    from tatcli.degradation.projector import ParallelBeam

__all__ = [
    "Acquisition",
    "ct_noise_realisations",
    "low_dose_volume",
    "random_acquisition",
    "reconstructed",
    "soft_tissue",
]

WATER_ATTENUATION: Final = 0.0192
"""Linear attenuation of water at about 70 keV, the effective energy of a 120 kV beam; per mm (NIST XCOM)."""

LOWEST_HU: Final = -1024.0
"""The lowest value of a reconstruction stored in 12 bits; lower ones are padding."""

_LONGEST_PATH: Final = 16.0
"""Attenuations of a ray beyond which no photon arrives, however many there are."""

_SOFT_TISSUE: Final = (-100.0, 200.0)
_AIR: Final = -1000.0
_DENSEST: Final = 3072.0


@dataclass(frozen=True)
class Acquisition:
    """How the scanner spreads its photons, and its detector's noise.

    Attributes:
        modulation: 0: a constant tube current; 1: as many photons through the thickest as through the thinnest view.
            0.5 minimises the noise for a given dose (Gies et al., Med Phys 26:2235, 1999).
        bowtie: 0: a flat beam; 1: a bow-tie filter that evens out a water cylinder of ``bowtie_diameter``.
        bowtie_diameter: mm.
        electronic: standard deviation of the electronic noise, in detected photons.
        views: projections over half a turn.
    """

    modulation: float = 0.5
    bowtie: float = 0.5
    bowtie_diameter: float = 320.0
    electronic: float = 5.0
    views: int = 720


def random_acquisition(rng: np.random.Generator) -> Acquisition:
    """An acquisition drawn from those of clinical scanners, for training."""
    return Acquisition(
        modulation=float(rng.uniform(0.0, 1.0)),
        bowtie=float(rng.uniform(0.0, 0.8)),
        bowtie_diameter=float(rng.uniform(280.0, 400.0)),
        electronic=float(rng.uniform(2.0, 8.0)),
    )


def ct_noise_realisations(
    slice_hu: NDArray[np.floating[Any]],
    *,
    spacing_mm: tuple[float, float],
    kernels: Sequence[KernelSpec],
    seed: int | np.random.SeedSequence,
    noise_hu: float = 20.0,
    acquisition: Acquisition | None = None,
) -> NDArray[np.float32]:
    """Noise fields as a CT scan of this slice would show them, one for each kernel, independent of each other.

    Scaled by sigma_ref * sqrt(1/d - 1) and added to the slice they give dose fraction d.

    Args:
        slice_hu: (rows, columns), HU.
        spacing_mm: (row, column) pixel size.
        kernels: the reconstruction kernel of each realisation.
        seed: of the generator.
        noise_hu: the level of added noise that the fields stand for: it decides how much of it is electronic.
        acquisition: tube-current modulation, bow tie and detector; default: a modern scanner's.

    Returns:
        (len(kernels), rows, columns), standard deviation 1 (expected, averaged over the slice's soft tissue), zero in
        padding and outside the reconstruction circle.
    """
    acquisition = acquisition or Acquisition()
    rows, columns = slice_hu.shape
    beam = parallel_beam((rows, columns), (float(spacing_mm[0]), float(spacing_mm[1])), views=acquisition.views)
    inside = reconstructed(slice_hu)
    if not inside.any():
        return np.zeros((len(kernels), rows, columns), dtype=np.float32)
    transmission = _relative_counts(slice_hu, beam, acquisition)
    region = soft_tissue(slice_hu)
    # expected noise variance of soft tissue = gain * (quantum / n + electronic / n^2), n the photons of a ray in air
    variances = np.stack([1.0 / transmission, acquisition.electronic**2 / np.square(transmission)])
    smeared = beam.back_project(variances, np.ones((1, beam.frequencies.size)))
    quantum, electronic = (float(value) for value in smeared[:, region].mean(axis=1))
    responses = np.stack([kernel.response(beam.frequencies) for kernel in kernels])
    gains = np.array([_noise_gain(beam, response) for response in responses])
    target = (noise_hu / 1000.0 * WATER_ATTENUATION) ** 2 / gains
    inverse_count = 2.0 * target / (quantum + np.sqrt(quantum**2 + 4.0 * electronic * target))
    generator = np.random.default_rng(seed)
    noise = [ray_noise(variances[0] * inverse, variances[1] * inverse**2, generator) for inverse in inverse_count]
    fields = beam.back_project(np.stack(noise), responses)
    fields *= np.float32(1000.0 / WATER_ATTENUATION / noise_hu)
    fields *= inside
    return fields


def low_dose_volume(  # noqa: PLR0913 - what the scan was, and what is asked of it
    stack_hu: NDArray[np.floating[Any]],
    *,
    spacing_mm: tuple[float, float],
    dose: float,
    noise: float | NDArray[np.floating[Any]],
    kernel: KernelSpec,
    seeds: Sequence[int | np.random.SeedSequence],
    correlation: float = 0.0,
) -> NDArray[np.float32]:
    """A volume at a fraction of its dose.

    Args:
        stack_hu: (slices, rows, columns), HU.
        spacing_mm: (row, column) pixel size.
        dose: fraction of the reference's dose, in (0, 1].
        noise: standard deviation of the reference's own noise in soft tissue, HU; of all slices or (slices,).
        kernel: the reconstruction kernel.
        seeds: of the generator, one for each slice.
        correlation: of the added noise of neighbouring slices, in [0, 1].

    Returns:
        As given, HU; not below -1024 (nor below the reference, where that is padding).
    """
    reference = np.asarray(stack_hu, dtype=np.float32)
    result = reference.copy()
    if dose >= 1.0:
        return result
    added = np.broadcast_to(np.asarray(noise) * np.sqrt(1.0 / dose - 1.0), len(reference)).astype(np.float64)
    weights = correlating_weights(correlation)
    fields: dict[int, NDArray[np.float32]] = {}  # of the slices within reach
    for index, slice_ in enumerate(reference):
        around, shares = within_reach(weights, index, len(reference))
        for other in around:
            if other not in fields:
                fields[other] = ct_noise_realisations(
                    reference[other],
                    spacing_mm=spacing_mm,
                    kernels=[kernel],
                    seed=seeds[other],
                    noise_hu=float(added[other]),
                )[0]
        shares = shares / np.sqrt(np.square(shares).sum())  # the weighted sum has the variance of one slice
        field = sum(np.float32(share) * fields[other] for share, other in zip(shares, around, strict=True))
        noisy = np.maximum(slice_ + np.float32(added[index]) * field, np.float32(LOWEST_HU))
        result[index] = np.where(reconstructed(slice_), noisy, slice_)
        fields.pop(index - len(weights) // 2, None)
    return result


def soft_tissue(slice_hu: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
    """Pixels of soft tissue, away from its borders; the whole reconstructed field where there is none."""
    smooth = scipy.ndimage.uniform_filter(_hounsfield(slice_hu), 5)
    tissue = (smooth > _SOFT_TISSUE[0]) & (smooth < _SOFT_TISSUE[1])
    core = scipy.ndimage.binary_erosion(tissue, iterations=3)
    for region in (core, tissue):
        if region.sum() >= 100:
            return np.asarray(region, dtype=np.bool_)
    return reconstructed(slice_hu)


def reconstructed(slice_hu: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
    """Pixels that the scanner reconstructed: not padding (below -1024 HU), and inside the reconstruction circle.

    Outside the circle, scanners write one constant of air or less. Where the corners hold it, every pixel outside the
    inscribed ellipse with that value is taken as outside.
    """
    rows, columns = slice_hu.shape
    inside = np.isfinite(slice_hu) & (slice_hu >= LOWEST_HU)
    corners = slice_hu[[0, 0, -1, -1], [0, -1, 0, -1]]
    if corners.min() == corners.max() and corners[0] <= _AIR:
        y = (np.arange(rows) - (rows - 1) / 2) / (rows / 2)
        x = (np.arange(columns) - (columns - 1) / 2) / (columns / 2)
        inside &= (slice_hu != corners[0]) | (y[:, None] ** 2 + x**2 <= 0.98**2)
    return np.asarray(inside, dtype=np.bool_)


def _hounsfield(slice_hu: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Values that matter can have: padding, NaN and infinities become air, metal is cut off."""
    finite = np.where(np.isfinite(slice_hu), slice_hu, _AIR)
    return np.clip(finite, _AIR, _DENSEST).astype(np.float32)


def _relative_counts(
    slice_hu: NDArray[np.floating[Any]], beam: ParallelBeam, acquisition: Acquisition
) -> NDArray[np.float32]:
    """Detected photons of every ray, relative to a ray through air in the beam's centre: (views, bins)."""
    attenuation = WATER_ATTENUATION * (1.0 + _hounsfield(slice_hu) / 1000.0)
    path = np.clip(beam.project(attenuation), 0.0, _LONGEST_PATH)
    thickest = path.max(axis=1)
    current = np.exp(acquisition.modulation * (thickest - thickest.mean()))
    offset = (np.arange(beam.bins) - beam.bins // 2) * beam.pitch
    radius = acquisition.bowtie_diameter / 2
    chord = 2.0 * np.sqrt(np.maximum(radius**2 - offset**2, 0.0))
    bowtie = np.exp(-acquisition.bowtie * WATER_ATTENUATION * (2.0 * radius - chord))
    return np.asarray(current[:, None] * bowtie * np.exp(-path), dtype=np.float32)


def _noise_gain(beam: ParallelBeam, response: NDArray[np.float64]) -> float:
    """Image variance per back-projected ray variance (Parseval over the filter's taps)."""
    two_sided = 2.0 * np.square(response).sum() - response[0] ** 2 - response[-1] ** 2
    return float(np.pi / beam.views * two_sided / beam.bins)
