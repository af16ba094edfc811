"""Memory for the largest maps of a pass on a CPU, kept from one map of the pass to the next.

The C library asks the system for each block of more than 32 MiB, and gives it back as soon as it is free; so every map
of a 512x512 slice's first level would cost thousands of page faults, a fifth of the time of a pass with tat-small.
Blocks that are kept here lie in large pages, where the system has them, and are given back when the pass is over.
"""

from __future__ import annotations

import math
import mmap
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["empty_map", "kept_maps", "release_free_maps"]

_LARGE: Final = 32 * 2**20
"""Maps of fewer bytes are left to the C library, which keeps such blocks itself."""
_PAGE: Final = 2 * 2**20
"""A large page of Linux on x86-64 and 64-bit ARM; blocks are a whole number of them."""
_HAS_MAPPINGS: Final = hasattr(mmap, "MAP_ANONYMOUS")  # (Windows has not)


class _Blocks:
    """Of one pass: those that no tensor uses now, by their size."""

    def __init__(self) -> None:
        self.free: dict[int, list[mmap.mmap]] = {}

    def take(self, size: int) -> NDArray[np.uint8]:
        """Bytes that come back here once no tensor uses them."""
        free = self.free.setdefault(size, [])
        block = free.pop() if free else _from_the_system(size)
        taken = np.frombuffer(block, dtype=np.uint8)
        weakref.finalize(taken, free.append, block).atexit = False
        return taken


class _Pass(threading.local):
    blocks: _Blocks | None = None


_pass = _Pass()


@contextmanager
def kept_maps() -> Iterator[None]:
    """A pass: what :func:`empty_map` took from the system is kept for other maps of this thread until it ends."""
    before, _pass.blocks = _pass.blocks, _Blocks()
    try:
        yield
    finally:
        _pass.blocks = before


def release_free_maps() -> None:
    """Give back to the system what the pass keeps and no map lies in now."""
    if _pass.blocks is not None:
        for blocks in _pass.blocks.free.values():
            blocks.clear()


def empty_map(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """A map of this shape (batch, channels, rows, columns) on the CPU, channels-last, its values undefined.

    During a pass (see :func:`kept_maps`) a large one lies where another has been before.
    """
    size = math.prod(shape) * dtype.itemsize
    if _pass.blocks is None or size < _LARGE or not _HAS_MAPPINGS:
        return torch.empty(*shape, dtype=dtype, memory_format=torch.channels_last)
    taken = _pass.blocks.take(-(-size // _PAGE) * _PAGE)
    _, channels, rows, columns = shape
    strides = (rows * columns * channels, 1, columns * channels, channels)
    # (a tensor of its own, not a view of another: autograd treats views as special)
    empty: Any = torch.empty(0, dtype=dtype)
    mapped: Tensor = empty.set_(torch.from_numpy(taken).untyped_storage(), 0, tuple(shape), strides)
    return mapped


def _from_the_system(size: int) -> mmap.mmap:
    block = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):  # a kernel without large pages
            block.madvise(mmap.MADV_HUGEPAGE)
    return block
