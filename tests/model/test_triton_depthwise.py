"""The GPU's depthwise kernels: in Triton's interpreter where it is installed without a GPU, and on one."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from tatcli.model.triton_depthwise import can_run, depthwise, gated_depthwise

CASES = [(2, 64, 9, 37, 2), (1, 40, 5, 33, 1), (3, 32, 8, 8, 1)]
"""Batch, channels, rows, columns, kernels."""


def largest_differences(batch: int, channels: int, rows: int, columns: int, samples: int, device: str) -> list[float]:
    """Of both kernels from PyTorch's convolution, GELU and product, in float32."""
    torch.manual_seed(0)
    x = torch.randn(batch, channels, rows, columns, device=device).contiguous(memory_format=torch.channels_last)
    kernels = torch.randn(samples, channels, 3, 3, device=device)
    every = kernels.expand(batch, -1, -1, -1)
    convolved = torch.cat(
        [functional.conv2d(x[i : i + 1], every[i, :, None], padding=1, groups=channels) for i in range(batch)]
    )
    opened, gate = convolved.chunk(2, dim=1)
    pairs: list[tuple[Tensor, Tensor]] = [
        (depthwise(x, kernels), convolved),
        (gated_depthwise(x, kernels), functional.gelu(opened) * gate),
    ]
    return [float((ours - theirs).abs().max()) for ours, theirs in pairs]


@pytest.mark.parametrize("case", CASES)
def test_in_the_interpreter(case: tuple[int, ...]) -> None:
    """In a process of its own: the interpreter is chosen when Triton is imported."""
    pytest.importorskip("triton", reason="Triton comes with PyTorch's CUDA builds")
    code = f"from tests.model.test_triton_depthwise import largest_differences as d; print(*d(*{case}, 'cpu'))"
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={"TRITON_INTERPRET": "1", "PATH": "", "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert all(float(value) < 1e-4 for value in run.stdout.split())
    assert len(run.stdout.split()) == 2


@pytest.mark.gpu
@pytest.mark.parametrize("case", CASES)
def test_on_a_gpu(case: tuple[int, ...]) -> None:
    assert all(value < 1e-4 for value in largest_differences(*case, "cuda"))


def test_not_for_a_cpu() -> None:
    with torch.inference_mode():
        assert not can_run(torch.zeros(1, 32, 4, 4))
