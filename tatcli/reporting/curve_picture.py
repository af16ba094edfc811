"""Curves as a PNG: panels of lines over a common axis, drawn with Pillow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from PIL import Image

from tatcli.reporting.pen import FONT, GRID, Pen
from tatcli.reporting.plots import COLOURS, Curve, axis_ticks

__all__ = ["CurvePanel", "draw_curves"]

_WIDTH: Final = 720
_HEIGHT: Final = 260
_LEFT: Final = 76
_RIGHT: Final = 176
"""Right of the plot: the legend."""
_TOP: Final = 30
_BOTTOM: Final = 34


@dataclass(frozen=True)
class CurvePanel:
    """One plot.

    Attributes:
        title: above it.
        curves: its lines; points that are not finite (or, on a logarithmic axis, not positive) are left out. A line
            without any keeps its colour for itself, and has no place in the legend.
        logarithmic: decades on the vertical axis.
    """

    title: str
    curves: Sequence[Curve]
    logarithmic: bool = False


def draw_curves(panels: Sequence[CurvePanel], *, x_label: str) -> Image.Image:
    """Panels below each other over one horizontal axis from 0.

    Args:
        panels: those without a point are left out.
        x_label: below the last.

    Raises:
        ValueError: no panel has a point.
    """
    shown = [panel for panel in panels if _points(panel)]
    if not shown:
        msg = "curves: expected at least one point, got none"
        raise ValueError(msg)
    ticks = axis_ticks(0.0, max(x for panel in shown for x, _ in _points(panel)))
    pen = Pen(_WIDTH, _HEIGHT * len(shown) + FONT)
    for number, panel in enumerate(shown):
        _Plot(pen, panel, ticks, top=number * _HEIGHT).draw()
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    pen.write(middle, _HEIGHT * len(shown) - FONT / 2, x_label, anchor="mm")
    return pen.finished()


class _Plot:
    """One panel's axes, lines and legend."""

    def __init__(self, pen: Pen, panel: CurvePanel, ticks: Sequence[float], *, top: int) -> None:
        self.pen, self.panel, self.ticks = pen, panel, ticks
        self.upper, self.lower = top + _TOP, top + _HEIGHT - _BOTTOM
        values = [self._level(y) for _, y in _points(panel)]
        if panel.logarithmic:
            self.levels = [float(level) for level in range(math.floor(min(values)), math.ceil(max(values)) + 1)]
            self.levels += [self.levels[0] + 1] if len(self.levels) == 1 else []
        else:
            self.levels = axis_ticks(min(values), max(values))

    def draw(self) -> None:
        self.pen.write(_LEFT, self.upper - _TOP / 2, self.panel.title, anchor="lm")
        for level in self.levels:
            self._line([(self.ticks[0], level), (self.ticks[-1], level)], GRID)
            label = f"{10**level:g}" if self.panel.logarithmic else f"{level:g}"
            self.pen.write(_LEFT - 8, self._y(level), label, anchor="rm")
        for tick in self.ticks:
            self._line([(tick, self.levels[0]), (tick, self.levels[-1])], GRID)
            self.pen.write(self._x(tick), self.lower + 10, f"{tick:g}", anchor="mm")
        row = self.upper + 8
        for number, curve in enumerate(self.panel.curves):
            colour = COLOURS[number % len(COLOURS)]
            points = [(x, self._level(y)) for x, y in _points(CurvePanel("", [curve], self.panel.logarithmic))]
            if not points:
                continue
            self._line(points, colour, width=2)
            for x, y in points if len(points) < 60 else []:
                self.pen.dot(self._x(x), self._y(y), colour)
            left = _WIDTH - _RIGHT + 14
            self.pen.line([(left, row), (left + 20, row)], colour, width=2)
            self.pen.write(left + 26, row, curve.name, anchor="lm")
            row += 18

    def _level(self, value: float) -> float:
        return math.log10(value) if self.panel.logarithmic else value

    def _x(self, value: float) -> float:
        share = (value - self.ticks[0]) / (self.ticks[-1] - self.ticks[0])
        return _LEFT + share * (_WIDTH - _RIGHT - _LEFT)

    def _y(self, level: float) -> float:
        share = (level - self.levels[0]) / (self.levels[-1] - self.levels[0])
        return self.lower - share * (self.lower - self.upper)

    def _line(self, points: Sequence[tuple[float, float]], colour: str, *, width: int = 1) -> None:
        self.pen.line([(self._x(x), self._y(y)) for x, y in points], colour, width=width)


def _points(panel: CurvePanel) -> list[tuple[float, float]]:
    pairs = [(float(x), float(y)) for curve in panel.curves for x, y in zip(curve.x, curve.y, strict=True)]
    return [(x, y) for x, y in pairs if math.isfinite(x + y) and (y > 0 or not panel.logarithmic)]
