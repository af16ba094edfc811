"""Intervals and tests against values from theory."""

from __future__ import annotations

import numpy as np
import pytest

from tatcli.metrics.statistics import bootstrap_interval, paired_wilcoxon


def test_the_interval_of_many_values_is_the_normal_one() -> None:
    values = np.random.default_rng(0).normal(30.0, 2.0, 400)
    found = bootstrap_interval(values)
    half = 1.959964 * values.std() / np.sqrt(400)
    assert found is not None
    assert found.lower == pytest.approx(values.mean() - half, abs=0.02)
    assert found.upper == pytest.approx(values.mean() + half, abs=0.02)
    assert found == bootstrap_interval(values)
    assert found != bootstrap_interval(values, seed=1)


def test_the_interval_of_two_values() -> None:
    """Of the means (a, (a + b) / 2, b) with odds 1:2:1 the 2.5 and 97.5 percentiles are a and b."""
    assert bootstrap_interval([1.0, 3.0]).to_list() == [1.0, 3.0]


def test_no_interval() -> None:
    assert bootstrap_interval([1.0]) is None
    assert bootstrap_interval([1.0, float("inf")]) is None
    assert bootstrap_interval([2.0, 2.0, 2.0]).to_list() == [2.0, 2.0]


def test_wilcoxon_exact() -> None:
    """Signed ranks: all six differences positive has p = 2 / 2^6; ranks +1 against -2..-6 p = 2 * 2 / 2^6."""
    base = np.zeros(6)
    assert paired_wilcoxon([1, 2, 3, 4, 5, 6.5], base) == pytest.approx(2 / 64)
    assert paired_wilcoxon([1, -2, -3, -4, -5, -6.5], base) == pytest.approx(4 / 64)
    assert paired_wilcoxon([1, 2, 3, 4, 5, 6.5, 0.0], [0, 0, 0, 0, 0, 0, 0.0]) == pytest.approx(2 / 64)


def test_no_test() -> None:
    assert paired_wilcoxon([1.0, 2.0], [1.0, 2.0]) is None
    assert paired_wilcoxon([1.0, float("inf")], [1.0, 2.0]) is None
    assert paired_wilcoxon([1.0, 2.0], [2.0, float("inf")]) is None
    with pytest.raises(ValueError, match="as many values"):
        paired_wilcoxon([1.0], [1.0, 2.0])
