"""Windows and the rules that choose them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tatcli.intensity import FixedRange, RobustRange, Window, rule_from_dict

bounds = st.floats(-5000.0, 5000.0, width=32)


def test_a_window_by_hand() -> None:
    window = Window(-160.0, 240.0)
    values = np.array([-1000.0, -160.0, 40.0, 240.0, 1000.0])
    assert window.width == 400.0
    assert window.normalise(values).tolist() == pytest.approx([-2.1, 0.0, 0.5, 1.0, 2.9])
    assert window.denormalise(np.array([-2.1, 0.0, 0.5, 1.0, 2.9])).tolist() == pytest.approx(values.tolist())
    assert window.clip(values).tolist() == [-160.0, -160.0, 40.0, 240.0, 240.0]
    assert window.clip(torch.tensor([-200.0, 300.0])).tolist() == [-160.0, 240.0]


@given(lower=bounds, width=st.floats(0.125, 5000.0), values=st.lists(bounds, min_size=1))
def test_denormalise_is_the_inverse(lower: float, width: float, values: list[float]) -> None:
    window = Window(lower, lower + width)
    back = window.denormalise(window.normalise(np.array(values)))
    np.testing.assert_allclose(back, values, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize(("lower", "upper"), [(1.0, 1.0), (2.0, 1.0), (0.0, float("nan"))])
def test_a_window_has_a_width(lower: float, upper: float) -> None:
    with pytest.raises(ValueError, match="expected upper > lower"):
        Window(lower, upper)


@pytest.mark.parametrize(
    "rule", [FixedRange(Window(-1024.0, 3072.0)), FixedRange(Window(0.0, 20.0)), RobustRange(99.5, scale=1.25)]
)
def test_rules_come_back_from_a_card(rule: FixedRange | RobustRange) -> None:
    assert rule_from_dict(rule.to_dict()) == rule


def test_rules_of_cards_by_hand() -> None:
    assert rule_from_dict({"kind": "fixed", "lower": 0, "upper": 20}) == FixedRange(Window(0.0, 20.0))
    assert rule_from_dict({"kind": "robust", "percentile": 99}) == RobustRange(99.0, scale=1.0)
    for kind in ("percentile", None):
        with pytest.raises(ValueError, match=f"expected kind 'fixed' or 'robust', got {kind!r}"):
            rule_from_dict({"kind": kind, "lower": 0, "upper": 1, "percentile": 99})


def test_a_fixed_range_is_the_same_for_every_scan() -> None:
    rule = FixedRange(Window(0.0, 20.0))
    assert rule.window_for(np.full((2, 3, 4), 500.0)) == Window(0.0, 20.0)
