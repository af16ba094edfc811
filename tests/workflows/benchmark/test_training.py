"""``tat benchmark training``: its arithmetic, its cases and its refusals, never its timings."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tatcli.cli.app import app
from tatcli.errors import DeviceError, UsageError
from tatcli.inference.runtime import Runtime
from tatcli.model import PRESETS, config, native_library
from tatcli.model.fused import without_kernels
from tatcli.workflows.benchmark.training import TrainingConfig, _result, benchmark_training


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    small = replace(
        PRESETS["tat-small"],
        width=16,
        encoder_blocks=(1, 1, 1),
        latent_blocks=1,
        decoder_blocks=(1, 1, 1),
        tren_width=4,
    )
    monkeypatch.setitem(config.PRESETS, "tiny", small)


def test_rates_are_samples_over_seconds() -> None:
    result = _result("tiny", "fp32", "kernels", 6, [2.0, 3.0, 4.0])
    assert (result.samples_per_s, result.samples_per_s_min, result.samples_per_s_max) == (2.0, 1.5, 3.0)


def test_every_case_both_ways() -> None:
    told: list[tuple[str, int, int]] = []
    report = benchmark_training(
        TrainingConfig(presets=("tiny",), patch=16, batch=2, device="cpu", repeats=1),
        progress=lambda *step: told.append(step),
    )
    built = native_library.native_library() is not None
    ways = ["kernels", "operations"] if built else ["operations"]
    assert [(r.precision, r.way) for r in report.results] == [(p, w) for p in ("fp32", "bf16") for w in ways]
    assert all(0 < r.samples_per_s_min <= r.samples_per_s <= r.samples_per_s_max for r in report.results)
    assert (report.why_no_kernels == "") is built
    assert told == [("tiny fp32", 0, 2), ("tiny bf16", 1, 2), ("done", 2, 2)]


def test_every_step_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU, CUDA's or Apple's, goes on by itself after the last call."""
    order: list[str] = []
    monkeypatch.setattr("tatcli.workflows.benchmark.training._step", lambda *_, **__: lambda: order.append("step"))
    monkeypatch.setattr(Runtime, "synchronise", lambda _: order.append("wait"))
    options = TrainingConfig(presets=("tiny",), precisions=("fp32",), device="cpu", repeats=2)
    ways = len(benchmark_training(options).results)
    assert order == ["step", "wait"] * 3 * ways


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patch": 20}, "--patch: expected a multiple of 8, got 20"),
        ({"batch": 0}, "--batch: expected at least 1, got 0"),
        ({"precisions": ("fp64",)}, "--precision: expected fp32 or bf16, got fp64"),
        ({"precisions": ()}, "--precision: expected fp32 or bf16, got none"),
    ],
)
def test_refusals(options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        TrainingConfig(**options)


def test_memory_that_runs_out_is_said_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr("tatcli.workflows.benchmark.training._step", fail)
    with pytest.raises(DeviceError, match="benchmark training: expected enough memory on cpu, got: none left; lower"):
        benchmark_training(TrainingConfig(presets=("tiny",), precisions=("fp32",), device="cpu"))


def test_the_ways_differ() -> None:
    """Inside ``without_kernels`` nothing is fused."""
    from tatcli.model import fused
    from tatcli.workflows.benchmark.training import _way

    assert isinstance(_way("kernels"), nullcontext)
    assert isinstance(_way("operations"), type(without_kernels()))
    with _way("operations"):
        assert not fused._allowed
    assert fused._allowed


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "steps.json"
    line = (
        f"benchmark training --preset tiny --patch 16 --batch 1 --precision fp32 --repeats 1 --device cpu --json {path}"
    )
    done = CliRunner().invoke(app, line.split())
    assert done.exit_code == 0, done.output
    written = json.loads(path.read_text())
    assert written["patch"] == 16
    assert {row["preset"] for row in written["results"]} == {"tiny"}
    assert "operations" in done.stdout


def test_steps_beyond_the_memory_are_refused_before_any_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tatcli.workflows.training.room.free_memory", lambda: 2**30)
    told: list[str] = []
    config = TrainingConfig(presets=("tiny",), patch=8192, batch=2, device="cpu", repeats=1)
    with pytest.raises(DeviceError, match=r"benchmark training: .* free 1\.0 GiB .* got 2 crops of 8192x8192"):
        benchmark_training(config, progress=lambda *step: told.append(step[0]))
    assert told == []
