"""Exponential moving average of the weights: smoother than the last step's, and what is released."""

from __future__ import annotations

import copy

import torch
from torch import nn

__all__ = ["Ema"]


class Ema:
    """average <- decay * average + (1 - decay) * weights, with a lower decay in the first steps.

    Running statistics (of batch normalisation) are averages already, and taken as they are.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network = copy.deepcopy(network).requires_grad_(requires_grad=False).eval()
        self.decay = decay

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Take in the weights after this step (counted from 0)."""
        decay = min(self.decay, (1 + step) / (10 + step))
        averaged = [p.detach() for p in self.network.parameters()]
        current = [p.detach() for p in network.parameters()]
        torch._foreach_lerp_(averaged, current, 1 - decay)
        for kept, now in zip(self.network.buffers(), network.buffers(), strict=True):
            kept.copy_(now)
