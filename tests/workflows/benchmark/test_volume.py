"""The volume benchmark: arithmetic, fields, made-up scans. Never timings."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tatcli.errors import DeviceError, OutputError, UsageError
from tatcli.inference.guards import check_scan
from tatcli.inference.passes import Pass, Passes
from tatcli.tasks import TASKS
from tatcli.volumes import read_volume
from tatcli.workflows.benchmark.scan_case import measure_scan
from tatcli.workflows.benchmark.volume import VolumeConfig, benchmark_volume, make_scan, volume_result


def test_what_a_scan_costs_over_its_slices():
    found = {
        "weights": "tat-small 0123456789ab",
        "device": "cpu",
        "precision": "fp32",
        "threads": 2,
        "seconds": [11.0, 30.0, 10.0],
        "slice_seconds": [0.5, 0.25, 0.25, 0.125],
        "file_seconds": [0.5, 0.75, 1.0],
        "stages": [{"restore": 10.5}, {"restore": 29.0}, {"restore": 9.0}],
        "memory": {"scan": "held"},
        "peak_rss_bytes": 7,
    }
    result = volume_result(found, size=500, slices=40, extension=".nii")
    assert (result.seconds, result.seconds_min, result.seconds_max) == (11.0, 10.0, 30.0)
    assert (result.slice_seconds, result.slice_seconds_min, result.slice_seconds_max) == (0.25, 0.125, 0.5)
    assert result.over_slices == pytest.approx(11.0 / 10.0)
    assert result.over_files == pytest.approx(11.0 / 30.0)
    assert result.seconds_per_slice == pytest.approx(0.275)
    assert result.seconds_per_megapixel == pytest.approx(1.1)
    assert result.stages == {"restore": 10.5}
    assert (result.memory, result.peak_rss_bytes) == ({"scan": "held"}, 7)


@pytest.mark.parametrize("extension", [".nii", ".nii.gz", ".nrrd", ".mha"])
def test_a_made_up_scan_is_a_ct(tmp_path, extension):
    path = tmp_path / f"x{extension}"
    make_scan(path, slices=3, size=40)
    volume = read_volume(path)
    assert volume.array.shape == (3, 40, 40)
    assert volume.provenance.dtype == np.int16
    check_scan(volume, TASKS["ct-denoise"])
    assert not np.array_equal(volume.array[0], volume.array[1])
    assert volume.array[:, 20, 20] == pytest.approx(40, abs=100)
    assert volume.array[:, 0, 0] == pytest.approx(-1000, abs=100)


def test_every_combination_is_one_scan(installed, in_process, tmp_path):
    folder = tmp_path / "scans"
    folder.mkdir()
    config = VolumeConfig(
        sizes=(24, 16), slices=(3, 2), device="cpu", repeats=2, max_memory=2**40, folder=folder, extension=".nii"
    )
    told = []
    report = benchmark_volume(config, progress=lambda *state: told.append(state))
    assert [(r.size, r.slices) for r in report.results] == [(24, 3), (24, 2), (16, 3), (16, 2)]
    assert [state[1:] for state in told] == [(index, 4) for index in (0, 0, 1, 1, 2, 2, 3, 3)]
    assert all(Path(job["scan"]).parent.parent == folder for _, job in in_process)
    assert list(folder.iterdir()) == []
    for result in report.results:
        assert result.over_slices == pytest.approx(result.seconds / (result.slices * result.slice_seconds))
        assert result.seconds_per_megapixel == pytest.approx(1e6 * result.seconds_per_slice / result.size**2)
        assert result.memory["limit_bytes"] == 2**40
        assert result.memory["scan"] == "held"
        assert set(result.stages) == {"read", "load", "restore", "write", "report", "total"}
        assert result.weights.startswith("tat-small ")
        assert result.seconds_min <= result.seconds <= result.seconds_max
    assert set(json.loads(report.to_json())) == {"started", "versions", "machine", "repeats", "results"}


def test_options_out_of_range(tmp_path):
    for fields, words in (
        ({"slices": (1,)}, "--slices: expected at least 2, got 1"),
        ({"sizes": ()}, "--sizes: expected at least 8, got none"),
        ({"repeats": 0}, "--repeats: expected at least 1, got 0"),
        ({"extension": ".npy"}, "--format '.npy'"),
        ({"folder": tmp_path / "none"}, "expected a folder, got none"),
    ):
        with pytest.raises(UsageError, match=words):
            VolumeConfig(**fields)


@pytest.mark.parametrize(
    ("fields", "error", "words"),
    [
        ({"slices": (2, 10**9), "extension": ".nii.gz"}, OutputError, "for 1000000000 slices of 256x256, which take"),
        ({"slices": (3, 2), "sizes": (16, 32)}, OutputError, "got 4 MiB free for 3 slices of 32x32, which take"),
        ({"sizes": (16, 10**6), "slices": (2,)}, DeviceError, "got 1000000x1000000, which take 22351.7 GiB; lower it"),
    ],
)
def test_scans_beyond_disk_and_memory_are_refused_before_they_are_made(
    in_process, tmp_path, monkeypatch, fields, error, words
):
    made = []
    room = 3 * 32**2 * 4  # (just enough of it, with .nii)
    free = 4 * 2**20 if fields.get("extension") else room - 1
    monkeypatch.setattr("tatcli.workflows.benchmark.volume.shutil.disk_usage", lambda _: SimpleNamespace(free=free))
    monkeypatch.setattr("tatcli.workflows.benchmark.volume.make_scan", lambda *_, **__: made.append(1))
    monkeypatch.setattr("tatcli.inference.system_memory.free_memory", lambda: 2**30)
    config = VolumeConfig(device="cpu", folder=tmp_path, **({"extension": ".nii"} | fields))
    with pytest.raises(error, match=words.replace("4 MiB", "(4|1) MiB")):
        benchmark_volume(config)
    assert not made
    assert not in_process


def test_scans_that_just_fit_are_made(installed, in_process, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "tatcli.workflows.benchmark.volume.shutil.disk_usage", lambda _: SimpleNamespace(free=2 * 16**2 * 4)
    )
    monkeypatch.setattr("tatcli.inference.system_memory.free_memory", lambda: 16**2 * 24)
    config = VolumeConfig(
        sizes=(16,), slices=(2,), device="cpu", repeats=1, max_memory=2**40, folder=tmp_path, extension=".nii"
    )
    assert len(benchmark_volume(config).results) == 1


def test_a_slice_alone_takes_no_more_than_the_scan(installed, tmp_path, monkeypatch):
    sides = []
    seen = Passes._answer
    monkeypatch.setattr(Passes, "_answer", lambda self, x: (sides.append(x.shape[-1]), seen(self, x))[1])
    scan, one = tmp_path / "scan.nii", tmp_path / "one.nii"
    make_scan(scan, slices=2, size=96)
    make_scan(one, slices=1, size=96)
    tiles = Pass(1, 64, 16)
    monkeypatch.setattr("tatcli.inference.memory._attempts", lambda *_: iter([tiles]))
    machine = {"device": "cpu", "precision": "fp32", "threads": 1}
    found = measure_scan(scan, one, weights="tat-small", machine=machine, max_memory=2**40, repeats=1)
    assert found.memory["tile"] == 64
    assert set(sides) == {64}
