"""Several processes, several passes, and processes that are killed: the weights are those of one that ran through."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tatcli.errors import DeviceError, UsageError, VolumeReadError
from tatcli.training.checkpoints import CHECKPOINT
from tatcli.training.config import TrainConfig
from tatcli.training.distributed import World
from tatcli.training.log import read_log
from tatcli.training.settings import to_toml
from tatcli.workflows.train import _on_its_device, train

Make = Callable[..., TrainConfig]

QUICK = {"tasks": ("mri",), "patch": (16,), "preset": "tat-tiny", "max_slices": 2}


@pytest.fixture
def one_thread():
    """As the other processes have: sums have an order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def weights_of(config: TrainConfig) -> dict[str, torch.Tensor]:
    state = torch.load(config.output / CHECKPOINT, weights_only=True)
    return {f"{part}.{key}": value for part in ("network", "loss", "ema") for key, value in state[part].items()}


def start(config: TrainConfig, **environment: str) -> subprocess.Popen[str]:
    """``tat train --config`` in a process of its own."""
    config.output.mkdir(exist_ok=True)
    file = config.output / "given.toml"
    if not file.exists():
        file.write_text(to_toml(config), encoding="utf-8")
    code = "from tatcli.cli.app import main; main()"
    words = [sys.executable, "-W", "error", "-c", code, "train", "--config", str(file), "--threads", "1"]
    return subprocess.Popen(
        words, env=os.environ | environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_two_processes_with_half_the_batch_match_one(
    make_config: Make, one_thread: None, monkeypatch: pytest.MonkeyPatch, optimizer: str
) -> None:
    """The first process is this one. Muon's iterations are shared between them."""
    options = {**QUICK, "steps": 3, "optimizer": optimizer}
    one, two = make_config("one", batch=(2,), **options), make_config("two", batch=(1,), **options)
    train(one)
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    other = start(two, RANK="1", LOCAL_RANK="1", **shared)
    with monkeypatch.context() as patched:
        for name, value in (shared | {"RANK": "0", "LOCAL_RANK": "0"}).items():
            patched.setenv(name, value)
        assert train(two).validation.keys() == {"mri-sr"}
    told = other.communicate(timeout=600)
    assert (other.returncode, told[0]) == (0, ""), told  # only the first one speaks
    expected, found = weights_of(one), weights_of(two)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=1e-6, msg=name)
    alone, together = (next(line for line in read_log(c.output) if line["kind"] == "train") for c in (one, two))
    assert together["l1"]["mri-sr"] == pytest.approx(alone["l1"]["mri-sr"], rel=1e-5)
    with pytest.raises(UsageError, match="expected 2, got 1 x 1"):
        train(two)


@pytest.mark.slow
def test_a_process_whose_first_one_stops_says_so_in_a_line(
    make_config: Make, dataset: Path, tmp_path: Path, one_thread: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first process tells what is wrong with the scan; the other one shows no traceback beside it."""
    damaged = tmp_path / "data" / "MRI" / "train" / "mri0.nii.gz"
    damaged.parent.mkdir(parents=True)
    damaged.write_bytes((dataset / "MRI" / "train" / "mri0.nii.gz").read_bytes()[:500])
    config = make_config("two", data=tmp_path / "data", **QUICK)
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    other = start(config, RANK="1", LOCAL_RANK="1", **shared)
    with monkeypatch.context() as patched:
        for name, value in (shared | {"RANK": "0", "LOCAL_RANK": "0"}).items():
            patched.setenv(name, value)
        with pytest.raises(VolumeReadError, match="mri0"):
            train(config)
    told = other.communicate(timeout=600)[1]
    assert other.returncode == 5, told
    assert "Traceback" not in told
    assert told.startswith("error: train: process 1: expected all 2 processes to go on together, got: ")


def test_processes_that_are_not_told_of_each_other(make_config: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in the environment of a cluster's job that starts one process without torchrun."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UsageError, match="expected RANK, MASTER_ADDR, MASTER_PORT beside WORLD_SIZE 2"):
        train(make_config(**QUICK))


def test_passes_that_add_up_to_the_batch_match_it(make_config: Make, one_thread: None) -> None:
    options = QUICK | {"preset": "tiny", "loss": "uncertainty"}
    one = make_config("one", batch=(2,), steps=3, **options)
    many = make_config("many", batch=(1,), accumulate=2, steps=3, **options)
    train(one)
    train(many)
    found = weights_of(many)
    for name, value in weights_of(one).items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=1e-6, msg=name)


@pytest.mark.slow
def test_sigterm_leaves_a_checkpoint_that_goes_on_exactly(make_config: Make, one_thread: None) -> None:
    options = {**QUICK, "steps": 16, "log_every": 1, "checkpoint_every": 1000, "validate_every": 1000}
    straight, cut = make_config("straight", **options), make_config("cut", **options)
    train(straight)
    process = start(cut)
    deadline = time.monotonic() + 600
    log = cut.output / "log.jsonl"
    while not (log.exists() and len(log.read_text().splitlines()) >= 3):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=600)
    assert process.returncode == 128 + signal.SIGTERM
    assert "the same command goes on from here" in told
    assert 3 <= torch.load(cut.output / CHECKPOINT, weights_only=True)["step"] < 16
    train(cut)
    expected, found = weights_of(straight), weights_of(cut)
    assert all(torch.equal(found[name], value) for name, value in expected.items())


class Killed(BaseException):
    """Nothing may be written on its way out."""


def test_a_killed_run_goes_on_exactly_from_its_last_checkpoint(
    make_config: Make, one_thread: None, tmp_path: Path
) -> None:
    options = {**QUICK, "preset": "tiny", "steps": 8, "checkpoint_every": 4, "log_every": 1}
    straight, cut = make_config("straight", **options), make_config("cut", **options)
    train(straight)

    def kill(progress: object) -> None:
        if progress.step == 7:  # type: ignore[attr-defined]
            raise Killed

    with pytest.raises(Killed):
        train(cut, on_step=kill)
    assert torch.load(cut.output / CHECKPOINT, weights_only=True)["step"] == 4
    assert read_log(cut.output)[-1]["step"] == 7
    train(cut)
    expected, found = weights_of(straight), weights_of(cut)
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    steps = [line["step"] for line in read_log(cut.output) if line["kind"] == "train"]
    assert steps == list(range(1, 9))  # what followed the checkpoint was dropped, and came again


def test_each_process_takes_a_gpu_that_is_there(make_config: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[str] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: taken.append(str(device)))
    config = make_config(device="cuda", **QUICK)
    assert _on_its_device(config, World(rank=5, size=8, local_rank=1)).device == "cuda:1"
    assert _on_its_device(config, World()).device == "cuda"
    with pytest.raises(DeviceError, match="--device cuda:2: expected a CUDA device, found 2"):
        _on_its_device(config, World(rank=6, size=8, local_rank=2))
    assert taken == ["cuda:1"]
    alone_there = World(rank=1, size=2, local_rank=0, local_size=1)  # one process on each of two machines
    assert _on_its_device(make_config(device="cuda:1", **QUICK), alone_there).device == "cuda:1"
    assert taken == ["cuda:1", "cuda:1"]
    assert _on_its_device(make_config(device="cpu", **QUICK), World(rank=1, size=2, local_rank=1)).device == "cpu"


@pytest.mark.parametrize("device", ["cuda:0", "mps"])
def test_processes_do_not_share_a_gpu(make_config: Make, monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    """NCCL refuses two processes on one GPU, and nothing sends what lies on Apple's."""
    told = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=f"--device {device}: expected cuda or cpu with several processes"):
        train(make_config(device=device, **QUICK))


def test_nccl_is_told_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """By itself it would take that of the number among all processes of all machines for its first barrier."""
    told: list[tuple[str, object]] = []
    monkeypatch.setattr(
        torch.distributed, "init_process_group", lambda backend, **how: told.append((backend, how["device_id"]))
    )
    monkeypatch.setattr(torch.distributed, "destroy_process_group", lambda: None)
    for name in ("cuda:1", "cpu"):
        with World(rank=9, size=16, local_rank=1).joined(torch.device(name)):
            pass
    assert told == [("nccl", torch.device("cuda:1")), ("gloo", None)]


def test_a_gpu_that_does_not_compute_is_said_before_anything_is_prepared(
    make_config: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(device: torch.device) -> None:
        msg = f"{device} does not"
        raise DeviceError(msg)

    monkeypatch.setattr("tatcli.workflows.train.refuse_tf32", lambda: None)
    monkeypatch.setattr("tatcli.workflows.train.check_it_computes", refuse)
    config = make_config(device="cuda:1", **QUICK)
    with pytest.raises(DeviceError, match="cuda:1 does not"):
        train(config)
    assert not config.output.exists()
