"""Whether the lines of k-space inside a border are what was measured, or something was done to them.

Only lines that were cut off at once, and otherwise left alone, are worth putting back into a restored scan. Scanners
and software also damp k-space towards its border (Hann, Hamming, Tukey and Fermi filters), measure or keep an ellipse
of it, and interpolate or turn images. To put such lines back undoes what the network restored of them: of two brain
scans cut by 2 and 3, it cost 0.05 to 0.4 dB with filters, 0.1 to 0.3 with an ellipse, 0.3 to 0.7 with cubic splines and
0.4 when turned by 15 degrees, where unaltered lines gained 0.1 to 0.3.

Three signs tell, measured on 20 brain and knee scans, of 1, 3 and 12 slices each. P(k) is the mean power of the lines k
and -k over the other axis' lines within half of its border, e the highest known line:

- the outer quarter falls as k^s with s < -10. Unaltered lines at factors from 1.5 on: -9.4 to 0; Hann -12 to -32,
  Hamming -9 to -17, Tukey mostly, cubic splines -36 to -51. At 1.25 references with a filter of their own look damped,
  and are left to the network, which hardly alters them;
- the corners of the square are emptier, by more than 1.2 decades of mean power, than an elliptic rim that meets its
  sides. Unaltered: 0.1 to 1.1, but for one slice of which the lines weren't found; ellipses and radial Fermi filters
  1.3 to 4, Hamming 1.4 to 2.1;
- less than 0.7 of the fall lies between the lines e - 2 and e + 2. Unaltered: 0.82 to 1; turned by 15 degrees mostly
  0.36 to 0.67. A turn by 2 degrees isn't seen; one by 5, which costs 0.1 dB, rarely.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["is_altered"]

_STEEPEST: Final = -10.0
_EMPTIEST: Final = 1.2
_SHARPEST: Final = 0.7
_LINES: Final = 4
_RIM: Final = (0.7, 0.9)
"""Squared radius, of the ellipse that meets the sides of the square."""
_CORNER: Final = 1.15
_MARGIN: Final = 2
"""The outermost lines, which may be known on one side of DC only, don't count."""


def is_altered(power: NDArray[np.float64], highest: tuple[int, int], levels: tuple[NDArray[np.float64], ...]) -> bool:
    """Whether one of the three signs is there.

    Args:
        power: (rows, columns) of k-space, in FFT order.
        highest: known line along rows and columns.
        levels: log10 P(k) for k = 0, 1 ... along rows and columns.
    """
    steep = any(_slope(level, last) < _STEEPEST for level, last in zip(levels, highest, strict=True))
    gradual = any(_share_at_once(level, last) < _SHARPEST for level, last in zip(levels, highest, strict=True))
    return steep or gradual or _emptiness(power, highest) > _EMPTIEST


def _slope(level: NDArray[np.float64], last: int) -> float:
    """The exponent s of the outer quarter of the lines, by least squares."""
    lines = np.arange(max(1, 3 * last // 4), last)
    return float(np.polyfit(np.log10(lines), level[lines], 1)[0]) if lines.size > 1 else 0.0


def _share_at_once(level: NDArray[np.float64], last: int) -> float:
    """The fall from three lines inside to three outside, over the largest from four lines to four around there."""
    borders = range(max(_LINES, last - 2), min(last + 4, len(level) - _LINES))
    falls = [float(level[b - _LINES : b].mean() - level[b + 1 : b + 1 + _LINES].mean()) for b in borders]
    inside, outside = level[max(0, last - 3) : last], level[last + 2 : last + 5]
    if len(outside) < 3 or not falls:
        return 1.0
    return float(inside.mean() - outside.mean()) / max(falls)


def _emptiness(power: NDArray[np.float64], highest: tuple[int, int]) -> float:
    """Decades from the mean power of the rim to that of the corners; 0 where so few lines leave no corners."""
    row, column = (np.abs(np.fft.fftfreq(n, 1.0 / n).round()) for n in power.shape)
    radius = (row[:, None] / (highest[0] + 0.5)) ** 2 + (column / (highest[1] + 0.5)) ** 2
    inside = (row[:, None] <= highest[0] - _MARGIN) & (column <= highest[1] - _MARGIN)
    rim, corner = inside & (radius > _RIM[0]) & (radius < _RIM[1]), inside & (radius > _CORNER)
    if not corner.any():
        return 0.0
    least = np.finfo(float).tiny
    return float(np.log10(power[rim].mean() + least) - np.log10(power[corner].mean() + least))
