"""CUDA graphs: the network's thousands of launches for a slice recorded once per shape, then replayed as one.

A small network on a fast GPU waits for its launches longer than for its arithmetic. Recording takes a few passes, so it
starts with the third pass of a shape; a recording counts only after its replay gave what the network gives.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn

__all__ = ["GraphedNetwork", "Recording", "record"]

AFTER: Final = 2
"""Passes of a shape that go by without a recording."""
MOST: Final = 4
"""Shapes that are recorded; each keeps its maps in device memory."""
WARM_UPS: Final = 2
TOLERANCE: Final = 1e-3
"""Largest difference between a replay and the network itself, network range: far below one bf16 step of the maps."""


@dataclass(frozen=True, eq=False)
class Recording:
    """A replayable pass: ``source`` is written to, ``replay`` called, ``result`` read."""

    source: Tensor
    result: Tensor
    replay: Callable[[], None]

    def __call__(self, x: Tensor) -> Tensor:
        """The network's output for x; a copy, since the next replay writes over it."""
        self.source.copy_(x)
        self.replay()
        return self.result.clone()


def record(network: nn.Module, x: Tensor) -> Recording:
    """Capture a pass of the network on x's shape, on x's CUDA device, under the caller's autocast.

    Raises:
        RuntimeError: the pass can't be captured (it synchronises or copies from the host), or memory ran out.
    """
    # Cached casts of the weights die with the autocast context; a recording must hold its own.
    dtype = torch.get_autocast_dtype("cuda")
    with (
        torch.cuda.device(x.device),  # streams and captures are the current device's
        torch.cuda.stream(torch.cuda.current_stream()),  # a capture that fails stays on its own
        torch.autocast("cuda", dtype, enabled=torch.is_autocast_enabled("cuda"), cache_enabled=False),
    ):
        source = x.clone()
        current, side = torch.cuda.current_stream(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(current)
        with torch.cuda.stream(side):
            for _ in range(WARM_UPS):
                network(source)
        current.wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        # (PyTorch's own stream for captures is of the device that was first captured on)
        with torch.cuda.graph(graph, stream=torch.cuda.Stream()):  # type: ignore[no-untyped-call]
            result: Tensor = network(source)
    return Recording(source, result, graph.replay)


class GraphedNetwork(nn.Module):
    """The network, replayed from a recording where its input's shape has one.

    Args:
        network: in eval mode, on its device; its weights must not change any more.
        recorder: makes a recording, see :func:`record`.
        on_refusal: is told, in words, when a shape can't be recorded; such shapes go on without.
    """

    def __init__(
        self,
        network: nn.Module,
        recorder: Callable[[nn.Module, Tensor], Recording] = record,
        *,
        on_refusal: Callable[[str], None] = lambda _: None,
    ) -> None:
        super().__init__()
        self.network = network
        self.recorder = recorder
        self.on_refusal = on_refusal
        self.seen: Counter[torch.Size] = Counter()
        self.recordings: dict[torch.Size, Recording | None] = {}

    def forward(self, x: Tensor) -> Tensor:
        """(batch, 1, rows, columns) in and out."""
        self.seen[x.shape] += 1
        if x.shape not in self.recordings and self.seen[x.shape] > AFTER and len(self.recordings) < MOST:
            self.recordings[x.shape] = self._recorded(x)
        recording = self.recordings.get(x.shape)
        output: Tensor = self.network(x) if recording is None else recording(x)
        return output

    def forget(self) -> None:
        """Give the recordings' memory back; the next passes start anew."""
        self.recordings.clear()
        self.seen.clear()

    def _recorded(self, x: Tensor) -> Recording | None:
        """A recording that was seen to give what the network gives."""
        expected = self.network(x)
        try:
            recording = self.recorder(self.network, x)
        except RuntimeError as error:
            reason = str(error).partition("\n")[0] or type(error).__name__
            self.on_refusal(f"no CUDA graph for {tuple(x.shape)}: {reason}")
            return None
        difference = float((recording(x).float() - expected.float()).abs().max())
        if not difference <= TOLERANCE:
            self.on_refusal(f"no CUDA graph for {tuple(x.shape)}: its replay is off by {difference:.2g}")
            return None
        return recording
