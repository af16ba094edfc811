"""Put slices through the network, and go on with less at a time when memory runs out."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

from tatcli.errors import DeviceError, WeightsError
from tatcli.inference.cuda_graphs import GraphedNetwork
from tatcli.inference.options import VIEWS, RestoreOptions
from tatcli.inference.runtime import Runtime, is_out_of_memory
from tatcli.inference.tiling import blended
from tatcli.inference.transfers import Started, Transfers
from tatcli.model.views import turned, turned_back

__all__ = ["Pass", "Passes", "first_pass"]

_GPU_PIXELS: Final = 2**20
"""Pixels in one pass through a GPU: four slices of 512x512."""
_SMALLEST_TILE: Final = 64
_LARGEST_TILE: Final = 256

Slices = Float[Tensor, "batch 1 rows columns"]


@dataclass(frozen=True)
class Pass:
    """How much goes through the network at once.

    Attributes:
        batch: slices, or tiles at the same place of so many slices.
        tile: side of the tiles; None: whole slices.
        overlap: of neighbouring tiles, pixels.
        ensemble: all of it is shown in eight views, one after the other, whose restorations are averaged.
    """

    batch: int
    tile: int | None = None
    overlap: int = 0
    ensemble: bool = False

    def smaller(self, rows: int, columns: int) -> Pass | None:
        """The next attempt after memory ran out: half the batch, then tiles of half the side; None: there is none."""
        if self.batch > 1:
            return replace(self, batch=self.batch // 2)
        side = min(max(rows, columns), self.tile or max(rows, columns))
        tile = min(_LARGEST_TILE, side // 2 // 8 * 8)
        return replace(self, batch=1, tile=tile, overlap=tile // 4) if tile >= _SMALLEST_TILE else None


def first_pass(options: RestoreOptions, rows: int, columns: int, *, device: torch.device) -> Pass:
    """The pass that the options ask for; where they leave the batch open, one slice on a CPU, many on a GPU.

    A batch brings nothing on a CPU: one slice already fills its caches and threads.
    """
    tile = options.tile_side if options.mode == "patch" else None
    pixels = min(rows, tile or rows) * min(columns, tile or columns)
    batch = options.batch or (1 if device.type == "cpu" else max(1, _GPU_PIXELS // pixels))
    return Pass(batch, tile, options.tile_overlap if tile else 0, options.ensemble)


class Passes:
    """The network's corrections of slices, in the network's range.

    Args:
        network: maps (batch, 1, rows, columns) in [0, 1] onto the same shape; in eval mode, on the runtime's device.
        runtime: device and precision.
        settings: the first attempt; it shrinks when memory runs out, and stays so.
        on_shrink: is told of every smaller attempt, in words.
        executor: calls the network; None: the caller's own thread does.

    Attributes:
        settings: the present attempt.
    """

    def __init__(
        self,
        network: nn.Module,
        runtime: Runtime,
        settings: Pass,
        on_shrink: Callable[[str], None] = lambda _: None,
        executor: Executor | None = None,
    ) -> None:
        self.network = network
        self.runtime = runtime
        self.settings = settings
        self.on_shrink = on_shrink
        self._executor = executor
        self._transfers = Transfers(runtime.device)

    @property
    def ahead(self) -> int:
        """How many starts are worth making before the first is collected: a GPU goes on with the next by itself."""
        return 1 if self.runtime.device.type == "cuda" else 0

    def corrections(self, slices: NDArray[np.float32]) -> NDArray[np.float32]:
        """network(slices) - slices; see :meth:`start`."""
        return self.start(slices)()

    def start(self, slices: NDArray[np.float32]) -> Callable[[], NDArray[np.float32]]:
        """Start computing network(slices) - slices; the function that is returned waits for it.

        Args:
            slices: (n, rows, columns), clipped to [0, 1]; n may exceed the batch.

        Raises:
            DeviceError: memory ran out even with single small tiles, or fp16 overflowed.
            WeightsError: the network's output is not finite (when waiting for it).
        """
        parts: list[Started] = []
        start = 0
        while start < len(slices):
            part = slices[start : start + self.settings.batch]
            try:
                parts.append(self._pass(part))
                start += len(part)
                continue
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            # Outside the handler, whose traceback would keep the failed attempt's memory alive.
            self._shrink(*slices.shape[1:])
        return lambda: self._collected(parts)

    def _pass(self, slices: NDArray[np.float32]) -> Started:
        if self._executor is None:
            return self._compute(slices)
        return self._executor.submit(self._compute, slices).result()

    def _compute(self, slices: NDArray[np.float32]) -> Started:
        with torch.inference_mode():
            return self._transfers.start(slices, self._correct_all)

    def _collected(self, parts: list[Started]) -> NDArray[np.float32]:
        arrays = []
        for part in parts:
            values, finite = part.collect()
            if not finite:
                self._refuse_nonfinite()
            arrays.append(values)
        return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)

    def _correct_all(self, x: Slices) -> Slices:
        settings = self.settings
        if settings.tile is None:
            return self._correct(x)
        return blended(self._correct, x, tile=settings.tile, overlap=settings.overlap)

    def _correct(self, x: Slices) -> Slices:
        if not self.settings.ensemble:
            return self._answer(x)
        total = torch.zeros_like(x)
        for view in VIEWS:
            total += turned_back(self._answer(turned(x, view).contiguous()), view)
        return total / len(VIEWS)

    def _answer(self, x: Slices) -> Slices:
        with self.runtime.computing():
            restored: Tensor = self.network(x)
        return restored.float() - x

    def _refuse_nonfinite(self) -> None:
        if self.runtime.precision == "fp16":
            msg = "--precision fp16: the network overflowed; use bf16 or fp32"
            raise DeviceError(msg)
        msg = "weights: expected finite output, the network gave NaN or infinity; choose other --weights"
        raise WeightsError(msg)

    def _shrink(self, rows: int, columns: int) -> None:
        if isinstance(self.network, GraphedNetwork):
            self.network.forget()
        self.runtime.release_memory()
        smaller = self.settings.smaller(rows, columns)
        if smaller is None:
            tile = self.settings.tile
            size = f"{tile}x{tile} tile" if tile else f"{rows}x{columns} slice"
            msg = f"{self.runtime.device_name}: out of memory even with one {size}; try other --weights or --device"
            raise DeviceError(msg)
        self.settings = smaller
        what = f"batches of {smaller.batch}" if smaller.tile is None else f"single tiles of {smaller.tile}"
        self.on_shrink(f"out of memory on {self.runtime.device_name}: went on with {what}")
