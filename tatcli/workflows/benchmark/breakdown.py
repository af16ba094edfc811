"""Where the time of a pass goes, by kind of operation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import torch
from torch._C._autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from tatcli.inference.runtime import Runtime
from tatcli.model.fused import section_seconds

__all__ = ["KINDS", "kind_of", "measure_breakdown"]

KINDS: Final = (
    "1x1 convolution",
    "3x3 convolution",
    "depthwise",
    "matrix product",
    "LayerNorm",
    "GELU",
    "fused kernel",
    *(f"fused {section}" for section in ("LayerNorm", "products", "depthwise", "gate", "statistics")),
    "elementwise",
    "copy and layout",
    "other",
    "outside operations",
)
"""``fused`` are parts of this project's own CPU kernels (``fused kernel``: where the parts aren't told apart);
``outside operations`` is Python, and code that PyTorch doesn't see."""
_OUTSIDE: Final = "outside operations"
_ROOT: Final = "tat: one pass"
_OWN: Final = ("tat::", "tatcli::", "depthwise_kernel")
_BY_TRITON: Final = ("depthwise_kernel", "triton_")
"""Kernels of a GPU that no operation of PyTorch's starts: this project's, and those of its compiler."""
_CONVOLUTIONS: Final = ("conv", "nnpack")
_NAMES: Final = {
    "matrix product": ("mm", "bmm", "addmm", "baddbmm", "matmul", "linear", "einsum"),
    "LayerNorm": ("layer_norm",),
    "GELU": ("gelu",),
    "elementwise": (
        "add", "sub", "mul", "div", "addcmul", "pow", "square", "sqrt", "rsqrt", "sum", "mean", "softmax", "clamp",
        "maximum", "minimum", "isfinite", "eq", "ne", "abs", "all", "bitwise_and", "where", "norm",
        "linalg_vector_norm",
    ),
    "copy and layout": (
        "copy", "to_copy", "cat", "stack", "clone", "contiguous", "to", "pad", "pixel_shuffle", "pixel_unshuffle",
        "reflection_pad2d", "replication_pad2d", "fill", "zero", "empty", "empty_like", "empty_strided", "resize",
        "zeros", "ones", "view", "reshape", "permute", "transpose", "slice", "narrow", "select", "chunk", "split",
        "as_strided", "expand", "unsqueeze", "squeeze", "t", "unsafe_view", "alias", "detach", "flatten",
        "memcpy", "memset",
    ),
}  # fmt: skip


def kind_of(name: str, shapes: Sequence[Sequence[int]]) -> str:
    """The kind of an operation.

    Args:
        name: as PyTorch's profiler has it, such as ``aten::mkldnn_convolution``.
        shapes: of its tensors; a convolution's kernel is the second.
    """
    if name.startswith(_OWN):
        return "fused kernel"
    bare = name.rpartition("::")[2].strip("_")
    if any(word in bare for word in _CONVOLUTIONS):
        return _kind_of_convolution(*shapes[:2]) if len(shapes) > 1 else "other"
    bare = bare.removeprefix("native_")
    for kind, names in _NAMES.items():
        if bare in names:
            return kind
    return "other"


def measure_breakdown(work: Callable[[], object], runtime: Runtime) -> dict[str, float]:
    """Fractions of the time of ``work``, by kind; they add up to 1, kinds that take none are left out.

    On a GPU it is the time of the kernels that count, which may run beside Python.
    """
    on_gpu = runtime.device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with profile(activities=activities, record_shapes=True) as profiler, torch.profiler.record_function(_ROOT):
        work()
        runtime.synchronise()
    with section_seconds() as sections:  # another pass, so that neither clock disturbs the other
        work()
    spent = dict.fromkeys(KINDS, 0.0)
    for event in profiler.key_averages(group_by_input_shape=True):
        spent[_kind_of_event(event)] += _time_on_gpu(event) if on_gpu else event.self_cpu_time_total
    if inside := sum(sections.values()):
        whole = spent.pop("fused kernel")
        spent |= {f"fused {section}": whole * seconds / inside for section, seconds in sections.items()}
    total = sum(spent.values())
    return {kind: round(time / total, 4) for kind, time in spent.items() if time > 0.0}


def _time_on_gpu(event: Any) -> float:
    """Of an operation; kernels, which its time consists of, have events of their own, and so has the pass there."""
    counts = event.device_type == DeviceType.CPU or event.key.startswith(_BY_TRITON)
    return float(event.self_device_time_total) if counts else 0.0


def _kind_of_event(event: Any) -> str:
    return _OUTSIDE if event.key == _ROOT else kind_of(event.key, event.input_shapes or ())


def _kind_of_convolution(x: Sequence[int], kernel: Sequence[int]) -> str:
    if len(x) != 4 or len(kernel) != 4:
        return "other"
    if list(kernel[2:]) == [1, 1]:
        return "1x1 convolution"
    return "depthwise" if kernel[1] == 1 and kernel[0] == x[1] > 1 else "3x3 convolution"
