"""TAT without its adaptivity: the same network with static kernels, which is a Restormer (Zamir et al., CVPR 2022).

Where TAT's decoder adds kernels that TREN generates for each sample, this one has only the shared ones, which start as
TAT's do (Restormer's own start smaller), so that a comparison of the two shows what task adaptation brings.
"""

from __future__ import annotations

from torch import Tensor, nn

from tatcli.model.blocks import Stage
from tatcli.model.config import TatConfig
from tatcli.model.depthwise import DepthwiseConv
from tatcli.model.tat import Tat

__all__ = ["StaticTat"]


class NoKernels(nn.Module):
    """Stands where TREN is: no kernels for any stage."""

    decoder1 = decoder2 = decoder3 = latent = None

    def forward(self, latent: Tensor) -> NoKernels:  # noqa: ARG002 - TREN looks at it, this doesn't
        """Nothing is generated."""
        return self


class StaticTat(Tat):
    """TAT with static blocks throughout and no TREN; fewer parameters by TREN's and the adaptive gains."""

    def __init__(self, config: TatConfig) -> None:
        super().__init__(config)
        self.tren = NoKernels()  # type: ignore[assignment]

    def _stage(self, level: int, count: int, *, adaptive: bool) -> Stage:
        stage = super()._stage(level, count, adaptive=adaptive)
        for part in stage.modules():
            if isinstance(part, DepthwiseConv):
                part.gain = None
        return stage
