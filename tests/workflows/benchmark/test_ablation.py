"""The ablation: what its arms train, that nothing is trained twice, and the table's arithmetic."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tatcli.errors import UsageError
from tatcli.training.config import TrainConfig
from tatcli.training.steps import TrainingDiverged
from tatcli.workflows.benchmark import ablation
from tatcli.workflows.benchmark.ablation import AblationConfig, ablate
from tatcli.workflows.benchmark.ablation_arms import ARMS, find_arms
from tatcli.workflows.benchmark.ablation_report import Scored, summarise_arms
from tatcli.workflows.benchmark.ablation_scans import Scans, check_alike


@pytest.fixture
def training(tmp_path: Path) -> TrainConfig:
    rng = np.random.default_rng(0)
    for task in ("MRI", "PET"):
        for split in ("train", "val"):
            folder = tmp_path / "data" / task / split
            folder.mkdir(parents=True)
            np.save(folder / "scan.npy", rng.gamma(2.0, 100, (2, 40, 40)).astype(np.float32))
    return TrainConfig(
        data=tmp_path / "data",
        output=tmp_path / "study",
        tasks=("mri",),
        preset="tat-tiny",
        steps=1,
        patch=(16,),
        batch=(1,),
        samples=0,
        validation_slices=1,
        threads=1,
    )


def test_arms_differ_in_what_they_say() -> None:
    def of(name: str) -> tuple[object, object]:
        return ARMS[name].options["network"], ARMS[name].options["loss"]

    assert [of(name) for name in ("tat", "static", "l1", "static-l1")] == [
        ("tat", "balanced"), ("static-tat", "balanced"), ("tat", "l1"), ("static-tat", "l1"),
    ]  # fmt: skip
    assert find_arms(()) == tuple(ARMS.values())
    with pytest.raises(UsageError, match="--arms: unknown foo: expected some of tat, static"):
        find_arms(["foo"])


def test_trained_once_and_scored(training: TrainConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    config = AblationConfig(training=training, arms=("tat", "static-l1"), seeds=(3,), max_slices=1)
    report = ablate(config)
    assert [(row.task, row.arm, row.subjects, row.seeds) for row in report.rows] == [
        ("mri-sr", "tat", 1, 1), ("mri-sr", "static-l1", 1, 1),
    ]  # fmt: skip
    told = json.loads((training.output / "static-l1-seed3" / "result.json").read_text())
    assert told["settings"]["network"] == "static-tat"
    scores = told["tasks"]["mri-sr"]["scan"]
    assert report.rows[1].gain == pytest.approx(scores["psnr"] - scores["lq_psnr"])
    assert 5 < scores["lq_psnr"] < 40
    assert report.parameters["tat"] > report.parameters["static-l1"] == told["parameters"]

    def never(*args: object, **options: object) -> None:
        raise AssertionError

    monkeypatch.setattr(ablation, "_train_and_score", never)
    assert ablate(config) == report
    with pytest.raises(UsageError, match="expected a result of the same options, scored_slices differ"):
        ablate(AblationConfig(training=training, arms=("tat",), seeds=(3,), max_slices=2))
    with pytest.raises(UsageError, match="expected a result of the same options, data differ"):
        ablate(replace(config, training=replace(training, data=training.data / "MRI")))


def test_an_arm_trained_on_other_scans_is_not_scored_as_if_on_these(training: TrainConfig) -> None:
    """As where it was killed after its training, before its result was written, and the dataset changed."""
    config = AblationConfig(training=training, arms=("l1",), seeds=(3,), max_slices=1)
    ablate(config)
    (training.output / "l1-seed3" / "result.json").unlink()
    scan = training.data / "MRI" / "train" / "scan.npy"
    np.save(scan, np.load(scan)[::-1])
    with pytest.raises(UsageError, match="expected the scans that this arm was trained on, got others"):
        ablate(config)


def test_arms_of_other_scans_are_not_compared(training: TrainConfig) -> None:
    """Whether the dataset changed between two arms, or while one of them was interrupted."""
    first, both = (
        AblationConfig(training=training, arms=arms, seeds=(3,), max_slices=1) for arms in (["l1"], ["l1", "tat"])
    )
    ablate(first)
    scan = training.data / "MRI" / "val" / "scan.npy"
    values = np.load(scan)
    np.save(scan, values[::-1])
    with pytest.raises(
        UsageError, match=r"scores of the same scans, l1-seed3 and tat-seed3 have them of .* \(mri-sr\)"
    ):
        ablate(both)
    np.save(scan, values)
    shutil.rmtree(training.output / "tat-seed3")
    np.save(training.data / "MRI" / "train" / "scan.npy", values)
    with pytest.raises(UsageError, match="trainings on the same scans, l1-seed3 and tat-seed3 had different ones"):
        ablate(both)


def test_a_training_that_diverges_costs_its_arm_a_row_and_no_more(training: TrainConfig, monkeypatch) -> None:
    def train(run, *_):
        if run.name == "single-seed4-mri-sr":
            msg = "train: the loss became 9 at step 602"
            raise TrainingDiverged(msg)
        subject = {f"{lq}{name}": 30.0 + run.seed for lq in ("", "lq_") for name in ("psnr", "ssim", "rmse")}
        scores = {task: {"s": subject} for task in run.config.tasks}
        run.config.output.mkdir(parents=True)
        return {"parameters": 7, "seconds": 1.0, "tasks": scores, "cosines": {}}

    monkeypatch.setattr(ablation, "_train_and_score", train)
    shared = replace(training, tasks=("mri", "pet"))
    report = ablate(AblationConfig(training=shared, arms=("tat", "single"), seeds=(3, 4)))
    assert [(row.task, row.arm) for row in report.rows] == [
        ("mri-sr", "tat"), ("pet-synthesis", "tat"), ("pet-synthesis", "single"),
    ]  # fmt: skip
    assert report.failed == {"single-seed4-mri-sr": "train: the loss became 9 at step 602"}
    assert json.loads(report.to_json())["failed"] == report.failed
    with pytest.raises(TrainingDiverged):  # what the others are compared with
        ablate(AblationConfig(training=shared, arms=("single",), seeds=(4,)))


def test_networks_of_one_task_have_a_part_of_the_scans(tmp_path: Path) -> None:
    def of(tasks: tuple[str, ...], trained: str, scored: str) -> Scans:
        return Scans(tasks, frozenset(trained.split()), dict(zip(tasks, scored, strict=True)))

    all_ = of(("ct", "mri"), "a b", "xy")
    check_alike({"tat": all_, "ct": of(("ct",), "a", "x"), "mri": of(("mri",), "b", "y")}, tmp_path)
    check_alike({"tat": all_, "old": Scans(("ct", "mri"), None, None), "l1": all_}, tmp_path)
    for other in (of(("mri",), "c", "y"), of(("mri",), "b", "z"), of(("ct", "mri"), "a", "xy")):
        with pytest.raises(UsageError, match="the same scans, tat and last"):
            check_alike({"tat": all_, "last": other}, tmp_path)


def test_a_teacher_teaches_the_networks_of_its_tasks(training: TrainConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = {"m": {"mri-sr": {}}, "p": {"pet-synthesis": {}}, "b": {"mri-sr": {}, "pet-synthesis": {}}}
    monkeypatch.setattr("tatcli.model.weights.find_weights", str)
    monkeypatch.setattr("tatcli.model.weights.card_fields", lambda name: {"tasks": tasks[name]})
    for teachers, expected in (("m, p,b", ("m,b", "p,b")), ("p", (None, "p"))):
        shared = replace(training, tasks=("mri", "pet"), teacher=teachers)
        study = AblationConfig(training=shared, arms=("tat", "single"), seeds=(1,))
        assert [run.config.teacher for run in ablation._runs(study)] == [teachers, *expected]


def test_weights_to_start_from_need_arms_that_can(training: TrainConfig) -> None:
    shared = replace(training, init="tat-small")
    with pytest.raises(
        UsageError, match="init tat-small: expected none, or arms of the network tat alone, got static-tat"
    ):
        ablate(AblationConfig(training=shared, arms=("tat", "static"), seeds=(1,)))
    assert not training.output.exists()


def test_what_cant_be_scored_is_told_before_the_training(training: TrainConfig) -> None:
    shutil.rmtree(training.data / "MRI" / "val")
    with pytest.raises(UsageError, match="expected a folder MRI/val"):
        ablate(AblationConfig(training=training, arms=("tat",), seeds=(3,)))
    assert not training.output.exists()


def test_the_tables_arithmetic(training: TrainConfig) -> None:
    def scored(arm: str, seed: int, psnr: tuple[float, float]) -> Scored:
        subjects = {
            name: {"lq_psnr": 20.0, "lq_ssim": 0.5, "lq_rmse": 9.0, "psnr": value, "ssim": value / 100, "rmse": 1.0}
            for name, value in zip("ab", psnr, strict=True)
        }
        cosines = {"shared": {"a | b": 0.1 * seed}} if arm == "tat" else {}
        return Scored(arm=arm, seed=seed, tasks={"mri-sr": subjects}, parameters=100, seconds=2.5, cosines=cosines)

    results = [
        scored("tat", 0, (30, 32)),
        scored("l1", 0, (29, 30)),
        scored("tat", 1, (31, 33)),
        scored("l1", 1, (31, 32)),
    ]
    report = summarise_arms(results, training, seeds=(0, 1), arms=find_arms(["tat", "l1"]))
    tat, l1 = report.rows
    assert (tat.psnr, tat.gain, tat.spread, tat.difference) == (31.5, 11.5, (31.0, 32.0), 0.0)
    assert (l1.psnr, l1.spread, l1.difference, l1.difference_spread) == (30.5, (29.5, 31.5), -1.0, (-1.5, -0.5))
    assert l1.ssim == pytest.approx(0.305)
    assert l1.interval is not None
    assert (l1.interval.lower, l1.interval.upper) == (30.0, 31.0)  # of subjects' means over seeds, 30 and 31
    assert report.seconds == {"tat": 5.0, "l1": 5.0}
    assert report.cosines == {"tat": {"shared": {"a | b": [0.0, 0.1]}}}
    assert json.loads(report.to_json())["rows"][1]["interval"] == {"lower": 30.0, "upper": 31.0}


def test_a_network_for_each_task_gets_its_tasks_options(training: TrainConfig) -> None:
    shared = replace(training, tasks=("mri", "pet"), task_weights=(1.0, 3.0), task_multiples=(2, 1))
    runs = list(ablation._runs(AblationConfig(training=shared, arms=("single",), seeds=(0, 1))))
    assert [run.name for run in runs] == [
        f"single-seed{seed}-{task}" for seed in (0, 1) for task in ("mri-sr", "pet-synthesis")
    ]
    assert [(run.config.tasks, run.config.task_weights, run.config.task_multiples) for run in runs[:2]] == [
        (("mri-sr",), (1.0,), (2,)), (("pet-synthesis",), (3.0,), (1,)),
    ]  # fmt: skip


def test_a_network_for_each_task_gets_its_tasks_shares(
    training: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tatcli.model.weights.find_weights", Path)
    monkeypatch.setattr("tatcli.model.weights.card_fields", lambda path: {"tasks": {"pet-synthesis": {}}})
    shares = {"default_share": (0.6, 0.2), "teacher": "x", "teacher_share": (0.0, 0.5)}
    shared = replace(training, tasks=("mri", "pet"), **shares)
    study = AblationConfig(training=shared, arms=("single",), seeds=(1, 1))
    mri, pet = (run.config for run in ablation._runs(study))
    assert (mri.default_share, mri.teacher, mri.teacher_share) == ((0.6,), None, (0.8,))
    assert (pet.default_share, pet.teacher, pet.teacher_share) == ((0.2,), "x", (0.5,))
