"""What a step minimises: the paper's balanced loss, and what it is compared with.

Each is a module, since some have parameters of their own, which are trained with the network.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from tatcli.model.loss_balancing import BalancedLoss, LossBalancer
from tatcli.training.config import LossName
from tatcli.training.scored_range import counted

__all__ = [
    "BalancedTaskLoss",
    "L1Loss",
    "Objective",
    "PsnrLoss",
    "TaskLoss",
    "UncertaintyLoss",
    "autocast",
    "make_loss",
]

LEAST_ERROR = 1e-8
"""Added to mean squared errors (network range): below this a sample counts as restored."""

Batch = Float[Tensor, "batch 1 rows columns"]
Images = tuple[Batch, Batch, Batch, Batch]
"""Restored, HQ, LQ, and the mask that is 1 where a pixel counts."""
Each = Float[Tensor, " batch"]
Tasks = Int[Tensor, " batch"]


class TaskLoss(nn.Module):
    """A loss of a batch, in float32, with each sample's L1 error and sigma (1 where nothing is balanced)."""

    def forward(self, images: Images, weights: Each, tasks: Tasks) -> BalancedLoss:
        """The loss.

        Args:
            images: restored, HQ, LQ, mask.
            weights: factors of the samples.
            tasks: number of each sample's task.
        """
        raise NotImplementedError


class L1Loss(TaskLoss):
    """The mean absolute error; with ``weights``, fixed weights of the tasks."""

    def forward(self, images: Images, weights: Each, tasks: Tasks) -> BalancedLoss:  # noqa: ARG002, D102
        l1 = _l1(images)
        return BalancedLoss((l1 * weights).mean(), torch.ones_like(l1), l1.detach())


class PsnrLoss(TaskLoss):
    """0.5 ln of each sample's mean squared error, so that a decibel weighs the same in every one (1 dB is 0.115).

    The error is that within the task's evaluation window, as scores have it; what lies beyond counts a tenth.

    Args:
        ranges: of each task, lower and upper bound of the window on the network's scale.
    """

    bounds: Float[Tensor, "tasks 2"]

    def __init__(self, ranges: Sequence[tuple[float, float]]) -> None:
        super().__init__()
        self.register_buffer("bounds", torch.tensor(ranges), persistent=False)

    def forward(self, images: Images, weights: Each, tasks: Tasks) -> BalancedLoss:  # noqa: D102
        restored, hq, _, mask = images
        l1 = _l1(images)
        restored = restored.float()
        lower, upper = self.bounds[tasks].view(-1, 2, 1, 1, 1).unbind(1)
        scored = (restored.clamp(lower, upper) - hq.clamp(lower, upper)).square()
        error = counted((restored - hq).square(), scored)
        squares = (error * mask).flatten(1).sum(dim=1) / mask.flatten(1).sum(dim=1)
        each = 0.5 * (squares + LEAST_ERROR).log()
        return BalancedLoss((each * weights).mean(), torch.ones_like(l1), l1.detach())


class BalancedTaskLoss(TaskLoss):
    """Task-adaptive loss balancing: the paper's, section 2.3."""

    def __init__(self) -> None:
        super().__init__()
        self.balancer = LossBalancer()

    def forward(self, images: Images, weights: Each, tasks: Tasks) -> BalancedLoss:  # noqa: ARG002, D102
        restored, hq, lq, mask = images
        found: BalancedLoss = self.balancer(restored, hq, lq, mask, weights)
        return found


class UncertaintyLoss(TaskLoss):
    """Homoscedastic uncertainty (Kendall, Gal & Cipolla, CVPR 2018): 0.5 l_i / sigma_t^2 + log sigma_t.

    One learned log sigma_t^2 for each task t, 0 at the start; at its optimum sigma_t^2 is the task's mean error, so
    that each task weighs by the inverse of its error. The paper's balancing has a sigma for each sample instead.

    Args:
        tasks: how many.
    """

    def __init__(self, tasks: int) -> None:
        super().__init__()
        self.log_variances = nn.Parameter(torch.zeros(tasks))

    def forward(self, images: Images, weights: Each, tasks: Tasks) -> BalancedLoss:  # noqa: D102
        l1 = _l1(images)
        logs = self.log_variances[tasks]
        each = 0.5 * l1 * (-logs).exp() + 0.5 * logs
        return BalancedLoss((each * weights).mean(), (0.5 * logs).exp().detach(), l1.detach())


def make_loss(name: LossName, *, ranges: Sequence[tuple[float, float]]) -> TaskLoss:
    """The loss of this name.

    Args:
        name: as in ``TrainConfig.loss``.
        ranges: of each task, the part of the network range that is scored, see :mod:`tatcli.training.scored_range`.
    """
    if name == "uncertainty":
        return UncertaintyLoss(len(ranges))
    if name == "psnr":
        return PsnrLoss(ranges)
    return BalancedTaskLoss() if name == "balanced" else L1Loss()


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """The context that a network computes in."""
    kind = torch.float16 if precision == "fp16" else torch.bfloat16
    return torch.autocast(device.type, kind, enabled=precision != "fp32")


class Objective(nn.Module):
    """Network and loss as one module, which is what several processes share gradients of.

    Args:
        network: LQ -> restored.
        loss: of the restored batch.
        precision: that the network computes in; the loss is float32.
    """

    def __init__(self, network: nn.Module, loss: TaskLoss, precision: str) -> None:
        super().__init__()
        self.network, self.loss, self.precision = network, loss, precision

    def forward(self, images: tuple[Batch, Batch, Batch], weights: Each, tasks: Tasks) -> BalancedLoss:
        """The loss of a batch.

        Args:
            images: LQ, HQ, mask.
            weights: factors of the samples.
            tasks: number of each sample's task.
        """
        lq, hq, mask = images
        with autocast(lq.device, self.precision):
            restored = self.network(lq)
        found: BalancedLoss = self.loss((restored, hq, lq, mask), weights, tasks)
        return found


def _l1(images: Images) -> Each:
    restored, hq, lq, mask = images
    return LossBalancer.features(restored.float(), hq, lq, mask)[1]
