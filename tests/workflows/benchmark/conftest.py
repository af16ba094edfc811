"""A tiny network under the name of a preset, and a benchmark whose fresh process is this one."""

from __future__ import annotations

import json

import pytest
import torch

from tatcli.model.config import TatConfig
from tatcli.model.tat import Tat
from tatcli.model.weights import card_for_tasks, save_weights
from tatcli.workflows.benchmark import case, fresh, machine
from tiny_networks import TINY


@pytest.fixture(autouse=True)
def one_thread():
    """The network is so small that threads would only wait for one another."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def tiny() -> TatConfig:
    return TINY


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Tiny weights named tat-small, which every process finds."""
    folder = tmp_path / "weights"
    folder.mkdir()
    torch.manual_seed(0)
    save_weights(Tat(TINY), card_for_tasks("tat-small", TINY), folder / "tat-small.safetensors")
    monkeypatch.setenv("TAT_WEIGHTS_DIR", str(folder))
    return folder


@pytest.fixture
def in_process(monkeypatch):
    """Jobs are answered here, and listed; what crosses the border between processes is JSON as ever."""
    jobs = []

    def answer(kind, **job):
        jobs.append((kind, job))
        sent = json.loads(json.dumps({"kind": kind, "launched": 0.0, **job}))
        return json.loads(json.dumps(fresh.answer(sent)))

    monkeypatch.setattr(case, "_SHORTEST", 0.0)
    monkeypatch.setattr(machine, "_MATRIX", {"cpu": (64,)})
    monkeypatch.setattr(machine, "_CONVOLUTION", {"cpu": ((16, 16),)})
    monkeypatch.setattr(machine, "_COPIED", {"cpu": 2**16})
    monkeypatch.setattr("tatcli.workflows.benchmark.speed.measure_afresh", answer)
    monkeypatch.setattr("tatcli.workflows.benchmark.volume.measure_afresh", answer)
    return jobs
