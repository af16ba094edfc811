"""BM3D, collaborative filtering of similar patches (Dabov et al., IEEE TIP 16:2080, 2007), from the package ``bm3d``.

The package's licence allows non-commercial use only, so tat neither ships nor requires it: whoever may use it installs
``tatcli[bm3d]``. It is imported only when this baseline runs. One slice of 512 x 512 takes about 20 s on one core.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

import numpy as np

from tatcli.baselines.baseline import Baseline

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tatcli.baselines.baseline import SliceContext

__all__ = ["BLOCK_MATCHING"]


def _denoise(slice_: NDArray[np.float64], parameter: float, context: SliceContext) -> NDArray[np.float64]:
    bm3d = import_module("bm3d")
    return np.asarray(bm3d.bm3d(slice_ / context.noise, parameter) * context.noise, dtype=np.float64)


BLOCK_MATCHING: Final = Baseline(
    name="bm3d",
    summary="BM3D (package bm3d: non-commercial licence, not installed by default); parameter: its noise level",
    unit="noise levels",
    grid=(0.7, 1.0, 1.4, 2.0, 2.8, 4.0, 5.6, 8.0),
    tasks=("ct-denoise", "pet-synthesis"),
    apply=_denoise,
    package="bm3d",
    extra="bm3d",
    usual=False,
)
