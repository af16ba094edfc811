"""TREN, the task representation extraction network: from the latent map to kernels for every adaptive stage."""

from __future__ import annotations

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from tatcli.model.blocks import StageKernels
from tatcli.model.config import TatConfig

__all__ = ["TaskKernels", "Tren"]


class TaskKernels(NamedTuple):
    """Kernels of the four adaptive stages; refinement uses decoder 1's."""

    decoder1: StageKernels
    decoder2: StageKernels
    decoder3: StageKernels
    latent: StageKernels


class ResidualConvolutions(nn.Module):
    """x + conv(gelu(conv(x)))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Same shape in and out."""
        correction: Tensor = self.conv2(functional.gelu(self.conv1(x)))
        return x + correction


class KernelGenerator(nn.Module):
    """Task representation -> (batch, channels, 3, 3): one bias-free linear and GELU."""

    def __init__(self, representation: int, channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(representation, channels * 9, bias=False)

    def forward(self, z: Float[Tensor, "batch representation"]) -> Float[Tensor, "batch channels 3 3"]:
        """The kernels W_G."""
        return functional.gelu(self.linear(z)).view(z.shape[0], -1, 3, 3)


class StageGenerators(nn.Module):
    """The two generators of one stage."""

    def __init__(self, representation: int, *, dim: int, hidden: int) -> None:
        super().__init__()
        self.attention = KernelGenerator(representation, 3 * dim)
        self.feedforward = KernelGenerator(representation, 2 * hidden)

    def forward(self, z: Tensor) -> StageKernels:
        """Both kernels."""
        return StageKernels(self.attention(z), self.feedforward(z))


class Tren(nn.Module):
    """Latent map (8C at 1/8 resolution) -> task representation Z -> task-adaptive kernels.

    The input is detached: no gradient flows from TREN into the encoder.
    """

    def __init__(self, config: TatConfig) -> None:
        super().__init__()
        width = config.tren_width
        representation = 4 * width
        self.extract = nn.Sequential(
            nn.Conv2d(config.width // 2, width, 3, padding=1),
            nn.GELU(),
            ResidualConvolutions(width),
            ResidualConvolutions(width),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.GELU(),
            nn.Conv2d(width, 2 * width, 3, padding=1, bias=False),
            nn.GELU(),
            nn.Conv2d(2 * width, 4 * width, 3, padding=1, bias=False),
            nn.GELU(),
        )
        self.represent = nn.Sequential(
            nn.Linear(representation, representation, bias=False),
            nn.GELU(),
            nn.Linear(representation, representation, bias=False),
            nn.GELU(),
        )
        for level, name in ((0, "decoder1"), (1, "decoder2"), (2, "decoder3"), (3, "latent")):
            dim = config.decoder_dim(level)
            self.add_module(name, StageGenerators(representation, dim=dim, hidden=config.hidden(dim)))

    def task_representation(self, latent: Float[Tensor, "batch channels rows columns"]) -> Float[Tensor, "batch z"]:
        """Z of the latent map: pixel-shuffle by 4, convolutions, global average, two linears."""
        features = self.extract(functional.pixel_shuffle(latent.detach(), 4))
        z: Tensor = self.represent(features.mean(dim=(2, 3)))
        return z

    def forward(self, latent: Float[Tensor, "batch channels rows columns"]) -> TaskKernels:
        """Kernels of every adaptive stage."""
        z = self.task_representation(latent)
        return TaskKernels(*(self.get_submodule(name)(z) for name in TaskKernels._fields))
