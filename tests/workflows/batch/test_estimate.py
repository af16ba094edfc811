"""What a batch would take, before it runs."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tatcli.inference.cuda_graphs import GraphedNetwork, Recording
from tatcli.inference.options import VIEWS, RestoreOptions
from tatcli.inference.restorer import Restorer
from tatcli.workflows.batch.estimate import Grid, Measure, measure


def test_time_follows_the_pixels_and_the_views(tiny_weights: Path) -> None:
    """Twice the slices or two planes take twice the time, the eight views of an ensemble eight times."""
    restorer = Restorer(str(tiny_weights / "tat-small.safetensors"), device="cpu", threads=1)
    shape = (1, 4, 64, 80)
    plain, twice, seen, crossed = measure(
        Measure([
            Grid(shape, 0, 2),
            Grid((2, *shape[1:]), 0, 2),
            Grid(shape, 0, 2, RestoreOptions(ensemble=True)),
            Grid(shape, 0, 2, planes=2),
        ]),
        restorer,
        limit=None,
    )  # fmt: skip
    assert plain.seconds > 0
    assert twice.seconds == pytest.approx(2 * plain.seconds)
    assert len(VIEWS) == 8
    assert seen.seconds == pytest.approx(8 * plain.seconds)
    assert crossed.seconds == pytest.approx(2 * plain.seconds)
    assert plain.memory is not None
    assert seen.memory == pytest.approx(plain.memory, abs=2**22)  # what the process holds already may grow in between
    assert plain.memory > 4 * 4 * 64 * 80


def test_a_scan_that_does_not_fit(tiny_weights: Path) -> None:
    """Its time is told, and that there is not enough memory for it; the others are planned."""
    restorer = Restorer(str(tiny_weights / "tat-small.safetensors"), device="cpu", threads=1)
    small, large = measure(
        Measure([Grid((1, 2, 32, 32), 0, 2), Grid((1, 4, 40000, 40000), 0, 2)]), restorer, limit=3 * 2**30
    )
    assert small.memory is not None
    assert large.memory is None
    assert large.seconds > small.seconds


def test_a_graph_is_recorded_before_the_time_is_taken(tiny_weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []

    def recorder(network: nn.Module, x: Tensor) -> Recording:
        told.append("recorded")
        result = torch.empty_like(x)
        return Recording(x, result, lambda: None)

    def clock() -> float:
        told.append("clock")
        return float(len(told))

    restorer = Restorer(str(tiny_weights / "tat-small.safetensors"), device="cpu", threads=1)
    restorer.network = GraphedNetwork(restorer.network, recorder)
    monkeypatch.setattr(time, "perf_counter", clock)
    measure(Measure([Grid((1, 4, 64, 80), 0, 2)]), restorer, limit=None)
    assert told == ["recorded", "clock", "clock"]
