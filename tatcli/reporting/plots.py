"""Plots as SVG text, for pages that load nothing: distributions of scores, and curves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

import numpy as np

from tatcli.volumes.slices import evenly_spaced

__all__ = ["COLOURS", "Curve", "axis_ticks", "curve_plot", "distribution_plot"]

COLOURS: Final = (
    "#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#777777", "#ee7733", "#009988", "#332288",
)  # fmt: skip
"""Paul Tol's bright scheme and some of his vibrant one: told apart by the colour-blind."""

_WIDTH: Final = 640
_LEFT: Final = 120
_RIGHT: Final = 24
_ROW: Final = 30
_TOP: Final = 12
_BOTTOM: Final = 44
_HEIGHT: Final = 280
_LETTER: Final = 6.5
"""Width of a letter, about."""
_DOTTED: Final = ("", ' stroke-dasharray="2 2"', ' stroke-dasharray="8 2 2 2"')
"""Lines of each round of colours."""
_MOST_POINTS: Final = 500
"""Of a row; quartiles, median and whiskers are those of all."""
_NARROWEST: Final = 1e-13
"""Of its larger end: a narrower range is rounding, and has no round numbers in it."""


@dataclass(frozen=True)
class Curve:
    """A line of a plot.

    Attributes:
        name: for the legend.
        x, y: equally long; points that are not finite are left out.
        dashed: for the reference.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    dashed: bool = False


def distribution_plot(values: Mapping[str, Sequence[float]], *, label: str) -> str:
    """Horizontal box plots with points: quartiles, median, whiskers to the extremes; one row for each name.

    Of more than 500 points some of all ranks are drawn: 15,000 slices by eight methods took 13 MB.

    Args:
        values: name -> numbers; those that are not finite are left out.
        label: of the axis.

    Returns:
        An ``<svg>`` element; empty where there is nothing to draw.
    """
    finite = {name: [float(v) for v in numbers if math.isfinite(v)] for name, numbers in values.items()}
    every = [value for numbers in finite.values() for value in numbers]
    if not every:
        return ""
    ticks = axis_ticks(min(every), max(every))
    height = _TOP + _ROW * len(finite) + _BOTTOM
    parts = [_frame(ticks, label=label, height=height)]
    for index, (name, numbers) in enumerate(finite.items()):
        middle = _TOP + _ROW * (index + 0.5)
        colour = COLOURS[index % len(COLOURS)]
        parts.append(_text(_LEFT - 8, middle + 4, name, anchor="end", room=_LEFT - 12))
        if not numbers:
            continue
        low, first, median, third, high = (_x(v, ticks) for v in np.percentile(numbers, (0, 25, 50, 75, 100)))
        parts.append(_line(low, middle, high, middle, colour))
        parts.append(
            f'<rect x="{first:.1f}" y="{middle - 8:.1f}" width="{max(third - first, 1):.1f}" height="16" '
            f'fill="{colour}" fill-opacity="0.25" stroke="{colour}"/>'
        )
        parts.append(_line(median, middle - 8, median, middle + 8, colour, width=2.5))
        drawn = numbers if len(numbers) <= _MOST_POINTS else np.sort(numbers)[evenly_spaced(len(numbers), _MOST_POINTS)]
        for order, value in enumerate(drawn):
            jitter = ((order * 0.618) % 1.0 - 0.5) * 10
            parts.append(
                f'<circle cx="{_x(value, ticks):.1f}" cy="{middle + jitter:.1f}" r="2" fill="{colour}" '
                f'fill-opacity="0.6"><title>{escape(name)}: {value:.4g}</title></circle>'
            )
    return _svg(parts, height=height, label=f"{label}: {', '.join(finite)}")


def curve_plot(curves: Sequence[Curve], *, x_label: str, y_label: str) -> str:
    """Lines over a common axis, from 0 upwards, with a legend.

    Args:
        curves: one colour each, dotted where the colours begin anew; dashed ones are black.
        x_label: below.
        y_label: above the plot.

    Returns:
        An ``<svg>`` element; empty where there is nothing to draw.
    """
    points = [[(x, y) for x, y in zip(c.x, c.y, strict=True) if math.isfinite(x + y)] for c in curves]
    every = [point for line in points for point in line]
    if not every:
        return ""
    ticks = axis_ticks(0.0, max(x for x, _ in every))
    levels = axis_ticks(0.0, max(y for _, y in every) or 1.0)
    legend = 18 * len(curves)
    height = _HEIGHT + legend
    bottom = height - _BOTTOM - legend
    parts = [_frame(ticks, label=x_label, height=height, bottom=bottom, top=_TOP + 16)]
    parts.append(_text(_LEFT, _TOP + 4, y_label))

    def y_of(value: float) -> float:
        return bottom - (value - levels[0]) / (levels[-1] - levels[0]) * (bottom - _TOP - 16)

    for level in levels:
        parts.append(_line(_LEFT, y_of(level), _WIDTH - _RIGHT, y_of(level), "#dddddd"))
        parts.append(_text(_LEFT - 8, y_of(level) + 4, f"{level:g}", anchor="end"))
    for index, (curve, line) in enumerate(zip(curves, points, strict=True)):
        colour = "#000000" if curve.dashed else COLOURS[index % len(COLOURS)]
        dash = ' stroke-dasharray="5 4"' if curve.dashed else _DOTTED[min(index // len(COLOURS), len(_DOTTED) - 1)]
        path = " ".join(f"{_x(x, ticks):.1f},{y_of(y):.1f}" for x, y in line)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.8"{dash}/>')
        row = bottom + _BOTTOM + 18 * index + 6
        parts.append(
            f'<line x1="{_LEFT}" x2="{_LEFT + 26}" y1="{row}" y2="{row}" stroke="{colour}" stroke-width="2"{dash}/>'
        )
        parts.append(_text(_LEFT + 34, row + 4, curve.name))
    return _svg(parts, height=height, label=f"{y_label} over {x_label}: {', '.join(curve.name for curve in curves)}")


def axis_ticks(lower: float, upper: float) -> list[float]:
    """Four to eight round numbers (1, 2 or 5 times a power of ten apart) that enclose [lower, upper]."""
    if not upper - lower > _NARROWEST * max(abs(lower), abs(upper)):
        margin = abs(lower) * 0.01 or 1.0
        lower, upper = lower - margin, upper + margin
    raw = (upper - lower) / 5
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1.0, 2.0, 5.0, 10.0) if factor * power >= raw * 0.999)
    first, last = math.floor(lower / step + 1e-9), math.ceil(upper / step - 1e-9)
    digits = max(0, -math.floor(math.log10(step)))
    return [round(index * step, digits) for index in range(first, last + 1)]


def _x(value: float, ticks: Sequence[float]) -> float:
    return _LEFT + (value - ticks[0]) / (ticks[-1] - ticks[0]) * (_WIDTH - _LEFT - _RIGHT)


def _frame(ticks: Sequence[float], *, label: str, height: float, bottom: float | None = None, top: float = _TOP) -> str:
    """Vertical grid lines with their numbers, and the axis' label."""
    base = height - _BOTTOM if bottom is None else bottom
    parts = []
    for tick in ticks:
        x = _x(tick, ticks)
        parts.append(_line(x, top, x, base, "#dddddd"))
        parts.append(_text(x, base + 16, f"{tick:g}", anchor="middle"))
    parts.append(_text((_LEFT + _WIDTH - _RIGHT) / 2, base + 34, label, anchor="middle"))
    return "".join(parts)


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, *, width: float = 1.0) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" stroke-width="{width:g}"/>'


def _text(x: float, y: float, words: str, *, anchor: str = "start", room: float = math.inf) -> str:
    """Words, squeezed where they would need more room."""
    narrow = f' textLength="{room:g}" lengthAdjust="spacingAndGlyphs"' if len(words) * _LETTER > room else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{narrow}>{escape(words)}</text>'


def _svg(parts: Sequence[str], *, height: float, label: str) -> str:
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height:g}" width="{_WIDTH}" role="img" aria-label="{escape(label)}" '
        f'font-size="12" font-family="sans-serif">{"".join(parts)}</svg>'
    )
