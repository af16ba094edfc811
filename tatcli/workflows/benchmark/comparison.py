"""Two runs of the speed benchmark side by side."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tatcli.errors import UsageError, reason_of

if TYPE_CHECKING:
    from tatcli.workflows.benchmark.speed import SpeedResult

__all__ = ["Ratio", "compare_results", "read_results"]

_SAME: Final = ("preset", "size", "batch", "precision", "device")
"""What two cases must agree in to be compared."""
_NUMBERS: Final = ("slices_per_s", "fraction_of_peak", "peak_rss_bytes")


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """A case now over the same case before; None where one of the two runs doesn't know.

    Attributes:
        preset, size, batch, precision, device: of both.
        slices_per_s: above 1 is faster.
        fraction_of_peak: above 1 is faster for the machine; the one to look at where the machine was busy, or another.
        peak_rss_bytes: below 1 is smaller.
    """

    preset: str
    size: int
    batch: int
    precision: str
    device: str
    slices_per_s: float | None
    fraction_of_peak: float | None
    peak_rss_bytes: float | None


def read_results(path: Path) -> list[dict[str, Any]]:
    """The ``results`` of a file that ``tat benchmark speed --json`` wrote.

    Raises:
        UsageError: it isn't one.
    """
    try:
        results = json.loads(path.read_text(encoding="utf-8"))["results"]
        for result in results:
            _ = [result[key] for key in (*_SAME, *_NUMBERS)]
    except (OSError, ValueError, KeyError, TypeError) as error:
        msg = f"{path}: expected a file by tat benchmark speed --json, got {reason_of(error)}"
        raise UsageError(msg) from error
    found: list[dict[str, Any]] = results
    return found


def compare_results(now: Sequence[SpeedResult], before: Sequence[dict[str, Any]]) -> list[Ratio]:
    """The cases that both have, in the order of ``now``.

    Args:
        now: of this run.
        before: of an earlier one (:func:`read_results`); of equal cases the last counts.
    """
    earlier = {tuple(result[key] for key in _SAME): result for result in before}
    ratios = []
    for result in now:
        case: dict[str, Any] = {key: getattr(result, key) for key in _SAME}
        old = earlier.get(tuple(case.values()))
        if old is not None:
            numbers: dict[str, Any] = {key: _ratio(getattr(result, key), old[key]) for key in _NUMBERS}
            ratios.append(Ratio(**case, **numbers))
    return ratios


def _ratio(now: float | None, before: float | None) -> float | None:
    return now / before if now is not None and before else None
