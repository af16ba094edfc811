"""From scans to a table: means over subjects, their intervals, and paired tests between methods."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from tatcli.metrics import PHYSICAL_QUANTITIES, QUANTITIES, Score, bootstrap_interval, paired_wilcoxon
from tatcli.workflows.evaluation.cost import Cost
from tatcli.workflows.evaluation.report import INPUT, Kind, MethodSummary, ScanScores, difference

__all__ = ["TESTED", "PairedTest", "compare_methods", "per_subject", "score_of", "summarise"]

TESTED: Final = ("psnr", "ssim", "rmse")
"""Quantities that methods are compared by."""


@dataclass(frozen=True)
class PairedTest:
    """Whether two methods differ, over subjects.

    Attributes:
        method, other: which; a positive difference means that ``method`` has the larger value.
        quantity: ``psnr``, ``ssim`` or ``rmse``.
        difference: mean over subjects.
        p: of Wilcoxon's signed-rank test; None where it can't be told.
        subjects: how many pairs.
    """

    method: str
    other: str
    quantity: str
    difference: float
    p: float | None
    subjects: int

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return asdict(self)


def summarise(
    scans: Iterable[ScanScores],
    kinds: Mapping[str, Kind],
    *,
    parameters: Mapping[str, str] | None = None,
    costs: Mapping[str, Cost] | None = None,
) -> tuple[MethodSummary, ...]:
    """A row for each method: the mean over subjects of the mean over their scans. Scans without a score don't count.

    Args:
        scans: of one task.
        kinds: method -> kind, in the order of the table.
        parameters: of the tuned baselines, as text.
        costs: of the methods, where they were measured.
    """
    scored = _scored(scans, kinds)
    if not scored:
        return ()
    rows = {method: {name: per_subject(scored, score_of(method, name)) for name in QUANTITIES} for method in kinds}
    scores = {method: Score(*(_mean(values[name]) for name in QUANTITIES)) for method, values in rows.items()}
    base = scores[INPUT].psnr if INPUT in scores else None
    return tuple(
        MethodSummary(
            method=method,
            kind=kind,
            score=scores[method],
            gain=None if base is None else difference(scores[method].psnr, base),
            parameter=(parameters or {}).get(method, ""),
            subjects=len(rows[method]["psnr"]),
            intervals={name: bootstrap_interval(list(rows[method][name].values())) for name in QUANTITIES},
            physical=_physical(scored, method),
            cost=(costs or {}).get(method),
        )
        for method, kind in kinds.items()
    )


def compare_methods(scans: Iterable[ScanScores], method: str, others: Sequence[str]) -> tuple[PairedTest, ...]:
    """Paired tests of one method against others, for each quantity of :data:`TESTED`.

    Args:
        scans: of one task.
        method: usually the network.
        others: what it is compared with.
    """
    scored = _scored(scans, [method, *others])
    tests = []
    for other in others if scored else ():
        for quantity in TESTED:
            ours, theirs = (list(per_subject(scored, score_of(name, quantity)).values()) for name in (method, other))
            mean = difference(float(np.mean(ours)), float(np.mean(theirs)))
            p = paired_wilcoxon(ours, theirs)
            tests.append(PairedTest(method, other, quantity, mean, p, len(ours)))
    return tuple(tests)


def per_subject(scans: Iterable[ScanScores], value: Callable[[ScanScores], float | None]) -> dict[str, float]:
    """Subject -> mean of a value over its scans that have one, in the scans' order."""
    found: dict[str, list[float]] = {}
    for scan in scans:
        one = value(scan)
        if one is not None:
            found.setdefault(scan.subject or scan.name, []).append(one)
    return {subject: _mean_of(values) for subject, values in found.items()}


def _scored(scans: Iterable[ScanScores], methods: Iterable[str]) -> list[ScanScores]:
    wanted = list(methods)
    return [scan for scan in scans if all(scan.methods[method].mean is not None for method in wanted)]


def score_of(method: str, quantity: str) -> Callable[[ScanScores], float | None]:
    """A scan's mean of a quantity by a method, for :func:`per_subject`; None where it has no score."""

    def value(scan: ScanScores) -> float | None:
        mean = scan.methods[method].mean
        return None if mean is None else float(getattr(mean, quantity))

    return value


def _physical(scans: list[ScanScores], method: str) -> dict[str, float | None]:
    if not any(method in scan.physical for scan in scans):
        return {}
    means: dict[str, float | None] = {}
    for name in PHYSICAL_QUANTITIES:

        def value(scan: ScanScores, name: str = name) -> float | None:
            return scan.physical[method].quantities()[name] if method in scan.physical else None

        found = per_subject(scans, value)
        means[name] = _mean(found) if found else None
    return means


def _mean(values: Mapping[str, float]) -> float:
    return _mean_of(list(values.values()))


def _mean_of(values: Sequence[float]) -> float:
    return float(np.mean(np.asarray(values, dtype=np.float64)))
