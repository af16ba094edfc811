"""Non-local means (Buades, Coll & Morel, CVPR 2005), scikit-image's fast version (Darbon et al., ISBI 2008)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from tatcli.baselines.baseline import Baseline

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tatcli.baselines.baseline import SliceContext

__all__ = ["NONLOCAL_MEANS"]

_PATCH_SIZE: Final = 5
_PATCH_DISTANCE: Final = 6


def _denoise(slice_: NDArray[np.float64], parameter: float, context: SliceContext) -> NDArray[np.float64]:
    from skimage.restoration import denoise_nl_means

    filtered = denoise_nl_means(
        slice_ / context.noise,
        patch_size=_PATCH_SIZE,
        patch_distance=_PATCH_DISTANCE,
        h=parameter,
        fast_mode=True,
    )
    return np.asarray(filtered * context.noise, dtype=np.float64)


NONLOCAL_MEANS: Final = Baseline(
    name="nlm",
    summary="non-local means, patches of 5x5 in 13x13; parameter: the filter strength h",
    unit="noise levels",
    grid=(0.35, 0.5, 0.6, 0.7, 0.85, 1.0, 1.2, 1.4, 2.0, 2.8, 4.0, 5.6, 8.0, 11.0),
    tasks=("ct-denoise", "pet-synthesis"),
    apply=_denoise,
)
