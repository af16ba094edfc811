"""What a step minimises: the paper's balanced loss, plain L1, or the decibels that restorations are scored by."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from tatcli.model.loss_balancing import BalancedLoss, LossBalancer
from tatcli.training.config import LossName

__all__ = ["batch_loss"]

LEAST_ERROR = 1e-8
"""Added to mean squared errors (network range): below this a sample counts as restored."""

Batch = Float[Tensor, "batch 1 rows columns"]


def batch_loss(
    name: LossName, balancer: LossBalancer, images: tuple[Batch, Batch, Batch, Batch], weights: Float[Tensor, " batch"]
) -> BalancedLoss:
    """The loss of a batch, in float32.

    Args:
        name: ``balanced``: task-adaptive loss balancing; ``l1``: mean absolute error; ``psnr``: 0.5 ln of each sample's
            mean squared error, so that a decibel weighs the same in every sample, however hard (1 dB is 0.115).
        balancer: of ``balanced``; unused, and left without gradients, by the others.
        images: restored, HQ, LQ, and the mask that is 1 where a pixel counts.
        weights: factors of the samples.

    Returns:
        The loss with each sample's L1 error and sigma (1 where nothing is balanced).
    """
    restored, hq, lq, mask = images
    if name == "balanced":
        balanced: BalancedLoss = balancer(restored, hq, lq, mask, weights)
        return balanced
    _, l1 = LossBalancer.features(restored.float(), hq, lq, mask)
    each = l1
    if name == "psnr":
        squares = ((restored.float() - hq).square() * mask).flatten(1).sum(dim=1) / mask.flatten(1).sum(dim=1)
        each = 0.5 * (squares + LEAST_ERROR).log()
    return BalancedLoss((each * weights).mean(), torch.ones_like(l1), l1.detach())
