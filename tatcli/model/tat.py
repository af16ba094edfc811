"""The Task-Adaptive Transformer (Yang et al., MICCAI 2025, figure 1), top to bottom."""

from __future__ import annotations

from contextlib import nullcontext

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from tatcli.model.blocks import Downsample, Fusion, Stage, TransformerBlock, Upsample
from tatcli.model.config import TatConfig
from tatcli.model.heap import release_free_pages
from tatcli.model.maps import empty_map, kept_maps, release_free_maps
from tatcli.model.tren import Tren

__all__ = ["Tat"]

MULTIPLE = 8
"""Rows and columns are padded to a multiple of this: three halvings."""


class Tat(nn.Module):
    """Restores slices of any task; it takes no task label.

    A U-net of transformer blocks: a static encoder, and a latent stage, decoder and refinement whose depthwise kernels
    TREN generates for each sample.
    """

    def __init__(self, config: TatConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.patch_embedding = nn.Conv2d(1, width, 3, padding=1, bias=False)

        self.encoder1 = self._stage(0, config.encoder_blocks[0], adaptive=False)
        self.down1 = Downsample(config.dim(0))
        self.encoder2 = self._stage(1, config.encoder_blocks[1], adaptive=False)
        self.down2 = Downsample(config.dim(1))
        self.encoder3 = self._stage(2, config.encoder_blocks[2], adaptive=False)
        self.down3 = Downsample(config.dim(2))

        self.tren = Tren(config)
        self.latent = self._stage(3, config.latent_blocks, adaptive=True)

        self.up3 = Upsample(config.dim(3))
        self.reduce3 = nn.Conv2d(2 * config.dim(2), config.dim(2), 1, bias=False)
        self.decoder3 = self._stage(2, config.decoder_blocks[2], adaptive=True)
        self.up2 = Upsample(config.dim(2))
        self.reduce2 = nn.Conv2d(2 * config.dim(1), config.dim(1), 1, bias=False)
        self.decoder2 = self._stage(1, config.decoder_blocks[1], adaptive=True)
        self.up1 = Upsample(config.dim(1))
        self.decoder1 = self._stage(0, config.decoder_blocks[0], adaptive=True)

        self.refinement = self._stage(0, config.refinement_blocks, adaptive=True)
        self.fuse = Fusion(5 * width, width)
        self.output = nn.Conv2d(width, 1, 3, padding=1, bias=False)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def _stage(self, level: int, count: int, *, adaptive: bool) -> Stage:
        """Blocks of one level: Restormer's in the encoder, the paper's WATB, which take kernels, after it."""
        dim = self.config.decoder_dim(level) if adaptive else self.config.dim(level)
        return Stage(
            TransformerBlock(
                dim,
                heads=self.config.heads[level],
                hidden=self.config.hidden(dim),
                window=self.config.window(level),
                adaptive=adaptive,
            )
            for _ in range(count)
        )

    def forward(self, x: Float[Tensor, "batch 1 rows columns"]) -> Float[Tensor, "batch 1 rows columns"]:
        """Restored slices, same shape, in the network's range (about [0, 1], not clipped).

        Any number of rows and columns: they are padded to a multiple of 8 by reflection (tiny ones by
        their last row and column), and cropped back.
        """
        rows, columns = x.shape[2:]
        with kept_maps() if _eager_on_cpu(x) else nullcontext():
            correction = self._correction(self._embedded(x))
        return x + correction[:, :, :rows, :columns].to(x.dtype)

    def task_representation(self, x: Float[Tensor, "batch 1 rows columns"]) -> Float[Tensor, "batch z"]:
        """Z, which the kernels are generated from, of slices of any size."""
        return self.tren.task_representation(self._encoded(self._embedded(x))[-1])

    def _embedded(self, x: Tensor) -> Tensor:
        """The patch embedding of the padded input."""
        padded = _pad_to_multiple(x).contiguous(memory_format=torch.channels_last)
        # bf16 has steps of 8 HU at soft tissue in CT's range, so the input itself is embedded in float32.
        with torch.autocast(x.device.type, enabled=False):
            embedded: Tensor = self.patch_embedding(padded.to(self.patch_embedding.weight.dtype))
        return embedded

    def _encoded(self, embedded: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The encoder's maps: of 1, 1/2 and 1/4 of the input's size, and the latent one."""
        encoded1 = self.encoder1(embedded)
        encoded2 = self.encoder2(self.down1(encoded1))
        encoded3 = self.encoder3(self.down2(encoded2))
        return encoded1, encoded2, encoded3, self.down3(encoded3)

    def _correction(self, embedded: Tensor) -> Tensor:
        """What is added to the (padded) input, from its patch embedding."""
        encoded1, encoded2, encoded3, latent = self._encoded(embedded)
        kernels = self.tren(latent)
        latent = self.latent(latent, kernels.latent)

        decoded3 = self.reduce3(_joined(self.up3(latent), encoded3))
        decoded3 = self.decoder3(decoded3, kernels.decoder3)
        decoded2 = self.reduce2(_joined(self.up2(decoded3), encoded2))
        decoded2 = self.decoder2(decoded2, kernels.decoder2)
        if _eager_on_cpu(latent) and not torch.is_grad_enabled():
            release_free_maps()  # of the lower levels, before the largest ones come
            release_free_pages()
        decoded1 = self.decoder1(_side_by_side(self.up1(decoded2), encoded1), kernels.decoder1)

        refined = self.refinement(decoded1, kernels.decoder1)
        correction: Tensor = self.output(self.fuse(encoded1, decoded1, refined))
        return correction


def _eager_on_cpu(x: Tensor) -> bool:
    """Whether this code itself says where maps lie, not PyTorch's compiler or another device's allocator."""
    return x.device.type == "cpu" and not torch.compiler.is_compiling()


def _joined(upsampled: Tensor, skip: Tensor) -> Tensor:
    """Their concatenation for a convolution, in the type that it works in."""
    return torch.cat([upsampled, skip.to(upsampled.dtype)], dim=1)


def _side_by_side(upsampled: Tensor, skip: Tensor) -> Tensor:
    """Their concatenation, the largest map of all, in the skip's type, which is the wider one under autocast."""
    if torch.is_grad_enabled() or not _eager_on_cpu(upsampled):
        return torch.cat([upsampled, skip], dim=1)
    batch, channels, rows, columns = upsampled.shape
    joined = empty_map((batch, channels + skip.shape[1], rows, columns), skip.dtype)
    joined[:, :channels] = upsampled
    joined[:, channels:] = skip
    return joined


def _pad_to_multiple(x: Tensor) -> Tensor:
    rows, columns = x.shape[2:]
    bottom, right = -rows % MULTIPLE, -columns % MULTIPLE
    if not (bottom or right):
        return x
    mode = "reflect" if bottom < rows and right < columns else "replicate"
    return functional.pad(x, (0, right, 0, bottom), mode=mode)
