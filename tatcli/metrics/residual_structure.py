"""Structure lost to smoothing: whether what a method took from the scan lies where the edges are.

A good denoiser's residual is noise and knows nothing of the anatomy (Buades et al., MMS 4:490, 2005, "method noise").
In PET, where noise follows the signal, edges and noise are near each other, so compare methods with each other there,
not with zero.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import scipy.ndimage

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["residual_structure"]

_SIGMA: Final = 1.5


def residual_structure(
    residual: NDArray[np.floating[Any]], reference: NDArray[np.floating[Any]], mask: NDArray[np.bool_]
) -> float | None:
    """Pearson correlation, over the mask, of the residual's local size with the reference's edge strength.

    Local size: |residual| under a Gaussian of 1.5 pixels; edge strength: the gradient magnitude of the reference under
    the same Gaussian; both slice by slice.

    Args:
        residual: input - restored, what was taken away (or reference - restored, where the input isn't known);
            (slices, rows, columns).
        reference: the same shape.
        mask: the same shape, the body.

    Returns:
        -1 to 1; about 0 where only noise was removed, towards 1 where edges were. None where either is constant.

    Raises:
        ValueError: the shapes differ.
    """
    if not residual.shape == reference.shape == mask.shape:
        msg = f"residual structure: expected equal shapes, got {residual.shape}, {reference.shape} and {mask.shape}"
        raise ValueError(msg)
    sizes, edges = [], []
    for taken, truth, inside in zip(residual, reference, mask, strict=True):
        if not inside.any():
            continue
        known = np.isfinite(taken) & np.isfinite(truth)
        size = scipy.ndimage.gaussian_filter(np.where(known, np.abs(taken), 0.0).astype(np.float64), _SIGMA)
        edge = scipy.ndimage.gaussian_gradient_magnitude(np.where(known, truth, 0.0).astype(np.float64), _SIGMA)
        sizes.append(size[inside & known])
        edges.append(edge[inside & known])
    x, y = (np.concatenate(parts) if parts else np.zeros(0) for parts in (sizes, edges))
    if x.size < 2 or np.ptp(x) == 0.0 or np.ptp(y) == 0.0:
        return None
    return float(np.corrcoef(x, y)[0, 1])
