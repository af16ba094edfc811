"""Transformer blocks through the fused CPU kernels: same weights, same results, a fraction of the memory traffic.

Each function computes what the modules' PyTorch operations do, with gradients. Hidden maps live only as tiles in the
cache; the backward passes compute them again. Products run in bfloat16 under autocast, everything else in float32.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from tatcli.model.maps import empty_map
from tatcli.model.native_library import BlockArguments, CellArguments, native_library
from tatcli.model.packing import LANES, PackedWeights, Shape, call
from tatcli.model.windows import Cells

__all__ = [
    "attention_mix",
    "attention_statistics",
    "can_fuse",
    "feedforward",
    "kernels_for",
    "section_seconds",
    "without_kernels",
]

_allowed = True
_SECTIONS = ("LayerNorm", "products", "depthwise", "gate", "statistics")
"""In the order of ``native/profile.h``."""


@contextmanager
def section_seconds() -> Iterator[dict[str, float]]:
    """What the kernels spend their time on in this context: seconds of all threads together, by section, once it ends.

    It sees the passes of inference; of the backward passes only what they share with these.
    """
    spent: dict[str, float] = {}
    library = native_library()
    if library is None:
        yield spent
        return
    library.tat_profile(1)
    try:
        yield spent
    finally:
        seconds = (ctypes.c_double * len(_SECTIONS))()
        library.tat_section_seconds(seconds)
        library.tat_profile(0)
        spent |= dict(zip(_SECTIONS, seconds, strict=True))


@contextmanager
def without_kernels() -> Iterator[None]:
    """PyTorch's operations only, in this context: to compare with, and to measure against."""
    global _allowed  # noqa: PLW0603 - a switch of the process, as torch's own backends have
    before, _allowed = _allowed, False
    try:
        yield
    finally:
        _allowed = before


def kernels_for(width: int, *, bf16: bool) -> bool:
    """Whether maps of this many channels go through the kernels on this CPU, in bfloat16 or in float32."""
    library = native_library() if _allowed and width % LANES == 0 else None
    return library is not None and (not bf16 or bool(library.tat_has_bf16()))


def can_fuse(x: Tensor, *channels: int) -> bool:
    """Whether the kernels can take this map and these channel counts."""
    if x.device.type != "cpu":
        return False
    bf16 = torch.is_autocast_enabled("cpu")
    fits = torch.get_autocast_dtype("cpu") is torch.bfloat16 if bf16 else x.dtype is torch.float32
    return fits and all(kernels_for(count, bf16=bf16) for count in channels)


def _rows(x: Tensor) -> Tensor:
    """(batch, channels, rows, columns) in float32, channels-last in memory."""
    return x.detach().float().contiguous(memory_format=torch.channels_last)


def feedforward(
    x: Tensor, norm: nn.LayerNorm, expand: Tensor, kernels: Tensor, project: Tensor, packed: tuple[PackedWeights, ...]
) -> Tensor:
    """X + project(gelu(a) * b), (a, b) = depthwise(expand(norm(x))).

    Args:
        x: (batch, dim, rows, columns).
        norm: LayerNorm over the channels.
        expand: (2 hidden, dim, 1, 1).
        kernels: (1 or batch, 2 hidden, 3, 3).
        project: (dim, hidden, 1, 1).
        packed: where the packed forms of ``expand`` and ``project`` are kept.

    Returns:
        Like x, in float32.
    """
    bf16 = torch.is_autocast_enabled("cpu")
    shape = Shape.of_gate(x.shape[1], project.shape[1])
    first = packed[0].get("tat_pack_expansion", expand, shape, bf16=bf16)
    second = packed[1].get("tat_pack_projection", project, shape, bf16=bf16)
    y: Tensor = _FeedForward.apply(  # type: ignore[no-untyped-call]
        x, norm.weight, norm.bias, expand, kernels, project, (shape, bf16, first, second)
    )
    return y


def attention_statistics(
    x: Tensor, norm: nn.LayerNorm, expand: Tensor, kernels: Tensor, heads: tuple[int, PackedWeights], cells: Cells
) -> tuple[Tensor, Tensor]:
    """Q k^T, |q|^2 and |k|^2 of every cell, and the values v, of (q, k, v) = depthwise(expand(norm(x))).

    Args:
        x: (batch, dim, rows, columns).
        norm: LayerNorm over the channels.
        expand: (3 dim, dim, 1, 1).
        kernels: (1 or batch, 3 dim, 3, 3).
        heads: groups of channels, and where the packed form of ``expand`` is kept.
        cells: of the local windows; gradients need a single one.

    Returns:
        (cells, batch, heads, c, c + 2) in float32, and (batch, dim, rows, columns), bfloat16 under autocast.
    """
    bf16 = torch.is_autocast_enabled("cpu")
    shape = Shape.of_heads(x.shape[1], heads[0])
    first = heads[1].get("tat_pack_expansion", expand, shape, bf16=bf16)
    statistics, values = _AttentionStatistics.apply(  # type: ignore[no-untyped-call]
        x, norm.weight, norm.bias, expand, kernels, (shape, bf16, first, cells)
    )
    return statistics, values


def attention_mix(x: Tensor, values: Tensor, folded: Tensor, cells: Cells, *, spent: bool = False) -> Tensor:
    """X + folded v: one matrix for each cell and sample.

    Args:
        x: (batch, dim, rows, columns).
        values: v, of :func:`attention_statistics`.
        folded: (cells, batch, dim, dim).
        cells: of the local windows; gradients need a single one.
        spent: x is needed no more; where no gradients are recorded, the result takes its place.

    Returns:
        Like x, in float32.
    """
    in_place = spent and not torch.is_grad_enabled()
    y: Tensor = _AttentionMix.apply(x, values, folded, cells, in_place)  # type: ignore[no-untyped-call]
    return y


class _FeedForward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, *rest: Any) -> Tensor:
        gamma, beta, expand, kernels, project, (shape, bf16, first, second) = rest
        x = _rows(x)
        kernels = kernels.detach().float().contiguous()
        arguments = _arguments(shape, x, (gamma, beta), kernels, first, bf16=bf16)
        y = empty_map(x.shape, torch.float32)
        call("tat_feedforward", arguments, second[0], y)
        ctx.save_for_backward(x, gamma, beta, kernels, *first, *second)
        ctx.shape, ctx.bf16, ctx.weights = shape, bf16, (expand.shape, project.shape)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, gamma, beta, kernels, first, first_back, _, second_back = ctx.saved_tensors
        dy, shape = _rows(gradients[0]), ctx.shape
        arguments = _arguments(shape, x, (gamma, beta), kernels, (first, first_back), bf16=ctx.bf16)
        dx, d_gamma, d_beta, d_kernels = (torch.empty_like(t) for t in (x, gamma, beta, kernels))
        d_expand = torch.empty(ctx.weights[0])
        d_project = torch.empty(shape.valid, shape.dim)
        results = (dx, d_gamma, d_beta, d_expand, d_kernels, d_project)
        call("tat_feedforward_backward", arguments, second_back, dy, *results)
        return dx, d_gamma, d_beta, d_expand, d_kernels, d_project.t().reshape(ctx.weights[1]), None


class _AttentionStatistics(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
        gamma, beta, expand, kernels, (shape, bf16, first, cells) = rest
        x = _rows(x)
        kernels = kernels.detach().float().contiguous()
        arguments = _arguments(shape, x, (gamma, beta), kernels, first, bf16=bf16)
        statistics = torch.empty(cells.count, x.shape[0], shape.blocks, shape.group, shape.group + 2)
        values = empty_map(x.shape, torch.bfloat16 if bf16 else torch.float32)
        call("tat_attention_statistics", arguments, _cell_arguments(cells), statistics, values)
        ctx.save_for_backward(x, gamma, beta, kernels, *first)
        ctx.shape, ctx.bf16, ctx.weight = shape, bf16, expand.shape
        return statistics, values

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, gamma, beta, kernels, *first = ctx.saved_tensors
        d_statistics = gradients[0].float().contiguous()
        d_values = gradients[1].contiguous(memory_format=torch.channels_last)
        arguments = _arguments(ctx.shape, x, (gamma, beta), kernels, first, bf16=ctx.bf16)
        dx, d_gamma, d_beta, d_kernels = (torch.empty_like(t) for t in (x, gamma, beta, kernels))
        d_expand = torch.empty(ctx.weight)
        results = (dx, d_gamma, d_beta, d_expand, d_kernels)
        call("tat_attention_statistics_backward", arguments, d_statistics, d_values, *results)
        return dx, d_gamma, d_beta, d_expand, d_kernels, None


class _AttentionMix(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, *rest: Any) -> Tensor:
        values, folded, cells, in_place = rest
        x = _rows(x)
        folded = folded.detach().float().contiguous()
        y = x if in_place else empty_map(x.shape, torch.float32)
        call("tat_attention_mix", _mix_arguments(x, values), _cell_arguments(cells), folded, values, y)
        ctx.save_for_backward(values, folded)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        values, folded = ctx.saved_tensors
        dy = _rows(gradients[0])
        d_values, d_folded = torch.empty_like(values), torch.empty_like(folded)
        call("tat_attention_mix_backward", _mix_arguments(dy, values), folded, values, dy, d_folded, d_values)
        return dy, d_values, d_folded, None, None


def _arguments(
    shape: Shape, x: Tensor, norm: tuple[Tensor, Tensor], kernels: Tensor, packed: Any, *, bf16: bool
) -> BlockArguments:
    batch, _, rows, columns = x.shape
    return shape.arguments(
        samples=batch,
        rows=rows,
        columns=columns,
        per_sample=kernels.shape[0] > 1,
        bf16=bf16,
        x=x.data_ptr(),
        gamma=norm[0].data_ptr(),
        beta=norm[1].data_ptr(),
        kernels=kernels.data_ptr(),
        forward=packed[0].data_ptr(),
        backward=packed[1].data_ptr(),
    )


def _mix_arguments(x: Tensor, values: Tensor) -> BlockArguments:
    batch, dim, rows, columns = x.shape
    shape = Shape(dim, groups=1, group=dim, blocks=1, valid=dim)
    bf16 = values.dtype is torch.bfloat16
    return shape.arguments(samples=batch, rows=rows, columns=columns, bf16=bf16, x=x.data_ptr())


def _cell_arguments(cells: Cells) -> CellArguments:
    edges = [[axis[0][0], *(stop for _, stop in axis)] for axis in (cells.rows, cells.columns)]
    arrays = [(ctypes.c_long * len(axis))(*axis) for axis in edges]
    return CellArguments(len(cells.rows), len(cells.columns), *arrays)
