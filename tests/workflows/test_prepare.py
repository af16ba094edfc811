"""``tat prepare``: what is found, how it is split, and that the set is the same after any interruption."""

from __future__ import annotations

import csv
import hashlib
import json
import pickle
import shutil
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
import torch
from pydicom.data import get_testdata_file
from pydicom.uid import generate_uid

from tatcli.errors import OutputError, UsageError, VolumeReadError
from tatcli.intensity import Window
from tatcli.tasks import TASKS
from tatcli.training.averaging import averaged_along, cleaner_reference
from tatcli.training.config import TrainConfig
from tatcli.training.prepared_set import INDEX, SET_FILE, Entry, prepared_entries, prepared_references
from tatcli.training.references import FORMAT, Reference, prepare_references
from tatcli.training.sampler import Sampler
from tatcli.volumes import Geometry, Volume, read_volume
from tatcli.workflows import prepare as prepare_module
from tatcli.workflows.lock import locked
from tatcli.workflows.prepare import prepare
from tatcli.workflows.preparing import job as job_module
from tatcli.workflows.preparing.candidates import Candidate, find_candidates
from tatcli.workflows.preparing.checking import SetCheck, check_set
from tatcli.workflows.preparing.config import PrepareConfig
from tatcli.workflows.preparing.splits import assign_splits
from tatcli.workflows.preparing.survey import Found, survey
from tatcli.workflows.training.advice import for_training

Make = Callable[..., PrepareConfig]
MRI = TASKS["mri-sr"]


def save(path: Path, array: np.ndarray, spacing: tuple[float, float, float] = (1.0, 1.0, 4.0)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array.transpose(2, 1, 0), np.diag([*spacing, 1.0])), path)


def head(seed: int, shape: tuple[int, int, int] = (3, 32, 40)) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, 900, shape).astype(np.int16)


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """Three subjects with MRI, one of them with CT too; a text file, a broken scan, a copy, a file of no modality."""
    root = tmp_path / "scans"
    for number in range(3):
        save(root / "MRI" / f"sub-{number}" / "t1.nii.gz", head(number))
        save(root / "MRI" / f"sub-{number}" / "t2.nii.gz", head(10 + number))
    y, x = np.mgrid[-1:1:72j, -1:1:64j]
    tissue = np.where(x**2 + y**2 < 0.8, 40.0, -1000.0) + np.random.default_rng(0).normal(0, 20, (24, 72, 64))
    save(root / "CT" / "sub-0" / "chest.nii.gz", tissue.astype(np.int16), (1.5, 1.5, 1.0))
    (root / "MRI" / "sub-1" / "notes.txt").write_text("nothing to see")
    (root / "MRI" / "sub-1" / "broken.nii.gz").write_bytes(b"not a scan")
    shutil.copy(root / "MRI" / "sub-0" / "t1.nii.gz", root / "MRI" / "sub-2" / "copy.nii.gz")
    save(root / "other.nii.gz", head(99))
    return root


@pytest.fixture
def make(scans: Path, tmp_path: Path) -> Make:
    def made(**options: object) -> PrepareConfig:
        defaults = {"roots": (scans,), "output": tmp_path / "set", "validation": 0.4, "noise_fields": 1}
        return PrepareConfig(**(defaults | {"max_slices": 3} | options))

    return made


def train_config(root: Path, **options: object) -> TrainConfig:
    return TrainConfig(data=root, output=root.parent / "run", tasks=("mri",), patch=(16,), batch=(2,), **options)


def manifest(root: Path) -> dict[str, dict[str, str]]:
    with (root / "MANIFEST.tsv").open(newline="") as stream:
        return {row["file"]: row for row in csv.DictReader(stream, delimiter="\t")}


def contents(root: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in root.iterdir() if path.is_file()}


def test_a_set_and_its_manifest(make: Make, scans: Path) -> None:
    config = make()
    report = prepare(config)
    rows = manifest(config.output)
    used = {name: row for name, row in rows.items() if row["status"] == "used"}
    assert len(used) == report.new == 7
    chest = rows["scans/CT/sub-0/chest.nii.gz"]
    assert (chest["units"], chest["averaged"], chest["spacing"], chest["shape"]) == ("HU", "3", "3x1.5x1.5", "8x72x64")
    assert 5.0 < float(chest["noise"]) < 15.0  # 20 HU of three slices' mean: 11.5, of which the trend takes some
    assert report.averaged == 1
    t1 = rows["scans/MRI/sub-0/t1.nii.gz"]
    assert t1["sha256"] == hashlib.sha256((scans / "MRI/sub-0/t1.nii.gz").read_bytes()).hexdigest()
    assert (t1["subject"], t1["task"], t1["slices"]) == ("sub-0", "mri-sr", "3")
    reasons = {name: row["reason"] for name, row in rows.items() if row["status"] == "rejected"}
    assert reasons.keys() == {
        "scans/MRI/sub-1/broken.nii.gz", "scans/MRI/sub-2/copy.nii.gz", "scans/other.nii.gz",
    }  # fmt: skip
    assert "the same bytes as scans/MRI/sub-0/t1.nii.gz" in reasons["scans/MRI/sub-2/copy.nii.gz"]
    assert "give --task" in reasons["scans/other.nii.gz"]
    assert "broken.nii.gz" in reasons["scans/MRI/sub-1/broken.nii.gz"]


def test_subjects_never_cross(make: Make) -> None:
    config = make()
    prepare(config)
    splits: dict[str, set[str]] = {}
    for row in manifest(config.output).values():
        if row["status"] == "used":
            splits.setdefault(row["subject"], set()).add(row["split"])
    assert splits.keys() == {"sub-0", "sub-1", "sub-2"}
    assert all(len(of_one) == 1 for of_one in splits.values())
    assert {next(iter(of_one)) for of_one in splits.values()} == {"train", "val"}


def test_values_are_the_scans_own(make: Make, scans: Path) -> None:
    config = make()
    prepare(config)
    for split in ("train", "val"):
        for reference in prepare_references(MRI, split, train_config(config.output)):
            path = scans / "MRI" / reference.subject / f"{reference.name}.nii.gz"
            volume = read_volume(path)
            np.testing.assert_array_equal(reference.hq, volume.array)
            assert reference.window.upper == MRI.intensity.window_for(volume.array).upper
            assert reference.default_share == (0.3 if split == "train" else 1.0)


def test_the_sampler_draws_from_a_set(make: Make) -> None:
    config = make()
    prepare(config)
    options = train_config(config.output)
    batch = Sampler({"mri-sr": prepare_references(MRI, "train", options)}, options).batch(0)
    assert float(batch.hq.std()) > 0.05
    assert not torch.equal(batch.lq, batch.hq)
    assert set(batch.scans) <= {f"sub-{number}/{name}" for number in range(3) for name in ("t1", "t2")}


def test_nothing_is_done_twice(make: Make) -> None:
    config = make()
    prepare(config)
    before = contents(config.output)
    assert prepare(config).new == 0
    assert contents(config.output) == before


@pytest.mark.parametrize(("stop", "line_end"), [(1, b"\n"), (4, b"\n"), (4, b"\r\n")])
def test_an_interrupted_set_is_gone_on_with(
    make: Make, monkeypatch: pytest.MonkeyPatch, stop: int, line_end: bytes
) -> None:
    """Ended in the middle of a file, by whatever: the next run gives the bytes that one run gives."""
    straight = make()
    prepare(straight)
    cut = make(output=straight.output.with_name("cut"))
    done = 0
    run = prepare_module.run_job

    def failing(*arguments: object) -> object:
        nonlocal done
        if done == stop:
            raise KeyboardInterrupt
        done += 1
        return run(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(prepare_module, "run_job", failing)
        with pytest.raises(KeyboardInterrupt):
            prepare(cut)
    assert not (cut.output / SET_FILE).exists()
    with pytest.raises(UsageError, match="preparation stopped; run tat prepare again"):
        prepared_entries(cut.output)
    index = (cut.output / INDEX).read_bytes().replace(b"\n", line_end)  # as Windows writes it
    (cut.output / INDEX).write_bytes(index + b'{"key": "half a li')
    for path in cut.output.glob("*.hq"):
        with path.open("ab") as stream:
            stream.write(b"half a scan")
    prepare(cut)
    (cut.output / INDEX).write_bytes((cut.output / INDEX).read_bytes().replace(b"\r\n", b"\n"))
    assert contents(cut.output) == contents(straight.output)


def test_no_map_of_a_prepared_scan_is_left_when_it_is_deleted(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows deletes no file that is mapped: all of them would lie beside the set until the end."""
    load, delete, mapped, left = np.load, shutil.rmtree, [], []

    def load_here(*arguments: object, **options: object) -> np.ndarray:
        array = load(*arguments, **options)
        mapped.append(weakref.ref(array))
        return array

    def delete_here(path: Path, **options: object) -> None:
        left.extend(found for found in mapped if found() is not None)
        delete(path, **options)

    monkeypatch.setattr(np, "load", load_here)
    monkeypatch.setattr(shutil, "rmtree", delete_here)
    prepare(make())
    assert mapped
    assert left == []


def test_two_processes_give_the_same_bytes(make: Make, scans: Path) -> None:
    one, two = make(max_slices=1), make(max_slices=1, workers=2)
    two = replace(two, output=one.output.with_name("two"))
    prepare(one)
    prepare(two)
    assert contents(two.output) == contents(one.output)


def test_scans_can_come_later(make: Make, scans: Path) -> None:
    config = make()
    prepare(config)
    before = {entry.key: entry.split for entry in prepared_entries(config.output)}
    late = next(f"sub-{n}" for n in range(3, 99) if assign_splits([found(f"sub-{n}")], config)[f"sub-{n}"] == "train")
    save(scans / "MRI" / late / "t1.nii.gz", head(50))
    assert prepare(config).new == 1
    after = {entry.key: entry.split for entry in prepared_entries(config.output)}
    assert before.items() <= after.items()
    shutil.rmtree(scans / "MRI" / late)
    with pytest.raises(UsageError, match=f"1 scans that are not there any more.*{late}"):
        prepare(config)


def test_whoever_validates_does_so_after_others_come(make: Make, tmp_path: Path) -> None:
    """In a small set the subject nearest to the validation's share is taken; one that comes later is nearer."""
    root = tmp_path / "small"
    config = make(roots=(root,), validation=0.01)
    few, later = ["s0", "s1", "s2"], [f"s{n}" for n in range(3, 20)]
    for number, subject in enumerate(few):
        save(root / "MRI" / subject / "t1.nii.gz", head(number))
    prepare(config)
    before = {entry.subject: entry.split for entry in prepared_entries(config.output)}
    assert sorted(before.values()) == ["train", "train", "val"]
    nearest = assign_splits([found(name) for name in [*few, *later]], config)
    assert next(name for name, split in nearest.items() if split == "val") in later  # else this proves nothing
    for number, subject in enumerate(later):
        save(root / "MRI" / subject / "t1.nii.gz", head(20 + number))
    assert prepare(config).new == len(later)
    after = {entry.subject: entry.split for entry in prepared_entries(config.output)}
    assert before.items() <= after.items()


def test_the_second_subject_validates_not_the_first(make: Make) -> None:
    """One who was trained on alone stays where it is."""
    config = make(validation=0.01)
    names = sorted(("s0", "s1"), key=lambda name: assign_splits([found("s0"), found("s1")], config)[name])
    first = names[1]  # whom the share would take
    assert assign_splits([found("s0"), found("s1")], config)[first] == "val"
    both = assign_splits([found("s0"), found("s1")], config, before={first: "train"})
    assert both == {first: "train", names[0]: "val"}
    assert assign_splits([found(first, "val")], config, before={first: "train"}) == {first: "val"}  # its folder's word


def test_want_of_memory_is_tried_again(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    config = make()
    read = job_module._read

    def failing(job: job_module.Job, *arguments: object) -> object:
        if job.subject == "sub-2":
            raise MemoryError
        return read(job, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(job_module, "_read", failing)
        for _ in range(2):
            assert ("scans/MRI/sub-2/t1.nii.gz", job_module.NO_MEMORY) in prepare(config).rejected
    assert len(manifest(config.output)) == 10
    done = prepare(config)
    assert done.new == 2
    assert job_module.NO_MEMORY not in dict(done.rejected).values()
    rows = manifest(config.output)
    assert len(rows) == 10
    assert rows["scans/MRI/sub-2/t1.nii.gz"]["status"] == "used"
    with (config.output / "MANIFEST.tsv").open() as stream:
        assert len(stream.readlines()) == 11  # no scan is told of twice
    assert prepare(config).new == 0


def test_a_scan_that_went_away_for_a_moment_is_tried_again(make: Make, scans: Path) -> None:
    config = make(workers=1)
    scan = next(path for path in sorted(scans.rglob("*.nii.gz")) if "CT" not in path.parts)
    kept = scan.read_bytes()

    def damage(stage: str, done: int, _: int) -> None:
        if stage == "prepare" and not done:
            scan.write_bytes(kept[:300])

    try:
        report = prepare(config, on_progress=damage)
    finally:
        scan.write_bytes(kept)
    assert [why for file, why in report.rejected if file.endswith(scan.name)] == [job_module.CHANGED]
    again = prepare(config)
    assert again.new == 1
    assert not [file for file, _ in again.rejected if file.endswith(scan.name)]


def test_a_set_of_another_version_is_trained_on_but_not_mixed(make: Make, scans: Path) -> None:
    config = make()
    prepare(config)
    told = config.output / "options.json"
    options = json.loads(told.read_text())
    assert options.pop("references") == FORMAT
    told.write_text(json.dumps(options))  # as versions wrote it that didn't count
    save(scans / "MRI" / "sub-0" / "flair.nii.gz", head(60))
    before = contents(config.output)
    with pytest.raises(UsageError, match="got one whose references another made otherwise; train on it as it is, or"):
        prepare(config)
    assert contents(config.output) == before
    assert prepared_references(config.output, MRI, "train", train_config(config.output))


def test_a_version_has_keys_of_its_own(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    (one,) = job_module.synthetic_jobs(make(synthetic_pet=1))
    monkeypatch.setattr("tatcli.workflows.preparing.config.FORMAT", 99)
    (other,) = job_module.synthetic_jobs(make(synthetic_pet=1))
    assert other.key != one.key
    assert len({job.key for job in job_module.synthetic_jobs(make(synthetic_pet=3, synthetic_brain=2))}) == 5


def test_images_below_dicom_are_found(make: Make, tmp_path: Path) -> None:
    """A stray DICOM file at the top takes the DICOM below it, but for what lies in folders that say what it is."""
    root = tmp_path / "mixed"
    save(root / "MRI" / "sub-1" / "deep" / "t1.nii.gz", head(1))
    save(root / "b.nii.gz", head(2))
    for folder in (root, root / "more", root / "MRI" / "sub-1", root / "MRI" / "sub-1" / "y", root / "CT" / "x"):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "stray").write_bytes(b"\0" * 128 + b"DICM")
    assert [(one.shown, one.dicom) for one in find_candidates(root)] == [
        ("mixed", True), ("mixed/CT/x", True), ("mixed/MRI/sub-1", True), ("mixed/MRI/sub-1/deep/t1.nii.gz", False),
        ("mixed/b.nii.gz", False),
    ]  # fmt: skip
    config = make(roots=(root,))
    prepare(config)
    rows = manifest(config.output)
    assert rows["mixed/MRI/sub-1/deep/t1.nii.gz"]["status"] == "used"
    assert rows.keys() > {"mixed", "mixed/b.nii.gz"}


@pytest.mark.parametrize("changes", ["other bytes", "gone"])
def test_a_scan_is_as_found_whatever_befalls_others(make: Make, tmp_path: Path, changes: str) -> None:
    """Of a folder with many series, one that is left out is read again, and not all."""
    save(tmp_path / "t1.nii.gz", head(1))
    (tmp_path / "dicom").mkdir()
    dataset = pydicom.dcmread(str(get_testdata_file("CT_small.dcm")))
    for number in range(2):
        dataset.SeriesInstanceUID, dataset.SeriesNumber = f"{dataset.StudyInstanceUID}.{number}", number
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        dataset.save_as(tmp_path / "dicom" / f"{number}.dcm")
    found = survey(Candidate(tmp_path / "t1.nii.gz", "t1", task="mri-sr"), make())
    found += survey(Candidate(tmp_path / "dicom", "dicom", dicom=True), make())
    assert [scan.is_as_found for scan in found] == [True] * 3
    for path in (*found[0].files, *found[1].files):
        if changes == "gone":
            path.unlink()
        else:
            path.write_bytes(b"others")
    assert [scan.is_as_found for scan in found] == [False, False, True]


def test_other_options_need_another_folder(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(make())
    monkeypatch.setattr(prepare_module, "find_candidates", pytest.fail)  # it is said before a scan is looked for
    with pytest.raises(UsageError, match="seed was 0, now 1"):
        prepare(make(seed=1))
    with pytest.raises(UsageError, match="max_slices was 3, now 0; planes was the default, now all"):
        prepare(make(planes="all", max_slices=0))


def test_a_bit_that_flipped_on_the_disk_is_found(make: Make) -> None:
    config = make()
    report = prepare(config)
    used = sum(report.scans.values())
    assert check_set(config.output) == SetCheck(used, unknown=0)
    for kind, scan in (("hq", "mri-sr"), ("fields", "ct-denoise")):
        path = next(config.output.glob(f"{scan}.*.{kind}"))
        kept = path.read_bytes()
        path.write_bytes(kept[:-3] + bytes([kept[-3] ^ 1]) + kept[-2:])
        entries = [one for one in prepared_entries(config.output) if path.name.startswith(f"{one.task}.{one.split}.")]
        last = max(entries, key=lambda entry: entry.starts.get(kind, -1))
        with pytest.raises(VolumeReadError, match=f"got others in 1 of {used} scans .*{last.subject}/{last.name}\\)"):
            check_set(config.output)
        path.write_bytes(kept[:-2])
        with pytest.raises(VolumeReadError, match=f"{last.subject}/{last.name}"):
            check_set(config.output)
        path.write_bytes(kept)
    assert check_set(config.output).scans == used
    index = config.output / INDEX
    rows = [json.loads(line) for line in index.read_text().splitlines()]
    del next(row["facts"] for row in rows if "crc32" in row["facts"])["crc32"]  # as before they were kept
    index.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert check_set(config.output) == SetCheck(used - 1, unknown=1)
    with pytest.raises(UsageError, match="expected a set of tat prepare to check, found none"):
        check_set(config.output.parent)


def test_damaged_sets_are_told(make: Make) -> None:
    config = make()
    prepare(config)
    path = next(config.output.glob("mri-sr.train.hq"))
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(VolumeReadError, match="prepare the set again"):
        prepared_references(config.output, MRI, "train", train_config(config.output))
    with pytest.raises(VolumeReadError, match="as the index says"):
        prepare(config)
    with pytest.raises(UsageError, match="pet-synthesis in the split train, found none"):
        prepared_references(config.output, TASKS["pet-synthesis"], "train", train_config(config.output))
    (config.output / SET_FILE).write_text(json.dumps({"format": 99}))
    with pytest.raises(UsageError, match="format 1, got 99"):
        prepared_entries(config.output)


def test_a_set_is_trained_on_in_all_planes_and_ranges(make: Make, tmp_path: Path) -> None:
    root = tmp_path / "cubes"
    save(root / "MRI" / "train" / "cube.nii.gz", head(0, (6, 32, 40)), (1.0, 1.0, 1.1))
    save(root / "MRI" / "train" / "thick.nii.gz", head(1, (6, 32, 40)), (1.0, 1.0, 4.0))
    config = make(roots=(root,), max_slices=0)
    prepare(config)

    def prepared(**options: object) -> list[Reference]:
        return prepared_references(config.output, MRI, "train", train_config(config.output, **options))

    assert [(scan.name, scan.hq.shape) for scan in prepared(planes="all")] == [
        ("cube", (6, 32, 40)), ("cube", (32, 6, 40)), ("cube", (40, 6, 32)), ("thick", (6, 32, 40)),
    ]  # fmt: skip
    assert [scan.name for scan in prepared()] == ["cube", "thick"]
    assert [scan.window for scan in prepared(mri_range="paper")] == [Window(0.0, 4095.0)] * 2
    cut = make(roots=(root,), max_slices=3, output=tmp_path / "cut")  # slices that aren't neighbours make no volume
    prepare(cut)
    assert len(prepared_references(cut.output, MRI, "train", train_config(cut.output, planes="all"))) == 2


def test_pet_is_prepared_for_one_plane_or_for_all(make: Make, tmp_path: Path) -> None:
    """Slices that were degraded one by one make no volume that could be sliced otherwise."""
    root = tmp_path / "uptake"
    inside = np.hypot(*(np.mgrid[:40, :44] - np.array([20, 22])[:, None, None])) < 17
    texture = 0.2 * np.random.default_rng(0).normal(size=(16, 40, 44))
    save(root / "PET" / "train" / "a.nii.gz", np.where(inside, 1 + texture, 0).clip(0), (4.5, 4.5, 3.3))
    task = TASKS["pet-synthesis"]
    for planes, shapes in (("acquired", [(16, 40, 44)]), ("all", [(16, 40, 44), (40, 16, 44), (44, 16, 40)])):
        config = make(roots=(root,), max_slices=0, planes=planes, output=tmp_path / planes)
        prepare(config)
        options = train_config(config.output, planes="all")
        assert [scan.hq.shape for scan in prepared_references(config.output, task, "train", options)] == shapes
    with pytest.raises(UsageError, match="--planes"):
        make(planes="all", max_slices=3)


def test_outputs_that_would_hurt_are_refused(make: Make, scans: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="apart from"):
        prepare(make(output=scans / "set"))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    with pytest.raises(OutputError, match="other files"):
        prepare(make(output=tmp_path / "full"))
    with pytest.raises(OutputError, match=r"expected an existing folder .*thesis.txt, got a file"):
        prepare(make(output=tmp_path / "full" / "thesis.txt" / "set", roots=(tmp_path / "nowhere",)))
    (tmp_path / "full" / "thesis.txt").unlink()
    with locked(tmp_path / "full", "tat prepare"), pytest.raises(OutputError, match="another tat prepare at work"):
        prepare(make(output=tmp_path / "full"))
    with pytest.raises(UsageError, match="expected a folder with scans"):
        prepare(make(roots=(tmp_path / "nowhere",)))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="found none among 0"):
        prepare(make(roots=(tmp_path / "empty",)))


def test_pairs_keep_their_split(make: Make, tmp_path: Path) -> None:
    """A dataset's own split stays, LQ partners go with their HQ scans, and a lonely one is left out."""
    root = tmp_path / "pairs"
    for split, number in (("train", 0), ("train", 1), ("val", 2)):
        save(root / "MRI" / split / "HQ" / f"p{number}.nii.gz", head(number))
        save(root / "MRI" / split / "LQ" / f"p{number}.nii.gz", (head(number) // 2).astype(np.int16))
    (root / "MRI" / "val" / "HQ").rename(root / "MRI" / "val" / "hq")  # in any case of the letters, as tat train
    (root / "MRI" / "val" / "LQ").rename(root / "MRI" / "val" / "lq")
    save(root / "MRI" / "train" / "HQ" / "alone.nii.gz", head(5))
    config = make(roots=(root,))
    report = prepare(config)
    assert report.scans == {("mri-sr", "train"): 2, ("mri-sr", "val"): 1}
    assert report.rejected == (("pairs/MRI/train/HQ/alone.nii.gz", "it has no partner of equal name in LQ"),)
    for reference in prepared_references(config.output, MRI, "train", train_config(config.output)):
        low = reference.low_quality(1, np.random.default_rng(0))
        np.testing.assert_allclose(low, reference.hq[1] // 2, atol=0.5)
    (validation,) = prepared_references(config.output, MRI, "val", train_config(config.output))
    low = validation.low_quality(1, np.random.default_rng(0))
    np.testing.assert_allclose(low, validation.hq[1] // 2, atol=0.5)


def test_the_papers_range_is_in_the_scans_own_units(make: Make, tmp_path: Path) -> None:
    """Also where half precision made the set keep a pair divided by eight."""
    root = tmp_path / "pairs"
    hq = head(0) * 32
    save(root / "MRI" / "train" / "HQ" / "p.nii.gz", hq.astype(np.int16))
    save(root / "MRI" / "train" / "LQ" / "p.nii.gz", (hq // 2).astype(np.int16))
    config = make(roots=(root,), validation=0.0)
    prepare(config)
    options = train_config(config.output, mri_range="paper")
    (reference,) = prepared_references(config.output, MRI, "train", options)
    assert reference.hq.max() < 28000 / 2
    np.testing.assert_allclose(reference.window.normalise(reference.hq), hq / 4095, rtol=1e-5)
    low = reference.window.normalise(reference.low_quality(1, np.random.default_rng(0)))
    np.testing.assert_allclose(low, hq[1] // 2 / 4095, rtol=1e-3)


def test_scans_of_one_header_differ_by_their_voxels(make: Make, tmp_path: Path) -> None:
    header = "ObjectType = Image\nNDims = 3\nDimSize = 40 32 3\nElementType = MET_SHORT\nElementDataFile = voxels.raw\n"
    for name in ("sub-0", "sub-1", "LQ"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "t1.mhd").write_text(header)
        (tmp_path / name / "voxels.raw").write_bytes(name.encode() * 10)
    config = make(task="mri")

    def hashed(lq: Path | None, *names: str) -> list[str]:
        each = [Candidate(tmp_path / name / "t1.mhd", f"{name}/t1.mhd", lq=lq) for name in names]
        return [scan.sha256 for candidate in each for scan in survey(candidate, config)]

    first, second = hashed(None, "sub-0", "sub-1")
    assert first != second
    before = hashed(tmp_path / "LQ/t1.mhd", "sub-0")
    (tmp_path / "LQ/voxels.raw").write_bytes(b"others")
    assert hashed(tmp_path / "LQ/t1.mhd", "sub-0") != before


def test_pickled_slices_of_the_published_layout(make: Make, tmp_path: Path) -> None:
    """One scan per slice; the folder of a patient's slices tells whom they are of."""
    root = tmp_path / "published"
    values = np.random.default_rng(0).uniform(0, 4000, (2, 3, 1, 32, 32)).astype(np.float32)
    for patient in range(2):
        for number in range(3):
            for quality, factor in (("HQ", 1.0), ("LQ", 0.5)):
                path = root / "MRI" / "train" / quality / f"p{patient}" / f"{number}.bin"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(pickle.dumps(torch.from_numpy(values[patient, number] * np.float32(factor))))
    config = make(roots=(root,))
    report = prepare(config)
    assert report.scans == {("mri-sr", "train"): 6}
    assert report.subjects == {("mri-sr", "train"): 2}
    references = prepared_references(config.output, MRI, "train", train_config(config.output))
    assert [reference.subject for reference in references] == ["p0"] * 3 + ["p1"] * 3
    for reference, slice_ in zip(references, values.reshape(6, 1, 32, 32), strict=True):
        np.testing.assert_array_equal(reference.hq, slice_)
        np.testing.assert_allclose(reference.low_quality(0, np.random.default_rng(0)), slice_[0] / 2, rtol=1e-3)


def test_synthetic_pet(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    y, x = np.mgrid[-1:1:40j, -1:1:40j]
    clean = np.broadcast_to(np.where(x**2 + y**2 < 0.8, 2.0, 0.0), (3, 40, 40)).astype(np.float32)
    made = Volume(clean, Geometry(np.diag([5.0, 5.0, 5.0, 1.0]), clean.shape), TASKS["pet-synthesis"].units)
    monkeypatch.setattr("tatcli.phantoms.whole_body.whole_body_pet", lambda seed: made)
    seeds: list[int] = []
    monkeypatch.setattr("tatcli.phantoms.brain.brain_pet", lambda seed: seeds.append(seed) or made)
    brains = make(roots=(), synthetic_brain=2, noise_fields=1)
    assert prepare(brains).scans == {("pet-synthesis", "train"): 2}
    assert seeds == [0, 1]
    assert list(manifest(brains.output)) == ["synthetic-brain-0000", "synthetic-brain-0001"]
    shutil.rmtree(brains.output)
    config = make(roots=(), synthetic_pet=2, noise_fields=6, default_share=1.0)
    assert prepare(config).scans == {("pet-synthesis", "train"): 2}
    row = manifest(config.output)["synthetic-pet-0001"]
    assert (row["source"], row["sha256"]) == ("made up by tat", hashlib.sha256(clean.tobytes()).hexdigest())
    references = prepared_references(config.output, TASKS["pet-synthesis"], "train", train_config(config.output))
    inside = x**2 + y**2 < 0.6
    for number, reference in enumerate(references):
        np.testing.assert_array_equal(reference.hq, clean)
        variation = np.random.default_rng([0, number]).uniform(0.05, 0.12)
        assert reference.fields is not None
        low = reference.fields[..., inside].astype(np.float64)
        assert low.mean() == pytest.approx(2.0, rel=0.03)
        # at a twelfth of the dose sqrt(11) times the noise is added that a scan at the reference's dose has
        assert low.std() / low.mean() == pytest.approx(variation * np.sqrt(11), rel=0.25)
    assert not np.array_equal(references[0].fields, references[1].fields)
    # beside scans that lie elsewhere
    beside = train_config(tmp_path / "root", also=(config.output,))
    for quality in ("LQ", "HQ"):
        save(tmp_path / "root" / "PET" / "train" / quality / "real.nii.gz", clean)
    pet = prepare_references(TASKS["pet-synthesis"], "train", beside)
    assert [scan.name for scan in pet] == ["real", "synthetic-pet-0000", "synthetic-pet-0001"]
    np.testing.assert_array_equal(pet[2].fields, references[1].fields)


def found(subject: str, split: str | None = None, task: str = "mri-sr") -> Found:
    return Found(Candidate(Path(subject), subject, split=split), subject, subject, task)


def test_splits_are_stable(make: Make) -> None:
    config = make(validation=0.2, test=0.1)
    few, many = ([found(f"s{n}") for n in range(count)] for count in (50, 1000))
    before, after = assign_splits(few, config), assign_splits(many, config)
    assert before.items() <= after.items()
    shares = {split: list(after.values()).count(split) / 1000 for split in ("val", "test")}
    assert shares["val"] == pytest.approx(0.2, abs=0.04)
    assert shares["test"] == pytest.approx(0.1, abs=0.03)


def test_a_small_set_has_someone_to_validate_on(make: Make) -> None:
    """Whoever comes later, no subject is moved from training to validation."""
    config = make(validation=0.01)
    before: dict[str, str] = {}
    for count in range(4, 40):
        tasks = {"mri-sr": range(0, count, 2), "ct-denoise": range(1, count, 2), "pet-synthesis": range(0, count, 3)}
        scans = [found(f"s{n}", task=task) for task, numbers in tasks.items() for n in numbers]
        splits = assign_splits(scans, config)
        for task in tasks:
            assert {"train", "val"} <= {splits[scan.subject] for scan in scans if scan.task == task} or count < 5
        assert not [one for one, split in before.items() if split == "train" and splits[one] == "val"]
        before = splits


def test_a_subject_in_two_splits_is_an_error(make: Make) -> None:
    with pytest.raises(UsageError, match="got p1 in train and val"):
        assign_splits([found("p1", "train"), found("p1", "val")], make())
    assert assign_splits([found("p1", "train"), found("p1")], make()) == {"p1": "train"}


def test_subjects_by_name(make: Make, scans: Path) -> None:
    def subject(path: str, pattern: str | None = None) -> str:
        save(scans / path, head(7))
        (candidate,) = [one for one in find_candidates(scans) if one.path == scans / path]
        return survey(candidate, make(subject=pattern))[0].subject

    assert subject("MRI/train/a.nii.gz") == "a"
    assert subject("MRI/clinic/b/c.nii.gz") == "clinic"
    assert subject("MRI/clinic/sub-007/d.nii.gz") == "sub-007"
    assert subject("MRI/openms_p01_s1.nii.gz", r"openms_(p\d+)") == "p01"


def test_means_of_slices() -> None:
    rng = np.random.default_rng(0)
    array = rng.normal(40, 20, (26, 64, 64)).astype(np.float32)
    volume = Volume(array, Geometry(np.diag([0.8, 0.8, 1.25, 1.0]), array.shape), TASKS["ct-denoise"].units)
    made, count = cleaner_reference(volume, thickness=4.0, quiet=12.0)
    assert count == 3
    np.testing.assert_allclose(made.array[2], array[6:9].mean(axis=0), rtol=1e-5)
    assert made.geometry.spacing == pytest.approx((3.75, 0.8, 0.8))
    assert made.geometry.origin == pytest.approx((0, 0, 1.25))  # the middle of three slices
    assert made.array.std() == pytest.approx(20 / np.sqrt(3), rel=0.02)
    assert cleaner_reference(volume, thickness=4.0, quiet=30.0)[1] == 1
    assert cleaner_reference(volume, thickness=0.0, quiet=0.0)[1] == 1
    across = averaged_along(volume, 2, 4)
    np.testing.assert_allclose(across.array[:, :, 1], array[:, :, 4:8].mean(axis=2), rtol=1e-4)
    assert across.geometry.spacing == pytest.approx((1.25, 0.8, 3.2))
    assert across.geometry.origin == pytest.approx((1.2, 0, 0))


def test_an_entry_tells_no_path() -> None:
    source = {"file": "scans/Doe^John/1", "sha256": "ab", "terms": "CC0"}
    entry = Entry(key="k", task="mri-sr", split="train", name="5-T2", subject="patient-1", source=source)
    assert entry.public() == {"file": "patient-1/5-T2", "source": "", "terms": "CC0", "sha256": "ab"}
    named = replace(entry, subject="Doe_John", name="T2_Doe_John", source=source | {"sha256": "0123456789abcdef"})
    assert named.public()["file"] == "scan-0123456789ab"
    assert replace(named, subject="sub-01", name="sub-01_T2w").public()["file"] == "sub-01/sub-01_T2w"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"noise_fields": 1001}, r"--noise-fields \(1 to 1000\): value out of range, got 1001$"),
        ({"workers": 1025}, r"--workers \(1 to 1024\): value out of range, got 1025$"),
        ({"validation": 1.0}, r"--val and --test .*: value out of range, got 1\.0, 0\.0$"),
        ({"workers": 0}, r"--workers .* got 0$"),
        ({"thickness": float("inf")}, r"--ct-thickness, --ct-quiet .* got inf, 12\.0$"),
        ({"quiet": float("nan")}, "--ct-quiet"),
        ({"seed": 2**63}, "--seed"),
        ({"subject": "("}, "regular expression"),
    ],
)
def test_bad_options(make: Make, options: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        make(**options)


def test_advice_holds_for_training(make: Make, tmp_path: Path) -> None:
    root = tmp_path / "bids"
    save(root / "sub-1" / "pet" / "sub-1_pet.nii.gz", head(1))
    (root / "sub-1" / "pet" / "sub-1_pet.json").write_text(json.dumps({"TracerRadionuclide": "F18"}))
    config = make(roots=(root,))
    with pytest.raises(UsageError, match="only tat restore has --units; here store the scan in the task's units"):
        prepare(config)
    assert for_training("a scan without advice") == "a scan without advice"
    told = for_training("x: got no weight; supply it with --pet weight=KG, or say --units SUVbw")
    assert "only tat restore has --pet and --units; here add it to the header or sidecar, or" in told


def test_a_sidecar_that_comes_later_lets_its_pet_in(tmp_path: Path) -> None:
    """One that changes what the set holds is refused: the image's own bytes are the same."""
    root, fdg = tmp_path / "scans" / "PET", {"Units": "Bq/mL", "TracerRadionuclide": "F18"}
    fdg |= {"InjectedRadioactivity": 350, "InjectedRadioactivityUnits": "MBq", "InjectionStart": 0}
    fdg |= {"ImageDecayCorrected": True, "ImageDecayCorrectionTime": 0}
    for quality in ("HQ", "LQ"):
        for name in ("sub-1_pet", "sub-2_pet"):
            save(root / quality / f"{name}.nii.gz", head(ord(name[4]), (3, 32, 40)) * 50.0)
        (root / quality / "sub-1_pet.json").write_text(json.dumps(fdg | {"PatientWeight": 70}))
    config = PrepareConfig(roots=(root.parent,), output=tmp_path / "set", validation=0.0)
    assert prepare(config).scans == {("pet-synthesis", "train"): 1}
    for quality in ("HQ", "LQ"):
        (root / quality / "sub-2_pet.json").write_text(json.dumps(fdg | {"PatientWeight": 35}))
    assert prepare(config).scans == {("pet-synthesis", "train"): 2}
    (root / "HQ" / "sub-2_pet.json").write_text(json.dumps(fdg | {"PatientWeight": 70}))
    with pytest.raises(UsageError, match="holds 1 scans that are not there any more, have changed"):
        prepare(config)


def test_a_pattern_that_tells_nobody_is_refused(make: Make) -> None:
    with pytest.raises(UsageError, match=r"--subject 'patient\\d': expected a pattern that some scan's path has"):
        prepare(make(subject=r"patient\d"))
