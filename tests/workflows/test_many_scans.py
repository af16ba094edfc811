"""What takes a folder of thousands of scans is looked at once, not once for each scan."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tatcli.errors import UsageError
from tatcli.metrics import statistics
from tatcli.tasks import TASKS
from tatcli.training.pairs import find_scans
from tatcli.workflows.batch.bids import bids_images
from tatcli.workflows.batch.discovery import Rules
from tatcli.workflows.batch.sidecar import sidecar_of
from tatcli.workflows.evaluation.matching import partner_in
from tatcli.workflows.preparing.candidates import find_candidates

COUNT = 30


@pytest.fixture
def listed(monkeypatch) -> Counter:
    """How often each folder was listed, by its name."""
    found: Counter = Counter()
    scandir, listdir = os.scandir, os.listdir

    def counting(call):
        def listing(path="."):
            found[Path(path).name] += 1
            return call(path)

        return listing

    monkeypatch.setattr(os, "scandir", counting(scandir))
    monkeypatch.setattr(os, "listdir", counting(listdir))
    return found


def make(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_lq_partners(tmp_path, listed):
    names = [f"scan{index}" for index in range(COUNT)]
    make(*(tmp_path / "CT" / "train" / "HQ" / f"{name}.nii" for name in names))
    make(*(tmp_path / "CT" / "train" / "LQ" / f"{name}.nii.gz" for name in names[1:]))
    make(tmp_path / "CT" / "train" / "LQ" / "scan1.mha")
    found = {one.path.stem: one for one in find_candidates(tmp_path)}
    assert found["scan0"].lonely
    assert found["scan1"].lq.name == "scan1.mha"  # the first by name, of two
    assert found["scan2"].lq.name == "scan2.nii.gz"
    assert listed["LQ"] <= 3


def test_headers_of_other_formats_are_no_scans(tmp_path):
    folder = tmp_path / "CT" / "train" / "HQ"
    make(folder / "a.nii.gz", tmp_path / "CT" / "train" / "LQ" / "a.nii.gz")
    for part in ("HQ", "LQ"):
        (folder.parent / part / "a.hdr").write_text("ENVI\nsamples = 5\n")
    (candidate,) = find_candidates(tmp_path)
    (pair,) = find_scans(tmp_path, TASKS["ct-denoise"], "train")
    assert {path.name for path in (candidate.path, candidate.lq, pair.reference, pair.lq)} == {"a.nii.gz"}


def test_masks(tmp_path, listed):
    names = [f"scan{index}" for index in range(COUNT)]
    make(*(tmp_path / "masks" / f"{name}.nii.gz" for name in names))
    make(tmp_path / "masks" / "scan0.mha", tmp_path / "masks" / "other_restored.NRRD")
    assert [partner_in(tmp_path / "masks", name).name for name in names[1:]] == [f"{name}.nii.gz" for name in names[1:]]
    assert listed["masks"] == 0
    with pytest.raises(UsageError, match="one scan named scan0"):
        partner_in(tmp_path / "masks", "scan0")
    (tmp_path / "masks" / "scan0.mha").unlink()
    assert partner_in(tmp_path / "masks", "other").name == "other_restored.NRRD"
    long = tmp_path / "masks" / ("x" * 250 + ".mha")  # with more at its end no name can be
    make(long)
    assert partner_in(tmp_path / "masks", "x" * 250) == long


def test_a_bids_dataset(tmp_path, listed):
    root = tmp_path / "study"
    subjects = [f"sub-{index:02d}" for index in range(COUNT)]
    make(*(root / subject / "pet" / f"{subject}_pet.nii.gz" for subject in subjects))
    fields = '"Units": "Bq/mL", "TracerRadionuclide": "F18"'
    (root / "pet.json").write_text(f"{{{fields}}}")
    (root / "dataset_description.json").write_text("{}")
    (root / "participants.json").write_text('{"body_weight": {"Units": "kg"}}')
    table = root / "participants.tsv"
    table.write_text(
        "participant_id\tbody_weight\n" + "".join(f"{name}\t{70 + i}\n" for i, name in enumerate(subjects))
    )
    for path in (table, root):
        os.utime(path, (1e9, 1e9))
    notes = [image.note for image in bids_images(root, "auto", Rules())]
    assert [note["PatientWeight"] for note in notes] == [70 + index for index in range(COUNT)]
    assert all(note["Units"] == "Bq/mL" for note in notes)
    assert listed["study"] < COUNT
    table.write_text("participant_id\tbody_weight\n" + "".join(f"{name}\t60\n" for name in subjects))  # corrected
    (root / "task-rest_pet.json").write_text('{"Manufacturer": "none of theirs"}')
    (root / "pet.json").write_text(f'{{{fields}, "Manufacturer": "theirs"}}')
    notes = [image.note for image in bids_images(root, "auto", Rules())]
    assert {note["PatientWeight"] for note in notes} == {60}
    assert {note["Manufacturer"] for note in notes} == {"theirs"}


def test_subjects_of_a_bids_dataset_can_be_excluded_and_outputs_are_no_inputs(tmp_path):
    for subject in ("sub-01", "sub-02"):
        for name in ("T1w", "desc-restored_T1w"):
            path = tmp_path / subject / "anat" / f"{subject}_{name}.nii.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        sidecar_of(path).touch()

    def found(*exclude):
        return [str(image.found.place) for image in bids_images(tmp_path, "mri-sr", Rules(exclude=exclude))]

    assert found() == [f"{subject}/anat/{subject}_T1w.nii.gz" for subject in ("sub-01", "sub-02")]
    for pattern in ("sub-01", "sub-01/", "*-01"):
        assert found(pattern) == ["sub-02/anat/sub-02_T1w.nii.gz"]


def test_intervals_over_many_subjects_are_those_of_all_resamples_at_once(monkeypatch):
    values = np.random.default_rng(1).normal(30.0, 2.0, 101)
    drawn = np.random.default_rng(0).integers(0, 101, (9999, 101))
    lower, upper = np.percentile(values[drawn].mean(axis=1), (2.5, 97.5))
    monkeypatch.setattr(statistics, "_AT_ONCE", 1000)  # 9 of the 9999 resamples
    found = statistics.bootstrap_interval(list(values))
    assert (found.lower, found.upper) == (lower, upper)
