"""Super-resolution by interpolation: bicubic, and iterative back-projection from there (Irani & Peleg 1991).

Sinc interpolation needs no method of its own: a zero-filled scan is that already, so the input's row shows it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import scipy.fft
import scipy.ndimage

from tatcli.baselines.baseline import Baseline
from tatcli.degradation.low_resolution_mri import kept_lines, low_resolution

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tatcli.baselines.baseline import SliceContext

__all__ = ["BACK_PROJECTION", "BICUBIC", "coarse_image"]

_CUBIC: Final = 3
_STEP: Final = 0.5
"""Share of the error that is put back in each iteration."""


def coarse_image(slice_: NDArray[np.float64], factor: float) -> NDArray[np.float64]:
    """The slice on the grid that its kept lines fill: the magnitude of their inverse transform, means preserved.

    Args:
        slice_: (rows, columns), zero-filled by the factor.
        factor: of k-space.

    Returns:
        (kept rows, kept columns); coarse pixel j lies at fine position j * rows / kept rows.
    """
    rows, columns = (kept_lines(n, factor) for n in slice_.shape)
    k_space = scipy.fft.fft2(slice_)[rows][:, columns]
    return np.asarray(np.abs(scipy.fft.ifft2(k_space)) * (k_space.size / slice_.size), dtype=np.float64)


def _bicubic(slice_: NDArray[np.float64], parameter: float, context: SliceContext) -> NDArray[np.float64]:  # noqa: ARG001
    coarse = coarse_image(slice_, _factor(context, "bicubic"))
    places = [np.arange(n) * (m / n) for n, m in zip(slice_.shape, coarse.shape, strict=True)]
    grid = np.stack(np.meshgrid(*places, indexing="ij"))
    return np.asarray(scipy.ndimage.map_coordinates(coarse, grid, order=_CUBIC, mode="grid-wrap"))


def _back_project(slice_: NDArray[np.float64], parameter: float, context: SliceContext) -> NDArray[np.float64]:
    factor = _factor(context, "back-projection")
    estimate = _bicubic(slice_, 3.0, context)
    for _ in range(round(parameter)):
        estimate = estimate + _STEP * (slice_ - low_resolution(estimate, factor))
    return np.asarray(estimate, dtype=np.float64)


def _factor(context: SliceContext, name: str) -> float:
    if context.strength is None:
        msg = f"{name}: expected the k-space factor as the context's strength, got None"
        raise ValueError(msg)
    return context.strength


BICUBIC: Final = Baseline(
    name="bicubic",
    summary="the coarse grid of the measured k-space, interpolated by cubic splines; there is no parameter to tune",
    unit="factor",
    grid=(3.0,),
    tasks=("mri-sr",),
    apply=_bicubic,
    needs_strength=True,
    usual=False,
)

BACK_PROJECTION: Final = Baseline(
    name="back-projection",
    summary="iterative back-projection from the bicubic image, step 0.5; parameter: the number of iterations",
    unit="steps",
    grid=(1.0, 2.0, 4.0, 8.0, 16.0),
    tasks=("mri-sr",),
    apply=_back_project,
    needs_strength=True,
    usual=False,
)
