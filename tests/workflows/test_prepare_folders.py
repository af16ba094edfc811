"""Who is who in a laboratory's folders: stray files, several names of one patient, copies, links, words in any case."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.uid import generate_uid

from tatcli.workflows.prepare import prepare
from tatcli.workflows.preparing.candidates import find_candidates
from tatcli.workflows.preparing.config import PrepareConfig
from tatcli.workflows.preparing.patients import doubtful, join_subjects
from tatcli.workflows.preparing.splits import assign_splits
from tatcli.workflows.preparing.survey import Found, survey


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "scans"
    folder.mkdir()
    return folder


@pytest.fixture
def look(root: Path, tmp_path: Path) -> Callable[..., dict[str, Found]]:
    """What is found in the folder (or these), under its path below it."""

    def looked(*roots: Path, **options: object) -> dict[str, Found]:
        config = PrepareConfig(roots=roots or (root,), output=tmp_path / "set", **options)
        found = [
            scan for one in config.roots for candidate in find_candidates(one) for scan in survey(candidate, config)
        ]
        from_root = {scan.candidate.shown if roots else scan.candidate.shown.partition("/")[2]: scan for scan in found}
        return dict(zip(from_root, join_subjects(found, {}), strict=True))

    return looked


def save(path: Path, seed: int, shape: tuple[int, int, int] = (3, 32, 40)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.random.default_rng(seed).uniform(0, 900, shape).astype(np.int16)
    nib.save(nib.Nifti1Image(array.transpose(2, 1, 0), np.diag([1.0, 1.0, 4.0, 1.0])), path)
    return path


def series(folder: Path, patient: str = "", *, noise: float = 0.0, slices: int = 3) -> None:
    """A CT of some slices, PatientID as asked for."""
    folder.mkdir(parents=True, exist_ok=True)
    dataset = pydicom.dcmread(str(get_testdata_file("CT_small.dcm")))
    dataset.PatientID, dataset.SeriesInstanceUID = patient, generate_uid()
    pixels = dataset.pixel_array + np.random.default_rng(0).normal(0, noise, dataset.pixel_array.shape)
    for number in range(slices):
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        dataset.InstanceNumber, dataset.ImagePositionPatient = number + 1, [0, 0, 5 * number]
        dataset.PixelData = (pixels + number).astype(np.int16).tobytes()
        dataset.save_as(folder / f"{number}.dcm")


def test_a_stray_dicom_file_takes_no_split_and_no_quality_away(look, root: Path) -> None:
    for split, patient in (("train", "a"), ("val", "b")):
        for quality, noise in (("HQ", 5.0), ("LQ", 40.0)):
            series(root / split / f"p-{patient}" / quality, patient, noise=noise)
    series(root, "stray", slices=1)
    found = look()
    assert {place: scan.candidate.split for place, scan in found.items()} == {
        "": None, "train/p-a/HQ": "train", "val/p-b/HQ": "val",
    }  # fmt: skip
    assert found["train/p-a/HQ"].candidate.lq == root / "train" / "p-a" / "LQ"
    assert not found["val/p-b/HQ"].problem
    assert len(found["val/p-b/HQ"].files) == 6  # and its partner's


def test_pairs_of_dicom_folders_are_prepared(root: Path, tmp_path: Path) -> None:
    for patient in "ab":
        for quality, noise in (("HQ", 5.0), ("LQ", 40.0)):
            series(root / patient / quality, patient, noise=noise)
    report = prepare(PrepareConfig(roots=(root,), output=tmp_path / "set", validation=0.0))
    assert report.scans == {("ct-denoise", "train"): 2}
    assert not report.rejected


def test_files_that_lie_in_several_kinds_of_folders_are_no_scan(look, root: Path) -> None:
    series(root / "p" / "HQ", "a")
    for path in sorted((root / "p" / "HQ").iterdir())[1:]:
        shutil.move(path, root / "p")
    assert "whose names say different things" in look()["p"].problem


@pytest.mark.parametrize(
    ("place", "split", "task", "parts"),
    [
        ("MRI/Train/p0/t1.nii.gz", "train", "mri-sr", ("p0",)),
        ("Validation/mr/t1.nii.gz", "val", "mri-sr", ()),
        ("train/p0/test/retest/t1.nii.gz", "train", None, ("p0", "retest")),
        ("MR/p0/PET/pet.nii.gz", None, "pet-synthesis", ("p0",)),
        ("Trainees/t1.nii.gz", None, None, ("Trainees",)),
    ],
)
def test_folders_say_split_task_and_subject(root: Path, place, split, task, parts) -> None:
    save(root / place, 0)
    (one,) = find_candidates(root)
    assert (one.split, one.task, one.parts) == (split, task, parts)


def test_the_roots_own_name_counts_where_no_folder_below_says_it(tmp_path: Path) -> None:
    for place in ("CT/val/a.nii.gz", "b.nii.gz"):
        save(tmp_path / "test" / place, 0)
    assert [(one.shown, one.split) for one in find_candidates(tmp_path / "test")] == [
        ("test/CT/val/a.nii.gz", "val"), ("test/b.nii.gz", "test"),
    ]  # fmt: skip


def test_a_conversion_beside_its_dicom_is_of_the_same_patient(look, root: Path) -> None:
    for number in range(2):
        series(root / "CT" / f"p{number}" / "dicom", f"ID{number}")
        save(root / "CT" / f"p{number}" / "nifti" / f"ct{number}.nii.gz", number)
    save(root / "CT" / "p2" / "ct2.nii.gz", 2)
    found = look()
    for number in range(2):
        assert found[f"CT/p{number}/nifti/ct{number}.nii.gz"].subject == found[f"CT/p{number}/dicom"].subject
    assert found["CT/p2/ct2.nii.gz"].subject == "p2"


def test_of_several_patients_in_a_folder_the_nearest_counts(look, root: Path) -> None:
    for number in range(2):
        series(root / "study" / f"p{number}" / "dicom", f"ID{number}")
        save(root / "study" / f"p{number}" / "t1.nii.gz", number)
    save(root / "study" / "t2.nii.gz", 5)
    found = look(task="mri-sr")
    assert found["study/p1/t1.nii.gz"].subject == found["study/p1/dicom"].subject
    assert found["study/t2.nii.gz"].subject == "study"


def test_copies_make_two_subjects_one_but_no_template_does(look, root: Path) -> None:
    save(root / "MRI" / "p5" / "t1.nii.gz", 0)
    save(root / "MRI" / "p5" / "t2.nii.gz", 1)
    (root / "MRI" / "sub-04").mkdir()
    shutil.copy(root / "MRI" / "p5" / "t1.nii.gz", root / "MRI" / "sub-04" / "t1.nii.gz")
    save(root / "MRI" / "sub-04" / "flair.nii.gz", 2)
    template = save(root / "MRI" / "p6" / "template.nii.gz", 3)
    for subject in ("p7", "p8"):
        (root / "MRI" / subject).mkdir()
        shutil.copy(template, root / "MRI" / subject / "template.nii.gz")
    subjects = {place: scan.subject for place, scan in look().items()}
    assert len({subject for place, subject in subjects.items() if "p5" in place or "sub-04" in place}) == 1
    assert {subject for place, subject in subjects.items() if "template" in place} == {"p6", "p7", "p8"}


def test_copies_in_two_splits_are_told(look, root: Path, tmp_path: Path) -> None:
    for split, subject in (("train", "a"), ("val", "b")):
        save(root / "MRI" / split / subject / "t1.nii.gz", 0)
    found = look()
    assert [scan.subject for scan in found.values()] == ["a", "b"]
    config = PrepareConfig(roots=(root,), output=tmp_path / "set")
    (told,) = doubtful(found.values(), assign_splits(list(found.values()), config))
    places = "scans/MRI/train/a/t1.nii.gz (train) and scans/MRI/val/b/t1.nii.gz (val)"
    assert told == f"{places} are the same, byte for byte: one patient in two splits?"
    assert prepare(config).warnings[-1] == told


def test_given_folders_of_equal_files_are_subjects(look, root: Path) -> None:
    for number, (patient, name) in enumerate((p, n) for p in ("p0", "p1") for n in ("T1", "T2")):
        save(root / patient / f"{name}.nii.gz", number)
    found = [scan.subject for scan in look(root / "p0", root / "p1", task="mri-sr").values()]
    assert set(found) == {"p0", "p1"}
    for number in range(2):  # two collections, each with patients of its own
        save(root / f"c{number}" / f"x{number}.nii.gz", 10 + number)
    assert [scan.subject for scan in look(root / "c0", root / "c1", task="mri-sr").values()] == ["x0", "x1"]


def test_a_copy_that_comes_later_leaves_the_set_as_it_is(root: Path, tmp_path: Path) -> None:
    for subject in ("p5", "p6"):
        save(root / "MRI" / subject / "t1.nii.gz", int(subject[1]))
    config = PrepareConfig(roots=(root,), output=tmp_path / "set", validation=0.5)
    before = prepare(config)
    shutil.copytree(root / "MRI" / "p5", root / "MRI" / "a_copy")
    after = prepare(config)
    assert (after.scans, after.new) == (before.scans, 0)
    assert after.rejected == (("scans/MRI/a_copy/t1.nii.gz", "the same bytes as scans/MRI/p5/t1.nii.gz"),)


def test_nobody_is_taken_from_training_whom_a_task_needs(root: Path, tmp_path: Path) -> None:
    config = PrepareConfig(roots=(root,), output=tmp_path / "set")
    ct, mri = ("sub-02", "sub-11"), ("sub-02", "sub-01")
    for number, place in enumerate([f"CT/{one}" for one in ct] + [f"MRI/{one}" for one in mri]):
        save(root / place / "scan.nii.gz", number)
    found = [scan for one in find_candidates(root) for scan in survey(one, config)]
    splits = assign_splits(found, config)
    for subjects in (ct, mri):
        assert {splits[subject] for subject in subjects} == {"train", "val"}


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_linked_folders_are_looked_into_once_and_hidden_ones_not(root: Path, tmp_path: Path) -> None:
    save(root / "MRI" / "p0" / "t1.nii.gz", 0)
    save(tmp_path / "elsewhere" / "t1.nii.gz", 1)
    save(root / "MRI" / ".snapshot" / "t1.nii.gz", 2)
    (root / "MRI" / "p1").symlink_to(tmp_path / "elsewhere")
    (root / "MRI" / "again").symlink_to(root / "MRI" / "p0")
    (root / "MRI" / "p0" / "loop").symlink_to(root)
    (root / "MRI" / "all").symlink_to(tmp_path)
    assert [one.shown for one in find_candidates(root)] == ["scans/MRI/p0/t1.nii.gz", "scans/MRI/p1/t1.nii.gz"]
