"""Scans that the task can't take are left out of a training, by name; what is missing stops it."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tatcli.errors import TaskMismatchError, UsageError, VolumeReadError
from tatcli.model.weights import read_card
from tatcli.tasks import TASKS, find_task
from tatcli.training.config import TrainConfig
from tatcli.training.references import Reference, prepare_references
from tatcli.volumes import Geometry, Provenance, Volume
from tatcli.workflows.train import train
from tatcli.workflows.usable_scans import usable_scan

Make = Callable[..., TrainConfig]
RNG = np.random.default_rng(0)
BODY = RNG.uniform(50, 900, (2, 40, 40))


def save(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(values.transpose(2, 1, 0).astype(np.float32), np.diag([1.0, 1.0, 4.0, 1.0]))
    nib.save(image, path)


def prepared(config: TrainConfig, task: str, told: list[tuple[str, str]]) -> list[Reference]:
    def on_scan(name: str, why: str) -> None:
        if why:
            told.append((name, why))

    return prepare_references(find_task(task), "train", config, on_scan=on_scan, check=usable_scan)


@pytest.mark.parametrize(
    ("task", "good", "bad", "said"),
    [
        ("pet", BODY / 300, BODY * 50, r"bad.nii.gz: expected SUVbw for pet-synthesis, .* look like Bq/ml or counts"),
        ("mri", BODY, BODY - 475, r"bad.nii.gz: expected .*, too many below zero for MR magnitudes"),
        ("mri", BODY, np.full_like(BODY, 7.0), r"bad.nii.gz: .* a constant of 7; .*"),
        ("mri", BODY, (BODY // 300).round(), r"expected an image, got a label map: whole numbers, 32 of them at most"),
        ("mri", BODY, BODY[:, :12], r"expected slices of at least 16 pixels each way, got 12 x 40"),
    ],
)
def test_scans_of_other_units_are_left_out_by_name(
    make_config: Make, tmp_path: Path, task: str, good: np.ndarray, bad: np.ndarray, said: str
) -> None:
    folder = tmp_path / find_task(task).folder / "train"
    for name, values in (("bad", bad), ("good", good)):
        for quality in ("HQ", "LQ"):
            save(folder / quality / f"{name}.nii.gz", values)
    told: list[tuple[str, str]] = []
    found = prepared(make_config(data=tmp_path, cache=None), task, told)
    assert [scan.name for scan in found] == ["good"]
    ((name, why),) = told
    assert name == "bad"
    assert re.fullmatch(said, why)


def test_partners_are_checked_too(make_config: Make, tmp_path: Path) -> None:
    folder = tmp_path / "PET" / "train"
    save(folder / "HQ" / "a.nii.gz", BODY / 300)
    save(folder / "LQ" / "a.nii.gz", BODY * 50)
    config = make_config(data=tmp_path, cache=None, tasks=("pet",))
    for _ in range(2):  # made, and from the cache
        with pytest.raises(
            VolumeReadError, match=r"none among 1 scans \(a: its LQ partner: a.nii.gz: .*Bq/ml"
        ) as found:
            train(config)
        assert found.value.exit_code == 3


def test_a_card_names_what_was_trained_on_and_nothing_else(make_config: Make, tmp_path: Path) -> None:
    for name, values in (("good", BODY), ("low", BODY - 475)):
        save(tmp_path / "MRI" / "train" / f"{name}.nii.gz", values)
    report = train(make_config(data=tmp_path, cache=None, tasks=("mri",), steps=1))
    card = read_card(report.weights)
    assert [row["file"] for row in card.training["data"]] == ["MRI/train/good.nii.gz"]


def test_a_card_does_not_name_a_scan_that_only_another_dataset_gave(make_config: Make, tmp_path: Path) -> None:
    for root, values in (("ours", BODY), ("theirs", BODY - 475)):
        save(tmp_path / root / "MRI" / "train" / "scan.nii.gz", values)
    save(tmp_path / "theirs" / "MRI" / "train" / "other.nii.gz", BODY + 1)
    report = train(
        make_config(data=tmp_path / "ours", also=(tmp_path / "theirs",), cache=None, tasks=("mri",), steps=1)
    )
    files = [
        tmp_path / root / "MRI" / "train" / name for root, name in (("ours", "scan.nii.gz"), ("theirs", "other.nii.gz"))
    ]
    hashes = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
    assert [row["sha256"] for row in read_card(report.weights).training["data"]] == hashes


def test_a_card_tells_the_strengths_that_were_drawn(make_config: Make, tmp_path: Path) -> None:
    save(tmp_path / "MRI" / "train" / "a.nii.gz", BODY)
    for run, share, told in (("some", 0.9, (1.0, 4.0)), ("all", 1.0, (4.0, 4.0))):
        config = make_config(run, data=tmp_path, cache=None, tasks=("mri",), steps=1, default_share=(share,))
        assert read_card(train(config).weights).tasks["mri-sr"].strengths == told


def test_a_damaged_cache_is_named(make_config: Make, tmp_path: Path) -> None:
    save(tmp_path / "MRI" / "train" / "a.nii.gz", BODY)
    config = make_config(data=tmp_path, cache=tmp_path / "cache", tasks=("mri",))
    prepared(config, "mri", [])
    (folder,) = (tmp_path / "cache" / "mri-sr").iterdir()
    for name in ("hq.npy", "facts.json"):
        (folder / name).write_bytes((folder / name).read_bytes()[:-20])
        with pytest.raises(VolumeReadError, match=rf"{folder.name}: expected a prepared reference, got a damaged one"):
            prepared(config, "mri", [])
    (folder / "hq.npy").write_bytes(b"")
    with pytest.raises(VolumeReadError, match="delete that folder, and the reference is prepared again"):
        prepared(config, "mri", [])
    shutil.rmtree(folder)
    (found,) = prepared(config, "mri", [])
    np.testing.assert_allclose(found.hq, BODY, rtol=1e-6)


FDG = {
    "Units": "Bq/mL",
    "TracerRadionuclide": "F18",
    "InjectedRadioactivity": 350,
    "InjectedRadioactivityUnits": "MBq",
    "InjectionStart": 0,
    "ImageDecayCorrected": True,
    "ImageDecayCorrectionTime": 0,
}


def test_a_corrected_sidecar_is_read_again(make_config: Make, tmp_path: Path) -> None:
    """The image is the same file; its values, and whether it can be used, are not."""
    folder = tmp_path / "PET" / "train"
    for quality in ("HQ", "LQ"):
        save(folder / quality / "sub-1_pet.nii.gz", BODY * 50)
    config = make_config(data=tmp_path, cache=tmp_path / "cache", tasks=("pet",))
    with pytest.raises(VolumeReadError, match="look like Bq/ml or counts"):
        prepared(config, "pet", [])
    for weight in (70, 35):
        for quality in ("HQ", "LQ"):
            told = json.dumps(FDG | {"PatientWeight": weight})
            (folder / quality / "sub-1_pet.json").write_text(told)
        (found,) = prepared(config, "pet", [])
        np.testing.assert_allclose(found.hq, BODY * 50 * weight * 1000 / 350e6, rtol=1e-5)


def test_voxels_beside_their_header_are_read_again(make_config: Make, tmp_path: Path) -> None:
    folder = tmp_path / "MRI" / "train"
    folder.mkdir(parents=True)
    header = "ObjectType = Image\nNDims = 3\nDimSize = 40 40 2\nElementSpacing = 1 1 4\nElementType = MET_FLOAT\n"
    (folder / "a.mhd").write_text(header + "ElementDataFile = voxels.raw\n")
    config = make_config(data=tmp_path, cache=tmp_path / "cache", tasks=("mri",))
    for values in (BODY, BODY[:, ::-1]):
        (folder / "voxels.raw").write_bytes(values.astype("<f4").tobytes())
        (found,) = prepared(config, "mri", [])
        np.testing.assert_allclose(found.hq, values, rtol=1e-6)


def test_another_modality(make_config: Make) -> None:
    """Said without the advice on restoring: a training has no --task to choose."""
    values = BODY.astype(np.float32)
    scan = Volume(values, Geometry(np.eye(4), values.shape), TASKS["mri-sr"].units, Provenance(modality="MR"))
    with pytest.raises(TaskMismatchError, match=r"expected CT for ct-denoise, got MR$"):
        usable_scan(scan, TASKS["ct-denoise"])
    assert usable_scan(scan, TASKS["mri-sr"]).array is scan.array


def test_a_validation_scan_without_partner_stops_the_run(make_config: Make, tmp_path: Path) -> None:
    """Only a dataset without the split isn't validated on."""
    for name in ("train/HQ/a", "train/LQ/a", "val/HQ/a", "val/HQ/b", "val/LQ/a"):
        save(tmp_path / "MRI" / f"{name}.nii.gz", BODY)
    config = make_config(data=tmp_path, cache=None, tasks=("mri",), steps=1)
    with pytest.raises(UsageError, match="expected a partner in LQ of equal name for every HQ scan, none for b"):
        train(config)
    for quality in ("HQ", "LQ"):
        shutil.rmtree(tmp_path / "MRI" / "val" / quality)
    (tmp_path / "MRI" / "val").rmdir()
    assert train(config).validation == {}
