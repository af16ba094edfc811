"""Options that are refused, phases, and the dataset layouts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tatcli.errors import UsageError
from tatcli.tasks import TASKS, find_task
from tatcli.training.config import TrainConfig
from tatcli.training.pairs import find_scans
from tatcli.training.prepared_set import INDEX


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"steps": 0}, "--steps"),
        ({"patch": (20,)}, "--patch"),
        ({"batch": (0,)}, "--batch"),
        ({"patch": (32, 64)}, "one more patch"),
        ({"patch": (32, 64), "batch": (1, 1), "milestones": (1.5,)}, "--milestones"),
        ({"learning_rate": 0.0}, "--lr"),
        ({"tasks": ("xray",)}, "unknown task"),
        ({"task_weights": (1.0,)}, "--task-weights"),
        ({"task_multiples": (1, 0, 1)}, "--task-multiples"),
        ({"default_share": (1.5,)}, "--default-share"),
        ({"default_share": (0.5, 0.5)}, "--default-share"),
        ({"default_share": ()}, "--default-share"),
        ({"crops": "centre"}, "--crops 'centre': expected one of foreground, error"),
        ({"accumulate": 0}, "--accumulate"),
        ({"log_every": 0}, "--log-every"),
        ({"clip": -1.0}, "--clip"),
        ({"loss": "l2"}, "--loss 'l2': expected one of balanced, l1, psnr, uncertainty"),
        ({"precision": "fp8"}, "--precision 'fp8'"),
        ({"subjects": "("}, "--subjects '\\(': expected a regular expression"),
        ({"planes": "all", "max_slices": 3}, "--max-slices"),
    ],
)
def test_bad_options(make_config: Callable[..., TrainConfig], options: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        make_config(**options)


def test_phases(make_config: Callable[..., TrainConfig]) -> None:
    config = make_config(steps=10, patch=(32, 64, 128), batch=(4, 2, 1), milestones=(0.5, 0.8))
    assert [config.phase(step) for step in (0, 4, 5, 7, 8, 9)] == [(32, 4)] * 2 + [(64, 2)] * 2 + [(128, 1)] * 2


def test_a_share_of_all_tasks_or_of_each(make_config: Callable[..., TrainConfig]) -> None:
    tasks = ("ct", "pet", "mri")
    one = make_config(tasks=tasks)
    each = make_config("b", tasks=tasks, default_share=(0.6, 0.5, 0.8), teacher_share=(0.0, 1.0, 0.5))
    assert [one.share(task) for task in one.tasks] == [0.3] * 3
    assert [each.share(task) for task in ("mri-sr", "ct-denoise", "pet-synthesis")] == [0.8, 0.6, 0.5]
    assert [one.taught(task) for task in one.tasks] == [0.8] * 3
    assert [each.taught(task) for task in ("mri-sr", "ct-denoise", "pet-synthesis")] == [0.5, 0, 1]


def test_json_round_trip(make_config: Callable[..., TrainConfig]) -> None:
    config = make_config(tasks=("pet", "ct"), patch=(32, 64), batch=(2, 1), milestones=(0.5,))
    assert config.tasks == ("pet-synthesis", "ct-denoise")
    assert TrainConfig.from_dict(config.to_dict()) == config


def test_references_are_found_by_folder_name(dataset: Path) -> None:
    scans = find_scans(dataset, find_task("ct"), "train")
    assert [scan.name for scan in scans] == ["ct0", "ct1"]
    assert all(scan.lq is None for scan in scans)


def test_pairs_by_equal_names(tmp_path: Path) -> None:
    folder = tmp_path / "mri-sr" / "val"
    for name in ("HQ/a.nii.gz", "HQ/b.mha", "LQ/a.nii.gz", "LQ/b.mha"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    scans = find_scans(tmp_path, TASKS["mri-sr"], "val")
    assert [(scan.name, scan.lq) for scan in scans] == [
        ("a", folder / "LQ" / "a.nii.gz"),
        ("b", folder / "LQ" / "b.mha"),
    ]
    (folder / "LQ" / "b.mha").unlink()
    with pytest.raises(UsageError, match="none for b"):
        find_scans(tmp_path, TASKS["mri-sr"], "val")


def test_missing_folders(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected a dataset folder"):
        find_scans(tmp_path / "nowhere", TASKS["ct-denoise"], "train")
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / INDEX).touch()
    with pytest.raises(UsageError, match=r"with its scans in CT/val, got a set of tat prepare"):
        find_scans(tmp_path / "set", TASKS["ct-denoise"], "val")
    with pytest.raises(UsageError, match="expected a folder CT/train"):
        find_scans(tmp_path, TASKS["ct-denoise"], "train")
    (tmp_path / "CT" / "train").mkdir(parents=True)
    with pytest.raises(UsageError, match="expected scans"):
        find_scans(tmp_path, TASKS["ct-denoise"], "train")
