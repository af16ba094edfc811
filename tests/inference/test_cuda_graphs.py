"""Recordings: when they are made, that they are checked before they count, and (on a GPU) that they are right."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import pytest
import torch
from torch import Tensor, nn

from tatcli.inference.cuda_graphs import AFTER, MOST, WARM_UPS, GraphedNetwork, Recording, record
from tatcli.model import Tat, TatConfig


class Doubling(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return 2 * x


def honest(network: nn.Module, x: Tensor) -> Recording:
    """Stands in for a graph: buffers of its own, and a replay that doesn't call the network."""
    source, result = x.clone(), torch.empty_like(x)
    return Recording(source, result, lambda: result.copy_(2 * source))


def test_recorded_after_some_passes_then_replayed() -> None:
    inner = Doubling()
    network = GraphedNetwork(inner, honest)
    outputs = [network(torch.full((1, 1, 4, 4), float(i))) for i in range(6)]
    assert [float(y.mean()) for y in outputs] == [0, 2, 4, 6, 8, 10]  # no output is overwritten by a later replay
    assert inner.calls == AFTER + 1  # the passes before, and one to check the recording against


def test_forgotten_recordings_are_made_anew() -> None:
    inner = Doubling()
    network = GraphedNetwork(inner, honest)
    x = torch.ones(1, 1, 2, 2)
    for _ in range(AFTER + 1):
        network(x)
    network.forget()
    assert network.recordings == {}
    before = inner.calls
    assert torch.equal(network(x), 2 * x)
    assert inner.calls == before + 1


def test_every_shape_by_itself_and_not_too_many() -> None:
    network = GraphedNetwork(Doubling(), honest)
    for size in range(1, MOST + 3):
        for _ in range(AFTER + 2):
            x = torch.rand(1, 1, size, 3)
            assert torch.equal(network(x), 2 * x)
    assert len(network.recordings) == MOST


def test_a_wrong_replay_is_not_used() -> None:
    told: list[str] = []

    def wrong(network: nn.Module, x: Tensor) -> Recording:
        result = torch.empty_like(x)
        return Recording(x.clone(), result, lambda: result.fill_(7.0))

    network = GraphedNetwork(Doubling(), wrong, on_refusal=told.append)
    x = torch.ones(1, 1, 2, 2)
    assert all(torch.equal(network(x), 2 * x) for _ in range(6))
    assert told == ["no CUDA graph for (1, 1, 2, 2): its replay is off by 5"]


def test_nan_in_a_replay_is_not_used() -> None:
    def wrong(network: nn.Module, x: Tensor) -> Recording:
        return Recording(x.clone(), torch.full_like(x, torch.nan), lambda: None)

    network = GraphedNetwork(Doubling(), wrong)
    x = torch.ones(1, 1, 2, 2)
    assert all(torch.equal(network(x), 2 * x) for _ in range(6))


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RuntimeError("not permitted when stream is capturing\nmore"), "not permitted when stream is capturing"),
        (NotImplementedError(), "NotImplementedError"),
    ],
)
def test_what_cannot_be_recorded_goes_on_without(error: RuntimeError, reason: str) -> None:
    told: list[str] = []

    def refusing(network: nn.Module, x: Tensor) -> Recording:
        raise error

    network = GraphedNetwork(Doubling(), refusing, on_refusal=told.append)
    x = torch.ones(1, 1, 2, 2)
    assert all(torch.equal(network(x), 2 * x) for _ in range(6))
    assert told == [f"no CUDA graph for (1, 1, 2, 2): {reason}"]


def test_recorded_on_the_inputs_own_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for CUDA: everything that a recording does, in its order, with the device that is then the current."""
    told: list[str] = []
    devices = ["cuda:0"]

    class Stream:
        def __init__(self, name: str = "") -> None:
            self.name = name or f"stream on {devices[-1]}"

        def wait_stream(self, other: Stream) -> None:
            told.append(f"{self.name} waits for {other.name}")

    @contextmanager
    def device(chosen: object) -> Iterator[None]:
        devices.append(f"{chosen} (its own)")
        yield
        devices.pop()

    @contextmanager
    def stream(used: Stream) -> Iterator[None]:
        told.append(f"onto {used.name}")
        yield

    @contextmanager
    def graph(graph: object, stream: Stream) -> Iterator[None]:
        told.append(f"captures {stream.name}")
        yield

    class Graph:
        def replay(self) -> None:
            told.append("replays")

    class Told(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            told.append("network")
            return 2 * x

    fakes = {"Stream": Stream, "device": device, "stream": stream, "graph": graph, "CUDAGraph": Graph}
    for name, fake in fakes.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: Stream("current"))
    recording = record(Told(), torch.ones(1, 1, 2, 2))
    own = "stream on cpu (its own)"
    warm = [
        "onto current",
        f"{own} waits for current",
        f"onto {own}",
        *["network"] * WARM_UPS,
        f"current waits for {own}",
    ]
    assert told == [*warm, f"captures {own}", "network"]
    told.clear()
    answer = recording(torch.full((1, 1, 2, 2), 3.0))
    assert told == ["replays"]
    assert answer is not recording.result
    assert float(recording.source.mean()) == 3


def test_a_capture_that_fails_leaves_the_stream_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch doesn't see to it; what comes next would run beside the copies that it needs, and that need it."""
    current = ["default"]

    class Stream:
        def wait_stream(self, _: object) -> None:
            pass

    @contextmanager
    def stream(used: object) -> Iterator[None]:
        before = current[0]
        current[0] = str(used)
        try:
            yield
        finally:
            current[0] = before

    @contextmanager
    def graph(graph: object, stream: object) -> Iterator[None]:
        current[0] = "captures"
        yield
        msg = "operation failed due to a previous error during capture"
        raise RuntimeError(msg)

    fakes = {"Stream": Stream, "device": nullcontext, "stream": stream, "graph": graph, "CUDAGraph": object}
    for name, fake in fakes.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    monkeypatch.setattr(torch.cuda, "current_stream", Stream)
    told: list[str] = []
    network = GraphedNetwork(Doubling(), on_refusal=told.append)
    x = torch.ones(1, 1, 2, 2)
    for _ in range(AFTER + 1):
        assert torch.equal(network(x), 2 * x)
        assert current == ["default"]
    assert told == ["no CUDA graph for (1, 1, 2, 2): operation failed due to a previous error during capture"]


@pytest.mark.gpu
def test_on_a_gpu_what_cannot_be_recorded_goes_on_as_before() -> None:
    class Asking(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if float(x.mean()) > 2 else 2 * x  # waits for the device

    device = torch.device("cuda", torch.cuda.device_count() - 1)
    told: list[str] = []
    network = GraphedNetwork(Asking(), on_refusal=told.append)
    stream = torch.cuda.current_stream(device)
    for seed in range(AFTER + 3):
        x = torch.full((1, 1, 64, 64), seed / 9, device=device)
        with torch.inference_mode():
            assert torch.equal(network(x), 2 * x)
        assert torch.cuda.current_stream(device) == stream
    assert len(told) == 1


@pytest.mark.gpu
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_on_a_gpu(batch: int, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    config = TatConfig(
        width=16, encoder_blocks=(1, 1, 1), latent_blocks=1, decoder_blocks=(1, 1, 1), refinement_blocks=1, tren_width=8
    )
    device = torch.device("cuda", torch.cuda.device_count() - 1)  # not the current one, where there are several
    network = Tat(config).to(device).eval()
    told: list[str] = []
    graphed = GraphedNetwork(network, on_refusal=told.append)
    for _ in range(AFTER + 3):
        x = torch.rand(batch, 1, 256, 264, device=device)
        with torch.inference_mode(), torch.autocast("cuda", torch.bfloat16, enabled=dtype is torch.bfloat16):
            assert (graphed(x) - network(x)).abs().max() <= 1e-3
    assert told == []
    assert list(graphed.recordings) == [x.shape]
