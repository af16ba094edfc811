"""Channel ("transposed") attention in local windows, after Restormer (Zamir et al., CVPR 2022), with TAT's kernels.

The algebra never normalises q and k: with the Gram matrix G = q k^T and the row norms |q|, |k|,
A = softmax(temperature * G / (|q| |k|^T)); G and the squared norms are sums over pixels, taken cell by cell and strip
by strip. The output projection is folded in: W_o (A v) = (W_o A) v, one small matrix per cell.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from tatcli.model import fused
from tatcli.model.depthwise import DepthwiseConv, expand_and_convolve, row_strips
from tatcli.model.fused import can_fuse
from tatcli.model.packing import PackedWeights
from tatcli.model.windows import Cells, Window, cut_into_cells

__all__ = ["ChannelAttention"]

Map = Float[Tensor, "batch channels rows columns"]
NORM_EPSILON = 1e-12
"""Smallest norm of a row of q or k (PyTorch's ``normalize``)."""


class ChannelAttention(nn.Module):
    """Attention between channels: 1x1 to q, k, v; depthwise 3x3; softmax(temperature * cos(q, k)) v; 1x1.

    Args:
        dim: channels in and out.
        heads: groups of channels that attend among themselves.
        window: the local windows; a map no larger than one of them is a single window (global attention).
        adaptive: take kernels from TREN.
    """

    def __init__(self, dim: int, *, heads: int, window: Window, adaptive: bool) -> None:
        super().__init__()
        self.heads = heads
        self.window = window
        self.temperature = nn.Parameter(torch.ones(heads))
        self.qkv = nn.Conv2d(dim, 3 * dim, 1, bias=False)
        self.depthwise = DepthwiseConv(3 * dim, adaptive=adaptive)
        self.project = nn.Conv2d(dim, dim, 1, bias=False)
        self.packed = PackedWeights()
        if adaptive:
            nn.init.normal_(self.depthwise.shared)

    def forward(self, x: Map, norm: nn.LayerNorm, generated: Tensor | None = None, *, spent: bool = False) -> Map:
        """The residual sum x + attention(norm(x)).

        Args:
            x: (batch, dim, rows, columns).
            norm: the pre-norm, applied strip by strip.
            generated: W_G, (batch, 3 dim, 3, 3), for an adaptive block.
            spent: x may be written over (it is, by the fused kernels, outside training).
        """
        cells = cut_into_cells(x.shape[2], x.shape[3], self.window, x.device)
        kernels = self.depthwise.kernels(generated)
        recorded = torch.is_grad_enabled() and cells.count > 1  # no gradients of several windows there
        if can_fuse(x, x.shape[1], x.shape[1] // self.heads) and not recorded:
            statistics, value = fused.attention_statistics(
                x, norm, self.qkv.weight, kernels, (self.heads, self.packed), cells
            )
            return fused.attention_mix(x, value, self._folded(statistics, cells), cells, spent=spent)
        return x + (self._of_equal_cells if cells.equal else self._of_cells)(x, norm, kernels, cells)

    def _of_cells(self, x: Map, norm: nn.LayerNorm, kernels: Tensor, cells: Cells) -> Map:
        """What is added to x, cell by cell."""
        grams: list[Tensor] = []  # one per cell: (batch, heads, c, c + 2): G, |q|^2, |k|^2
        values: list[Tensor] = []
        for bounds in cells.rows:
            row_grams: list[Tensor | None] = [None] * len(cells.columns)
            for rows in row_strips(x, 3 * x.shape[1], bounds):
                query, key, value = self._expanded(x, rows, norm, kernels)
                values.append(value)
                for column, (left, right) in enumerate(cells.columns):
                    gram = self._gram(query[..., left:right], key[..., left:right])
                    before = row_grams[column]
                    row_grams[column] = gram if before is None else before + gram
            grams += [gram for gram in row_grams if gram is not None]
        value = values[0] if len(values) == 1 else torch.cat(values, dim=2)
        return self._mix(value, self._folded(torch.stack(grams), cells), cells)

    def _of_equal_cells(self, x: Map, norm: nn.LayerNorm, kernels: Tensor, cells: Cells) -> Map:
        """The same of many small cells: those of a band are a batch, filled up by zeros, which add nothing."""
        at_once = torch.is_grad_enabled() or x.device.type != "cpu"
        bands = ((0, x.shape[2]),) if at_once else cells.rows
        grams, values = [], []
        for rows in bands:
            query, key, value = (_in_cells(part, cells.sides) for part in self._expanded(x, rows, norm, kernels))
            grams.append(self._gram(query, key))
            values.append(value)
        statistics = torch.cat(grams)  # of cells, and in each of samples
        folded = self._folded(statistics.view(cells.count, -1, *statistics.shape[1:]), cells).flatten(0, 1)
        mixed = _per_sample_1x1(torch.cat(values), folded.to(values[0].dtype))
        return _out_of_cells(mixed, (len(cells.rows), len(cells.columns)))[:, :, : x.shape[2], : x.shape[3]]

    def _expanded(self, x: Map, rows: tuple[int, int], norm: nn.LayerNorm, kernels: Tensor) -> tuple[Tensor, ...]:
        """These rows of q, k and v."""
        qkv = expand_and_convolve(
            x, rows, lambda part: self.qkv(norm(part)), lambda part: self.depthwise(part, kernels)
        )
        return qkv.chunk(3, dim=1)

    def _gram(self, query: Map, key: Map) -> Float[Tensor, "batch heads c c_plus_2"]:
        """G, |q|^2 and |k|^2 over these pixels, in float32 at least."""
        batch, dim = query.shape[:2]
        shape = (batch, -1, self.heads, dim // self.heads)
        q, k = (part.permute(0, 2, 3, 1).reshape(shape).permute(0, 2, 3, 1) for part in (query, key))
        with torch.autocast(query.device.type, enabled=False):  # half precision can't hold such sums
            q, k = (part.to(torch.promote_types(part.dtype, torch.float32)) for part in (q, k))
            norms = [part.square().sum(dim=-1, keepdim=True) for part in (q, k)]
            return torch.cat([torch.matmul(q, k.transpose(-1, -2)), *norms], dim=-1)

    def _folded(self, grams: Tensor, cells: Cells) -> Float[Tensor, "cells batch dim dim"]:
        """W_o A of every cell, A averaged over the windows that cover it; in the sums' type under autocast too."""
        with torch.autocast(grams.device.type, enabled=False):
            if cells.count > 1:
                grams = torch.einsum("wc,c...->w...", cells.members.to(grams.dtype), grams)
            gram, query_square, key_square = grams[..., :-2], grams[..., -2], grams[..., -1]
            query_norm = query_square.clamp_min(NORM_EPSILON**2).sqrt().unsqueeze(-1)
            key_norm = key_square.clamp_min(NORM_EPSILON**2).sqrt().unsqueeze(-2)
            temperature = self.temperature.to(grams.dtype).view(-1, 1, 1)
            attention = (gram / (query_norm * key_norm) * temperature).softmax(dim=-1)
            if cells.count > 1:
                attention = torch.einsum("cw,w...->c...", cells.average.to(grams.dtype), attention)
            weight = self.project.weight.to(grams.dtype).flatten(1)  # (dim, dim)
            per_head = weight.view(weight.shape[0], self.heads, -1).transpose(0, 1)  # (heads, dim, c)
            folded = per_head @ attention  # (cells, batch, heads, dim, c)
            return folded.transpose(-3, -2).flatten(-2)

    def _mix(self, value: Map, folded: Tensor, cells: Cells) -> Map:
        folded = folded.to(value.dtype)
        bands = []
        for i, (top, bottom) in enumerate(cells.rows):
            row = [
                _per_sample_1x1(value[:, :, top:bottom, left:right], folded[i * len(cells.columns) + j])
                for j, (left, right) in enumerate(cells.columns)
            ]
            bands.append(row[0] if len(row) == 1 else torch.cat(row, dim=3))
        return bands[0] if len(bands) == 1 else torch.cat(bands, dim=2)


def _per_sample_1x1(x: Map, weights: Float[Tensor, "batch out channels"]) -> Float[Tensor, "batch out rows columns"]:
    """A 1x1 convolution with one matrix per sample."""
    # On Apple's GPUs convolutions of some versions of PyTorch take part of a map's channels, as v is, for a whole map.
    if x.shape[0] == 1 and x.device.type != "mps":
        return functional.conv2d(x, weights[0, :, :, None, None])
    batch, _, rows, columns = x.shape
    pixels = x.permute(0, 2, 3, 1).flatten(1, 2)
    return (pixels @ weights.transpose(1, 2)).view(batch, rows, columns, -1).permute(0, 3, 1, 2)


def _in_cells(x: Map, sides: tuple[int, int]) -> Float[Tensor, "cells_and_batch channels side other_side"]:
    """A map cut into cells of these sides, row after row of them, each with all samples; the last ones end in zeros."""
    batch, channels, rows, columns = x.shape
    down, across = -(-rows // sides[0]), -(-columns // sides[1])
    filled = functional.pad(x, (0, across * sides[1] - columns, 0, down * sides[0] - rows))
    parts = filled.view(batch, channels, down, sides[0], across, sides[1]).permute(2, 4, 0, 3, 5, 1)
    return parts.flatten(0, 2).permute(0, 3, 1, 2)  # channels-last, as the products want them


def _out_of_cells(parts: Tensor, counts: tuple[int, int]) -> Map:
    """The map whose (down, across) cells these are."""
    channels, rows, columns = parts.shape[1:]
    whole = parts.permute(0, 2, 3, 1).reshape(*counts, -1, rows, columns, channels).permute(2, 0, 3, 1, 4, 5)
    return whole.reshape(-1, counts[0] * rows, counts[1] * columns, channels).permute(0, 3, 1, 2)
