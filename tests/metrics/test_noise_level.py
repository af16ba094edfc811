"""How noisy a slice is, of what a window shows."""

from __future__ import annotations

import numpy as np
import pytest

from tatcli.intensity import Window
from tatcli.metrics.noise_level import noise_level

WINDOW = Window(0.0, 100.0)
SHOWN = 4.66
"""Of sigma 5: the deviation of 81 pixels varies by 5 / sqrt(160) = 0.40; its 20th percentile is 0.84 of that lower."""


def noisy(mean: float, sigma: float, shape: tuple[int, int] = (96, 96)) -> np.ndarray:
    return np.random.default_rng(0).normal(mean, sigma, shape)


def test_the_level_of_white_noise() -> None:
    assert noise_level(noisy(50.0, 5.0), WINDOW) == pytest.approx(SHOWN, rel=0.03)
    assert noise_level(noisy(1050.0, 5.0), Window(1000.0, 1100.0)) == pytest.approx(SHOWN, rel=0.03)
    assert noise_level(np.full((32, 32), 50.0), WINDOW) == 0.0


@pytest.mark.parametrize("beyond", [150.0, -50.0])
def test_what_the_window_doesnt_show_doesnt_count(beyond: float) -> None:
    """Two thirds of the slice are quieter by far, but beyond a bound; where all is, all of it counts."""
    slice_ = noisy(beyond, 0.5)
    slice_[:, :32] = noisy(50.0, 5.0)[:, :32]
    assert noise_level(slice_, WINDOW) == pytest.approx(SHOWN, rel=0.05)
    assert noise_level(noisy(beyond, 0.5), WINDOW) == pytest.approx(SHOWN / 10, rel=0.05)


def test_metal_and_holes_dont_make_it_noisy() -> None:
    """Values are cut off a width beyond the window; unknown ones are at its lower bound."""
    slice_ = noisy(50.0, 5.0)
    slice_[40:44, 40:44], slice_[80, 80] = 30000.0, np.nan
    assert noise_level(slice_, WINDOW) == pytest.approx(SHOWN, rel=0.03)
