"""Exact percentiles in two passes, against numpy's on the whole data."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from tatcli.intensity import RobustRange, Window
from tatcli.percentile import PositivePercentile


def in_pieces(values, percentile, pieces):
    found = PositivePercentile()
    for part in np.array_split(values, pieces):
        found.add(part)
    found.choose(percentile)
    for part in np.array_split(values, pieces)[::-1]:  # their order doesn't matter
        found.refine(part)
    return found


@settings(deadline=None, max_examples=60)
@given(
    values=npst.arrays(np.float32, st.integers(0, 60), elements=st.floats(width=32)),
    percentile=st.sampled_from([0.0, 1.0, 50.0, 90.0, 99.5, 100.0]),
    pieces=st.integers(1, 4),
)
def test_any_values(values, percentile, pieces):
    found = in_pieces(values, percentile, pieces)
    positive = values[np.isfinite(values) & (values > 0)].astype(np.float64)
    assert found.count == positive.size
    if positive.size:
        assert found.value() == pytest.approx(np.percentile(positive, percentile), rel=1e-12)
    else:
        assert found.value() is None


@pytest.mark.parametrize("percentile", [0.0, 37.3, 99.5, 100.0])
def test_a_scan_of_whole_numbers(percentile):
    values = np.random.default_rng(0).integers(-50, 3000, 100_000).astype(np.float32)
    positive = values[values > 0].astype(np.float64)
    assert in_pieces(values, percentile, 7).value() == np.percentile(positive, percentile)


def test_ranks_in_neighbouring_bins():
    """Order statistics on both sides of a border between bins: 1.9999999 and 2."""
    values = np.array([np.nextafter(np.float32(2), np.float32(0)), 2.0, 0.0, -1.0, np.nan, np.inf], np.float32)
    assert in_pieces(values, 50.0, 2).value() == (float(values[0]) + 2.0) / 2


def test_the_robust_range_is_scaled_and_never_empty():
    values = np.random.default_rng(0).gamma(2.0, 100, (3, 4, 16, 20)).astype(np.float32)
    window = RobustRange(99.5, 1.5).window_for(values)
    assert (window.lower, window.upper) == (0.0, np.percentile(values.astype(np.float64), 99.5) * 1.5)
    assert RobustRange(99.5).window_for(np.full((2, 3, 4), -7.0, np.float32)) == Window(0.0, 1.0)
    assert RobustRange(99.5).window_for(values[0, 0]).upper == np.percentile(values[0, 0].astype(np.float64), 99.5)
