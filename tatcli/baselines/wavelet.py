"""Wavelet shrinkage with BayesShrink thresholds (Chang, Yu & Vetterli, IEEE TIP 9:1532, 2000), cycle-spun 2 x 2."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from tatcli.baselines.baseline import Baseline

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tatcli.baselines.baseline import SliceContext

__all__ = ["WAVELET"]

_WAVELET: Final = "db4"
_SHIFTS: Final = ((0, 0), (0, 1), (1, 0), (1, 1))
"""Averaging over shifts (Coifman & Donoho 1995) takes most of the blocks away."""


def _denoise(slice_: NDArray[np.float64], parameter: float, context: SliceContext) -> NDArray[np.float64]:
    from skimage.restoration import denoise_wavelet

    total = np.zeros_like(slice_)
    for shift in _SHIFTS:
        moved = np.roll(slice_, shift, axis=(0, 1)) / context.noise
        shrunk = denoise_wavelet(moved, sigma=parameter, wavelet=_WAVELET, method="BayesShrink", mode="soft")
        total += np.roll(shrunk, (-shift[0], -shift[1]), axis=(0, 1))
    return np.asarray(total * (context.noise / len(_SHIFTS)), dtype=np.float64)


WAVELET: Final = Baseline(
    name="wavelet",
    summary="wavelet shrinkage, BayesShrink, db4; parameter: the noise's standard deviation",
    unit="noise levels",
    grid=(0.25, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0, 5.6),
    tasks=("ct-denoise", "pet-synthesis"),
    apply=_denoise,
    package="pywt",
    extra="wavelet",
    usual=False,
)
