"""Curves as pixels: where they are drawn, in which colour, on which axis."""

from __future__ import annotations

import numpy as np
import pytest

from tatcli.reporting.curve_picture import CurvePanel, draw_curves
from tatcli.reporting.plots import Curve

BLUE, RED = (0x44, 0x77, 0xAA), (0xEE, 0x66, 0x77)
PLOT = slice(76, 544)
"""Columns between the vertical axis and the legend."""


def places(pixels: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """(rows, columns) of the plot's pixels in a colour."""
    return np.argwhere((np.abs(pixels[:, PLOT].astype(int) - colour) < 12).all(axis=-1))


def test_lines_lie_where_their_values_are() -> None:
    rising = Curve("up", [0, 50, 100], [0, 5, 10])
    flat = Curve("flat", [0, 100], [10, 10])
    pixels = np.asarray(draw_curves([CurvePanel("t", [rising, flat])], x_label="step").convert("RGB"))
    up, level = places(pixels, BLUE), places(pixels, RED)
    slope = np.polyfit(up[:, 1], up[:, 0], 1)[0]
    height, width = 260 - 30 - 34, 720 - 76 - 176
    assert slope == pytest.approx(-height / width, rel=0.05)  # from corner to corner
    assert np.ptp(level[:, 0]) <= 6  # the line with its dots
    assert level[:, 0].mean() == pytest.approx(30, abs=3)


def test_decades_are_equally_far_apart() -> None:
    curve = Curve("c", [0, 50, 100, 75], [1.0, 0.1, 0.01, float("nan")])
    pixels = np.asarray(draw_curves([CurvePanel("t", [curve], logarithmic=True)], x_label="step").convert("RGB"))
    found = places(pixels, BLUE)
    left, middle, right = (found[np.abs(found[:, 1] - x) < 4][:, 0].mean() for x in (3, 234, 465))
    assert middle - left == pytest.approx(right - middle, abs=3)
    assert right > left + 150


def test_panels_without_points_are_left_out() -> None:
    full, empty = CurvePanel("a", [Curve("c", [0, 1], [1, 2])]), CurvePanel("b", [Curve("c", [], [])])
    one = draw_curves([full], x_label="step")
    assert draw_curves([full, empty], x_label="step").size == one.size
    assert draw_curves([full, full], x_label="step").height == one.height + 260
    with pytest.raises(ValueError, match="expected at least one point"):
        draw_curves([empty], x_label="step")


def test_a_line_without_points_keeps_its_colour_and_takes_no_place_in_the_legend() -> None:
    """So a task that isn't validated doesn't move the colours of the others."""
    empty, flat = Curve("none", [], []), Curve("flat", [0, 100], [1.0, 2.0])
    pixels = np.asarray(draw_curves([CurvePanel("t", [empty, flat])], x_label="step").convert("RGB"))
    assert len(places(pixels, RED)) > 100
    assert not len(places(pixels, BLUE))
    legend = np.argwhere((np.abs(pixels[:, 558:578].astype(int) - RED) < 30).all(axis=-1))
    assert legend[:, 0].mean() == pytest.approx(30 + 8, abs=1)  # the first row
