"""A teacher's restorations as part of the targets: what many networks, or many views, know together, in one network.

A reference holds noise and detail that nobody could tell from its degraded version: most of a trained network's
gradient comes from there and averages to nothing. A teacher's restoration holds none of it. It is asked for one random
view (flip and quarter turns) of each sample, whose mean over many steps is the restoration of ``--ensemble``, which is
better than that of any one view; a network that learns it comes near to it in one pass, where the ensemble takes eight.
Source: Hinton, Vinyals & Dean 2015 (arXiv:1503.02531), section 2, targets that are mixed with the true ones; here of a
regression, so that there is no temperature.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tatcli.model.views import turned, turned_back
from tatcli.training.losses import autocast

__all__ = ["Teacher"]

Crops = Float[Tensor, "batch 1 side side"]


class Teacher:
    """Mixes a network's restorations into the targets.

    Args:
        network: trained, on the device of the batches; it is put into eval mode and not changed.
        share: of its restoration in the target; the reference has the rest.
        precision: that it computes in.
    """

    def __init__(self, network: nn.Module, share: float, precision: str) -> None:
        self.network = network.eval().requires_grad_(requires_grad=False)
        self.share, self.precision = share, precision

    def targets(self, lq: Crops, hq: Crops, views: Sequence[int]) -> Crops:
        """The mix of restorations and references, share * restored + (1 - share) * hq, in float32.

        Args:
            lq: degraded crops, in the network's range.
            hq: their references.
            views: of each, 0 to 7: quarter turns, from 4 on of the mirrored crop; the restoration is turned back.
        """
        ways = [(view % 4, view >= 4) for view in views]
        with torch.no_grad(), autocast(lq.device, self.precision):
            restored = self.network(torch.stack([turned(crop, way) for crop, way in zip(lq, ways, strict=True)]))
        back = torch.stack([turned_back(crop, way) for crop, way in zip(restored.float(), ways, strict=True)])
        return torch.lerp(hq, back, self.share)
