"""Total-variation denoising (Rudin, Osher & Fatemi 1992) by Chambolle's algorithm (JMIV 20:89, 2004)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from tatcli.baselines.baseline import Baseline

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tatcli.baselines.baseline import SliceContext

__all__ = ["TOTAL_VARIATION", "least_variation"]

_ITERATIONS: Final = 200
_STOP: Final = 1e-5
"""Relative change of the objective at which to stop; scikit-image's own 2e-4 stops some hundredths of a dB short."""


def least_variation(image: NDArray[np.float64], weight: float, *, iterations: int = _ITERATIONS) -> NDArray[np.float64]:
    """The image u that minimises |u - image|^2 / 2 + weight * TV(u).

    Args:
        image: (rows, columns).
        weight: in the image's units.
        iterations: at most.
    """
    from skimage.restoration import denoise_tv_chambolle

    result = denoise_tv_chambolle(image, weight, eps=_STOP, max_num_iter=iterations)  # type: ignore[no-untyped-call]
    return np.asarray(result, dtype=np.float64)


def _denoise(slice_: NDArray[np.float64], parameter: float, context: SliceContext) -> NDArray[np.float64]:
    return least_variation(slice_, parameter * context.noise)


TOTAL_VARIATION: Final = Baseline(
    name="tv",
    summary="total-variation denoising (Chambolle); parameter: its weight",
    unit="noise levels",
    grid=(0.12, 0.18, 0.25, 0.35, 0.5, 0.7, 0.85, 1.0, 1.4, 2.0, 2.8, 4.0, 5.6, 8.0, 11.0),
    tasks=("ct-denoise", "pet-synthesis"),
    apply=_denoise,
)
