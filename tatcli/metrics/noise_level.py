"""How noisy a slice is: a unit that filters' parameters and guards share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import scipy.ndimage

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
    mean = scipy.ndimage.uniform_filter(values, _PATCH)
    variance = scipy.ndimage.uniform_filter((values - values.mean()) ** 2, _PATCH) - (mean - values.mean()) ** 2
    deviation = np.sqrt(np.maximum(variance, 0.0))
    shown = (mean > window.lower + _MARGIN * window.width) & (mean < window.upper - _MARGIN * window.width)
    if shown.sum() < _FEWEST:
        shown = deviation > 1e-9 * window.width
    return float(np.percentile(deviation[shown], _PERCENTILE)) if shown.any() else 0.0
