"""``tat benchmark quality`` from end to end, on a tiny dataset."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from tatcli.baselines import BASELINES
from tatcli.baselines.networks import ComparisonCard, save_comparison_weights
from tatcli.baselines.unet import UNet
from tatcli.model.config import PRESETS
from tatcli.model.weights import card_for_tasks


@pytest.fixture
def data(tmp_path):
    y, x = np.mgrid[-1:1:48j, -1:1:48j]
    for split, seeds in (("train", (0,)), ("val", (1, 2))):
        folder = tmp_path / "data" / "MRI" / split
        folder.mkdir(parents=True)
        for seed in seeds:
            rng = np.random.default_rng(seed)
            head = np.where(x**2 + y**2 < 0.7, 500.0, 0.0) + rng.gamma(2.0, 20.0, (3, 48, 48))
            np.save(folder / f"p{seed}_t1.npy", head.astype(np.float32))
    return tmp_path / "data"


def test_all_methods_side_by_side(tat, data, tmp_path) -> None:
    torch.manual_seed(0)
    tasks = card_for_tasks("x", PRESETS["tat-small"], ("mri-sr",)).tasks
    weights = tmp_path / "unet.safetensors"
    save_comparison_weights(UNet(4), weights, card=ComparisonCard(network="unet", config={"width": 4}, tasks=tasks))
    words = ("--tune-slices", "2", "--max-slices", "2", "--device", "cpu", "--threads", "1", "--subjects", "^(p.)")
    outputs = ("--json", tmp_path / "b.json", "--csv", tmp_path / "tables", "--html", tmp_path / "b.html")
    done = tat("benchmark", "quality", "--data", data, "--networks", f"unet={weights}", *words, *outputs)
    assert done.exit_code == 0, done.output
    told = json.loads((tmp_path / "b.json").read_text(encoding="utf-8"))
    (task,) = told["tasks"]
    rows = {row["method"]: row for row in task["methods"]}
    assert list(rows) == ["lq", "bicubic", "back-projection", "unsharp", "tv-kspace", "tat-small", "unet"]
    for name, row in rows.items():
        assert row["subjects"] == 2
        assert row["intervals"]["psnr"][0] <= row["psnr"] <= row["intervals"]["psnr"][1]
        assert ("seconds_per_slice" in row) == (name != "lq")
        assert name.replace("lq", "input") in (tmp_path / "b.html").read_text(encoding="utf-8")
        assert f"{row['psnr']:.2f} [" in done.stdout
    assert rows["tat-small"]["seconds_per_slice"] > 0
    assert told["settings"]["networks"] == {"unet": str(weights)}
    assert {test["other"] for test in task["tests"]} == set(rows) - {"tat-small"}
    assert (tmp_path / "tables" / "tasks.csv").read_text(encoding="utf-8").count("\n") == 8


def test_a_runs_weights_beside_those_that_it_started_from(tat, data, tiny_weights, tmp_path) -> None:
    (tmp_path / "run").mkdir()
    for file in tiny_weights.iterdir():
        (tmp_path / "run" / file.name).write_bytes(file.read_bytes())
    run = tmp_path / "run" / "tat-small.safetensors"
    words = ("--methods", "none", "--networks", f"tat={run}", "--max-slices", "1", "--json", "-")
    told = json.loads(tat("benchmark", "quality", "--data", data, *words).stdout)
    rows = {row["method"]: row["psnr"] for row in told["tasks"][0]["methods"]}
    assert list(rows) == ["lq", "tat-small", str(run.with_suffix(""))]
    assert rows["tat-small"] == rows[str(run.with_suffix(""))]


def test_one_method_on_stdout(tat, data) -> None:
    words = ("--weights", "none", "--methods", "unsharp", "--tune-slices", "1", "--max-slices", "0", "--json", "-")
    told = json.loads(tat("benchmark", "quality", "--data", data, *words).stdout)
    assert [row["method"] for row in told["tasks"][0]["methods"]] == ["lq", "unsharp"]
    assert len(told["tasks"][0]["scans"][0]["slices"]) == 3


def test_what_cant_be_scored_is_counted(tat, data) -> None:
    """Of five scans, two constant ones among them, one is broken; a task of constant ones alone is a failure."""
    flat = np.full((3, 48, 48), 7.0, np.float32)
    (data / "PET" / "val").mkdir(parents=True)
    for path in (data / "MRI" / "val" / "flat.npy", data / "PET" / "val" / "flat.npy"):
        np.save(path, flat)
    broken = data / "MRI" / "val" / "broken.npy"
    broken.write_bytes(b"nothing")
    words = ("benchmark", "quality", "--data", data, "--weights", "none", "--methods", "none")
    done = tat(*words)
    assert done.exit_code == 6
    assert "1 of 5 scans could not be evaluated" in done.output
    assert "2 scans of 2 subjects" in done.output
    broken.unlink()
    done = tat(*words)
    assert done.exit_code == 6
    assert "pet-synthesis: expected scans that can be evaluated, got constant ones only" in done.output


def test_a_filter_that_was_not_tuned_far_enough_is_named(tat, data, monkeypatch) -> None:
    """Much noise wants more than half a pixel of smoothing, and no sharpening, however little."""
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for path in list((data / "MRI" / split).iterdir()):
            for kind in ("HQ", "LQ"):
                (data / "MRI" / split / kind).mkdir(exist_ok=True)
            clean = np.load(path)
            np.save(data / "MRI" / split / "LQ" / path.name, clean + rng.normal(0, 150, clean.shape).astype(np.float32))
            path.rename(data / "MRI" / split / "HQ" / path.name)
    words = ("evaluate", "--data", data, "--tasks", "mri", "--weights", "none", "--baselines", "gaussian,unsharp")
    assert "strongest setting" not in tat(*words).output
    monkeypatch.setitem(BASELINES, "gaussian", replace(BASELINES["gaussian"], grid=(0.4, 0.5)))
    done = tat(*words)
    assert done.exit_code == 0, done.output
    assert "mri-sr: gaussian: best at the strongest setting that was tried, a stronger one may be" in done.output


def test_filters_that_were_tuned_on_what_is_scored_are_warned_of(tat, data) -> None:
    words = ("evaluate", "--data", data, "--weights", "none", "--tune-slices", "1", "--max-slices", "1")
    told = "split train: the classical filters were tuned on the very scans that are scored"
    assert told not in tat(*words, "--baselines", "unsharp").output
    done = tat(*words, "--baselines", "unsharp", "--split", "train")
    assert done.exit_code == 0, done.output
    assert told in done.output
    words = ("evaluate", "--data", data, "--weights", "none", "--max-slices", "1", "--split", "train")
    assert told not in tat(*words, "--baselines", "none").output


def test_tables_dont_take_another_results_name(refused, data, tmp_path) -> None:
    """It was seen when all was scored, and then as a traceback, or the table took the report's place."""
    words = ("benchmark", "quality", "--data", data, "--overwrite")
    (tmp_path / "tables").mkdir()
    for result in (("--json", tmp_path / "new"), ("--html", tmp_path / "new")):
        refused(*words, "--csv", tmp_path / "new", *result, code=2, match="new: expected a name of its own")
    report = tmp_path / "tables" / "tasks.csv"
    refused(*words, "--csv", report.parent, "--json", report, code=2, match="tasks.csv: expected a name of its own")


def test_what_is_refused(refused, data, tmp_path) -> None:
    words = ("benchmark", "quality", "--data", data)
    refused(*words, "--networks", "unet", code=2, match="--networks 'unet': expected NAME=WEIGHTS")
    refused(*words, "--networks", "resnet=x.safetensors", code=2, match="unknown network 'resnet'")
    refused(*words, "--networks", f"unet={tmp_path / 'no.safetensors'}", code=4, match="expected a network's card")
    refused(*words, "--networks", "tat=tat-small", code=2, match="expected each weights file once, got tat-small again")
    refused(*words, "--methods", "magic", code=2, match="unknown baseline 'magic'")
    refused("benchmark", "quality", code=2, match="--data")


def test_the_task_representation(tat, refused, data, tmp_path, tiny_weights) -> None:
    weights = tiny_weights / "tat-small.safetensors"
    words = ("benchmark", "representation", "--data", data, "--weights", weights, "--max-slices", "2")
    done = tat(*words, "--json", tmp_path / "z.json", "-o", tmp_path / "z.png")
    assert done.exit_code == 0, done.output
    assert "of its variance lies between tasks" in done.stdout
    assert "nan" not in done.stdout  # one task has no silhouette
    assert done.stdout.splitlines()[-1] == str(tmp_path / "z.png")
    told = json.loads((tmp_path / "z.json").read_text(encoding="utf-8"))
    assert [(row["task"], row["scans"], row["slices"]) for row in told["rows"]] == [("mri-sr", 2, 4)]
    assert len(told["points"]) == 8
    refused(*words, "-o", tmp_path / "z.png", code=2, match="exists")
    refused(*words, "--task", "knitting", code=2, match="knitting")


def test_scans_without_a_representation_are_named_and_holes_are_filled(tat, refused, data, tiny_weights) -> None:
    """One that couldn't be read ended it all, and slices with a voxel that isn't a number were left out, unsaid."""
    weights = tiny_weights / "tat-small.safetensors"
    words = ("benchmark", "representation", "--data", data, "--weights", weights, "--max-slices", "0", "--json", "-")
    whole = json.loads(tat(*words).stdout)
    for path in (data / "MRI" / "val").iterdir():
        array = np.load(path)
        array[:, 3, 4] = np.nan
        np.save(path, array)
    (data / "MRI" / "val" / "broken.npy").write_bytes(b"nothing")
    done = tat(*words)
    assert done.exit_code == 6
    told = json.loads(done.stdout)
    assert [point["scan"] for point in told["points"]] == [point["scan"] for point in whole["points"]]
    assert list(told["failures"]) == ["mri-sr: broken"]
    assert "warning: mri-sr: broken: broken.npy: expected" in done.stderr
    assert "1 of 3 scans could not be used" in done.stderr
    for path in (data / "MRI" / "val").iterdir():
        path.write_bytes(b"nothing")
    refused(*words, code=2, match="expected at least 3 slices that aren't constant, got 0 (broken.npy: expected")


def test_slices_for_a_page_that_isnt_asked_for(refused, data) -> None:
    for words in (("benchmark", "quality", "--data", data), ("evaluate", "--data", data)):
        refused(*words, "--html-slices", "3", code=2, match="--html-slices: expected together with --html")
