"""Slices to the device and corrections back, so that a GPU computes while both are under way.

A pass is started and collected later: while the device works on one batch, the next is prepared, copied from pinned
memory on a stream of its own, and queued behind it. On a CPU a pass is finished when it is started.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Started", "Transfers"]

_CUDA: Final = "cuda"

Compute = Callable[[Tensor], Tensor]
"""(batch, 1, rows, columns) on the device -> the same shape."""


class Started:
    """A pass that was started.

    Args:
        values: (batch, rows, columns) in host memory, complete once ``wait`` returned.
        finite: one element in host memory, likewise: whether all values are finite.
        wait: returns when the device is done.
        keep: what the device reads until then.
    """

    def __init__(
        self, values: Tensor, finite: Tensor, wait: Callable[[], None] = lambda: None, *, keep: Tensor | None = None
    ) -> None:
        self._values = values
        self._finite = finite
        self._wait = wait
        self._keep = keep

    def collect(self) -> tuple[NDArray[np.float32], bool]:
        """The values, and whether all of them are finite."""
        self._wait()
        values: NDArray[np.float32] = self._values.numpy()
        return values, bool(self._finite)


class Transfers:
    """Moves batches to a device and back.

    Args:
        device: where passes are computed.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._upload = torch.cuda.Stream(device) if device.type == _CUDA else None  # type: ignore[no-untyped-call]

    def start(self, slices: NDArray[np.float32], compute: Compute) -> Started:
        """Start a pass.

        Args:
            slices: (batch, rows, columns).
            compute: what the device does with them.
        """
        host = torch.from_numpy(np.ascontiguousarray(slices))[:, None]
        if self._upload is None:
            output = compute(host.to(self.device))[:, 0]
            finite = output.sum().isfinite()  # quick, and nearly always it says that all are
            return Started(output.cpu(), finite.cpu() if finite else torch.isfinite(output).all().cpu())
        stream = torch.cuda.current_stream(self.device)
        with torch.cuda.stream(self._upload):
            x = host.pin_memory().to(self.device, non_blocking=True)
        stream.wait_stream(self._upload)
        output = compute(x)[:, 0]
        values = torch.empty(output.shape, dtype=torch.float32, pin_memory=True)
        values.copy_(output, non_blocking=True)
        finite = torch.empty((), dtype=torch.bool, pin_memory=True)
        finite.copy_(torch.isfinite(output).all(), non_blocking=True)
        done = torch.cuda.Event()  # type: ignore[no-untyped-call]
        done.record(stream)
        # The next upload takes x's place as soon as x is gone, so it stays until then. (To record that the stream uses
        # it won't do: once PyTorch failed to capture a graph, it never gives such memory back.)
        return Started(values, finite, done.synchronize, keep=x)
