"""Training on another device than the CPU, which PyTorch's ``meta`` stands in for: it holds shapes, but no values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.torch_version import TorchVersion
from torch.utils._python_dispatch import TorchDispatchMode

from tatcli.errors import DeviceError
from tatcli.tasks import TASKS
from tatcli.training.config import LossName, TrainConfig
from tatcli.training.distributed import World
from tatcli.training.references import prepare_references
from tatcli.training.sampler import Sampler
from tatcli.training.steps import Stepper
from tatcli.training.teacher import TeachingNetwork
from tatcli.workflows.train import _check_precision, train
from tatcli.workflows.training.network import make_network

Make = Callable[..., TrainConfig]


class Watch(TorchDispatchMode):
    """Keeps how batches are copied to the device, and what is made there in float64, which Apple's GPUs haven't."""

    def __init__(self) -> None:
        super().__init__()
        self.hurried: list[bool] = []
        self.double: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), named: Any = None) -> Any:
        found = function(*arguments, **(named or {}))
        if function is torch.ops.aten._to_copy.default and arguments[0].ndim == 4 and arguments[0].device.type == "cpu":
            self.hurried.append(bool((named or {}).get("non_blocking")))
        for made in found if isinstance(found, tuple | list) else (found,):
            if isinstance(made, torch.Tensor) and made.is_meta and made.dtype is torch.float64:
                self.double.append(str(function))
        return found


class Uncast(torch.autocast):
    """There is no autocast for ``meta``."""

    def __init__(self, device_type: str, dtype: torch.dtype | None = None, *, enabled: bool = True) -> None:
        assert (device_type, enabled) == ("meta", False)
        super().__init__("cpu", dtype, enabled=False)


@pytest.mark.parametrize("network", ["tat", "static-tat", "routed", "unet", "red-cnn", "edsr"])
def test_a_step_computes_where_the_network_is(make_config: Make, monkeypatch: pytest.MonkeyPatch, network: str) -> None:
    monkeypatch.setattr(torch, "autocast", Uncast)
    options = {} if network in {"tat", "static-tat", "routed"} else {"preset": None, "network_width": 8}
    shared = make_config()
    references = {task: prepare_references(TASKS[task], "train", shared) for task in shared.tasks}
    losses: tuple[LossName, ...] = ("balanced", "l1", "psnr", "uncertainty")
    for loss in losses if network == "tat" else losses[:1]:
        config = make_config(
            network=network, optimizer="muon", loss=loss, device="meta", teacher_share=(0.5,), **options
        )
        batch = Sampler(references, config).batch(0)
        teachers = [TeachingNetwork(make_network(config).module, config.tasks)]
        stepper = Stepper(make_network(config).module.to("meta"), config, world=World(), teachers=teachers)
        with Watch() as watch:
            found = stepper._pass(batch, last=True)
            for optimiser in stepper.optimisers:
                optimiser.step()
            stepper.ema.update(stepper.network, 0)
        assert watch.hurried == [False] * 3  # LQ, HQ and mask: a hurried copy to Apple's GPU may read what is gone
        assert watch.double == []
        assert {(tensor.device.type, tensor.shape) for tensor in found} == {("meta", (len(batch.tasks),))}
        moved = [weight for weight in stepper.parameters if weight.grad is not None]
        assert len(moved) > len(stepper.parameters) / 2
        assert all(weight.grad.is_meta for weight in moved)


@pytest.mark.parametrize("version", ["2.6.0", "2.7.1+cpu"])
def test_fp16_on_apples_gpu_needs_a_pytorch_that_scales_there(
    make_config: Make, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    monkeypatch.setattr(torch, "__version__", TorchVersion(version))
    config = make_config(device="mps", precision="fp16")
    with pytest.raises(DeviceError, match=r"fp16: expected PyTorch 2.8 or newer with --device mps, got 2\.[67]\."):
        train(config)
    assert not config.output.exists()
    for other in (replace(config, precision="bf16"), replace(config, device="cpu")):
        _check_precision(other)
    monkeypatch.setattr(torch, "__version__", TorchVersion("2.13.0"))
    _check_precision(config)
