"""Gaussian smoothing: the least that any denoiser must beat."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import scipy.ndimage

from tatcli.baselines.baseline import Baseline

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tatcli.baselines.baseline import SliceContext

__all__ = ["GAUSSIAN"]


def _smooth(slice_: NDArray[np.float64], parameter: float, context: SliceContext) -> NDArray[np.float64]:
    shown = context.window.clip(slice_)  # so that air and bone don't bleed into the tissue that is scored
    return slice_ + (scipy.ndimage.gaussian_filter(shown, parameter, mode="nearest") - shown)


GAUSSIAN: Final = Baseline(
    name="gaussian",
    summary="Gaussian smoothing inside the evaluation window; parameter: its standard deviation",
    unit="pixels",
    grid=(0.4, 0.5, 0.6, 0.7, 0.85, 1.0, 1.2, 1.4, 1.7, 2.0, 2.4, 2.8),
    tasks=("ct-denoise", "pet-synthesis"),
    apply=_smooth,
)
