"""The machine: device, precision, threads, and what memory was used."""

from __future__ import annotations

import os
import platform
import re
import warnings
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Final

import torch
from torch import nn

from tatcli.errors import DeviceError, UsageError, reason_of
from tatcli.inference.gpus import count_gpus, has_kernels
from tatcli.inference.options import PRECISIONS
from tatcli.inference.system_memory import peak_resident
from tatcli.processor import MOST_THREADS, processor_field, usable_cores

__all__ = [
    "DTYPES",
    "Runtime",
    "bf16_is_faster",
    "check_against_cpu",
    "choose_device",
    "choose_precision",
    "is_out_of_memory",
    "peak_memory",
    "prepare_runtime",
    "refuse_tf32",
    "set_threads",
]

DTYPES: Final = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

_OUT_OF_MEMORY: Final = ("can't allocate memory", "not enough memory", "out of memory", "_status_alloc_failed")
"""What PyTorch's CPU (Linux, Windows) and MPS allocators, cuBLAS and cuDNN say in a plain RuntimeError."""

_SIDES: Final = (64, 200)
"""Rows, and columns enough for more than one of the released networks' local windows."""
_TOLERANCE: Final = 1e-3
"""Of a task's range; GPUs round otherwise than CPUs, by less."""


@dataclass(frozen=True)
class Runtime:
    """Where and how the network runs.

    Attributes:
        device: a device that exists.
        precision: ``fp32``, ``bf16`` or ``fp16``.
        threads: of the CPU.
    """

    device: torch.device
    precision: str
    threads: int

    def computing(self) -> AbstractContextManager[object]:
        """The context in which the network runs: autocast, unless the precision is fp32."""
        if self.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, DTYPES[self.precision])

    @property
    def device_name(self) -> str:
        """The device in words."""
        return torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else self.device.type

    def synchronise(self) -> None:
        """Wait until the device has done all that it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        elif self.device.type == "mps":
            torch.mps.synchronize()

    def release_memory(self) -> None:
        """Give cached device memory back before a smaller attempt."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        elif self.device.type == "mps":
            torch.mps.empty_cache()


def prepare_runtime(*, device: str = "auto", precision: str = "auto", threads: int | None = None) -> Runtime:
    """Check and settle the machine's part of a restoration, PyTorch's threads (:func:`set_threads`) included.

    On CUDA devices fp32 is fp32 from then on (:func:`refuse_tf32`).

    Raises:
        DeviceError: the device is unknown or absent, or doesn't compute in this precision.
        UsageError: an unknown precision, no thread or too many.
    """
    if threads is not None and not 1 <= threads <= MOST_THREADS:
        msg = f"--threads: expected 1 to {MOST_THREADS}, got {threads}"
        raise UsageError(msg)
    chosen = choose_device(device)
    number = choose_precision(chosen, precision)
    if chosen.type == "cuda":
        refuse_tf32()
    set_threads(threads)
    return Runtime(chosen, number, torch.get_num_threads())


def set_threads(threads: int | None) -> None:
    """Have PyTorch compute in so many threads.

    Args:
        threads: None: as many as it takes by itself, but not more than the process has time for, where nobody said how
            many. PyTorch knows nothing of a container's limit, and its threads would wait for each other.
    """
    if threads is None and "OMP_NUM_THREADS" not in os.environ:
        threads = min(torch.get_num_threads(), usable_cores())
    if threads is not None:
        torch.set_num_threads(threads)


def refuse_tf32() -> None:
    """Make fp32 fp32 on CUDA devices from now on.

    By default PyTorch's convolutions round to TF32's 10 bits there, which are steps of 1 HU at soft tissue in CT's
    range, in the input of any precision. Its matrix products do so where a variable says it, as in NVIDIA's containers
    (TORCH_ALLOW_TF32_CUBLAS_OVERRIDE=1).
    """
    with warnings.catch_warnings():  # of a newer way to say it, which not all versions have
        warnings.simplefilter("ignore")
        torch.backends.cudnn.allow_tf32 = False
        torch.set_float32_matmul_precision("highest")


def choose_device(name: str = "auto") -> torch.device:
    """The device of this name; ``auto``: CUDA where there is one that PyTorch has code for, else the CPU.

    Apple's GPU (MPS) is never guessed.

    Raises:
        DeviceError: unknown, or absent: a device that was asked for is never replaced by another.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() and has_kernels() else "cpu")
    match = re.fullmatch(r"cpu|mps|cuda(?::(0|[1-9][0-9]{0,2}))?", name)
    if match is None:
        msg = f"--device {name!r}: expected auto, cpu, cuda, cuda:N or mps"
        raise DeviceError(msg)
    if name.startswith("cuda"):
        count, reason = count_gpus()
        if int(match[1] or 0) >= count:
            found = f"{count} ({reason})" if reason else str(count)
            msg = f"--device {name}: expected a CUDA device, found {found}; use --device cpu or auto"
            raise DeviceError(msg)
    if name == "mps" and not torch.backends.mps.is_available():
        msg = "--device mps: expected an Apple GPU, found none; use --device cpu or auto"
        raise DeviceError(msg)
    return torch.device(name)


def check_against_cpu(network: nn.Module, device: torch.device) -> None:
    """Refuse a device that doesn't compute small images as the CPU does; the network is on the device then.

    For Apple's GPUs, on which tat was never run: PyTorch lacks operations there, and has had others silently wrong, in
    some versions for all images of a batch but the first.

    Raises:
        DeviceError: it doesn't, or can't at all.
    """
    down, across = (torch.linspace(0, 1, length) for length in _SIDES)
    images = torch.stack([torch.outer(down, across.flip(0)), torch.outer(down.square(), across)])[:, None]
    try:
        with torch.inference_mode():
            expected = network.cpu()(images)
            network = network.to(device)
            found = [network(part.to(device)).cpu() for part in (images, images[:1])]
    except (NotImplementedError, RuntimeError, TypeError) as error:
        got = reason_of(error).partition("\n")[0]
    else:
        most = float(torch.stack([(part - expected[: len(part)]).abs().max() for part in found]).max())
        if most <= _TOLERANCE:
            return
        got = f"values off by up to {most:.2g}"
    msg = f"--device {device}: expected what the CPU computes, got {got}; use --device cpu"
    raise DeviceError(msg)


def choose_precision(device: torch.device, requested: str = "auto") -> str:
    """What the network computes in on this device.

    ``auto`` is bf16 on CUDA devices that have it and CPUs that it is faster on (see :func:`bf16_is_faster`), and fp32
    everywhere else. Sums that need it are fp32 in any precision, and so are the input and the correction that
    is added to it.

    Raises:
        DeviceError: the device doesn't compute in the precision asked for.
        UsageError: an unknown precision.
    """
    if requested not in PRECISIONS:
        msg = f"--precision {requested!r}: expected one of {', '.join(PRECISIONS)}"
        raise UsageError(msg)
    if requested == "auto":
        return "bf16" if _prefers_bf16(device) else "fp32"
    if requested == "fp16" and device.type == "cpu":
        msg = "--precision fp16: expected a GPU, got the CPU; use fp32 or bf16"
        raise DeviceError(msg)
    return requested


def _prefers_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        with torch.cuda.device(device):  # it is asked about the current one
            return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and bf16_is_faster()


def bf16_is_faster() -> bool:
    """Whether this CPU takes bf16 products at more than the pace of fp32: AMX tiles, or AMD's AVX512-BF16 (Zen 4 on).

    There bf16 restored 1.4 to 1.7 times as fast, and moved the PSNR of real scans by at most 0.0023 dB
    (``tat evaluate``, tat-small, all three tasks). Intel's AVX512-BF16 does as many products a cycle as its fp32: with
    the conversions, bf16 took 1.2 to 1.35 times as long. Arm processors with bf16 were not measured, so they count as
    without.
    """
    return _has("amx_tile") or (_has("avx512_bf16") and _is_amd())


def _has(feature: str) -> bool:
    ask = getattr(torch.cpu, f"_is_{feature}_supported", None)
    return ask is not None and bool(ask())


def _is_amd() -> bool:
    return "AuthenticAMD" in (processor_field("vendor_id") or platform.processor())  # Windows names it in the latter


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out, on any device."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _OUT_OF_MEMORY)


def peak_memory(device: torch.device | None = None) -> tuple[int | None, int | None]:
    """(peak resident memory of this process, peak of its tensors on a CUDA device), in bytes; None where unknown."""
    on_device = None
    if device is not None and device.type == "cuda":
        on_device = torch.cuda.max_memory_allocated(device)
    return peak_resident(), on_device
