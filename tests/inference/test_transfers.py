"""Passes that are started before they are collected: the same results, in order, with failures told when collected."""

from __future__ import annotations

import weakref
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tatcli.errors import WeightsError
from tatcli.inference.passes import Pass, Passes
from tatcli.inference.restoration import Restoration
from tatcli.inference.runtime import prepare_runtime
from tatcli.inference.transfers import Transfers
from tatcli.inference.value_summary import ValueSummary
from tatcli.intensity import Window


class Shift(nn.Module):
    """Adds the slice's mean: 2-D input alone decides the output."""

    def forward(self, x: Tensor) -> Tensor:
        return x + x.mean(dim=(2, 3), keepdim=True)


def passes_of(network: nn.Module, batch: int = 1, device: str = "cpu") -> Passes:
    return Passes(network.to(device), prepare_runtime(device=device, precision="fp32"), Pass(batch), lambda _: None)


def test_started_together_collected_in_any_order() -> None:
    passes = passes_of(Shift(), batch=2)
    stacks = [np.full((3, 8, 8), value, dtype=np.float32) for value in (0.1, 0.4)]
    waits = [passes.start(stack) for stack in stacks]
    for wait, stack in reversed(list(zip(waits, stacks, strict=True))):
        np.testing.assert_allclose(wait(), stack, rtol=1e-6)


def test_nonfinite_output_is_told_when_collected() -> None:
    class Broken(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.where(x > 0.5, torch.nan, x)

    passes = passes_of(Broken())
    good, bad = (passes.start(np.full((1, 8, 8), value, dtype=np.float32)) for value in (0.2, 0.8))
    assert np.array_equal(good(), np.zeros((1, 8, 8)))
    with pytest.raises(WeightsError, match="NaN or infinity"):
        bad()


@pytest.mark.parametrize("ahead", [0, 1, 3])
@pytest.mark.parametrize("batch", [1, 2])
def test_slices_and_progress_stay_in_order(monkeypatch: pytest.MonkeyPatch, ahead: int, batch: int) -> None:
    monkeypatch.setattr(Passes, "ahead", ahead)
    source = np.random.default_rng(0).uniform(0.0, 0.4, (5, 8, 8)).astype(np.float32)
    source[3] = 0.25  # constant: not put through the network
    told: list[tuple[int, int]] = []
    summary = ValueSummary(0.0, 0.4, 0, source.ravel(), None)
    restoration = Restoration(
        passes_of(Shift(), batch), [Window(0.0, 1.0)], summary, slices=5, progress=lambda *done: told.append(done)
    )
    target = np.empty_like(source)
    restoration.restore(source, target, frame=0)
    expected = source + source.mean(axis=(1, 2), keepdims=True)
    expected[3] = source[3]
    np.testing.assert_allclose(target, expected, rtol=1e-5)
    assert told == [(min(done, 5), 5) for done in range(batch, 5 + batch, batch)]


def test_an_input_stays_until_the_device_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for CUDA: its memory is the CPU's, and it tells in which order streams and events are used."""
    told: list[str] = []

    class Stream:
        def wait_stream(self, _: object) -> None:
            told.append("waits for the upload")

    class Event:
        def record(self, _: object) -> None:
            told.append("recorded")

        def synchronize(self) -> None:
            told.append("done")

    monkeypatch.setattr(torch, "empty", lambda shape, *, dtype, pin_memory: torch.full(shape, 7, dtype=dtype))
    monkeypatch.setattr(Tensor, "pin_memory", Tensor.clone)
    for name, fake in {"current_stream": lambda _: Stream(), "stream": nullcontext, "Event": Event}.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    transfers = Transfers(torch.device("cpu"))
    monkeypatch.setattr(transfers, "_upload", Stream())
    seen: list[weakref.ref[Tensor]] = []

    def compute(x: Tensor) -> Tensor:
        told.append("computes")
        seen.append(weakref.ref(x))
        return 2 * x

    stack = np.random.default_rng(0).random((2, 4, 5), dtype=np.float32)
    started = transfers.start(stack, compute)
    assert told == ["waits for the upload", "computes", "recorded"]
    assert seen[0]() is not None
    values, finite = started.collect()
    assert told[3:] == ["done"]
    assert finite
    np.testing.assert_array_equal(values, 2 * stack)
    del started
    assert seen[0]() is None


@pytest.mark.gpu
def test_on_a_gpu_batches_overlap_and_agree() -> None:
    passes = passes_of(Shift(), batch=4, device="cuda")
    assert passes.ahead == 1
    stacks = [np.random.default_rng(seed).random((4, 512, 512), dtype=np.float32) for seed in range(6)]
    waits = [passes.start(stack) for stack in stacks]
    for wait, stack in zip(waits, stacks, strict=True):
        np.testing.assert_allclose(wait(), np.broadcast_to(stack.mean((1, 2), keepdims=True), stack.shape), rtol=1e-4)
    started = Transfers(torch.device("cuda")).start(stacks[0], lambda x: x * 2)
    values, finite = started.collect()
    assert finite
    np.testing.assert_array_equal(values, 2 * stacks[0])
