"""What may befall a run of a week: full disks, damaged files, kills, another run in its folder."""

from __future__ import annotations

import errno
import json
import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tatcli.errors import DeviceError, OutputError, UsageError
from tatcli.intensity import Window
from tatcli.tasks import TASKS
from tatcli.training.config import TrainConfig
from tatcli.training.log import LOG, RunLog, read_log
from tatcli.training.loop import Progress
from tatcli.training.references import Reference
from tatcli.training.sampler import Sampler
from tatcli.workflows.train import train
from tatcli.workflows.training.curves import plot_run, run_panels
from tatcli.workflows.training.network import make_network
from tatcli.workflows.training.room import check_crops, check_pass, largest_pass

Make = Callable[..., TrainConfig]

FULL = OSError(errno.ENOSPC, "No space left on device")


def interrupt_at(step: int) -> Callable[[Progress], None]:
    def stop(progress: Progress) -> None:
        if progress.step == step:
            raise KeyboardInterrupt

    return stop


def test_a_full_disk_under_the_log_is_said_in_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = RunLog(tmp_path, board=False, start=0)
    log.add("train", 1, 0.1)

    def refuse(path: Path, *_: object, **__: object) -> None:
        raise FULL

    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", refuse)
        with pytest.raises(OutputError, match=r"log\.jsonl: expected to write the log, got No space left on device"):
            log.add("train", 2, 0.2)
    assert [line["step"] for line in read_log(tmp_path)] == [1]


def test_a_log_is_json_whatever_a_score_is(tmp_path: Path) -> None:
    """JSON has neither NaN (the mean over validation slices that are all constant) nor infinity (over perfect ones)."""

    def refuse(word: str) -> None:
        raise AssertionError(word)

    def entries() -> list[dict[str, Any]]:
        lines = (tmp_path / "log.jsonl").read_text(encoding="utf-8").splitlines()
        return [json.loads(line, parse_constant=refuse) for line in lines]

    (tmp_path / "log.jsonl").write_text('{"kind": "validation", "step": 1, "tasks": {"a": {"gain": NaN}}}\n')
    log = RunLog(tmp_path, board=False, start=1)
    assert entries()[0]["tasks"] == {"a": {"gain": None}}  # (of a run that an earlier version began)
    log.add("validation", 2, 0.1, tasks={"a": {"gain": math.inf, "slices": 0}, "b": {"gain": 0.5}})
    assert entries()[1]["tasks"] == {"a": {"gain": None, "slices": 0}, "b": {"gain": 0.5}}
    (gains,) = [panel for panel in run_panels(read_log(tmp_path)) if "gained" in panel.title]
    assert [(curve.name, curve.x, curve.y) for curve in gains.curves] == [("a", [], []), ("b", [2.0], [0.5])]


def test_a_run_without_a_finite_score_has_no_curves(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text('{"kind": "validation", "step": 1, "tasks": {"a": {"gain": NaN}}}\n')
    with pytest.raises(UsageError, match="expected a run that has logged a step, got none yet"):
        plot_run(tmp_path)


def test_a_full_disk_under_the_cache_is_said_in_a_line(
    make_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config(tasks=("mri",), steps=1, cache=tmp_path / "cache")

    def refuse(*_: object) -> None:
        raise OSError("6144 requested and 3040 written")  # noqa: EM101 - NumPy's words for it

    with monkeypatch.context() as patched:
        patched.setattr(np, "save", refuse)
        with pytest.raises(OutputError, match=r"expected to write the output, got 6144 requested and 3040 written; ch"):
            train(config)
    assert not list((tmp_path / "cache" / "mri-sr").iterdir())
    assert train(config).steps == 1


def test_settings_that_were_damaged_are_written_anew(make_config: Make) -> None:
    config = make_config(tasks=("mri",), steps=2)
    with pytest.raises(KeyboardInterrupt):
        train(config, on_step=interrupt_at(1))
    settings = config.output / "config.toml"
    whole = settings.read_text(encoding="utf-8")
    for damaged in ("", "\0\0\0"):
        settings.write_text(damaged)
        with pytest.raises(KeyboardInterrupt):
            train(replace(config, steps=2), on_step=interrupt_at(2))
        assert settings.read_text(encoding="utf-8") == whole
        (config.output / "checkpoint.pt").unlink()
        with pytest.raises(KeyboardInterrupt):
            train(config, on_step=interrupt_at(1))


def test_a_damaged_log_says_what_to_do(make_config: Make) -> None:
    config = make_config(tasks=("mri",), steps=1)
    train(config)
    (config.output / LOG).write_text("{}\n")
    with pytest.raises(UsageError, match="correct it, or move it away, without which the run goes on all the same"):
        train(config)
    (config.output / LOG).unlink()
    assert train(config).steps == 1


def test_a_second_run_in_the_folder_is_kept_out(make_config: Make) -> None:
    config = make_config(tasks=("mri",), steps=2)
    refused: list[str] = []

    def again(_: Progress) -> None:
        with pytest.raises(OutputError, match="expected to be alone, got another tat train at work in it") as error:
            train(config)
        refused.append(str(error.value))

    assert train(config, on_step=again).steps == 2
    assert len(refused) == 2
    assert len([line for line in read_log(config.output) if line["kind"] == "train"]) == 1


def test_what_a_killed_run_was_writing_is_taken_away(make_config: Make) -> None:
    config = make_config(tasks=("mri",), steps=1, cache=None)
    left = [config.output / ".tat-0011.pt", config.output / "cache" / "mri-sr" / ".mri0-0a1b-xyz" / "mri0-0a1b"]
    left[1].mkdir(parents=True)
    for path in (left[0], left[1] / "hq.npy"):
        path.write_bytes(b"half of it")
    others = {".tat-0012.nii.gz", ".tat-0013"}  # a restoration into the same folder, one to DICOM
    (config.output / ".tat-0012.nii.gz").touch()
    (config.output / ".tat-0013").mkdir()
    train(config)
    hidden = {path.name for path in config.output.rglob(".*")}
    assert hidden == {".lock", *others}


def test_the_log_after_a_stop_is_that_of_a_run_that_went_on(make_config: Make) -> None:
    """Stopped between two entries: the next one is the mean of all steps since the last."""
    options = {"tasks": ("mri", "ct"), "steps": 4, "log_every": 4}
    straight, cut = make_config("straight", **options), make_config("cut", **options)
    train(straight)
    with pytest.raises(KeyboardInterrupt):
        train(cut, on_step=interrupt_at(3))
    train(cut)
    entries = [
        [{**line, "seconds": 0} for line in read_log(config.output) if line["kind"] != "stopped"]
        for config in (straight, cut)
    ]
    assert entries[0] == entries[1]


def test_scans_of_equal_names_are_told_apart(make_config: Make) -> None:
    """In a prepared set, a scan's name is its file's or series' own."""
    hq = np.full((1, 32, 32), 500, dtype=np.float32)
    scans = [
        Reference("T1", TASKS["mri-sr"], Window(0, 1000), hq, None, None, 0.3, subject=subject)
        for subject in ("anna", "bert")
    ]
    batch = Sampler({"mri-sr": scans}, make_config(tasks=("mri",), batch=(16,))).batch(0)
    assert set(batch.scans) == {"anna/T1", "bert/T1"}
    assert replace(scans[0], name="anna/T1").label == "anna/T1"
    assert replace(scans[0], subject="").label == "T1"


def test_batches_beyond_the_memory_are_refused_before_scans_are_read(
    make_config: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tatcli.workflows.training.room.free_memory", lambda: 2**20)
    config = make_config(tasks=("mri", "ct"), task_multiples=(2, 1), accumulate=2, steps=2, patch=(32,), batch=(10,))
    # 10 x (2 + 1) x 2 crops of 32 x 32 pixels, each of 12 bytes, in the 2 batches of the run
    told = r"the free 1 MiB of memory, got 60 crops of 32x32 a step, which take 1 MiB with those drawn ahead"
    with pytest.raises(DeviceError, match=told):
        train(config)
    assert not config.output.exists()
    monkeypatch.setattr("tatcli.workflows.training.room.free_memory", lambda: 60 * 32**2 * 12 * 2)
    check_crops(config)
    monkeypatch.setattr("tatcli.workflows.training.room.free_memory", lambda: None)
    check_crops(config)


def test_passes_beyond_the_memory_are_refused_before_scans_are_read(
    make_config: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config(
        tasks=("mri", "ct"), task_multiples=(2, 1), patch=(64, 256), batch=(40, 3), milestones=(0.5,), steps=1
    )
    assert largest_pass(config) == (256, 9)
    crops = 9 * 256**2 * 12
    monkeypatch.setattr("tatcli.workflows.training.room.free_memory", lambda: crops + 2**20)
    check_crops(config)
    told = r"train: expected passes .* the free 8 MiB of memory, got 9 crops of 256x256, of which the network keeps"
    with pytest.raises(DeviceError, match=told):
        train(config)
    assert not config.output.exists()


@pytest.mark.parametrize(("name", "precision"), [("tat", "fp32"), ("tat", "bf16"), ("unet", "fp32"), ("edsr", "fp32")])
def test_what_a_pass_takes_is_told_by_two_small_ones(
    make_config: Make, monkeypatch: pytest.MonkeyPatch, name: str, precision: str
) -> None:
    network = make_network(make_config(network=name)).module.train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    check = partial(check_pass, "train", network, patch=96, samples=3, precision=precision, device=torch.device("cpu"))
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    monkeypatch.setattr("tatcli.workflows.training.room.free_memory", lambda: 2**50)
    check()
    assert all(value.equal(before[key]) for key, value in network.state_dict().items())
    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"),
    ):
        network(torch.rand(3, 1, 96, 96))
    needed = sum(kept.values()) - sum(weight.nbytes for weight in network.parameters())
    monkeypatch.setattr("tatcli.workflows.training.room.free_memory", lambda: int(1.1 * needed))
    check()
    monkeypatch.setattr("tatcli.workflows.training.room.free_memory", lambda: int(0.9 * needed))
    with pytest.raises(DeviceError, match="3 crops of 96x96"):
        check()
    check(device=torch.device("cuda"))


@pytest.mark.parametrize(
    "error", [MemoryError("35 PiB"), torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("out of memory")]
)
def test_memory_that_runs_out_in_a_step_is_said_in_a_line(
    make_config: Make, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("tatcli.training.steps.Stepper.update", fail)
    with pytest.raises(DeviceError, match=rf"train: expected enough memory on cpu, got: {error}; lower --batch"):
        train(make_config(tasks=("mri",), steps=1))


def test_other_errors_in_a_step_stay_bugs(make_config: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("a bug")  # noqa: EM101

    monkeypatch.setattr("tatcli.training.steps.Stepper.update", fail)
    with pytest.raises(RuntimeError, match="a bug"):
        train(make_config(tasks=("mri",), steps=1))
