"""The averaged weights, step by step."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tatcli.training.ema import Ema


def test_the_average_by_hand() -> None:
    """Decay (1 + step) / (10 + step) at first: 1/10, 2/11, 3/12; then what was asked for."""
    network = nn.Linear(1, 1, bias=False)

    def seen(value: float, step: int) -> float:
        with torch.no_grad():
            network.weight.fill_(value)
        ema.update(network, step)
        return float(ema.network.weight)

    with torch.no_grad():
        network.weight.fill_(0.0)
    ema = Ema(network, 0.9)
    assert seen(1.0, 0) == pytest.approx(0.9)
    assert seen(2.0, 1) == pytest.approx(0.9 * 2 / 11 + 2.0 * 9 / 11)  # 1.8
    assert seen(0.0, 2) == pytest.approx(1.8 * 0.25)
    assert seen(10.0, 79) == pytest.approx(0.45 * 80 / 89 + 10.0 * 9 / 89)  # 0.899: the last lower one
    before = float(ema.network.weight)
    assert seen(0.0, 1000) == pytest.approx(0.9 * before)
    assert network.weight.item() == 0.0


def test_running_statistics_are_taken_as_they_are() -> None:
    network = nn.BatchNorm1d(2)
    ema = Ema(network, 0.9)
    network(torch.tensor([[0.0, 4.0], [2.0, 8.0]]))
    ema.update(network, 0)
    assert ema.network.running_mean.tolist() == pytest.approx([0.1, 0.6])
    assert int(ema.network.num_batches_tracked) == 1
    assert not ema.network.training
    assert not any(weight.requires_grad for weight in ema.network.parameters())
    assert network.training
    assert all(weight.requires_grad for weight in network.parameters())
