"""Device, precision, threads."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
import torch

from tatcli import processor
from tatcli.errors import DeviceError, UsageError
from tatcli.inference import Restorer, runtime
from tatcli.inference.runtime import (
    Runtime,
    bf16_is_faster,
    check_against_cpu,
    choose_device,
    choose_precision,
    is_out_of_memory,
    peak_memory,
    prepare_runtime,
)
from tatcli.model.config import TatConfig
from tatcli.model.weights import card_for_tasks

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def machine(monkeypatch):
    """A machine with so many CUDA devices, of which those of these numbers may have bf16, and maybe MPS."""
    current = [0]

    @contextmanager
    def on(device):
        current.append(device.index or 0)
        yield
        current.pop()

    monkeypatch.setattr(torch.cuda, "device", on)

    def make(*, cuda=0, mps=False, bf16=()):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
        monkeypatch.setattr(runtime, "has_kernels", lambda: True)
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: current[-1] in bf16)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)

    return make


def test_auto_takes_the_best_device_there_is(machine):
    machine()
    assert choose_device() == CPU
    machine(mps=True)
    assert choose_device() == CPU  # on Apple's GPU tat was never run
    assert choose_device("mps") == torch.device("mps")
    machine(cuda=1, mps=True)
    assert choose_device() == CUDA


def test_a_device_that_was_asked_for_is_never_replaced(machine):
    machine(cuda=2)
    assert choose_device("cuda:1") == torch.device("cuda", 1)
    assert choose_device("cpu") == CPU
    with pytest.raises(DeviceError, match="--device cuda:2: expected a CUDA device, found 2"):
        choose_device("cuda:2")
    machine()
    for name, words in {"cuda": "found 0", "cuda:0": "found 0", "mps": "Apple GPU"}.items():
        with pytest.raises(DeviceError, match=words):
            choose_device(name)


class Drifting(torch.nn.Module):
    """Gives something else at each call."""

    def __init__(self, step):
        super().__init__()
        self.step, self.calls = step, 0

    def forward(self, x):
        self.calls += 1
        return x + self.step * self.calls


def test_a_device_that_computes_otherwise_than_the_cpu_is_refused():
    check_against_cpu(Drifting(0.0004), CPU)
    for step, words in ((0.005, "off by up to 0.01"), (float("nan"), "off by up to nan")):
        with pytest.raises(DeviceError, match=f"--device cpu: expected what the CPU computes, got values {words}"):
            check_against_cpu(Drifting(step), CPU)
    with pytest.raises(DeviceError, match=r"--device meta: .* got NotImplementedError"):  # whose values are nowhere
        check_against_cpu(torch.nn.Conv2d(1, 1, 3), torch.device("meta"))


@pytest.mark.parametrize("value", [0.5, float("nan")])
@pytest.mark.parametrize("wrong", ["second", "wide", "alone"])
def test_mistakes_of_some_images_alone_are_seen(wrong, value):
    """As PyTorch made them on Apple's GPUs: in a batch from the second image on; in what is cut into windows."""

    class Mistaken(torch.nn.Module):
        calls = 0

        def forward(self, x):
            self.calls += 1
            result = x.clone()
            if self.calls > 1:  # (not on the CPU)
                places = {"second": result[1:], "wide": result[..., 192:], "alone": result[: len(x) == 1]}
                places[wrong].fill_(value)
            return result

    with pytest.raises(DeviceError, match=r"expected what the CPU computes, got values off by up to (0|1|nan)"):
        check_against_cpu(Mistaken(), CPU)


def test_apples_gpu_is_checked_before_it_restores(machine, monkeypatch):
    machine(mps=True)
    checked = []
    monkeypatch.setattr("tatcli.inference.restorer.check_against_cpu", lambda *found: checked.append(found))
    network = torch.nn.Identity()
    Restorer.from_network(network, card_for_tasks("x", TatConfig()), device="mps", precision="fp32")
    assert checked == [(network, torch.device("mps"))]
    Restorer.from_network(network, card_for_tasks("x", TatConfig()), device="cpu")
    assert len(checked) == 1


@pytest.mark.parametrize(
    "name", ["gpu", "cuda:", "cuda:x", "CPU ", "", "xla", "cuda:-1", "cuda:00", "cuda:01", "cuda:\u0661"]
)
def test_unknown_devices_are_refused(machine, name):
    machine(cuda=2)
    with pytest.raises(DeviceError, match="expected auto, cpu, cuda, cuda:N or mps"):
        choose_device(name)


def test_precision(machine):
    machine(cuda=2, bf16={1})
    assert choose_precision(CUDA) == "fp32"
    assert choose_precision(torch.device("cuda", 1)) == "bf16"
    machine(cuda=1, bf16={0})
    assert choose_precision(CUDA) == "bf16"
    assert choose_precision(CUDA, "fp16") == "fp16"
    assert choose_precision(CPU) == ("bf16" if bf16_is_faster() else "fp32")
    assert choose_precision(CPU, "bf16") == "bf16"
    machine(cuda=1)
    assert choose_precision(CUDA) == "fp32"
    with pytest.raises(DeviceError, match="--precision fp16: expected a GPU"):
        choose_precision(CPU, "fp16")
    with pytest.raises(UsageError, match="expected one of auto, fp32, bf16, fp16"):
        choose_precision(CPU, "int8")


@pytest.mark.parametrize(
    ("amx", "avx512_bf16", "vendor", "faster"),
    [
        (True, True, "GenuineIntel", True),
        (False, True, "GenuineIntel", False),
        (False, True, "AuthenticAMD", True),
        (False, False, "AuthenticAMD", False),
    ],
)
def test_bf16_is_faster_with_amx_and_with_amds_vectors(monkeypatch, tmp_path, amx, avx512_bf16, vendor, faster):
    described = tmp_path / "cpuinfo"
    described.write_text(f"processor\t: 0\nvendor_id\t: {vendor}\nflags\t\t: fpu\n")
    monkeypatch.setattr(processor, "_DESCRIPTION", described)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512_bf16, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx, raising=False)
    assert bf16_is_faster() is faster
    assert choose_precision(CPU) == ("bf16" if faster else "fp32")
    assert choose_precision(CPU, "bf16") == "bf16"
    assert choose_precision(CPU, "fp32") == "fp32"
    described.unlink()
    monkeypatch.setattr(runtime.platform, "processor", lambda: f"AMD64 Family 25 Model 97 Stepping 2, {vendor}")
    assert bf16_is_faster() is faster


def test_a_pytorch_that_can_not_tell_takes_fp32(monkeypatch):
    for feature in ("avx512_bf16", "amx_tile"):
        monkeypatch.delattr(torch.cpu, f"_is_{feature}_supported", raising=False)
    assert bf16_is_faster() is False
    assert choose_precision(CPU) == "fp32"


def test_the_precision_is_what_the_network_computes_in():
    layer = torch.nn.Conv2d(1, 1, 1)
    x = torch.ones(1, 1, 2, 2)
    with Runtime(CPU, "bf16", 1).computing():
        assert layer(x).dtype == torch.bfloat16
    with Runtime(CPU, "fp32", 1).computing():
        assert layer(x).dtype == torch.float32


def test_threads():
    before = torch.get_num_threads()
    try:
        assert prepare_runtime(device="cpu", threads=1).threads == 1
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
    assert prepare_runtime(device="cpu").threads == before
    for threads in (0, 1025, 10**20):
        with pytest.raises(UsageError, match=f"--threads: expected 1 to 1024, got {threads}"):
            prepare_runtime(threads=threads)
    assert torch.get_num_threads() == before


def test_threads_of_a_container_that_has_the_time_of_one_core(monkeypatch):
    before = torch.get_num_threads()
    monkeypatch.setattr(runtime, "usable_cores", lambda: 1)
    try:
        torch.set_num_threads(3)
        monkeypatch.setenv("OMP_NUM_THREADS", "3")
        assert prepare_runtime(device="cpu").threads == 3
        monkeypatch.delenv("OMP_NUM_THREADS")
        assert prepare_runtime(device="cpu").threads == 1
        assert prepare_runtime(device="cpu", threads=2).threads == 2
        monkeypatch.setattr(runtime, "usable_cores", lambda: 8)
        assert prepare_runtime(device="cpu").threads == 2
    finally:
        torch.set_num_threads(before)


def test_fp32_is_no_tf32(machine, monkeypatch):
    machine(cuda=1, bf16={0})
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)  # PyTorch's default, and put back
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("high")  # as with TORCH_ALLOW_TF32_CUBLAS_OVERRIDE=1
        prepare_runtime(device="cpu")
        assert torch.backends.cudnn.allow_tf32
        assert torch.backends.cuda.matmul.allow_tf32
        prepare_runtime(device="cuda", precision="bf16")
        assert not torch.backends.cudnn.allow_tf32
        assert not torch.backends.cuda.matmul.allow_tf32
        assert torch.get_float32_matmul_precision() == "highest"
    finally:
        torch.set_float32_matmul_precision(before)


def test_peak_memory_counts_what_was_touched():
    before, on_device = peak_memory(CPU)
    if before is None:
        pytest.skip("this system doesn't tell")
    assert on_device is None
    touched = bytearray(b"x") * (before + 2**26)
    assert peak_memory()[0] >= len(touched)


def test_what_out_of_memory_looks_like():
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"))
    assert is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"))
    assert is_out_of_memory(RuntimeError("MPS backend out of memory"))
    for of in ("CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", "CUDNN_STATUS_ALLOC_FAILED"):
        assert is_out_of_memory(RuntimeError(f"CUDA error: {of}"))
    assert is_out_of_memory(MemoryError())
    assert not is_out_of_memory(RuntimeError("shape mismatch"))
    assert not is_out_of_memory(ValueError("out of memory"))
