"""Gaussian weights along a scan's slices: what makes the simulated noise of neighbouring slices correlate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import scipy.optimize

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["correlating_weights", "gaussian_weights", "within_reach"]

_NARROWEST: Final = 0.1
"""Standard deviation, in slices, of a filter that is none."""

_CORRELATIONS: Final = (0.05, 0.95)
"""A lower one is taken as none, since measurements hardly tell them apart; a higher one as the upper bound."""


def gaussian_weights(width: float) -> NDArray[np.float64]:
    """Weights of the slices around one, their sum 1.

    Args:
        width: standard deviation, in slices.

    Returns:
        (1 + 2 * reach,): four standard deviations to both sides, or (1,) where the width is next to none.
    """
    reach = int(np.ceil(4.0 * width)) if width > _NARROWEST else 0
    weights = np.exp(-0.5 * np.square(np.arange(-reach, reach + 1) / max(width, _NARROWEST)))
    return np.asarray(weights / weights.sum())


def correlating_weights(correlation: float) -> NDArray[np.float64]:
    """Those that make noise, which is independent in every slice, correlate by this much between neighbours.

    Args:
        correlation: in [0, 1].

    Returns:
        As :func:`gaussian_weights`.
    """
    least, most = _CORRELATIONS
    if correlation < least:
        return np.ones(1)

    def excess(width: float) -> float:
        weights = gaussian_weights(width)
        return float((weights[1:] @ weights[:-1]) / (weights @ weights) - min(correlation, most))

    return gaussian_weights(float(scipy.optimize.brentq(excess, 2 * _NARROWEST, 4.0)))


def within_reach(weights: NDArray[np.floating[Any]], index: int, count: int) -> tuple[range, NDArray[np.floating[Any]]]:
    """Which of ``count`` slices are weighted around this one, and their weights: fewer at both ends of the scan."""
    reach = len(weights) // 2
    around = range(max(0, index - reach), min(count, index + reach + 1))
    return around, weights[around.start - index + reach : around.stop - index + reach]
