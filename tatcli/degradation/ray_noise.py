"""Noise of a CT's line integrals: Gaussian where many photons are detected, else the logarithm of Poisson counts."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import scipy.special

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ray_noise"]

_FEW_PHOTONS: Final = 100.0
"""Below so many photons a ray's noise is drawn from Poisson's distribution."""


def ray_noise(
    quantum: NDArray[np.float32], electronic: NDArray[np.float32], generator: np.random.Generator
) -> NDArray[np.float32]:
    """Noise of every ray's line integral, from its variances; zero mean.

    Gaussian where many photons arrive. Behind the densest paths the counts are Poisson, and so few that the logarithm
    bends their distribution and the least reading cuts it off; its mean is taken off, as scanners correct for it.

    Args:
        quantum: 1 / n, the variance from the n photons that a ray is expected to bring.
        electronic: (s / n)^2, that from the detector's electronic noise of s photons, the same s for all rays.
        generator: draws it.
    """
    variance = quantum + electronic
    noise = np.sqrt(variance) * generator.standard_normal(variance.shape, dtype=np.float32)
    starved = variance > 1.0 / _FEW_PHOTONS
    if starved.any():
        photons = 1.0 / quantum[starved]
        electrons = np.sqrt(electronic[starved]) * photons  # the same number for all rays
        readings = generator.poisson(photons) + electrons * generator.standard_normal(photons.size)
        fewest, means = _starved_means(round(float(np.median(electrons)), 1))
        noise[starved] = _line_integrals(readings, photons) - np.interp(np.log(photons), fewest, means)
    return np.asarray(noise, dtype=np.float32)


def _line_integrals(readings: NDArray[np.floating[Any]], photons: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """What detector readings of rays that expect so many photons add to their line integrals."""
    least = np.minimum(0.5, 0.5 * photons)  # the reading of half a photon
    return np.asarray(-np.log(np.maximum(readings, least) / photons))


@lru_cache(maxsize=128)
def _starved_means(electrons: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean of :func:`_line_integrals` over Poisson counts and electronic noise of this standard deviation.

    Returns:
        The logarithms of the expected photons, and the means: (n,) each.
    """
    photons = np.geomspace(1e-7, 2 * _FEW_PHOTONS, 400)
    errors = np.linspace(-5.0, 5.0, 401)
    weights = np.exp(-0.5 * np.square(errors))
    means = []
    for number in photons:
        counts = np.arange(int(number + 8 * np.sqrt(number) + 9))
        integrals = _line_integrals(counts[:, None] + electrons * errors, number)
        probabilities = np.exp(scipy.special.xlogy(counts, number) - scipy.special.gammaln(counts + 1) - number)
        means.append(probabilities @ integrals @ weights / weights.sum())  # (scipy.stats takes 0.6 s to import)
    return np.log(photons), np.array(means)
