"""Gradients of two tasks that want the same, the opposite, or something else."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tatcli.model.config import TatConfig
from tatcli.model.tat import Tat
from tatcli.training.interference import is_adaptive, task_interference
from tatcli.training.sampler import Batch


class Scaled(nn.Module):
    """Adds two constants; one of them, ``own``, only where the image is bright."""

    def __init__(self) -> None:
        super().__init__()
        self.common, self.own = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.common + self.own * (x > 0.5)


class TwoTasks:
    """Task b's LQ is too low everywhere, a's too high where it is dark; b is bright and a dark."""

    def __init__(self) -> None:
        self.references = {"a": (), "b": ()}

    def batch(self, step: int) -> Batch:
        hq = torch.cat([torch.full((1, 1, 4, 4), 0.2), torch.full((1, 1, 4, 4), 0.8)])
        error = torch.tensor([0.1, -0.1]).view(2, 1, 1, 1)
        return Batch(hq + error, hq, torch.ones_like(hq), ("a", "b"), ("x", "y"), (0, 0))


def test_opposite_wishes_interfere_in_what_is_shared_only() -> None:
    found = task_interference(Scaled(), TwoTasks(), batches=2, adaptive=lambda name: name == "own")
    shared = {"a | a": 1.0, "a | b": -1.0, "b | b": 1.0}
    assert found["shared"] == pytest.approx(shared)
    assert found["adaptive"]["b | b"] == pytest.approx(1.0)
    assert found["adaptive"]["a | b"] != found["adaptive"]["a | b"]  # a doesn't touch it: NaN


def test_the_adaptive_part_of_tat() -> None:
    tiny = TatConfig(
        width=8, encoder_blocks=(1, 1, 1), latent_blocks=1, decoder_blocks=(1, 1, 1), refinement_blocks=1, tren_width=4
    )
    network = Tat(tiny)
    adaptive = sum(p.numel() for name, p in network.named_parameters() if is_adaptive(name))
    gains = sum(p.numel() for name, p in network.named_parameters() if name.endswith("gain"))
    assert adaptive == gains + sum(p.numel() for p in network.tren.parameters())
    assert gains > 0
