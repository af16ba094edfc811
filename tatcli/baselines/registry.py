"""The one table of baselines: CLI choices, tuning and reports derive from it."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

from tatcli.baselines.bilateral import BILATERAL
from tatcli.baselines.block_matching import BLOCK_MATCHING
from tatcli.baselines.consistent_variation import CONSISTENT_VARIATION
from tatcli.baselines.curvature_flow import CURVATURE_FLOW
from tatcli.baselines.gaussian import GAUSSIAN
from tatcli.baselines.interpolation import BACK_PROJECTION, BICUBIC
from tatcli.baselines.median import MEDIAN
from tatcli.baselines.nonlocal_means import NONLOCAL_MEANS
from tatcli.baselines.total_variation import TOTAL_VARIATION
from tatcli.baselines.unsharp_masking import UNSHARP_MASKING
from tatcli.baselines.wavelet import WAVELET
from tatcli.errors import UsageError

if TYPE_CHECKING:
    from tatcli.baselines.baseline import Baseline
    from tatcli.tasks import Task

__all__ = ["BASELINES", "every_baseline", "find_baseline", "is_installed", "usual_baselines"]

BASELINES: Final[dict[str, Baseline]] = {
    baseline.name: baseline
    for baseline in (
        GAUSSIAN,
        MEDIAN,
        NONLOCAL_MEANS,
        TOTAL_VARIATION,
        WAVELET,
        BILATERAL,
        CURVATURE_FLOW,
        BLOCK_MATCHING,
        BICUBIC,
        BACK_PROJECTION,
        UNSHARP_MASKING,
        CONSISTENT_VARIATION,
    )
}


def find_baseline(name: str) -> Baseline:
    """The baseline of this name, ready to run.

    Raises:
        UsageError: no such baseline (the message lists the known ones), or its package is not installed.
    """
    baseline = BASELINES.get(name.strip().lower())
    if baseline is None:
        msg = f"unknown baseline {name!r}: expected one of {', '.join(BASELINES)}"
        raise UsageError(msg)
    if not is_installed(baseline):
        terms = " (its licence allows non-commercial use only; if you may use it)" if baseline.extra == "bm3d" else ""
        msg = (
            f"baseline {baseline.name}: expected the package {baseline.package}, which isn't installed{terms}: "
            f"pip install 'tatcli[{baseline.extra}]'"
        )
        raise UsageError(msg)
    return baseline


def is_installed(baseline: Baseline) -> bool:
    """Whether the baseline's package is there (not imported to find out)."""
    return baseline.package is None or find_spec(baseline.package) is not None


def usual_baselines(task: Task, *, strength_known: bool = True) -> list[Baseline]:
    """The baselines that a task is compared with unless others are named: those that are good or quick."""
    return [baseline for baseline in every_baseline(task, strength_known=strength_known) if baseline.usual]


def every_baseline(task: Task, *, strength_known: bool = True) -> list[Baseline]:
    """All baselines made for a task whose packages are installed (BM3D, if it is: slow)."""
    return [
        baseline
        for baseline in BASELINES.values()
        if task.name in baseline.tasks and is_installed(baseline) and (strength_known or not baseline.needs_strength)
    ]
