"""Datasets in every layout: pairs in subfolders, pickled slices, single slices, folders of DICOM."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from tatcli.errors import UsageError
from tatcli.tasks import TASKS
from tatcli.training.config import TrainConfig
from tatcli.training.pairs import find_pairs, find_scans
from tatcli.training.references import prepare_references
from tatcli.training.sampler import Sampler
from tatcli.training.sources import check_sources
from tatcli.training.validation import Sample
from tatcli.workflows.train import train
from tatcli.workflows.training.samples import save_sample

Make = Callable[..., TrainConfig]
MRI = TASKS["mri-sr"]


def published(root: Path, *, patients: int = 2) -> np.ndarray:
    """The published layout: slices of equal names per patient, each a pickled (1, 64, 64) tensor in physical units."""
    values = np.random.default_rng(0).uniform(50, 900, (patients, 2, 1, 64, 64)).astype(np.float32)
    for patient in range(patients):
        for number in range(2):
            for quality, factor in (("HQ", 1.0), ("LQ", 0.5)):
                path = root / "MRI" / "train" / quality / f"p{patient}" / f"{number:03d}.bin"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(pickle.dumps(torch.from_numpy(values[patient, number] * np.float32(factor))))
    return values


def test_published_slices_are_pairs(make_config: Make, tmp_path: Path) -> None:
    """Each HQ slice gets the LQ slice of its own patient, though all patients' slices have the same names."""
    values = published(tmp_path)
    scans = prepare_references(MRI, "train", make_config(data=tmp_path, tasks=("mri",)))
    found = np.stack([scan.hq[0] for scan in scans]).reshape(2, 2, 1, 64, 64)
    np.testing.assert_array_equal(found, values)
    for scan in scans:
        low = scan.low_quality(0, np.random.default_rng(0))
        np.testing.assert_allclose(low, 0.5 * scan.hq[0], rtol=1e-3)


def test_patients_in_folders_are_told_apart(make_config: Make, tmp_path: Path) -> None:
    """Ten slices of one patient and two of another, of equal names: each patient is drawn as often."""
    rng = np.random.default_rng(0)
    for patient, count in (("pA", 10), ("pB", 2)):
        folder = tmp_path / "MRI" / "train" / patient
        folder.mkdir(parents=True)
        for number in range(count):
            np.save(folder / f"{number:03d}.npy", rng.uniform(50, 900, (32, 32)).astype(np.float32))
    config = make_config(data=tmp_path, tasks=("mri",))
    scans = {"mri-sr": prepare_references(MRI, "train", config)}
    assert [scan.name for scan in scans["mri-sr"]][9:11] == ["pA/009", "pB/000"]
    each = pytest.approx([0.05] * 10 + [0.25] * 2)
    assert Sampler(scans, config).shares["mri-sr"].tolist() == each
    assert Sampler(scans, replace(config, subjects="p[AB]")).shares["mri-sr"].tolist() == each
    by_number = Sampler(scans, replace(config, subjects=r"/(\d+)")).shares["mri-sr"]
    assert by_number.tolist() == pytest.approx([0.05, 0.05] + [0.1] * 8 + [0.05, 0.05])
    assert Sampler(scans, config).batch(0).scans[0] in {scan.name for scan in scans["mri-sr"]}


def test_subjects_that_are_trained_and_validated_on_are_told(make_config: Make, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for place in ("train/sub-1/a", "train/sub-2/a", "val/sub-2/b", "val/c", "train/c"):
        (tmp_path / "MRI" / place).parent.mkdir(parents=True, exist_ok=True)
        np.save(tmp_path / "MRI" / f"{place}.npy", rng.gamma(2.0, 100, (2, 32, 32)).astype(np.float32))
    told: list[str] = []
    options = {"data": tmp_path, "cache": None, "tasks": ("mri",), "steps": 1}
    train(make_config(**options), on_warning=told.append)
    (message,) = told
    assert message.endswith("subjects of the same name, so that scores flatter: sub-2")
    (tmp_path / "more" / "MRI" / "train" / "sub-2").mkdir(parents=True)
    (tmp_path / "MRI" / "train" / "sub-2" / "a.npy").rename(tmp_path / "more" / "MRI" / "train" / "sub-2" / "a.npy")
    train(make_config("more", **options, also=(tmp_path / "more",)), on_warning=told.append)
    assert told == [message]  # sub-2 of another dataset is somebody else
    train(make_config("other", **options, subjects="/([ab])"), on_warning=told.append)
    assert told == [message]


def test_samples_of_patients_in_folders_lie_apart(tmp_path: Path) -> None:
    image = np.random.default_rng(0).uniform(0, 900, (16, 16)).astype(np.float32)
    for patient in ("pA", "pB"):
        save_sample(Sample(f"{patient}/000", MRI, 1, image, image, image), tmp_path, 2, values=False)
    assert sorted(path.name for path in (tmp_path / "samples").iterdir()) == ["mri-sr-pA-000-1", "mri-sr-pB-000-1"]


@pytest.mark.parametrize("names", [("hq", "lq"), ("Hq", "LQ")])
def test_case_of_hq_and_lq(tmp_path: Path, names: tuple[str, str]) -> None:
    folder = tmp_path / "MRI" / "train"
    for name in names:
        (folder / name).mkdir(parents=True)
        (folder / name / "a.npy").touch()
    (pair,) = find_scans(tmp_path, MRI, "train")
    assert (pair.reference, pair.lq) == (folder / names[0] / "a.npy", folder / names[1] / "a.npy")


@pytest.mark.parametrize("place", ["LQ/a.npy", "lq/p0/a.npy", "p0/LQ/a.npy"])
def test_lq_alone_is_no_reference(tmp_path: Path, place: str) -> None:
    path = tmp_path / "MRI" / "train" / place
    path.parent.mkdir(parents=True)
    path.touch()
    with pytest.raises(
        UsageError, match=f"expected train/HQ with a reference for each scan in LQ, found none for {place}"
    ):
        find_scans(tmp_path, MRI, "train")


def test_a_slice_without_its_patients_partner_is_lonely(tmp_path: Path) -> None:
    published(tmp_path)
    (tmp_path / "MRI" / "train" / "LQ" / "p1" / "000.bin").unlink()
    pairs, lonely = find_pairs(tmp_path, MRI, "train")
    assert [pair.reference.parent.name + pair.name for pair in pairs] == ["p0000", "p0001", "p1001"]
    assert lonely == ["p1/000"]
    with pytest.raises(UsageError, match=r"for every HQ scan, none for p1/000$"):
        find_scans(tmp_path, MRI, "train")


@pytest.mark.parametrize("extension", [".npy", ".bin", ".nii", ".nii.gz", ".nrrd", ".mha"])
def test_single_slices(tmp_path: Path, extension: str) -> None:
    folder = tmp_path / "mri" / "val"
    folder.mkdir(parents=True)
    (folder / f"slice{extension}").touch()
    assert [scan.name for scan in find_scans(tmp_path, MRI, "val")] == ["slice"]


@pytest.mark.parametrize("name", ["1.dcm", "1.DCM", "i248.MRDC.64", "IM000001"])
def test_folders_of_dicom_are_known_by_their_content(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "mri" / "train" / "series"
    folder.mkdir(parents=True)
    (folder / "README.txt").write_text("an export of a scanner's console, with a few words on it " * 4)
    (folder.parent / "medium").mkdir()  # what points to the folders below is no scan, nor is what a Mac leaves behind
    for pointer in ("DICOMDIR", "._1"):
        (folder.parent / "medium" / pointer).write_bytes(bytes(128) + b"DICM" + bytes(16))
    (folder.parent / "notes").mkdir()
    (folder.parent / "notes" / "notes.txt").write_text("no scans here " * 20)
    (folder / name).write_bytes(bytes(128) + b"DICM" + bytes(16))
    assert [(scan.name, scan.reference) for scan in find_scans(tmp_path, MRI, "train")] == [("series", folder)]


def test_scans_of_further_datasets_are_trained_on_too(make_config: Make, tmp_path: Path) -> None:
    """One with MRI alone gives its MRI; validated is on the first dataset."""
    values = published(tmp_path / "theirs")
    alone, both = make_config(), make_config(also=(tmp_path / "theirs",))
    ours = {split: prepare_references(MRI, split, alone) for split in ("train", "val")}
    mri = prepare_references(MRI, "train", both)
    assert [scan.name for scan in mri] == [scan.name for scan in ours["train"]] + [
        f"p{patient}/00{number}" for patient in range(2) for number in range(2)
    ]
    np.testing.assert_array_equal(np.stack([scan.hq[0] for scan in mri[-4:]]), values.reshape(4, 64, 64))
    assert [scan.name for scan in prepare_references(MRI, "val", both)] == [scan.name for scan in ours["val"]]
    assert [scan.name for scan in prepare_references(TASKS["ct-denoise"], "train", both)] == ["ct0", "ct1"]


def test_equal_names_in_two_datasets_are_two_subjects(make_config: Make, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for root, subjects in (("ours", 2), ("theirs", 6)):
        for number in range(subjects):
            path = tmp_path / root / "MRI" / "train" / f"sub-{number}" / "t1.npy"
            path.parent.mkdir(parents=True)
            np.save(path, rng.gamma(2.0, 100, (2, 32, 32)).astype(np.float32))
    config = make_config(data=tmp_path / "ours", also=(tmp_path / "theirs",), cache=None, tasks=("mri",))
    scans = {"mri-sr": prepare_references(MRI, "train", config)}
    assert Sampler(scans, config).shares["mri-sr"].tolist() == pytest.approx([1 / 8] * 8)
    by_number = Sampler(scans, replace(config, subjects=r"sub-\d")).shares["mri-sr"]  # a pattern's is one everywhere
    assert by_number.tolist() == pytest.approx([1 / 12] * 4 + [1 / 6] * 4)


def test_a_voxel_counts_once_however_many_planes_it_is_seen_in(make_config: Make, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name, step in (("cubic", 1.0), ("thick", 4.0)):
        save_nifti(tmp_path / "MRI" / "train" / f"{name}.nii.gz", rng.gamma(2.0, 100, (32, 32, 32)), step)
    config = make_config(data=tmp_path, cache=None, tasks=("mri",), planes="all", sampling="voxels", max_slices=0)
    scans = {"mri-sr": prepare_references(MRI, "train", config)}
    assert [scan.name for scan in scans["mri-sr"]] == ["cubic"] * 3 + ["thick"]
    assert Sampler(scans, config).shares["mri-sr"].tolist() == pytest.approx([1 / 6] * 3 + [1 / 2])


def save_nifti(path: Path, array: np.ndarray, step: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array.transpose(2, 1, 0).astype(np.float32), np.diag([1.0, 1.0, step, 1.0])), path)


def test_hidden_names_are_no_scans_and_linked_folders_are(tmp_path: Path) -> None:
    folder = tmp_path / "MRI" / "train"
    for place in ("p0/t1", ".snapshot/p0/t1", "p0/._t1", "../../elsewhere/t1"):
        path = folder / f"{place}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, np.ones((32, 32), dtype=np.float32))
    names = ["p0/t1"]
    if os.name != "nt":  # where links need rights
        (folder / "p1").symlink_to(tmp_path / "elsewhere")
        names.append("p1/t1")
    assert [pair.place for pair in find_scans(tmp_path, MRI, "train")] == names


def test_a_task_that_only_a_further_dataset_has(make_config: Make, dataset: Path, tmp_path: Path) -> None:
    published(tmp_path / "theirs")
    config = make_config(data=tmp_path / "theirs", also=(dataset,))
    check_sources(config)
    assert [scan.name for scan in prepare_references(TASKS["pet-synthesis"], "train", config)] == ["pet0", "pet1"]


def test_further_datasets_must_be_of_use(make_config: Make, tmp_path: Path) -> None:
    published(tmp_path / "theirs")
    with pytest.raises(UsageError, match=r"--also .*theirs: expected scans of ct-denoise, pet-synthesis to train on"):
        check_sources(make_config(also=(tmp_path / "theirs",), tasks=("ct", "pet")))
    with pytest.raises(UsageError, match=r"nowhere: expected a dataset folder, found none"):
        check_sources(make_config(also=(tmp_path / "nowhere",)))
