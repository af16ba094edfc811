"""Bias: whether restoration shifts the values of tissue, which a window's PSNR hides behind the noise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["bias"]


def bias(
    restored: NDArray[np.floating[Any]], reference: NDArray[np.floating[Any]], mask: NDArray[np.bool_]
) -> float | None:
    """Mean of restored - reference over the mask's voxels that are finite in both, without clipping to any window.

    Args:
        restored: any shape, physical units.
        reference: the same shape.
        mask: the same shape, the body.

    Returns:
        In the images' units, positive where restored voxels are too high; None where the mask holds no finite voxel.

    Raises:
        ValueError: the shapes differ.
    """
    if not restored.shape == reference.shape == mask.shape:
        msg = f"bias: expected three equal shapes, got {restored.shape}, {reference.shape} and {mask.shape}"
        raise ValueError(msg)
    counted = mask & np.isfinite(restored) & np.isfinite(reference)
    if not counted.any():
        return None
    return float(np.subtract(restored[counted], reference[counted], dtype=np.float64).mean())
