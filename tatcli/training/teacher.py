"""Teachers' restorations as part of the targets: what several networks, or many views, know together, in one network.

A reference holds noise and detail that nobody could tell from its degraded version: most of a trained network's
gradient comes from there and averages to nothing. A teacher's restoration holds none of it. It is asked for one random
view (flip and quarter turns) of each sample, whose mean over many steps is the restoration of ``--ensemble``, which is
better than that of any one view; a network that learns it comes near to it in one pass, where the ensemble takes eight.
Several teachers of a task are averaged: where they err differently, their mean is better than each of them.
Source: Hinton, Vinyals & Dean 2015 (arXiv:1503.02531), section 2, targets that are mixed with the true ones, and
section 3, the mean of an ensemble; here of a regression, so that there is no temperature.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tatcli.model.views import turned, turned_back
from tatcli.training.losses import autocast

__all__ = ["Teacher", "TeachingNetwork"]

Crops = Float[Tensor, "batch 1 side side"]


@dataclass(frozen=True, eq=False)
class TeachingNetwork:
    """A trained network, and the tasks that it teaches."""

    module: nn.Module
    tasks: Collection[str]


class Teacher:
    """Mixes trained networks' restorations into the targets.

    Args:
        networks: on the device of the batches; they are put into eval mode and not changed.
        shares: of the mean of their restorations in the target, for each task; the reference has the rest.
        precision: that they compute in.
    """

    def __init__(self, networks: Sequence[TeachingNetwork], shares: Mapping[str, float], precision: str) -> None:
        for network in networks:
            network.module.eval().requires_grad_(requires_grad=False)
        self.networks = networks
        self.shares, self.precision = shares, precision

    def targets(self, lq: Crops, hq: Crops, views: Sequence[int], tasks: Sequence[str]) -> Crops:
        """The mix of restorations and references, share * restored + (1 - share) * hq, in float32.

        Args:
            lq: degraded crops, in the network's range.
            hq: their references, which are the targets of tasks that no one teaches, or by a share of 0.
            views: of each, 0 to 7: quarter turns, from 4 on of the mirrored crop; the restoration is turned back.
            tasks: of each.
        """
        ways = [(view % 4, view >= 4) for view in views]
        shown = torch.stack([turned(crop, way) for crop, way in zip(lq, ways, strict=True)])
        total, teachers = torch.zeros_like(hq), hq.new_zeros(len(hq), 1, 1, 1)
        for network in self.networks:
            taught = [number for number, task in enumerate(tasks) if task in network.tasks and self.shares[task]]
            if not taught:
                continue
            with torch.no_grad(), autocast(lq.device, self.precision):
                restored = network.module(shown[taught])
            total[taught] += torch.stack(
                [turned_back(crop, ways[number]) for number, crop in zip(taught, restored.float(), strict=True)]
            )
            teachers[taught] += 1
        shares = hq.new_tensor([self.shares[task] for task in tasks]).reshape_as(teachers)
        return torch.lerp(hq, total / teachers.clamp(min=1), shares * (teachers > 0))
