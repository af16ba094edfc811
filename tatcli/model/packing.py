"""How hidden channels lie in blocks, weights packed for the kernels' products, and the calls into their library."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tatcli.model.native_library import BlockArguments, CellArguments, native_library

__all__ = ["LANES", "PackedWeights", "Shape", "call"]

LANES = 16
"""Channel counts must be multiples of this: whole vectors of any processor."""
HIDDEN_BLOCK = 64
"""Channels of each half of the gate that are computed at once."""


@dataclass(frozen=True)
class Shape:
    """How hidden channels lie in blocks; see ``Expansion`` in ``native/expand.h``."""

    dim: int
    groups: int
    group: int
    blocks: int
    valid: int

    @classmethod
    def of_gate(cls, dim: int, hidden: int) -> Shape:
        """Blocks of a feed-forward part: channels of a beside their partners of b, the last block padded."""
        group = min(HIDDEN_BLOCK, -(-hidden // LANES) * LANES)
        return cls(dim, groups=2, group=group, blocks=-(-hidden // group), valid=hidden)

    @classmethod
    def of_heads(cls, dim: int, heads: int) -> Shape:
        """Blocks of an attention: q, k and v of a head."""
        return cls(dim, groups=3, group=dim // heads, blocks=heads, valid=dim)

    def arguments(self, **more: Any) -> BlockArguments:
        """The structure that the library's functions take."""
        return BlockArguments(**vars(self), threads=torch.get_num_threads(), **more)


class PackedWeights:
    """A weight matrix in the order that the products read it, kept until it changes.

    Threads may share it: what is kept and what it was made from change at once, when it is complete.
    """

    def __init__(self) -> None:
        self.kept: tuple[tuple[object, ...], tuple[Tensor, Tensor]] = (), (torch.empty(0), torch.empty(0))

    def get(self, function: str, weight: Tensor, shape: Shape, *, bf16: bool) -> tuple[Tensor, Tensor]:
        """(packed for the product, packed for its gradient), by this function of the library."""
        # While training, weights change at every step, and by ways that leave no mark on their version; inference
        # tensors have none.
        lasting = not (torch.is_grad_enabled() or weight.is_inference())
        key = (weight.data_ptr(), weight._version, shape, bf16) if lasting else ()  # noqa: SLF001
        found, tensors = self.kept
        if not key or key != found:
            rows = shape.blocks * shape.group * (shape.groups if function == "tat_pack_expansion" else 1)
            size = rows * shape.dim // (2 if bf16 else 1)
            # Inference has no use for the second one.
            tensors = (torch.empty(size), torch.empty(size if torch.is_grad_enabled() else 0))
            call(function, shape.arguments(bf16=bf16), weight.detach().float().contiguous(), *tensors)
            self.kept = key, tensors
        return tensors


def call(function: str, arguments: BlockArguments, *more: Tensor | CellArguments) -> None:
    """Call a function of the library, which must be there."""
    library = native_library()
    assert library is not None  # noqa: S101 - can_fuse said so
    # (an empty tensor's address is NULL, which says: not wanted)
    pointers = [
        ctypes.c_void_p(one.data_ptr()) if isinstance(one, Tensor) else ctypes.byref(one) for one in (arguments, *more)
    ]
    with torch.autograd.profiler.record_function(function.replace("_", "::", 1)):
        getattr(library, function)(*pointers)
