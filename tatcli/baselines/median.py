"""Median filter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import scipy.ndimage

from tatcli.baselines.baseline import Baseline

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tatcli.baselines.baseline import SliceContext

__all__ = ["MEDIAN"]


def _median(slice_: NDArray[np.float64], parameter: float, context: SliceContext) -> NDArray[np.float64]:  # noqa: ARG001
    reach = int(np.ceil(parameter))
    y, x = np.ogrid[-reach : reach + 1, -reach : reach + 1]
    disc = x**2 + y**2 <= parameter**2
    return np.asarray(scipy.ndimage.median_filter(slice_, footprint=disc, mode="nearest"), dtype=np.float64)


MEDIAN: Final = Baseline(
    name="median",
    summary="median filter over a disc; parameter: its radius",
    unit="pixels",
    grid=(1.0, 1.5, 2.0, 2.5, 3.0),
    tasks=("ct-denoise", "pet-synthesis"),
    apply=_median,
)
