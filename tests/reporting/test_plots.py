"""SVG plots: what is drawn where."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tatcli.reporting.plots import Curve, axis_ticks, curve_plot, distribution_plot


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
@example(-879609.999999999, 1e-6)
@example(879609.9999999999, 1e-6)
def test_ticks_are_round_and_enclose(lower, width) -> None:
    upper = lower + width
    if not upper > lower:
        return
    ticks = axis_ticks(lower, upper)
    rounding = 1e-6 * width + 2 * max(math.ulp(lower), math.ulp(upper))  # a range may be a few thousand ulps wide
    assert ticks[0] <= lower + rounding
    assert ticks[-1] >= upper - rounding
    assert 3 <= len(ticks) <= 9


def test_ticks() -> None:
    assert axis_ticks(0.0, 10.0) == [0, 2, 4, 6, 8, 10]
    assert axis_ticks(0.71, 0.94) == [0.7, 0.75, 0.8, 0.85, 0.9, 0.95]
    assert axis_ticks(5.0, 5.0)[0] < 5.0 < axis_ticks(5.0, 5.0)[-1]


@pytest.mark.parametrize("lower", [90.2534438473028, -33.1, 1e-9])
@pytest.mark.parametrize("steps", [1, 2, 7, 100])
def test_ticks_of_numbers_that_differ_by_rounding(lower, steps) -> None:
    ticks = axis_ticks(lower, lower + steps * math.ulp(lower))
    assert ticks[0] < lower < ticks[-1]
    assert 3 <= len(ticks) <= 9


def test_a_distribution() -> None:
    svg = ET.fromstring(distribution_plot({"a<b": [0.0, 5.0, 10.0, math.inf], "none": []}, label="dB"))
    texts = [element.text for element in svg.iter("text")]
    assert "a<b" in texts
    assert "dB" in texts
    assert "none" in texts
    circles = [float(element.get("cx")) for element in svg.iter("circle")]
    assert circles == [120.0, 368.0, 616.0]  # 0, 5, 10 between the left and the right end of the axis
    (box,) = svg.iter("rect")
    assert float(box.get("x")) == pytest.approx(244.0)
    assert float(box.get("width")) == pytest.approx(248.0)
    assert distribution_plot({"a": [math.nan]}, label="") == ""


def test_of_many_points_some_of_all_ranks_are_drawn() -> None:
    """The slices of many scans, by every method, made plots of many megabytes."""
    values = [float(number**2) for number in range(30_000)]
    text = distribution_plot({"a": values[::-1], "few": values[:500]}, label="dB")
    assert len(text) < 250_000
    svg = ET.fromstring(text)
    drawn = [float(circle[0].text.partition(": ")[2]) for circle in svg.iter("circle")]
    assert len(drawn) == 1000
    assert (min(drawn[:500]), max(drawn[:500])) == (0.0, float(f"{values[-1]:.4g}"))
    assert drawn[249] == pytest.approx(values[15_000], rel=0.01)
    assert drawn[500:] == [float(f"{value:.4g}") for value in values[:500]]


def test_names_that_are_too_long_are_squeezed_not_cut_off() -> None:
    svg = ET.fromstring(distribution_plot({"input": [1.0], "a-network-tuned-on-our-scanner": [2.0]}, label="PSNR (dB)"))
    room = {element.text: element.get("textLength") for element in svg.iter("text")}
    assert room["a-network-tuned-on-our-scanner"] == "108"  # it ends at 112, right-aligned
    assert room["input"] is None
    assert svg.get("aria-label") == "PSNR (dB): input, a-network-tuned-on-our-scanner"


def test_curves() -> None:
    lines = [Curve("ours", [0.0, 1.0], [0.0, 2.0]), Curve("truth", [0.0, 0.5], [1.0, math.nan], dashed=True)]
    svg = ET.fromstring(curve_plot(lines, x_label="x", y_label="y"))
    ours, truth = [element.get("points") for element in svg.iter("polyline")]
    (x0, y0), (x1, y1) = (tuple(map(float, point.split(","))) for point in ours.split())
    assert (x0, x1) == (120.0, 616.0)
    assert y0 - y1 == pytest.approx(y0 - 28.0)  # from the bottom to the top of the plot
    assert len(truth.split()) == 1
    assert curve_plot([], x_label="", y_label="") == ""


def test_more_curves_than_colours_are_told_apart() -> None:
    """Ten methods and a comparison network have eleven curves, of which two had one colour."""
    lines = [Curve(f"method {number}", [0.0, 1.0], [0.0, 1.0]) for number in range(25)]
    svg = ET.fromstring(curve_plot([*lines, Curve("truth", [0.0], [1.0], dashed=True)], x_label="x", y_label="y"))
    looks = [(line.get("stroke"), line.get("stroke-dasharray")) for line in svg.iter("polyline")]
    assert len(set(looks)) == 26
    assert looks[0] == ("#4477aa", None)
    assert looks[10] == ("#4477aa", "2 2")
    legend = [(line.get("stroke"), line.get("stroke-dasharray")) for line in svg.iter("line")]
    assert legend[-26:] == looks
