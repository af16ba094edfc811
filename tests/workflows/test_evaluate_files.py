"""Scoring restored files against references: pairs, folders, grids, tasks."""

from __future__ import annotations

import json

import nibabel
import numpy as np
import pytest

from tatcli.errors import GeometryError, UsageError, VolumeReadError
from tatcli.intensity import Window
from tatcli.metrics import PROTOCOLS, score_volume
from tatcli.tasks import TASKS
from tatcli.workflows.evaluate import EvaluateConfig, evaluate
from tatcli.workflows.evaluation.files import match_scans

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


def test_identical_files(tmp_path) -> None:
    path = write(tmp_path / "hq.nii.gz", body(0))
    report = evaluate(EvaluateConfig(restored=path, reference=path, input=path, tasks=("ct",)))
    assert report.tasks[0].methods[1].gain == 0.0  # two perfect matches gain nothing over each other
    assert json.loads(report.to_json())["tasks"][0]["methods"][0]["psnr"] == "inf"


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
    with pytest.raises(VolumeReadError, match=r"hole.npy: expected restored values .* got NaN"):
        evaluate(EvaluateConfig(restored=tmp_path / "hole.npy", reference=reference, tasks=("ct",)))
    with pytest.raises(VolumeReadError, match="got nothing there"):
        evaluate(EvaluateConfig(restored=tmp_path / "none.nii", reference=reference, tasks=("ct",)))


def test_matching(tmp_path) -> None:
    hq, out = tmp_path / "hq", tmp_path / "out"
    write(hq / "a.nii.gz", body(0))
    write(out / "b_restored.nii.gz", body(0))
    with pytest.raises(UsageError, match=r"b_restored.nii.gz: expected a scan of equal name in .*hq, found none"):
        match_scans(hq, {"restored": out})
    with pytest.raises(UsageError, match="got a folder as reference only"):
        match_scans(hq, {"restored": out / "b_restored.nii.gz"})
    write(hq / "b.nii.gz", body(0))
    assert match_scans(hq, {"restored": out}) == {
        "b": (hq / "b.nii.gz", {"restored": out / "b_restored.nii.gz"}),
    }
    write(out / "b.nii", body(0))
    with pytest.raises(UsageError, match=r"expected one scan named b, got b.nii and b_restored.nii.gz"):
        match_scans(hq, {"restored": out})


def test_a_folder_of_dicom_files_is_one_scan(tmp_path) -> None:
    series = tmp_path / "series"
    series.mkdir()
    for name in ("1.dcm", "IM2", "3.IMA"):
        (series / name).write_bytes(b"")
    reference = write(tmp_path / "hq.nii", body(0))
    assert match_scans(reference, {"restored": series}) == {"hq": (reference, {"restored": series})}


@pytest.mark.real_data
def test_the_task_comes_from_a_dicom_header(shared) -> None:
    series = shared / "data" / "dicom" / "ct_ge_abdomen"
    (task,) = evaluate(EvaluateConfig(restored=series, reference=series)).tasks
    assert task.task == "ct-denoise"
    assert task.methods[0].score.rmse == 0.0
