"""Unsharp masking of a zero-filled scan: amplify the details that are left."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import scipy.ndimage

from tatcli.baselines.baseline import Baseline

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tatcli.baselines.baseline import SliceContext

__all__ = ["UNSHARP_MASKING"]

_SIGMA: Final = 2.0


def _sharpen(slice_: NDArray[np.float64], parameter: float, context: SliceContext) -> NDArray[np.float64]:  # noqa: ARG001
    return slice_ + parameter * (slice_ - scipy.ndimage.gaussian_filter(slice_, _SIGMA, mode="nearest"))


UNSHARP_MASKING: Final = Baseline(
    name="unsharp",
    summary="unsharp masking, Gaussian of 2 pixels; parameter: the amount added",
    unit="factor",
    grid=(0.03, 0.06, 0.1, 0.15, 0.2, 0.3, 0.5, 0.8),
    tasks=("mri-sr",),
    apply=_sharpen,
)
