"""Choosing a baseline's parameter on training slices: the one with the best mean PSNR."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tatcli.metrics import Protocol, mean_score, score_volume

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tatcli.baselines.baseline import Baseline, SliceContext
    from tatcli.tasks import Task

__all__ = ["TrainingSlice", "TunedBaseline", "tune"]


@dataclass(frozen=True, eq=False)
class TrainingSlice:
    """A pair to tune on.

    Attributes:
        lq: (rows, columns), physical units.
        hq: the same shape.
        context: of the LQ slice.
    """

    lq: NDArray[np.floating[Any]]
    hq: NDArray[np.floating[Any]]
    context: SliceContext


@dataclass(frozen=True)
class TunedBaseline:
    """A baseline with the parameter chosen for a task.

    Attributes:
        baseline: the filter.
        parameter: the chosen one, in the baseline's unit.
        psnr: mean PSNR (dB) on the training slices for each parameter tried.
        slices: number of training slices that were scored.
    """

    baseline: Baseline
    parameter: float
    psnr: dict[float, float]
    slices: int

    @property
    def at_grid_edge(self) -> bool:
        """True where the best parameter is the grid's first or last: a better one may lie beyond."""
        grid = self.baseline.grid
        return len(grid) > 1 and self.parameter in (grid[0], grid[-1])

    @property
    def setting(self) -> str:
        """The chosen parameter with its unit, for tables; empty where there was nothing to choose."""
        unit = self.baseline.unit.removesuffix("s") if self.parameter == 1 else self.baseline.unit
        return f"{self.parameter:g} {unit}" if len(self.baseline.grid) > 1 else ""

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "parameter": self.parameter,
            "unit": self.baseline.unit,
            "slices": self.slices,
            "at_grid_edge": self.at_grid_edge,
            "grid": [{"parameter": parameter, "psnr": psnr} for parameter, psnr in self.psnr.items()],
        }


def tune(baseline: Baseline, examples: Sequence[TrainingSlice], *, task: Task, protocol: Protocol) -> TunedBaseline:
    """The parameter of the baseline's grid with the best mean PSNR over training slices.

    Filters go from too weak to too strong along their grid, so the search ends once PSNR has fallen twice in a row.

    Args:
        baseline: what to tune.
        examples: pairs of one task; those with a constant HQ slice don't count.
        task: of the pairs.
        protocol: decides the data range.

    Raises:
        ValueError: no example can be scored.
    """
    psnr: dict[float, float] = {}
    counted = 0
    for parameter in baseline.grid:
        scores = []
        for example in examples:
            filtered = baseline(example.lq, parameter, context=example.context)
            volume = score_volume(
                filtered[None],
                np.asarray(example.hq)[None],
                task=task,
                window=example.context.window,
                protocol=protocol,
            )
            if volume.mean is not None:
                scores.append(volume.mean)
        if not scores:
            msg = f"tuning {baseline.name}: expected slices with structure inside the evaluation window, got none"
            raise ValueError(msg)
        psnr[parameter] = mean_score(scores).psnr
        counted = len(scores)
        if _falls_twice(list(psnr.values())):
            break
    return TunedBaseline(baseline, max(psnr, key=lambda parameter: psnr[parameter]), psnr, counted)


def _falls_twice(values: list[float]) -> bool:
    return len(values) > 2 and values[-3] > values[-2] > values[-1]
