"""Bilateral filter (Tomasi & Manduchi, ICCV 1998), SimpleITK's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from tatcli.baselines.baseline import Baseline

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tatcli.baselines.baseline import SliceContext

__all__ = ["BILATERAL"]

_DOMAIN_SIGMA: Final = 1.5
"""Pixels."""
_RANGE_SAMPLES: Final = 200


def _denoise(slice_: NDArray[np.float64], parameter: float, context: SliceContext) -> NDArray[np.float64]:
    import SimpleITK

    # the filter tabulates the range's Gaussian over the image's extent, so bone and air may not stretch it
    shown = context.window.clip(slice_)
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(shown / context.noise))
    smooth = SimpleITK.Bilateral(image, _DOMAIN_SIGMA, parameter, _RANGE_SAMPLES)  # type: ignore[no-untyped-call]
    filtered = SimpleITK.GetArrayFromImage(smooth)
    return np.asarray(slice_ + (filtered * context.noise - shown), dtype=np.float64)


BILATERAL: Final = Baseline(
    name="bilateral",
    summary="bilateral filter, 1.5 pixels, inside the evaluation window; parameter: its sigma in intensity",
    unit="noise levels",
    grid=(0.7, 1.0, 1.4, 2.0, 2.8, 4.0, 5.6, 8.0, 11.0, 16.0, 22.0, 32.0, 45.0),
    tasks=("ct-denoise", "pet-synthesis"),
    apply=_denoise,
    usual=False,
)
