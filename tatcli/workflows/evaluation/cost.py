"""Time and memory of a method, measured while it works.

Memory is the growth of the process's resident set: Linux keeps its peak (VmHWM in /proc/self/status) and resets it on
request (a 5 written to /proc/self/clear_refs, proc(5)). What earlier work freed is given back to the system first
(malloc_trim(3)), or a method could hide in it. Elsewhere only the time is measured. On a CUDA device the peak of
PyTorch's allocator counts instead, of all of them together: one works.
"""

from __future__ import annotations

import ctypes
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

__all__ = ["Cost", "CostMeter"]

_STATUS: Final = Path("/proc/self/status")
_RESET: Final = Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class Cost:
    """What a method takes.

    Attributes:
        seconds: wall time for one slice.
        peak_bytes: by how much memory grew at most while it ran; None where the system doesn't tell.
    """

    seconds: float
    peak_bytes: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {"seconds_per_slice": round(self.seconds, 5), "peak_bytes": self.peak_bytes}


@dataclass
class CostMeter:
    """Adds up what the blocks under :meth:`measured` take.

    Attributes:
        seconds: wall time so far.
        slices: how many were processed.
        peak: largest growth of memory so far, bytes; None where it can't be measured.
    """

    seconds: float = 0.0
    slices: int = 0
    peak: int | None = None

    @contextmanager
    def measured(self, slices: int, *, device: str = "cpu") -> Iterator[None]:
        """Measure a block that works on so many slices.

        Args:
            slices: how many.
            device: where it computes, in words; anything but ``cpu`` and ``mps`` is a CUDA device's name.
        """
        on_gpu = device not in ("cpu", "mps")
        before = _start_on_gpu() if on_gpu else _start()
        start = time.perf_counter()
        yield  # (what was computed on a GPU is in the CPU's memory then)
        self.seconds += time.perf_counter() - start
        self.slices += slices
        after = _peak_on_gpu() if on_gpu else _field("VmHWM")
        if before is not None and after is not None:
            self.peak = max(self.peak or 0, after - before)

    @property
    def cost(self) -> Cost | None:
        """What one slice took, and the most memory; None where nothing was measured."""
        return Cost(self.seconds / self.slices, self.peak) if self.slices else None


def _start() -> int | None:
    """Forget the peak so far; resident bytes now."""
    _give_back_freed()
    try:
        _RESET.write_text("5", encoding="ascii")
    except OSError:
        return None
    return _field("VmRSS")


def _give_back_freed() -> None:
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


def _field(name: str) -> int | None:
    """A line of /proc/self/status in bytes."""
    try:
        lines = _STATUS.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:")), None)


def _start_on_gpu() -> int:
    import torch

    for device in range(torch.cuda.device_count()):
        torch.cuda.reset_peak_memory_stats(device)
    return sum(torch.cuda.memory_allocated(device) for device in range(torch.cuda.device_count()))


def _peak_on_gpu() -> int:
    import torch

    return sum(torch.cuda.max_memory_allocated(device) for device in range(torch.cuda.device_count()))
