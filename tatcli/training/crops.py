"""Where the crops of a training batch lie.

What is scored is the mean squared error of whole slices, and few of a slice's crops hold most of it: the brain's
edges, not the air around; a bladder at SUV 30, not a leg at 0.5. Crops drawn in proportion to the error that their LQ
has, each judged by the ratio of its errors after and before, give the slice's ratio on average, with the least
variance (importance sampling).
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tatcli.intensity import Window
from tatcli.training.references import Crop
from tatcli.training.scored_range import counted

__all__ = ["by_error", "by_foreground", "error_sums"]

FOREGROUND: Final = 0.015
"""A pixel above this part of the network range shows the patient: -963 HU, SUV 0.3, 1.5 % of an MR scan's range."""
LEAST_FOREGROUND: Final = 0.2
TRIES: Final = 6
"""Crops with less foreground are drawn again, this often at most: air teaches little."""
UNIFORM_SHARE: Final = 0.2
"""Of the crops by error, which lie anywhere: what has no error must stay as it is."""


def by_foreground(hq: NDArray[np.float32], window: Window, patch: int, rng: np.random.Generator) -> tuple[int, Crop]:
    """A random slice and crop that shows enough of the patient.

    Args:
        hq: (slices, rows, columns), physical units.
        window: the network range.
        patch: side of the crop; a shorter axis is taken whole.
        rng: draws both.
    """
    count, height, width = hq.shape
    threshold = window.lower + FOREGROUND * window.width
    for _ in range(TRIES):
        index = int(rng.integers(count))
        top, left = (int(rng.integers(max(length - patch, 0) + 1)) for length in (height, width))
        place = (slice(top, top + patch), slice(left, left + patch))
        if (hq[index][place] > threshold).mean() >= LEAST_FOREGROUND:
            break
    return index, place


def by_error(
    lq: NDArray[np.floating[Any]],
    hq: NDArray[np.float32],
    window: Window,
    patch: int,
    rng: np.random.Generator,
    *,
    scored: Window | None = None,
) -> Crop:
    """A random crop of a slice, as likely as its squared error inside the window is large; one in five anywhere.

    Args:
        lq: (rows, columns), physical units.
        hq: what it should be.
        window: the network range, outside of which errors don't count.
        patch: side of the crop; a shorter axis is taken whole.
        rng: draws it.
        scored: the evaluation window, outside of which they count a tenth; None: the network range.
    """
    sums = error_sums(window.clip(lq) - window.clip(hq), patch)
    if scored is not None and scored != window:
        sums = counted(sums, error_sums(scored.clip(lq) - scored.clip(hq), patch))
    rows, columns = sums.shape
    total = np.cumsum(sums)
    if rng.random() < UNIFORM_SHARE or not total[-1] > 0:
        top, left = int(rng.integers(rows)), int(rng.integers(columns))
    else:
        drawn = int(np.searchsorted(total, rng.random() * total[-1], side="right"))
        top, left = divmod(min(drawn, total.size - 1), columns)
    return slice(top, top + patch), slice(left, left + patch)


def error_sums(error: NDArray[np.floating[Any]], patch: int) -> NDArray[np.float64]:
    """Sum of squares of every crop, by its first row and column: (rows - patch + 1, columns - patch + 1).

    Args:
        error: (rows, columns); an axis shorter than ``patch`` is summed whole.
        patch: side of the crops.
    """
    rows, columns = (min(patch, length) for length in error.shape)
    until = np.zeros((error.shape[0] + 1, error.shape[1] + 1))  # the sum above and left of each corner
    np.cumsum(np.square(error, dtype=np.float64).cumsum(axis=0), axis=1, out=until[1:, 1:])
    strips = until[rows:] - until[:-rows]
    return np.asarray(np.maximum(strips[:, columns:] - strips[:, :-columns], 0.0))
