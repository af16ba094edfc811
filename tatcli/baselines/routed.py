"""Task-adaptive routing after AMIR (Yang et al., MICCAI 2024, "All-In-One ... via Task-Adaptive Routing").

An instruction, read from the image, decides which paths features take in space and in channels. Written from the
paper's idea alone; sizes and details that it leaves open are ours, so this is a network of AMIR's type, not a
reproduction. The backbone is the static TAT (a Restormer), as AMIR's is Restormer.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tatcli.baselines.static_tat import StaticTat
from tatcli.model.config import TatConfig

__all__ = ["RoutedTat"]

Map = Float[Tensor, "batch channels rows columns"]
Instruction = Float[Tensor, "batch z"]


class InstructionNetwork(nn.Module):
    """Latent map -> a mixture of learned instructions.

    Args:
        dim: channels of the latent map.
        size: of an instruction.
        entries: how many instructions the dictionary has.
    """

    def __init__(self, dim: int, *, size: int, entries: int) -> None:
        super().__init__()
        self.dictionary = nn.Parameter(torch.randn(entries, size) / size**0.5)
        self.weigh = nn.Sequential(nn.Linear(dim, size), nn.GELU(), nn.Linear(size, entries))

    def forward(self, latent: Map) -> Instruction:
        """softmax(MLP(mean over pixels)) times the dictionary; no gradient into the encoder, as in TREN."""
        shares = self.weigh(latent.detach().mean(dim=(2, 3))).softmax(dim=1)
        instruction: Tensor = shares @ self.dictionary
        return instruction


class SpatialRouting(nn.Module):
    """Each pixel takes the two of ``experts`` paths that suit it and the instruction best.

    Args:
        dim: channels.
        size: of an instruction.
        experts: paths: a depthwise 3x3, GELU and a 1x1 each.
    """

    KEPT = 2

    def __init__(self, dim: int, *, size: int, experts: int) -> None:
        super().__init__()
        self.see = nn.Conv2d(dim, experts, 1)
        self.instruct = nn.Linear(size, experts)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Conv2d(dim, dim, 3, padding=1, groups=dim), nn.GELU(), nn.Conv2d(dim, dim, 1))
            for _ in range(experts)
        )

    def forward(self, x: Map, instruction: Instruction) -> Map:
        """The sum of x and the chosen experts' outputs, weighted by their shares."""
        logits = self.see(x) + self.instruct(instruction)[:, :, None, None]
        lowest = logits.topk(self.KEPT, dim=1).values[:, -1:]
        shares = logits.masked_fill(logits < lowest, float("-inf")).softmax(dim=1)
        y = x
        for index, expert in enumerate(self.experts):
            y = y + shares[:, index : index + 1] * expert(x)
        return y


class ChannelRouting(nn.Module):
    """The instruction lets half of the channels pass to a 1x1 convolution.

    Args:
        dim: channels.
        size: of an instruction.
    """

    def __init__(self, dim: int, *, size: int) -> None:
        super().__init__()
        self.instruct = nn.Linear(size, dim)
        self.project = nn.Conv2d(dim, dim, 1)

    def forward(self, x: Map, instruction: Instruction) -> Map:
        """The sum of x and project(gated x), where the lower half of the gates is 0."""
        logits = self.instruct(instruction)
        lowest = logits.topk(logits.shape[1] // 2, dim=1).values[:, -1:]
        gates = torch.where(logits < lowest, 0.0, logits.sigmoid())
        y: Tensor = x + self.project(x * gates[:, :, None, None])
        return y


class RoutedTat(StaticTat):
    """The static TAT with routing before its latent stage and its three decoders.

    Args:
        config: the backbone's sizes.
        size: of an instruction.
        entries: of the dictionary.
        experts: paths of each spatial routing.
    """

    def __init__(self, config: TatConfig, *, size: int = 64, entries: int = 8, experts: int = 4) -> None:
        super().__init__(config)
        self.instruction = InstructionNetwork(config.dim(3), size=size, entries=entries)
        dims = {"latent": config.dim(3), **{f"decoder{level + 1}": config.decoder_dim(level) for level in (2, 1, 0)}}
        self.spatial = nn.ModuleDict({n: SpatialRouting(dim, size=size, experts=experts) for n, dim in dims.items()})
        self.channel = nn.ModuleDict({name: ChannelRouting(dim, size=size) for name, dim in dims.items()})

    def _correction(self, embedded: Tensor) -> Tensor:
        encoded1, encoded2, encoded3, latent = self._encoded(embedded)
        z = self.instruction(latent)
        latent = self.latent(self._routed("latent", latent, z))
        decoded3 = self.reduce3(torch.cat([self.up3(latent), encoded3], dim=1))
        decoded3 = self.decoder3(self._routed("decoder3", decoded3, z))
        decoded2 = self.reduce2(torch.cat([self.up2(decoded3), encoded2], dim=1))
        decoded2 = self.decoder2(self._routed("decoder2", decoded2, z))
        decoded1 = torch.cat([self.up1(decoded2), encoded1], dim=1)
        decoded1 = self.decoder1(self._routed("decoder1", decoded1, z))
        fused = self.fuse(torch.cat([encoded1, decoded1, self.refinement(decoded1)], dim=1))
        correction: Tensor = self.output(fused)
        return correction

    def _routed(self, stage: str, x: Map, z: Instruction) -> Map:
        routed: Tensor = self.channel[stage](self.spatial[stage](x, z), z)
        return routed
