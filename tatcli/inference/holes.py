"""Voxels without a number: NaN and infinity are filled for the network, and only for it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["filled"]


def filled(slice_: NDArray[np.float32], *, fallback: float) -> NDArray[np.float32]:
    """The slice with every NaN and infinity replaced by its nearest finite pixel.

    Args:
        slice_: (rows, columns).
        fallback: for slices without any finite pixel.

    Returns:
        The input itself where it is finite throughout, else a copy.
    """
    finite = np.isfinite(slice_)
    if finite.all():
        return slice_
    if not finite.any():
        return np.full_like(slice_, fallback)
    from scipy import ndimage

    nearest = ndimage.distance_transform_edt(~finite, return_distances=False, return_indices=True)
    return np.asarray(slice_[tuple(nearest)], dtype=np.float32)
