"""Curvature flow (Sethian 1999, Level Set Methods, chapter 16), SimpleITK's: level lines move by their curvature."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from tatcli.baselines.baseline import Baseline

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tatcli.baselines.baseline import SliceContext

__all__ = ["CURVATURE_FLOW"]

_TIME_STEP: Final = 0.125
"""The largest that is stable in two dimensions."""


def _denoise(slice_: NDArray[np.float64], parameter: float, context: SliceContext) -> NDArray[np.float64]:
    import SimpleITK

    shown = context.window.clip(slice_)
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(shown / context.window.width))
    smooth = SimpleITK.CurvatureFlow(image, _TIME_STEP, round(parameter))  # type: ignore[no-untyped-call]
    filtered = SimpleITK.GetArrayFromImage(smooth)
    return np.asarray(slice_ + (filtered * context.window.width - shown), dtype=np.float64)


CURVATURE_FLOW: Final = Baseline(
    name="curvature-flow",
    summary="curvature flow inside the evaluation window, time step 0.125; parameter: the number of steps",
    unit="steps",
    grid=(1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0),
    tasks=("ct-denoise", "pet-synthesis"),
    apply=_denoise,
    usual=False,
)
