"""How sure a mean is, and whether two methods differ: over subjects, never over slices, which are not independent."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

__all__ = ["Interval", "bootstrap_interval", "paired_wilcoxon"]

_RESAMPLES: Final = 9999
_TAIL: Final = 0.025
_AT_ONCE: Final = 2**21
"""Values that are drawn before their means are taken."""


@dataclass(frozen=True)
class Interval:
    """A 95 % interval."""

    lower: float
    upper: float

    def to_list(self) -> list[float]:
        """[lower, upper]."""
        return [self.lower, self.upper]


def bootstrap_interval(values: Sequence[float], *, seed: int = 0) -> Interval | None:
    """95 % percentile bootstrap interval of the mean (Efron & Tibshirani 1993, chapter 13), 9999 seeded resamples.

    Args:
        values: one for each subject.
        seed: of the resampling.

    Returns:
        None for fewer than two subjects or values that are not all finite: one subject says nothing about others. Of
        few subjects (below about ten) the interval is too narrow; it is then a lower bound of the uncertainty.
    """
    data = np.asarray(values, dtype=np.float64)
    if data.size < 2 or not np.isfinite(data).all():
        return None
    if np.ptp(data) == 0.0:
        return Interval(float(data[0]), float(data[0]))
    rng = np.random.default_rng(seed)
    # A few at a time, which draws the same numbers: of thousands of subjects all at once take gigabytes.
    most = max(1, _AT_ONCE // data.size)
    counts = [most] * (_RESAMPLES // most) + [_RESAMPLES % most]
    means = [data[rng.integers(0, data.size, (count, data.size))].mean(axis=1) for count in counts]
    lower, upper = np.percentile(np.concatenate(means), (100.0 * _TAIL, 100.0 * (1.0 - _TAIL)))
    return Interval(float(lower), float(upper))


def paired_wilcoxon(ours: Sequence[float], others: Sequence[float]) -> float | None:
    """Two-sided p-value of Wilcoxon's signed-rank test (Biometrics Bulletin 1:80, 1945) between paired values.

    Subjects without a difference are left out (Wilcoxon's own rule). Exact where scipy can (no ties).

    Args:
        ours: one value for each subject.
        others: of the same subjects, by the other method.

    Returns:
        None where no pair differs or a value isn't finite. With n subjects p can't fall below 2^(1 - n): five or fewer
        never reach 0.05.

    Raises:
        ValueError: the numbers of values differ.
    """
    from scipy.stats import wilcoxon

    x, y = np.asarray(ours, dtype=np.float64), np.asarray(others, dtype=np.float64)
    if x.shape != y.shape:
        msg = f"paired test: expected as many values of both methods, got {x.size} and {y.size}"
        raise ValueError(msg)
    if not (np.isfinite(x).all() and np.isfinite(y).all()) or not (x != y).any():
        return None
    differing = x != y
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scipy warns of small samples; the p-value says it
        return float(wilcoxon(x[differing], y[differing]).pvalue)
