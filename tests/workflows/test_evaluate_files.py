"""Scoring restored files against references: pairs, folders, grids, tasks."""

from __future__ import annotations

import csv
import json
import os
import zipfile

import nibabel
import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.uid import generate_uid

from tatcli.errors import (
    EmptyMaskError,
    GeometryError,
    MissingPartnerError,
    OutputError,
    PartialFailure,
    UnitsError,
    UsageError,
    VolumeReadError,
)
from tatcli.intensity import Units, Window
from tatcli.metrics import PROTOCOLS, score_volume
from tatcli.tasks import TASKS
from tatcli.workflows.evaluate import EvaluateConfig, evaluate
from tatcli.workflows.evaluation.matching import match_scans
from tatcli.workflows.evaluation.tables import check_csv_folder, write_csv

CT = TASKS["ct-denoise"]
AFFINE = np.diag([-1.0, -1.0, 4.0, 1.0])


def body(seed: int, sigma: float = 0.0) -> np.ndarray:
    """(slices, rows, columns), HU, whole numbers."""
    truth = np.random.default_rng(seed).integers(-200, 300, (3, 24, 20)).astype(np.float64)
    return (truth + np.random.default_rng(seed + 100).normal(0.0, sigma, truth.shape)).round() if sigma else truth


def write(path, array, affine=AFFINE):
    path.parent.mkdir(parents=True, exist_ok=True)
    axes = tuple(range(array.ndim))[::-1] if array.ndim == 3 else (3, 2, 1, 0)
    nibabel.save(nibabel.Nifti1Image(array.transpose(axes).astype(np.int16), affine), path)
    return path


def expected(restored, reference, protocol="paper"):
    return score_volume(restored, reference, task=CT, window=Window(-160.0, 240.0), protocol=PROTOCOLS[protocol])


def test_a_pair_with_its_input(tmp_path) -> None:
    hq, lq, restored = body(0), body(0, 40.0), body(0, 15.0)
    report = evaluate(
        EvaluateConfig(
            restored=write(tmp_path / "out.nii", restored),
            reference=write(tmp_path / "hq.nii.gz", hq),
            input=write(tmp_path / "lq.nii.gz", lq),
            tasks=("ct",),
        )
    )
    (task,) = report.tasks
    assert [(row.method, row.kind) for row in task.methods] == [("lq", "input"), ("restored", "network")]
    assert task.methods[0].score == expected(lq, hq).mean
    assert task.methods[1].score == expected(restored, hq).mean
    assert task.methods[1].gain == task.methods[1].score.psnr - task.methods[0].score.psnr
    assert (report.protocol, task.units, task.strength) == ("paper", "HU", None)
    told = json.loads(report.to_json())
    assert told["settings"]["restored"].endswith("out.nii")
    assert len(told["tasks"][0]["scans"][0]["methods"]["restored"]["slices"]) == 3


def test_folders_by_equal_names(tmp_path) -> None:
    for seed, name in enumerate(("one", "two")):
        write(tmp_path / "hq" / f"{name}.nii.gz", body(seed))
        write(tmp_path / "out" / f"{name}_restored.nii", body(seed, 20.0))
    write(tmp_path / "hq" / "unused.nii.gz", body(9))
    (tmp_path / "out" / ".hidden.nii").write_bytes(b"")
    (tmp_path / "out" / "notes.txt").write_text("no scan")
    config = EvaluateConfig(restored=tmp_path / "out", reference=tmp_path / "hq", tasks=("ct",), protocol="volume")
    (task,) = evaluate(config).tasks
    assert [scan.name for scan in task.scans] == ["one", "two"]
    means = [expected(body(seed, 20.0), body(seed), "volume").mean.psnr for seed in (0, 1)]
    assert task.methods[0].score.psnr == pytest.approx(np.mean(means))
    assert task.methods[0].gain is None
    assert task.verdict == {}


def test_paths_may_be_text_and_tasks_are_several(tmp_path) -> None:
    path = str(write(tmp_path / "hq.nii.gz", body(0)))
    (task,) = evaluate(EvaluateConfig(restored=path, reference=path, tasks=("ct",))).tasks
    assert task.methods[0].score.rmse == 0
    with pytest.raises(UsageError, match=r"tasks: expected several names, got 'ct'; write \('ct',\)"):
        EvaluateConfig(restored=path, reference=path, tasks="ct")


def test_identical_files(tmp_path) -> None:
    path = write(tmp_path / "hq.nii.gz", body(0))
    report = evaluate(EvaluateConfig(restored=path, reference=path, input=path, tasks=("ct",)))
    assert report.tasks[0].methods[1].gain == 0.0  # two perfect matches gain nothing over each other
    told = json.loads(report.to_json())["tasks"][0]
    assert told["methods"][0]["psnr"] == "inf"
    assert told["verdict"] == {"psnr_over_lq": 0.0, "ssim_over_lq": 0.0}


def test_dynamic_scans_are_scored_over_all_frames(tmp_path) -> None:
    hq = np.stack([body(0), body(1)])
    lq = hq + 10.0
    restored, reference = write(tmp_path / "lq.nii", lq), write(tmp_path / "hq.nii", hq)
    (task,) = evaluate(EvaluateConfig(restored=restored, reference=reference, tasks=("ct",))).tasks
    assert task.methods[0].score == expected(lq.reshape(6, 24, 20), hq.reshape(6, 24, 20)).mean


def test_bare_arrays(tmp_path) -> None:
    np.save(tmp_path / "lq.npy", body(0, 20.0).astype(np.float32))
    reference = write(tmp_path / "hq.nii", body(0))
    report = evaluate(EvaluateConfig(restored=tmp_path / "lq.npy", reference=reference, tasks=("ct",)))
    assert report.tasks[0].methods[0].score == expected(body(0, 20.0), body(0)).mean


def test_what_fails_is_named_and_the_rest_scored(tmp_path) -> None:
    """Another grid, a missing partner, a damaged file, an empty mask; one good scan."""
    for seed, name in enumerate(("good", "small", "broken", "unmasked", "hole")):
        write(tmp_path / "hq" / f"{name}.nii.gz", body(seed))
        write(tmp_path / "out" / f"{name}.nii.gz", body(seed, 20.0))
        write(tmp_path / "mask" / f"{name}.nii.gz", np.ones((3, 24, 20)))
    write(tmp_path / "out" / "small.nii.gz", body(1)[1:])
    (tmp_path / "out" / "broken.nii.gz").write_bytes(b"nothing")
    write(tmp_path / "mask" / "unmasked.nii.gz", np.zeros((3, 24, 20)))
    (tmp_path / "mask" / "hole.nii.gz").unlink()
    write(tmp_path / "out" / "lonely.nii.gz", body(9))
    write(tmp_path / "hq" / "unused.nii.gz", body(9))
    config = EvaluateConfig(restored=tmp_path / "out", reference=tmp_path / "hq", mask=tmp_path / "mask", tasks=("ct",))
    report = evaluate(config)
    (task,) = report.tasks
    assert [scan.name for scan in task.scans] == ["good"]
    expected = {
        "small": "small.nii.gz: expected the reference",
        "broken": "broken.nii.gz: expected a NIfTI header",
        "unmasked": "unmasked.nii.gz: expected a mask with voxels above 0",
        "hole": "hole: expected a scan of equal name in",
        "lonely": "lonely.nii.gz: expected a scan of equal name in",
    }
    assert {name: text[: len(expected[name])] for name, text in task.failures.items()} == expected
    assert task.unused == ("unused",)
    assert json.loads(report.to_json())["tasks"][0]["unused"] == ["unused"]
    (tmp_path / "out" / "good.nii.gz").unlink()
    with pytest.raises(PartialFailure, match="expected scans that can be scored, got none"):
        evaluate(config)


def test_a_mask(tmp_path) -> None:
    hq, out = body(0), body(0, 20.0)
    mask = np.zeros(hq.shape)
    mask[1, 3:9, 4:12] = 1
    paths = {
        "restored": write(tmp_path / "out.nii", out),
        "reference": write(tmp_path / "hq.nii", hq),
        "mask": write(tmp_path / "mask.nii", mask),
    }
    (task,) = evaluate(EvaluateConfig(**paths, tasks=("ct",))).tasks
    ours, truth = (np.clip(volume, -160.0, 240.0)[mask > 0] for volume in (out, hq))
    assert task.methods[0].score.rmse == pytest.approx(np.sqrt(np.mean((ours - truth) ** 2)))
    assert task.scans[0].methods["restored"].skipped == 2
    write(tmp_path / "mask.nii", np.zeros(hq.shape))
    with pytest.raises(EmptyMaskError, match=r"mask.nii: expected a mask with voxels above 0"):
        evaluate(EvaluateConfig(**paths, tasks=("ct",)))
    moved = AFFINE.copy()
    moved[0, 3] = 30.0
    write(tmp_path / "mask.nii", mask, moved)
    with pytest.raises(GeometryError, match=r"mask.nii: expected the reference's grid"):
        evaluate(EvaluateConfig(**paths, tasks=("ct",)))
    flat = hq.copy()
    flat[1] = 0.0
    write(tmp_path / "mask.nii", mask)
    write(tmp_path / "hq.nii", flat)
    with pytest.raises(EmptyMaskError, match="expected mask voxels in slices with something to score"):
        evaluate(EvaluateConfig(**paths, tasks=("ct",)))


def test_two_methods_over_subjects(tmp_path) -> None:
    """Six subjects, one with two scans; the better method wins in each: p = 2 / 2^6."""
    names = ["a_1", "a_2", "b_1", "c_1", "d_1", "e_1", "f_1"]
    for seed, name in enumerate(names):
        write(tmp_path / "hq" / f"{name}.nii", body(seed))
        write(tmp_path / "good" / f"{name}.nii", body(seed, 10.0 + seed))
        write(tmp_path / "bad" / f"{name}.nii", body(seed, 30.0 + 3 * seed))
    config = EvaluateConfig(
        restored=tmp_path / "good",
        reference=tmp_path / "hq",
        compare=tmp_path / "bad",
        tasks=("ct",),
        subjects="^([a-z])_",
        physical=False,
    )
    report = evaluate(config)
    assert report.settings["subjects"] == "^([a-z])_"
    (task,) = report.tasks
    assert [scan.subject for scan in task.scans] == ["a", "a", "b", "c", "d", "e", "f"]
    means = [expected(body(seed, 10.0 + seed), body(seed)).mean.psnr for seed in range(7)]
    subjects = [np.mean(means[:2]), *means[2:]]
    row = task.methods[0]
    assert row.subjects == 6
    assert row.score.psnr == pytest.approx(np.mean(subjects))
    interval = row.intervals["psnr"]
    assert min(subjects) < interval.lower < row.score.psnr < interval.upper < max(subjects)
    psnr, ssim, rmse = task.tests
    assert (psnr.method, psnr.other, psnr.quantity, psnr.subjects) == ("restored", "other", "psnr", 6)
    assert psnr.p == ssim.p == rmse.p == pytest.approx(2 / 64)
    assert psnr.difference == pytest.approx(row.score.psnr - task.methods[1].score.psnr)
    assert rmse.difference < 0 < psnr.difference
    assert row.physical == {}


def test_tables(tmp_path, monkeypatch) -> None:
    for seed, name in enumerate(("a", "b")):
        write(tmp_path / "hq" / f"{name}.nii", body(seed))
        write(tmp_path / "out" / f"{name}.nii", body(seed, 20.0))
    paths = {"restored": tmp_path / "out", "reference": tmp_path / "hq", "input": tmp_path / "out"}
    report = evaluate(EvaluateConfig(**paths, tasks=("ct",), protocol="fixed"))
    made = write_csv(report, tmp_path / "tables")
    assert [path.name for path in made] == ["slices.csv", "volumes.csv", "tasks.csv", "tests.csv"]
    read = {path.stem: list(csv.DictReader(path.read_text(encoding="utf-8").splitlines())) for path in made}
    assert {len(read["slices"]), len(read["volumes"]), len(read["tasks"]), len(read["tests"])} == {12, 4, 2, 3}
    assert {row["protocol"] for rows in read.values() for row in rows} == {"fixed"}
    (scan, _) = report.tasks[0].scans
    first = read["slices"][0]
    assert (first["scan"], first["method"], first["slice"]) == ("a", "lq", "0")
    assert float(first["psnr"]) == scan.methods["lq"].slices[0].psnr
    assert float(read["volumes"][0]["bias"]) == scan.physical["lq"].bias
    assert float(read["tasks"][1]["psnr_lower"]) == report.tasks[0].methods[1].intervals["psnr"].lower
    assert read["tests"][0]["p"] == ""  # the same scans: no pair differs
    with pytest.raises(OutputError, match=r"slices.csv: expected a new file"):
        check_csv_folder(tmp_path / "tables", overwrite=False)
    check_csv_folder(tmp_path / "tables", overwrite=True)
    with pytest.raises(OutputError, match="expected a folder for the CSV tables, got a file"):
        check_csv_folder(tmp_path / "hq" / "a.nii", overwrite=True)
    with pytest.raises(OutputError, match="expected an existing folder"):
        check_csv_folder(tmp_path / "none" / "tables", overwrite=True)
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write anywhere
    with pytest.raises(OutputError, match="expected a writable folder"):
        check_csv_folder(tmp_path / "new", overwrite=True)


def test_tables_of_a_former_evaluation_do_not_stay(tmp_path) -> None:
    for name in ("a", "b"):
        write(tmp_path / "hq" / f"{name}.nii", body(0))
        write(tmp_path / "out" / f"{name}.nii", body(0, 20.0))
    paths = {"restored": tmp_path / "out", "reference": tmp_path / "hq"}
    write_csv(evaluate(EvaluateConfig(**paths, input=tmp_path / "out", tasks=("ct",))), tmp_path / "tables")
    assert (tmp_path / "tables" / "tests.csv").exists()
    made = write_csv(evaluate(EvaluateConfig(**paths, tasks=("ct",))), tmp_path / "tables")
    assert sorted((tmp_path / "tables").iterdir()) == sorted(made)
    assert "tests.csv" not in [path.name for path in made]


def test_padding_that_a_header_names_is_no_anatomy(tmp_path) -> None:
    """Files and datasets give the same scores, and the number that fills the corners has no part in them."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[-1:1:128j, -1:1:128j]
    truth = np.where(x**2 + y**2 < 0.5, 40.0, -1000.0) + rng.normal(0, 10, (3, 128, 128))
    outside = np.broadcast_to(x**2 + y**2 > 0.95, truth.shape)
    for quality, noise in (("HQ", 0.0), ("LQ", 30.0)):
        array = truth + rng.normal(0, 1, truth.shape) * noise
        for padding in (0, 63):
            folder = tmp_path / str(padding) / "CT" / "val" / quality / "scan"
            dicom(folder, np.where(outside, padding, array), padding=padding)
    found = []
    for padding in (0, 63):
        root = tmp_path / str(padding)
        low, high = (root / "CT" / "val" / quality / "scan" for quality in ("LQ", "HQ"))
        for config in (
            EvaluateConfig(restored=low, reference=high),
            EvaluateConfig(data=root, tasks=("ct",), baselines=()),
        ):
            ((scan,),) = (task.scans for task in evaluate(config).tasks)
            found.append((scan.methods.get("restored") or scan.methods["lq"]).mean)
    for other in found[1:]:
        assert other.psnr == pytest.approx(found[0].psnr, abs=1e-6)
        assert other.ssim == pytest.approx(found[0].ssim, abs=1e-6)


def dicom(folder, array, *, padding) -> None:
    """A CT whose header names the number, in HU, that fills its corners."""
    folder.mkdir(parents=True)
    dataset = pydicom.dcmread(str(get_testdata_file("CT_small.dcm")))
    dataset.RescaleIntercept, dataset.RescaleSlope, dataset.PixelPaddingValue = 0, 1, padding
    dataset.SeriesInstanceUID = generate_uid()
    for number, plane in enumerate(array):
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        dataset.InstanceNumber, dataset.ImagePositionPatient = number + 1, [0, 0, 5 * number]
        dataset.PixelData = plane.round().astype(np.int16).tobytes()
        dataset.save_as(folder / f"{number}.dcm")


def test_pictures_are_upright_slices(tmp_path) -> None:
    hq, out = body(0), body(0, 20.0)
    paths = {"restored": write(tmp_path / "out.nii", out), "reference": write(tmp_path / "hq.nii", hq)}
    (scan,) = evaluate(EvaluateConfig(**paths, tasks=("ct",), pictures=1, physical=False)).tasks[0].scans
    (picture,) = scan.pictures
    assert picture.index == 1
    # NIfTI's affine diag(-1, -1, 4): columns to the left, rows to the back: as radiologists look at it already
    np.testing.assert_array_equal(picture.reference, hq[1])
    np.testing.assert_array_equal(picture.images["restored"], out[1])


def test_other_shapes_and_grids_are_refused(tmp_path) -> None:
    reference = write(tmp_path / "hq.nii", body(0))
    smaller = write(tmp_path / "small.nii", body(0)[1:])
    shifted = AFFINE.copy()
    shifted[0, 3] = 5.0
    flipped = np.diag([1.0, -1.0, 4.0, 1.0])
    nudged = AFFINE.copy()
    nudged[0, 3] = 0.1
    with pytest.raises(
        GeometryError, match=r"small.nii: expected the reference's shape \(3, 24, 20\), got \(2, 24, 20\)"
    ):
        evaluate(EvaluateConfig(restored=smaller, reference=reference, tasks=("ct",)))
    for affine in (shifted, flipped):
        other = write(tmp_path / "moved.nii", body(0), affine)
        with pytest.raises(GeometryError, match=r"moved.nii: expected the reference's grid"):
            evaluate(EvaluateConfig(restored=other, reference=reference, tasks=("ct",)))
    almost = write(tmp_path / "almost.nii", body(0, 5.0), nudged)
    assert evaluate(EvaluateConfig(restored=almost, reference=reference, tasks=("ct",))).tasks


def test_folders_whose_task_cant_be_told_are_the_calls_mistake(tmp_path) -> None:
    """Not each scan's: nothing is scored, and the exit code says so."""
    for folder, noise in (("hq", 0.0), ("restored", 5.0)):
        (tmp_path / folder).mkdir()
        for number in range(2):
            write(tmp_path / folder / f"{number}.nii", body(number, noise))
    config = EvaluateConfig(restored=tmp_path / "restored", reference=tmp_path / "hq")
    with pytest.raises(UsageError, match=r"0.nii: expected a modality to tell the task by.*add --task") as caught:
        evaluate(config)
    assert caught.value.exit_code == 2


def test_what_cant_be_scored(tmp_path) -> None:
    reference = write(tmp_path / "hq.nii", body(0))
    with pytest.raises(UsageError, match=r"hq.nii: expected a modality to tell the task by.*add --task"):
        evaluate(EvaluateConfig(restored=reference, reference=reference))
    empty = write(tmp_path / "empty.nii", np.full((3, 24, 20), -1000.0))
    with pytest.raises(VolumeReadError, match="got constant ones only"):
        evaluate(EvaluateConfig(restored=reference, reference=empty, tasks=("ct",)))
    hole = body(0).astype(np.float32)
    hole[0, 0, 0] = np.nan
    np.save(tmp_path / "hole.npy", hole)
    with pytest.raises(VolumeReadError, match=r"hq \(restored\): expected restored values .* got NaN"):
        evaluate(EvaluateConfig(restored=tmp_path / "hole.npy", reference=reference, tasks=("ct",)))
    with pytest.raises(VolumeReadError, match="got nothing there"):
        evaluate(EvaluateConfig(restored=tmp_path / "none.nii", reference=reference, tasks=("ct",)))


def test_matching(tmp_path) -> None:
    hq, out = tmp_path / "hq", tmp_path / "out"
    write(hq / "a.nii.gz", body(0))
    write(out / "b_restored.nii.gz", body(0))
    matched = match_scans(hq, {"restored": out})
    assert (matched.scans, matched.unused) == ({}, ("a",))
    assert isinstance(matched.missing["b"], MissingPartnerError)
    assert str(matched.missing["b"]).startswith("b_restored.nii.gz: expected a scan of equal name in ")
    with pytest.raises(UsageError, match="got a folder as reference only"):
        match_scans(hq, {"restored": out / "b_restored.nii.gz"})
    write(hq / "b.nii.gz", body(0))
    assert match_scans(hq, {"restored": out}).scans == {
        "b": (hq / "b.nii.gz", {"restored": out / "b_restored.nii.gz"}),
    }
    write(out / "b.nii", body(0))
    with pytest.raises(UsageError, match=r"expected one scan named b, got b.nii and b_restored.nii.gz"):
        match_scans(hq, {"restored": out})


def test_zip_archives_of_dicom_match_what_was_restored_from_them(tmp_path) -> None:
    """A batch restores a folder of archives to folders of their names."""
    (tmp_path / "references" / "site").mkdir(parents=True)
    archive = tmp_path / "references" / "site" / "a.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("1.dcm", b"\0" * 128 + b"DICM")
    (tmp_path / "references" / "site" / "text.zip").write_text("no archive")
    series = tmp_path / "restored" / "site" / "a"
    series.mkdir(parents=True)
    (series / "00001.dcm").write_bytes(b"\0" * 128 + b"DICM")

    found = match_scans(tmp_path / "references", {"restored": tmp_path / "restored"})

    assert found.scans == {"site/a": (archive, {"restored": series})}
    assert not found.missing
    assert not found.unused
    assert list(match_scans(archive, {"restored": series}).scans) == ["a"]


def test_matching_in_folders_of_folders(tmp_path) -> None:
    """As tat restore leaves them: in the same tree. DICOM may lie deeper than what was made of it."""
    hq, out = tmp_path / "hq", tmp_path / "out"
    for seed, place in enumerate(("sub-1/ct", "sub-2/ct", "sub-2/late/ct")):
        write(hq / f"{place}.nii.gz", body(seed))
        write(out / f"{place}_restored.nii.gz", body(seed, 20.0))
        write(tmp_path / "mask" / f"{place}.nii.gz", np.ones((3, 24, 20)))
    (out / "sub-1" / "back").symlink_to(out)
    (out / "notes").mkdir()
    write(out / "sub-3" / "ct.nii.gz", body(7))
    write(hq / "ct.nii.gz", body(7))  # of equal name, elsewhere
    write(out / "sub-4.nii.gz", body(7))
    series = hq / "sub-4" / "study" / "series"
    series.mkdir(parents=True)
    (series / "IM1").write_bytes(bytes(128) + b"DICM")
    matched = match_scans(hq, {"restored": out})
    assert {name: truth for name, (truth, _) in matched.scans.items()} == {
        "sub-1/ct": hq / "sub-1" / "ct.nii.gz",
        "sub-2/ct": hq / "sub-2" / "ct.nii.gz",
        "sub-2/late/ct": hq / "sub-2" / "late" / "ct.nii.gz",
        "sub-4": series,
    }
    assert matched.scans["sub-2/late/ct"][1] == {"restored": out / "sub-2" / "late" / "ct_restored.nii.gz"}
    assert [str(error) for error in matched.missing.values()] == [
        f"ct.nii.gz: expected a scan of equal name in an equal folder in {hq}, found none"
    ]
    assert list(matched.missing) == ["sub-3/ct"]
    assert matched.unused == ("ct",)
    (out / "sub-4.nii.gz").unlink()
    config = EvaluateConfig(restored=out, reference=hq, tasks=("ct",), mask=tmp_path / "mask")
    (task,) = evaluate(config).tasks
    assert [scan.name for scan in task.scans] == ["sub-1/ct", "sub-2/ct", "sub-2/late/ct"]
    assert [scan.subject for scan in task.scans] == ["sub-1", "sub-2", "sub-2"]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("max_slices", 2),
        ("weights", "tat-small"),
        ("strength", 0.5),
        ("planes", 1),
        ("ensemble", True),
        ("data_consistency", False),
        ("baselines", ()),
        ("seed", 3),
        ("split", "test"),
        ("device", "cpu"),
        ("precision", "bf16"),
    ],
)
def test_what_belongs_to_a_dataset_is_refused(option, value) -> None:
    dashed = "--" + option.replace("_", "-")
    with pytest.raises(UsageError, match=rf"{dashed}: expected together with a dataset \(--data\); leave it out"):
        EvaluateConfig(restored="a", reference="b", tasks=("ct",), **{option: value})


@pytest.mark.parametrize(("option", "value"), [("input", "c"), ("compare", "c"), ("units", Units.HU)])
def test_what_belongs_to_files_is_refused(option, value) -> None:
    with pytest.raises(UsageError, match=f"--{option}: expected together with a restored scan and its --reference"):
        EvaluateConfig(data="a", **{option: value})


def test_values_that_contradict_the_task_are_refused(tmp_path) -> None:
    hu = write(tmp_path / "hu.nii", body(0) - 300)
    suv = tmp_path / "suv.nii"
    nibabel.save(nibabel.Nifti1Image(np.abs(body(1)).T.astype(np.float32) / 50, AFFINE), suv)
    for restored, reference in ((hu, hu), (hu, suv), (suv, hu)):
        with pytest.raises(UnitsError, match=r"hu.nii: expected SUVbw for pet-synthesis, got values from -"):
            evaluate(EvaluateConfig(restored=restored, reference=reference, tasks=("pet",)))
    whole = write(tmp_path / "whole.nii", np.abs(body(1)) / 20)  # whole numbers without rescale
    with pytest.raises(UnitsError, match="vouch for it with --units SUVbw"):
        evaluate(EvaluateConfig(restored=whole, reference=whole, tasks=("pet",)))
    vouched = EvaluateConfig(restored=whole, reference=whole, tasks=("pet",), units=Units.SUVBW)
    assert evaluate(vouched).tasks[0].methods[0].score.rmse == 0.0
    with pytest.raises(UnitsError, match="got HU"):
        evaluate(EvaluateConfig(restored=suv, reference=suv, tasks=("pet",), units=Units.HU))


def test_a_folder_of_dicom_files_is_one_scan(tmp_path) -> None:
    series = tmp_path / "series"
    series.mkdir()
    for name in ("1.dcm", "IM2", "3.IMA"):
        (series / name).write_bytes(b"")
    reference = write(tmp_path / "hq.nii", body(0))
    matched = match_scans(reference, {"restored": series})
    assert matched.scans == {"hq": (reference, {"restored": series})}
    assert not matched.folders


@pytest.mark.real_data
def test_the_task_comes_from_a_dicom_header(shared) -> None:
    series = shared / "data" / "dicom" / "ct_ge_abdomen"
    (task,) = evaluate(EvaluateConfig(restored=series, reference=series)).tasks
    assert task.task == "ct-denoise"
    assert task.methods[0].score.rmse == 0.0
