"""GPUs that are there and yet no use, and why there are none: imitated, as no test has such a machine."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn

from tatcli.errors import DeviceError
from tatcli.inference import Restorer
from tatcli.inference.gpus import check_it_computes, count_gpus, has_kernels
from tatcli.inference.runtime import Runtime, choose_device
from tatcli.model.config import TatConfig
from tatcli.model.weights import card_for_tasks

CUDA = torch.device("cuda", 0)
NO_KERNEL = (
    "CUDA error: no kernel image is available for execution on the device\n"
    "CUDA kernel errors might be asynchronously reported at some other API call"
)
OLD_DRIVER = (
    "CUDA initialization: The NVIDIA driver on your system is too old (found version 11040). Please update your GPU"
    " driver. (Triggered internally at CUDAFunctions.cpp:108.)"
)


@pytest.fixture
def one_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CUDA device of some kind, which this PyTorch can't reach."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "NVIDIA GeForce GTX 1080")


def test_why_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def old_driver() -> bool:
        warnings.warn(OLD_DRIVER, stacklevel=1)
        return False

    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert count_gpus() == (0, f"PyTorch {torch.__version__} is built without CUDA")
    with pytest.raises(DeviceError, match=r"cuda: expected a CUDA device, found 0 \(PyTorch .* without CUDA\)"):
        choose_device("cuda")
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: True)
    assert count_gpus() == (0, "")
    with pytest.raises(DeviceError, match="found 0; use --device cpu or auto"):
        choose_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", old_driver)
    with pytest.raises(DeviceError, match=r"found 0 \(CUDA initialization: The NVIDIA driver .* is too old"):
        choose_device("cuda:1")


@pytest.mark.parametrize(
    ("card", "built", "runs"),
    [
        ((6, 1), "sm_75 sm_80 sm_86 sm_90 sm_100 sm_120 compute_120", False),  # GeForce GTX 1080
        ((7, 0), "sm_75 sm_80", False),  # V100: of the same major number, but older
        ((8, 9), "sm_75 sm_80 sm_86 sm_90", True),  # RTX 4090
        ((12, 0), "sm_50 sm_60 sm_70 sm_75 sm_80 sm_86 sm_90", False),  # RTX 5090
        ((12, 0), "sm_80 sm_90 compute_90", True),
        ((8, 0), "sm_90a compute_90", False),
        ((10, 3), "sm_100 sm_120", True),
        ((9, 0), "", True),  # who doesn't say, isn't doubted
    ],
)
def test_cards_that_a_build_has_code_for(
    monkeypatch: pytest.MonkeyPatch, one_gpu: None, card: tuple[int, int], built: str, *, runs: bool
) -> None:
    def capability(_: int) -> tuple[int, int]:
        warnings.warn("Found GPU0 which is of compute capability", stacklevel=1)
        return card

    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", capability)
    monkeypatch.setattr(torch.cuda, "get_arch_list", built.split)
    assert has_kernels() is runs
    assert choose_device().type == ("cuda" if runs else "cpu")
    assert choose_device("cuda") == torch.device("cuda")  # what was asked for is never replaced
    monkeypatch.setattr(torch.version, "hip", "6.4")
    assert has_kernels()


@pytest.mark.parametrize("text", [NO_KERNEL, "CUDA error: CUDA-capable device(s) is/are busy or unavailable"])
def test_a_gpu_that_does_not_compute_is_said_in_one_line(
    monkeypatch: pytest.MonkeyPatch, one_gpu: None, text: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError(text)

    monkeypatch.setattr(torch, "ones", fail)
    check_it_computes(torch.device("cpu"))
    for attempt in (
        lambda: check_it_computes(CUDA),
        lambda: Restorer.from_network(
            nn.Identity(), card_for_tasks("x", TatConfig()), device="cuda:0", precision="fp32"
        ),
    ):
        with pytest.raises(DeviceError, match=r"^--device cuda:0: expected a device that PyTorch .* computes") as told:
            attempt()
        assert f"got RuntimeError: {text.splitlines()[0]}; use another one, or --device cpu" in str(told.value)
        assert "\n" not in str(told.value)


def test_a_gpu_without_room_for_the_network(monkeypatch: pytest.MonkeyPatch, one_gpu: None) -> None:
    class Large(nn.Module):
        def to(self, *_: object, **__: object) -> Large:
            msg = "CUDA out of memory. Tried to allocate 20.00 MiB"
            raise torch.OutOfMemoryError(msg)

    monkeypatch.setattr("tatcli.inference.restorer.check_it_computes", lambda _: None)
    with pytest.raises(DeviceError, match="NVIDIA GeForce GTX 1080: out of memory before the network was there"):
        Restorer.from_network(Large(), card_for_tasks("x", TatConfig()), device="cuda", precision="fp32")


@pytest.mark.gpu
def test_on_a_gpu_that_computes() -> None:
    count, reason = count_gpus()
    assert count == torch.cuda.device_count() > 0
    assert reason == ""
    assert has_kernels()
    for index in range(count):
        check_it_computes(torch.device("cuda", index))
    assert Runtime(choose_device(), "fp32", 1).device_name == torch.cuda.get_device_name()
