"""The compiled network: one graph that gives what the network gives, and plain errors where it can't be had."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn

from tatcli.errors import DeviceError
from tatcli.inference.compilation import CompiledNetwork
from tatcli.model import Tat, TatConfig


def small_network() -> Tat:
    """A network whose task-adaptive kernels have a say."""
    torch.manual_seed(0)
    config = TatConfig(
        width=8, encoder_blocks=(1, 1, 1), latent_blocks=1, decoder_blocks=(1, 1, 1), refinement_blocks=1
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
network = small_network()
x = torch.rand(2, 1, 24, 40)
compiled = CompiledNetwork(network, lambda module: torch.compile(module, fullgraph=True, backend="eager"))
with without_kernels(), torch.inference_mode():
    print(float((compiled(x) - network(x)).abs().max()))
"""


def test_the_network_is_one_graph() -> None:
    """What breaks a graph on a CPU (a call of Python's) would break it on a GPU; without the tests' shape checks."""
    run = subprocess.run(
        [sys.executable, "-c", ONE_GRAPH],
        env={**os.environ, "PYTHONPATH": "."},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert float(run.stdout) == 0


def test_a_cpu_is_refused() -> None:
    network = small_network()
    with pytest.raises(DeviceError, match="expected a CUDA device, got cpu"):
        CompiledNetwork.for_device(network, torch.device("cpu"))


def test_what_cannot_be_compiled_is_said_in_one_line() -> None:
    class Asking(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if float(x.mean()) > 0 else -x  # depends on values

    compiled = CompiledNetwork(Asking(), lambda module: torch.compile(module, fullgraph=True, backend="eager"))
    with pytest.raises(DeviceError, match=r"^--compile: .+; leave it out$"), torch.inference_mode():
        compiled(torch.rand(1, 1, 8, 8))


@pytest.mark.gpu
def test_on_a_gpu_it_gives_what_the_network_gives() -> None:
    device = torch.device("cuda")
    network = small_network().to(device)
    x = torch.rand(2, 1, 64, 64, device=device)
    with torch.inference_mode():
        difference = (CompiledNetwork.for_device(network, device)(x) - network(x)).abs().max()
    assert float(difference) < 1e-4
