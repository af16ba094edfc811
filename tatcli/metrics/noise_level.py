"""How noisy a slice is: a unit that filters' parameters and guards share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tatcli.intensity import Window

__all__ = ["noise_level"]

_PATCH: Final = 9
_PERCENTILE: Final = 20.0
_MARGIN: Final = 0.01
_FEWEST: Final = 50


def noise_level(slice_: NDArray[np.floating[Any]], window: Window) -> float:
    """How noisy a slice is: the 20th percentile of the local standard deviation (9x9) of what the window shows.

    Structure only adds to the local deviation, so a low percentile shows the noise, whatever its spectrum: of the noise
    added to CT at a quarter of the dose it shows 1.0-1.3 times the standard deviation (the reference's own noise is
    part of it). Where noise follows the signal (PET) it stands for the quieter parts, and without noise (MRI) for the
    texture. It is a unit for parameters tuned on other slices, not a measurement.

    Args:
        slice_: (rows, columns), physical units.
        window: pixels whose local mean is at or beyond one of its bounds (air, bone) don't count, unless all are.

    Returns:
        In the slice's units; 0 for a constant slice.
    """
    values = np.nan_to_num(np.asarray(slice_, dtype=np.float64), nan=window.lower)
    values = np.clip(values, window.lower - window.width, window.upper + window.width)
    values -= (centre := values.mean())
    mean = _patch_means(values)
    variance = _patch_means(values**2) - mean**2
    mean += centre
    deviation = np.sqrt(np.maximum(variance, 0.0))
    shown = (mean > window.lower + _MARGIN * window.width) & (mean < window.upper - _MARGIN * window.width)
    if shown.sum() < _FEWEST:
        shown = deviation > 1e-9 * window.width
    return float(np.percentile(deviation[shown], _PERCENTILE)) if shown.any() else 0.0


def _patch_means(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean of each pixel's patch, the image mirrored at its borders; running sums need no scipy at start-up."""
    for axis in (0, 1):
        padding = [(0, 0), (0, 0)]
        padding[axis] = (_PATCH // 2 + 1, _PATCH // 2)
        sums = np.cumsum(np.pad(values, padding, mode="symmetric"), axis=axis)
        upper, lower = (sums[_PATCH:], sums[:-_PATCH]) if axis == 0 else (sums[:, _PATCH:], sums[:, :-_PATCH])
        values = (upper - lower) / _PATCH
    return values
