"""The GPU's depthwise kernels: in Triton's interpreter where it is installed without a GPU, and on one."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from tatcli.model import triton_depthwise
from tatcli.model.triton_depthwise import can_run, depthwise, gated_depthwise

CASES = [(2, 64, 9, 37, 2), (1, 40, 5, 33, 1), (3, 32, 8, 8, 1)]
"""Batch, channels, rows, columns, kernels."""


def largest_differences(batch: int, channels: int, rows: int, columns: int, samples: int, device: str) -> list[float]:
    """Of both kernels from PyTorch's convolution, GELU and product on a CPU, in float32."""
    torch.manual_seed(0)
    x = torch.randn(batch, channels, rows, columns).contiguous(memory_format=torch.channels_last)
    kernels = torch.randn(samples, channels, 3, 3)
    every = kernels.expand(batch, -1, -1, -1)
    convolved = torch.cat(
        [functional.conv2d(x[i : i + 1], every[i, :, None], padding=1, groups=channels) for i in range(batch)]
    )
    opened, gate = convolved.chunk(2, dim=1)
    x, kernels = x.to(device), kernels.to(device)
    pairs: list[tuple[Tensor, Tensor]] = [
        (depthwise(x, kernels), convolved),
        (gated_depthwise(x, kernels), functional.gelu(opened) * gate),
    ]
    return [float((ours.cpu() - theirs).abs().max()) for ours, theirs in pairs]


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
    last = torch.device("cuda", torch.cuda.device_count() - 1)  # not the current one, where there are several
    assert all(value < 1e-4 for value in largest_differences(*case, str(last)))
    with torch.inference_mode():
        assert can_run(torch.zeros(1, 32, 4, 4, device=last))


def test_not_for_a_cpu() -> None:
    with torch.inference_mode():
        assert not can_run(torch.zeros(1, 32, 4, 4))


class Kernel:
    """Stands in for Triton's function: computes with PyTorch, on the device that is then the current one."""

    def __init__(self, error: float = 0.0) -> None:
        self.error = error
        self.guarded: list[Tensor] = []

    def __getitem__(self, grid: tuple[int, int, int]) -> Callable[..., None]:
        return self.launch

    def launch(self, x: Tensor, taps: Tensor, y: Tensor, *_: int, GATED: bool, **blocks: int) -> None:
        assert self.guarded
        assert self.guarded[-1] is x
        kernels = taps[0].t().reshape(-1, 1, 3, 3)
        convolved = functional.conv2d(x, kernels, padding=1, groups=len(kernels))
        opened, gate = convolved.chunk(2, dim=1)
        y.copy_((functional.gelu(opened) * gate if GATED else convolved) + self.error)


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Kernel], Kernel]]:
    """Puts a kernel in the place of Triton's."""

    def put(kernel: Kernel) -> Kernel:
        @contextmanager
        def device_of(x: Tensor) -> Iterator[None]:
            kernel.guarded.append(x)
            yield
            kernel.guarded.pop()

        monkeypatch.setattr(torch.cuda, "device_of", device_of)
        monkeypatch.setattr(triton_depthwise, "_kernel", lambda: kernel)
        triton_depthwise._works_on.cache_clear()
        return kernel

    yield put
    triton_depthwise._works_on.cache_clear()


def test_launched_on_the_maps_own_device(use: Callable[[Kernel], Kernel]) -> None:
    kernel = use(Kernel())
    assert all(value < 1e-4 for value in largest_differences(2, 64, 5, 6, 1, "cpu"))
    assert kernel.guarded == []


def test_used_where_they_give_what_pytorch_gives(use: Callable[[Kernel], Kernel]) -> None:
    use(Kernel())
    assert triton_depthwise._works_on(torch.device("cpu"))
    use(Kernel(error=0.02))
    assert not triton_depthwise._works_on(torch.device("cpu"))
    use(Kernel(error=float("nan")))
    assert not triton_depthwise._works_on(torch.device("cpu"))


def test_not_used_where_they_can_not_be_built(use: Callable[[Kernel], Kernel]) -> None:
    class Unbuilt(Kernel):
        def launch(self, *_: object, **__: object) -> None:
            msg = "Failed to find C compiler. Please specify via CC environment variable."
            raise RuntimeError(msg)

    use(Unbuilt())
    assert not triton_depthwise._works_on(torch.device("cpu"))


def test_out_of_memory_says_nothing_of_the_kernels(use: Callable[[Kernel], Kernel]) -> None:
    class Starved(Kernel):
        def launch(self, *_: object, **__: object) -> None:
            raise torch.OutOfMemoryError

    use(Starved())
    with pytest.raises(torch.OutOfMemoryError):
        triton_depthwise._works_on(torch.device("cpu"))
    use(Kernel())
    assert triton_depthwise._works_on(torch.device("cpu"))
