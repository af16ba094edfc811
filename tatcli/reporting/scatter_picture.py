"""Points in a plane as a PNG: a colour for each group, drawn with Pillow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tatcli.reporting.pen import FONT, Pen
from tatcli.reporting.plots import COLOURS, axis_ticks

__all__ = ["Cloud", "draw_scatter"]

_SIDE: Final = 480
_LEFT: Final = 64
_BOTTOM: Final = 48
_TOP: Final = 34
_LEGEND: Final = 230


@dataclass(frozen=True, eq=False)
class Cloud:
    """Some of the points.

    Attributes:
        name: for the legend.
        points: (n, 2), finite.
        colour: index of a colour; clouds may share one.
        hollow: circles instead of discs.
    """

    name: str
    points: NDArray[np.float64]
    colour: int
    hollow: bool = False


def draw_scatter(clouds: Sequence[Cloud], *, title: str, labels: tuple[str, str]) -> Image.Image:
    """All clouds in one plot, with one scale per axis.

    Args:
        clouds: at least one point among them.
        title: above.
        labels: of the horizontal and the vertical axis.

    Raises:
        ValueError: there is no point.
    """
    points = np.concatenate([cloud.points.reshape(-1, 2) for cloud in clouds]) if clouds else np.empty((0, 2))
    if not len(points):
        msg = "scatter: expected at least one point, got none"
        raise ValueError(msg)
    across, up = (axis_ticks(float(axis.min()), float(axis.max())) for axis in points.T)
    right, floor = _LEFT + _SIDE, _TOP + _SIDE

    def place(x: float, y: float) -> tuple[float, float]:
        return (
            _LEFT + (x - across[0]) / (across[-1] - across[0]) * _SIDE,
            floor - (y - up[0]) / (up[-1] - up[0]) * _SIDE,
        )

    pen = Pen(right + _LEGEND, floor + _BOTTOM)
    pen.write(_LEFT, _TOP / 2, title, anchor="lm")
    for tick in across:
        x, _ = place(tick, up[0])
        pen.line([(x, _TOP), (x, floor)])
        pen.write(x, floor + 12, f"{tick:g}", anchor="mm")
    for tick in up:
        _, y = place(across[0], tick)
        pen.line([(_LEFT, y), (right, y)])
        pen.write(_LEFT - 8, y, f"{tick:g}", anchor="rm")
    pen.write(_LEFT + _SIDE / 2, floor + _BOTTOM - FONT, labels[0], anchor="mm")
    pen.write(right + 14, floor - FONT, f"upwards: {labels[1]}", anchor="lm")
    for number, cloud in enumerate(clouds):
        colour = COLOURS[cloud.colour % len(COLOURS)]
        for x, y in cloud.points:
            pen.dot(*place(x, y), colour, radius=4, hollow=cloud.hollow)
        row = _TOP + 20 * number + 8
        pen.dot(right + 20, row, colour, radius=4, hollow=cloud.hollow)
        pen.write(right + 32, row, cloud.name, anchor="lm")
    return pen.finished()
