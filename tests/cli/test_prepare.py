"""``tat prepare`` and ``tat phantom``: three commands from scans to a restored one."""

from __future__ import annotations

import csv
import json
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from tatcli.phantoms import brain, whole_body
from tatcli.phantoms.brain import draw_head
from tatcli.volumes import read_volume


@pytest.fixture
def scans(tmp_path) -> Path:
    """MRI of four subjects, as NIfTI and as a pickled tensor, and a scan that nothing names."""
    root = tmp_path / "scans"
    rng = np.random.default_rng(0)
    for number in range(4):
        folder = root / "mri" / f"sub-{number}"
        folder.mkdir(parents=True)
        array = rng.gamma(2.0, 100, (2, 48, 48)).astype(np.float32)
        if number:
            nib.save(nib.Nifti1Image(array.T, np.diag([1.0, 1.0, 4.0, 1.0])), folder / "t1.nii.gz")
        else:
            (folder / "t1.bin").write_bytes(pickle.dumps(torch.from_numpy(array)))
    shutil.copy(root / "mri" / "sub-1" / "t1.nii.gz", root / "unnamed.nii.gz")
    return root


def test_prepare_train_restore(tat, scans, tmp_path):
    made = tmp_path / "set"
    result = tat("prepare", scans, "-o", made, "--val", "0.3", "--workers", "1")
    assert result.exit_code == 0, result.output
    assert "mri-sr" in result.stdout
    assert "warning: scans/unnamed.nii.gz: left out: nothing names its modality: give --task" in result.stderr
    assert result.stderr.rstrip().endswith("4 scans new")
    with (made / "MANIFEST.tsv").open(newline="") as stream:
        rows = {row["file"]: row for row in csv.DictReader(stream, delimiter="\t")}
    run = tmp_path / "run"
    words = ("--tasks", "mri", "--preset", "tat-tiny", "--steps", "2", "--patch", "32", "--batch", "1")
    result = tat("train", "--data", made, "-o", run, *words, "--device", "cpu", "--validation-slices", "1")
    assert result.exit_code == 0, result.output
    assert "mri-sr" in result.stdout  # there was something to validate on
    card = json.loads((run / "tat-tiny.json").read_text(encoding="utf-8"))
    trained_on = {row["sha256"] for row in card["training"]["data"]}
    assert trained_on == {row["sha256"] for row in rows.values() if row["split"] == "train"}
    assert 1 <= len(trained_on) <= 3
    output = tmp_path / "restored.nii.gz"
    words = ("--task", "mri-sr", "--weights", run / "tat-tiny.safetensors", "-o", output)
    assert tat("restore", scans / "mri" / "sub-1" / "t1.nii.gz", *words).exit_code == 0
    assert read_volume(output).array.shape == (2, 48, 48)


def test_series_of_dicom(tat, dicom, tmp_path):
    """Two patients, one of them with two series in one folder; names and numbers of patients leave no trace."""
    dicom("scans/a", number=1, PatientID="Doe-1", PatientName="Doe^Jane", WindowWidth=400)
    dicom("scans/a", number=2, PatientID="Doe-1", PatientName="Doe^Jane", PixelSpacing=[0.8, 0.8])
    dicom("scans/b", number=1, PatientID="Roe-2", WindowWidth=300)
    dicom("scans/b", modality="PT", number=7, PatientID="Roe-2")
    made = tmp_path / "set"
    result = tat("prepare", tmp_path / "scans", "-o", made, "--val", "0.5", "--workers", "1", "--noise-fields", "1")
    assert result.exit_code == 2  # nothing in these little scans is uniform enough to measure noise in
    assert "no uniform tissue to measure its noise in" in result.stderr
    with (made / "MANIFEST.tsv").open(newline="") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    rows.sort(key=lambda row: (row["file"].split(" ")[0], row["task"], row["spacing"]))  # UIDs are random
    assert [row["task"] for row in rows] == ["ct-denoise"] * 3 + ["pet-synthesis"]
    subjects = [row["subject"] for row in rows]
    assert subjects[0] == subjects[1] != subjects[2] == subjects[3]
    assert all(subject.startswith("patient-") for subject in subjects)
    assert rows[1]["spacing"] == "3x0.8x0.8"
    assert "expected PET in BQML" in rows[3]["reason"]
    written = b"".join(path.read_bytes() for path in made.iterdir() if path.is_file())
    assert b"Doe" not in written
    assert b"Roe" not in written


def test_a_pickled_slice_is_restored_to_npy(tat, scans):
    path = scans / "mri" / "sub-0" / "t1.bin"
    assert tat("restore", path, "--task", "mri-sr").exit_code == 0
    assert np.load(path.with_name("t1_restored.npy")).shape == (2, 48, 48)


def test_a_set_is_checked(tat, refused, scans, tmp_path):
    made = tmp_path / "set"
    assert tat("prepare", scans / "mri", "-o", made, "--task", "mri", "--workers", "1", "-q").exit_code == 0
    result = tat("prepare", "-o", made, "--check")
    assert (result.exit_code, result.stderr) == (0, f"{made}: 4 scans are as they were written\n")
    for more in ([scans], ["--val", "0.1"]):
        refused("prepare", "-o", made, "--check", *more, code=2, match="expected -o SET alone")
    path = next(made.glob("mri-sr.train.hq"))
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    refused("prepare", "-o", made, "--check", code=3, match="got others in 1 of 4 scans")


def test_what_prepare_refuses(refused, scans, tmp_path):
    refused(
        "prepare",
        "-o",
        tmp_path / "set",
        code=2,
        match="expected folders with scans (ROOT), --synthetic-pet or --synthetic-brain, got none",
    )
    refused("prepare", scans, "-o", scans / "set", code=2, match="expected a folder apart from")
    refused("prepare", scans, "-o", tmp_path / "set", "--task", "xray", code=2, match="unknown task 'xray'")


def test_phantom(tat, tmp_path, monkeypatch):
    coarse = whole_body.Patient(
        height=1.0, girth=1.0, fat=12.0, arms_up=True, resolution=8.0, voxel=(12.0, 12.0), lesions=1
    )
    monkeypatch.setattr(whole_body, "draw_patient", lambda _: coarse)
    output = tmp_path / "pet.nii.gz"
    result = tat("phantom", "-o", output, "--seed", "3")
    assert result.exit_code == 0, result.output
    assert "whole-body FDG, seed 3" in result.stderr
    np.testing.assert_allclose(read_volume(output).array, whole_body.whole_body_pet(3).array, rtol=1e-6)
    assert tat("phantom", "-o", output).exit_code == 2
    head = replace(draw_head(np.random.default_rng(0)), voxel=(8.0, 8.0))
    monkeypatch.setattr(brain, "draw_head", lambda _: head)
    result = tat("phantom", "-o", output, "--seed", "3", "--region", "brain", "--overwrite")
    assert result.exit_code == 0, result.output
    assert "brain FDG, seed 3" in result.stderr
    np.testing.assert_allclose(read_volume(output).array, brain.brain_pet(3).array, rtol=1e-6)
