"""PSNR, SSIM, RMSE and MAE of one image against its reference, computed in float64 without hidden epsilons."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import scipy.ndimage

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["mae", "psnr", "psnr_from_mse", "rmse", "ssim", "ssim_map"]

_SIGMA: Final = 1.5
_RADIUS: Final = 5
_K1: Final = 0.01
_K2: Final = 0.03


def rmse(restored: NDArray[np.floating[Any]], reference: NDArray[np.floating[Any]]) -> float:
    """Root mean square error, sqrt(mean((x - y)^2)).

    Args:
        restored: any shape.
        reference: the same shape.

    Returns:
        In the images' units; 0 (identical) and up.

    Raises:
        ValueError: the shapes differ.
    """
    return float(np.sqrt(np.mean(np.square(_difference(restored, reference)))))


def mae(restored: NDArray[np.floating[Any]], reference: NDArray[np.floating[Any]]) -> float:
    """Mean absolute error, mean(|x - y|).

    Args:
        restored: any shape.
        reference: the same shape.

    Returns:
        In the images' units; 0 (identical) and up.

    Raises:
        ValueError: the shapes differ.
    """
    return float(np.mean(np.abs(_difference(restored, reference))))


def psnr(restored: NDArray[np.floating[Any]], reference: NDArray[np.floating[Any]], *, data_range: float) -> float:
    """Peak signal-to-noise ratio, 10 log10(L^2 / mean((x - y)^2)).

    Args:
        restored: any shape.
        reference: the same shape.
        data_range: L, in the images' units.

    Returns:
        dB; infinite for identical images.

    Raises:
        ValueError: the shapes differ, or the data range isn't positive.
    """
    return psnr_from_mse(float(np.mean(np.square(_difference(restored, reference)))), data_range=data_range)


def psnr_from_mse(mean_square_error: float, *, data_range: float) -> float:
    """PSNR in dB, 10 log10(L^2 / MSE); infinite where the error is 0.

    Raises:
        ValueError: the data range isn't positive.
    """
    _check_range(data_range)
    if mean_square_error == 0.0:
        return float("inf")
    return float(20.0 * np.log10(data_range) - 10.0 * np.log10(mean_square_error))


def ssim(restored: NDArray[np.floating[Any]], reference: NDArray[np.floating[Any]], *, data_range: float) -> float:
    """Structural similarity, averaged over all pixels (Wang et al., IEEE TIP 13:600, 2004, equation 13).

    (2 m_x m_y + c1) (2 s_xy + c2) / ((m_x^2 + m_y^2 + c1) (s_x^2 + s_y^2 + c2)) with c1 = (0.01 L)^2, c2 = (0.03 L)^2
    and local moments under an 11x11 Gaussian of sigma 1.5 pixels. The border is padded with zeros (no pixel is left
    out) and the variances are the population's (no n / (n - 1)), as in the published benchmark's code.

    Args:
        restored: (rows, columns).
        reference: the same shape.
        data_range: L, in the images' units.

    Returns:
        -1 to 1; 1 for identical images.

    Raises:
        ValueError: the shapes differ, the images are not 2-D, or the data range isn't positive.
    """
    return float(np.mean(ssim_map(restored, reference, data_range=data_range)))


def ssim_map(
    restored: NDArray[np.floating[Any]], reference: NDArray[np.floating[Any]], *, data_range: float
) -> NDArray[np.float64]:
    """The similarity at each pixel, of which :func:`ssim` is the mean; arguments and errors as there."""
    _check_range(data_range)
    x, y = np.asarray(restored, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    if x.ndim != 2 or x.shape != y.shape:
        msg = f"ssim: expected two images of equal (rows, columns), got {x.shape} and {y.shape}"
        raise ValueError(msg)
    mean_x, mean_y = _local_mean(x), _local_mean(y)
    product, squares = mean_x * mean_y, mean_x**2 + mean_y**2
    covariance = _local_mean(x * y) - product
    variances = _local_mean(x**2 + y**2) - squares
    c1, c2 = (_K1 * data_range) ** 2, (_K2 * data_range) ** 2
    return np.asarray((2.0 * product + c1) * (2.0 * covariance + c2) / ((squares + c1) * (variances + c2)))


def _local_mean(image: NDArray[np.float64]) -> NDArray[np.float64]:
    weights = np.exp(-0.5 * np.square(np.arange(-_RADIUS, _RADIUS + 1) / _SIGMA))
    weights /= weights.sum()
    rows = scipy.ndimage.correlate1d(image, weights, axis=0, mode="constant", cval=0.0)
    return np.asarray(scipy.ndimage.correlate1d(rows, weights, axis=1, mode="constant", cval=0.0), dtype=np.float64)


def _difference(restored: NDArray[np.floating[Any]], reference: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    if np.shape(restored) != np.shape(reference):
        msg = f"expected a restored image of the reference's shape {np.shape(reference)}, got {np.shape(restored)}"
        raise ValueError(msg)
    return np.asarray(np.subtract(restored, reference, dtype=np.float64))


def _check_range(data_range: float) -> None:
    if not (0.0 < data_range < float("inf")):
        msg = f"expected a positive data range, got {data_range}"
        raise ValueError(msg)
