"""``tat benchmark``: what it prints, writes and refuses."""

from __future__ import annotations

import json

import pytest
import torch

from tatcli.workflows.benchmark import case, fresh, machine

QUICK = ("--preset", "tat-small", "--sizes", "16", "--precision", "fp32", "--device", "cpu", "--repeats", "1")


@pytest.fixture(autouse=True)
def one_thread():
    """The network is so small that threads would only wait for one another."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def in_process(monkeypatch):
    """No process is started, and the machine is measured in a moment."""
    monkeypatch.setattr(case, "_SHORTEST", 0.0)
    monkeypatch.setattr(machine, "_MATRIX", {"cpu": (64,)})
    monkeypatch.setattr(machine, "_CONVOLUTION", {"cpu": ((16, 16),)})
    monkeypatch.setattr(machine, "_COPIED", {"cpu": 2**16})
    answer = lambda kind, **job: json.loads(json.dumps(fresh.answer({"kind": kind, "launched": 0.0, **job})))  # noqa: E731
    monkeypatch.setattr("tatcli.workflows.benchmark.speed.measure_afresh", answer)
    monkeypatch.setattr("tatcli.workflows.benchmark.volume.measure_afresh", answer)


def test_speed_shows_tables_and_writes_json(tat, tmp_path):
    first = tat("benchmark", "speed", *QUICK, "--json", tmp_path / "a.json")
    assert first.exit_code == 0, first.output
    assert first.stderr == ""
    for words in ("1x1 convolution", "of the peak", "tat-small", "16x16", "median of 1", "% of a pass"):
        assert words in first.stdout
    told = json.loads((tmp_path / "a.json").read_text())
    assert [result["size"] for result in told["results"]] == [16]

    again = tat("benchmark", "speed", *QUICK, "--json", tmp_path / "b.json", "--compare", tmp_path / "a.json")
    assert f"over {tmp_path / 'a.json'}" in again.stdout
    other = tat("benchmark", "speed", *QUICK, "--batch", "2", "--compare", tmp_path / "a.json")
    assert "no case in common" in other.stderr


def test_speed_refuses_before_it_measures(refused, tmp_path):
    (tmp_path / "there.json").write_text("{}")
    speed = ("benchmark", "speed")
    refused(*speed, *QUICK, "--json", tmp_path / "there.json", code=2, match="exists")
    refused(*speed, *QUICK, "--compare", tmp_path / "there.json", code=2, match="by tat benchmark speed --json")
    refused(*speed, *QUICK, "--compare", tmp_path / "none.json", code=2, match="speed --json, got nothing there")
    refused(*speed, "--sizes", "big", code=2, match="--sizes 'big': expected numbers")
    refused(*speed, "--precision", "int8", code=2, match="expected one of auto, fp32, bf16, fp16")
    refused(*speed, "--precision", "fp16", "--device", "cpu", code=5, match="expected a GPU")
    refused(*speed, "--preset", "tat-huge", "--device", "cpu", code=2, match="unknown preset")
    refused("benchmark", code=2, match="Missing command")


def test_volume_shows_tables_and_writes_json(tat, tmp_path):
    words = ("--slices", "3", "--sizes", "16", "--repeats", "1", "--device", "cpu", "--folder", tmp_path)
    done = tat("benchmark", "volume", *words, "--format", ".mha", "--json", tmp_path / "v.json")
    assert done.exit_code == 0, done.output
    assert done.stderr == ""
    for expected in ("16x16", "over slices", "predicted", "held"):
        assert expected in done.stdout
    (result,) = json.loads((tmp_path / "v.json").read_text())["results"]
    assert (result["slices"], result["size"], result["extension"]) == (3, 16, ".mha")
    assert [path.name for path in tmp_path.iterdir()] == ["v.json"]


def test_json_on_stdout_comes_alone(tat, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = tat("benchmark", "speed", *QUICK, "--json", "-")
    assert done.exit_code == 0, done.output
    assert len(json.loads(done.stdout)["results"]) == 1
    assert list(tmp_path.iterdir()) == []


def test_volume_refuses_before_it_measures(refused, tmp_path):
    command = ("benchmark", "volume")
    refused(*command, "--slices", "1", code=2, match="--slices: expected at least 2, got 1")
    refused(*command, "--sizes", ",", code=2, match="--sizes: expected at least 8, got none")
    refused(*command, "--format", ".dcm", code=2, match="expected .nii, .nii.gz, .nrrd or .mha")
    refused(*command, "--folder", tmp_path / "none", code=2, match="expected a folder")
    refused(*command, "--max-memory", "much", code=2, match="expected an amount of memory")
    refused(*command, "--weights", "tat-huge", code=2, match="unknown preset")
    refused(*command, "--weights", tmp_path / "none.safetensors", code=4, match="none.safetensors")
    refused(*command, "--slices", "2", "--sizes", "16", "--max-memory", "1MiB", code=5, match="even in tiles")


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (("-o", "x.png", "--json", "x.png"), "x.png: expected a file of its own for each result"),
        (("--seed", "-1"), "--seed: expected 0 or more, got -1"),
    ],
)
def test_representation_refuses_before_the_work(refused, tmp_path, monkeypatch, words, match):
    monkeypatch.chdir(tmp_path)
    refused("benchmark", "representation", "--data", tmp_path, *words, code=2, match=match)


def test_training_of_no_preset_is_refused(refused):
    refused("benchmark", "training", "--preset", ",", code=2, match="--preset: expected at least one value, got none")
