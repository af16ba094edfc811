"""The compiled network: one graph that gives what the network gives, and plain errors where it can't be had."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tatcli.errors import DeviceError
from tatcli.inference import compilation
from tatcli.inference.compilation import CompiledNetwork
from tatcli.model import Tat, TatConfig


def small_network(windows: tuple[int, ...] = ()) -> Tat:
    """A network whose task-adaptive kernels have a say."""
    torch.manual_seed(0)
    config = TatConfig(
        width=8,
        encoder_blocks=(1, 1, 1),
        latent_blocks=1,
        decoder_blocks=(1, 1, 1),
        refinement_blocks=1,
        windows=windows,
    )
    tat = Tat(config).eval()
    for name, parameter in tat.named_parameters():
        if name.endswith("gain"):
            nn.init.normal_(parameter)
    return tat


ONE_GRAPH = """
import torch
from tatcli.inference.compilation import CompiledNetwork
from tatcli.model.fused import without_kernels
from tests.inference.test_compilation import small_network
x = torch.rand(2, 1, 160, 8)  # several windows
for windows in ((), (96, 72, 36, 18)):
    network = small_network(windows)
    graphs = []
    def keep(graph, _):
        graphs.append(graph)
        return graph.forward
    compiled = CompiledNetwork(network, lambda module: torch.compile(module, fullgraph=True, backend=keep))
    with without_kernels(), torch.inference_mode():
        print(float((compiled(x) - network(x)).abs().max()))
    (graph,) = graphs
    print([node.target.__name__ for node in graph.graph.nodes if node.target in (torch.tensor, torch.kron)])
"""
MANY_SHAPES = """
import threading
import torch
from torch import nn
from tatcli.inference.compilation import CompiledNetwork
compiled = CompiledNetwork(
    nn.GELU(), lambda module: torch.compile(module, fullgraph=True, dynamic=False, backend="eager")
)
def passes():
    for rows in range(1, 13):
        print(*compiled(torch.ones(1, 1, rows, 3)).shape)
thread = threading.Thread(target=passes)
thread.start()
thread.join()
"""
ON_A_GPU = """
import torch
from tatcli.inference.compilation import CompiledNetwork
from tatcli.inference.cuda_graphs import AFTER, GraphedNetwork
from tatcli.inference.runtime import prepare_runtime
from tests.inference.test_compilation import small_network
runtime = prepare_runtime(device="cuda", precision="fp32")
network = small_network().to(runtime.device)
told = []
compiled = GraphedNetwork(CompiledNetwork.for_device(network, runtime.device), on_refusal=told.append)
with torch.inference_mode():
    for _ in range(AFTER + 2):
        x = torch.rand(2, 1, 160, 64, device=runtime.device)
        assert (compiled(x) - network(x)).abs().max() < 1e-4
print(told, len(compiled.recordings))
"""


def run_apart(code: str) -> list[str]:
    """What a program prints, without the tests' shape checks, which are calls of Python's that no graph can hold."""
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": "."},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.splitlines()


def test_the_network_is_one_graph_without_constants_to_copy() -> None:
    """What breaks a graph on a CPU (a call of Python's) would break it on a GPU.

    No CUDA graph could record what makes tensors on the CPU, as the windows' matrices are.
    """
    assert run_apart(ONE_GRAPH) == ["0.0", "[]"] * 2


def test_every_shape_is_compiled_from_any_thread() -> None:
    assert run_apart(MANY_SHAPES) == [f"1 1 {rows} 3" for rows in range(1, 13)]


def test_the_oldest_pytorch_has_other_names_for_its_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in torch/_dynamo/config.py of PyTorch 2.6.0, whose ``patch`` takes no name that isn't there."""

    class Config:
        cache_size_limit = 8
        accumulated_cache_size_limit = 256

        def patch(self, changes: dict[str, int] | None = None, **more: int) -> AbstractContextManager[None]:
            for name, value in (changes or more).items():
                getattr(self, name)
                monkeypatch.setattr(self, name, value)
            return nullcontext()

    old = Config()
    monkeypatch.setattr(compilation, "config", old)
    assert CompiledNetwork(nn.GELU(), lambda module: module)(torch.zeros(1, 1, 8, 8)).shape == (1, 1, 8, 8)
    assert (old.cache_size_limit, old.accumulated_cache_size_limit) == (compilation.LIMIT, compilation.LIMIT)


def test_a_cpu_is_refused() -> None:
    network = small_network()
    with pytest.raises(DeviceError, match="expected a CUDA device, got cpu"):
        CompiledNetwork.for_device(network, torch.device("cpu"))


def test_pytorch_does_not_ask_users_for_tf32(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its compiler advises what tat switched off on purpose."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))  # (which would be set)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        CompiledNetwork.for_device(nn.Identity(), torch.device("cuda"))
        warnings.warn("TensorFloat32 tensor cores for float32 matrix multiplication available", stacklevel=1)
        warnings.warn("something else", stacklevel=1)
    assert [str(one.message) for one in told] == ["something else"]


def test_what_cannot_be_compiled_is_said_in_one_line() -> None:
    class Asking(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if float(x.mean()) > 0 else -x  # depends on values

    compiled = CompiledNetwork(Asking(), lambda module: torch.compile(module, fullgraph=True, backend="eager"))
    with pytest.raises(DeviceError, match=r"^--compile: .+; leave it out$"), torch.inference_mode():
        compiled(torch.rand(1, 1, 8, 8))


@pytest.mark.gpu
@pytest.mark.slow
def test_on_a_gpu_it_gives_what_the_network_gives_and_is_recorded() -> None:
    assert run_apart(ON_A_GPU)[-1] == "[] 1"
