"""What the machine can do: its arithmetic peak in a precision and its copy rate, and what it is."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import torch
from torch.nn import functional

from tatcli.inference.runtime import DTYPES, Runtime
from tatcli.processor import processor_field, usable_cores

__all__ = ["Machine", "Peak", "best_peak", "measure_copy_rate", "measure_peak", "this_machine"]

_ATTEMPTS: Final = 8
_MATRIX: Final = {"cpu": (1024, 2048), "gpu": (8192,)}
"""Sides of the square matrices."""
_CONVOLUTION: Final = {"cpu": ((512, 128), (1024, 64)), "gpu": ((512, 512), (1024, 256))}
"""(channels in and out, side of the map)."""
_COPIED: Final = {"cpu": 2**28, "gpu": 2**31}
"""Bytes, far beyond any cache."""


@dataclass(frozen=True)
class Machine:
    """What was measured on.

    Attributes:
        processor: its name.
        capability: the widest vector instructions that PyTorch uses.
        cores: logical ones that this process may use.
        threads: of PyTorch.
        device: in words.
    """

    processor: str
    capability: str
    cores: int
    threads: int
    device: str


@dataclass(frozen=True)
class Peak:
    """Rates in GFLOP/s, each the best of several attempts, since a peak is what nothing disturbs.

    Attributes:
        matrix_product: of two large square matrices.
        convolution_1x1: large, channels-last.
        gflops: the better one, which fractions refer to.
    """

    matrix_product: float
    convolution_1x1: float
    gflops: float = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "gflops", max(self.matrix_product, self.convolution_1x1))


def this_machine(runtime: Runtime) -> Machine:
    """The facts."""
    return Machine(
        processor=processor_field("model name") or platform.processor() or platform.machine(),
        capability=torch.backends.cpu.get_cpu_capability(),
        cores=usable_cores(),
        threads=runtime.threads,
        device=runtime.device_name,
    )


def measure_peak(runtime: Runtime) -> Peak:
    """The rates of the runtime's device in its precision."""
    dtype, device = DTYPES[runtime.precision], runtime.device
    kind = "cpu" if device.type == "cpu" else "gpu"
    product = convolution = 0.0
    with torch.inference_mode():
        for side in _MATRIX[kind]:
            a, b = (torch.rand(side, side, device=device).to(dtype) for _ in range(2))
            product = max(product, 2e-9 * side**3 / _shortest(lambda a=a, b=b: a @ b, runtime))  # type: ignore[misc]
        for channels, side in _CONVOLUTION[kind]:
            x = torch.rand(1, channels, side, side, device=device).to(dtype)
            weight = torch.rand(channels, channels, 1, 1, device=device).to(dtype)
            x, weight = (tensor.contiguous(memory_format=torch.channels_last) for tensor in (x, weight))
            seconds = _shortest(lambda x=x, weight=weight: functional.conv2d(x, weight), runtime)  # type: ignore[misc]
            convolution = max(convolution, 2e-9 * channels**2 * side**2 / seconds)
    return Peak(product, convolution)


def best_peak(peaks: Sequence[Peak]) -> Peak:
    """The best of several measurements in one precision."""
    return Peak(max(peak.matrix_product for peak in peaks), max(peak.convolution_1x1 for peak in peaks))


def measure_copy_rate(runtime: Runtime) -> float:
    """Bytes read and written in a second while a large tensor is copied within the device's memory."""
    size = _COPIED["cpu" if runtime.device.type == "cpu" else "gpu"]
    source = torch.zeros(size, dtype=torch.uint8, device=runtime.device)
    target = torch.ones_like(source)
    return 2 * size / _shortest(lambda: target.copy_(source), runtime)


def _shortest(work: Callable[[], object], runtime: Runtime) -> float:
    """Seconds of the fastest attempt."""
    work()
    runtime.synchronise()
    found = []
    for _ in range(_ATTEMPTS):
        start = time.perf_counter()
        work()
        runtime.synchronise()
        found.append(time.perf_counter() - start)
    return min(found)
