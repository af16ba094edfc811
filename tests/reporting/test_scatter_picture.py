"""Points as pixels: where they are drawn, and in which colour."""

from __future__ import annotations

import numpy as np
import pytest

from tatcli.reporting.scatter_picture import Cloud, draw_scatter

BLUE, RED = (0x44, 0x77, 0xAA), (0xEE, 0x66, 0x77)
PLOT = slice(40, 560)


def centres(pixels: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """(rows, columns) of a colour's pixels in the plot, left of the legend."""
    return np.argwhere((np.abs(pixels[:, : PLOT.stop].astype(int) - colour) < 25).all(axis=-1))


def test_points_lie_where_their_values_are() -> None:
    clouds = [Cloud("a", np.array([[0.0, 0.0]]), 0), Cloud("b", np.array([[10.0, 5.0]]), 1)]
    pixels = np.asarray(draw_scatter(clouds, title="t", labels=("x", "y")).convert("RGB"))
    low, high = centres(pixels, BLUE), centres(pixels, RED)
    assert low.mean(axis=0) == pytest.approx((34 + 480, 64), abs=1)
    assert high.mean(axis=0) == pytest.approx((34, 64 + 480), abs=1)


def test_hollow_points_are_rings() -> None:
    def drawn(*, hollow: bool) -> np.ndarray:
        clouds = [Cloud("a", np.array([[1.0, 1.0]]), 0, hollow), Cloud("b", np.array([[0.0, 0.0], [2.0, 2.0]]), 1)]
        return centres(np.asarray(draw_scatter(clouds, title="t", labels=("x", "y")).convert("RGB")), BLUE)

    assert 0 < len(drawn(hollow=True)) < 0.6 * len(drawn(hollow=False))


def test_nothing_to_draw() -> None:
    with pytest.raises(ValueError, match="expected at least one point"):
        draw_scatter([Cloud("a", np.empty((0, 2)), 0)], title="t", labels=("x", "y"))
