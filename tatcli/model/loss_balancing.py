"""Task-adaptive loss balancing: each sample's weight follows from its own difficulty (the paper, section 2.3)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["BalancedLoss", "LossBalancer"]

Batch = Float[Tensor, "batch 1 rows columns"]


class BalancedLoss(NamedTuple):
    """A batch's loss and what it was made of."""

    loss: Float[Tensor, ""]
    sigma: Float[Tensor, " batch"]
    l1: Float[Tensor, " batch"]


class LossBalancer(nn.Module):
    """sigma_i = E(features_i), loss = mean of 0.5 l_i / (sigma_i^2 + 1e-8) + 0.5 log(1 + sigma_i^2).

    The features of a sample are mean |LQ - HQ|, mean |LQ - restored| and its L1 loss l_i, all detached: easy and hard
    samples of any task are told apart without a label. E is trained with the network; sigma = 1 at the start.
    """

    def __init__(self) -> None:
        super().__init__()
        self.fc_in = nn.Linear(3, 16)
        self.norm = nn.LayerNorm(16)
        self.fc1 = nn.Linear(16, 256)
        self.fc2 = nn.Linear(256, 16)
        self.fc_out = nn.Linear(16, 1)
        nn.init.zeros_(self.fc_out.weight)
        nn.init.ones_(self.fc_out.bias)

    @staticmethod
    def features(
        restored: Batch, hq: Batch, lq: Batch, mask: Batch | None = None
    ) -> tuple[Float[Tensor, "batch 3"], Float[Tensor, " batch"]]:
        """(the three detached features, the differentiable L1 loss of each sample).

        Args:
            restored: network output, network range.
            hq: reference.
            lq: network input.
            mask: 1 where a pixel counts, 0 in padding; all pixels by default.
        """
        l1 = _mean_absolute(restored - hq, mask)
        rest = (_mean_absolute(lq - hq, mask), _mean_absolute(lq - restored.detach(), mask))
        return torch.stack([*rest, l1.detach()], dim=1), l1

    def sigma(self, features: Float[Tensor, "batch 3"]) -> Float[Tensor, " batch"]:
        """E(features)."""
        hidden = self.fc_in(features)
        hidden = hidden + self.fc2(functional.gelu(self.fc1(self.norm(hidden))))
        sigma: Tensor = self.fc_out(hidden).squeeze(1)
        return sigma

    def forward(
        self,
        restored: Batch,
        hq: Batch,
        lq: Batch,
        mask: Batch | None = None,
        weights: Float[Tensor, " batch"] | None = None,
    ) -> BalancedLoss:
        """The balanced loss of a batch (in float32); ``weights`` multiply the samples' terms."""
        features, l1 = self.features(restored.float(), hq.float(), lq.float(), mask)
        sigma = self.sigma(features)
        square = sigma.square()
        terms = 0.5 * l1 / (square + 1e-8) + 0.5 * torch.log1p(square)
        loss = (terms if weights is None else terms * weights).mean()
        return BalancedLoss(loss, sigma.detach(), l1.detach())


def _mean_absolute(difference: Tensor, mask: Tensor | None) -> Float[Tensor, " batch"]:
    if mask is None:
        return difference.abs().flatten(1).mean(dim=1)
    return (difference.abs() * mask).flatten(1).sum(dim=1) / mask.expand_as(difference).flatten(1).sum(dim=1)
