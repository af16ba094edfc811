"""The restore workflow with a network that changes nothing: files come back voxel by voxel."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from torch import nn

from tatcli.errors import DeviceError, UsageError
from tatcli.inference import RestoreOptions, Restorer
from tatcli.model.config import PRESETS
from tatcli.model.weights import card_for_tasks
from tatcli.volumes import read_volume
from tatcli.volumes.formats import format_of
from tatcli.workflows.restore import RestoreConfig, default_output, restore
from tatcli.workflows.simulate import SimulateConfig, simulate_scan
from tatcli.workflows.task_choice import task_of


class Identity(nn.Module):
    def forward(self, x):
        return x.clone()


@pytest.fixture(scope="module")
def identity():
    card = card_for_tasks("identity", PRESETS["tat-small"])
    return Restorer.from_network(Identity(), card, device="cpu", precision="fp32")


@pytest.mark.parametrize("extension", [".nii", ".nii.gz", ".nrrd", ".mha"])
@pytest.mark.parametrize("options", [RestoreOptions(), RestoreOptions(mode="patch", tile=32)], ids=["slice", "patch"])
def test_an_identity_network_gives_back_the_file(identity, tmp_path, extension, options):
    from tatcli.volumes import write_volume

    rng = np.random.default_rng(0)
    source = nib.Nifti1Image(rng.integers(-1024, 3072, (40, 36, 3)).astype(np.int16), np.diag([-0.5, 0.5, -2.0, 1.0]))
    source.to_filename(tmp_path / "made.nii")
    scan = tmp_path / f"scan{extension}"
    write_volume(read_volume(tmp_path / "made.nii"), scan)
    report = restore(RestoreConfig(input=scan, task="ct", options=options), restorer=identity)
    output = tmp_path / f"scan_restored{extension}"
    assert report.output.path == str(output)
    before, after = read_volume(scan), read_volume(output)
    np.testing.assert_array_equal(after.array, before.array)
    np.testing.assert_allclose(after.geometry.affine, before.geometry.affine, atol=1e-6)
    assert after.provenance.dtype == np.int16
    assert report.change.fraction == 0.0
    assert report.before == report.after


def test_rescaled_and_dynamic_files_too(identity, tmp_path):
    rng = np.random.default_rng(0)
    image = nib.Nifti1Image(np.zeros((12, 10, 3, 2), np.int16), np.eye(4))
    image.header.set_slope_inter(0.0123, -3.0)
    raw = rng.integers(300, 30000, image.shape).astype(np.int16)
    with (tmp_path / "pet.nii").open("wb") as stream:
        header = image.header.copy()
        header["scl_slope"], header["scl_inter"], header["vox_offset"], header["magic"] = 0.0123, -3.0, 352, b"n+1"
        stream.write(header.structarr.tobytes() + bytes(4) + raw.tobytes(order="F"))
    report = restore(RestoreConfig(input=tmp_path / "pet.nii", task="mri"), restorer=identity)
    assert report.scan.shape == (2, 3, 10, 12)
    assert (tmp_path / "pet_restored.nii").read_bytes() == (tmp_path / "pet.nii").read_bytes()


def test_the_caller_hears_of_progress_and_gets_json(identity, tmp_path):
    nib.Nifti1Image(np.random.default_rng(0).random((9, 8, 4)).astype(np.float32), np.eye(4)).to_filename(
        tmp_path / "mr.nii"
    )
    seen = []
    config = RestoreConfig(input=tmp_path / "mr.nii", task="mri", output=tmp_path / "out.nii")
    report = restore(config, restorer=identity, progress=lambda *state: seen.append(state))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    told = json.loads(report.to_json())
    assert told["steps"] == ["restored: mri-sr, weights identity, fp32 on cpu"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mr.nii", "out.nii"]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"ensemble": True}, ", the mean of 8 views"),
        ({"axis": "sagittal"}, ", sagittal slices"),
        ({"mode": "patch", "tile": 32}, ", tiles of 32 pixels that overlap by 8"),
        (
            {"mode": "patch", "tile": 32, "overlap": 2, "ensemble": True},
            ", tiles of 32 pixels that overlap by 2, the mean of 8 views",
        ),
        ({"batch": 2}, ""),
    ],
)
@pytest.mark.parametrize("extension", [".nii", ".npy"])  # slab by slab, and as a whole
def test_what_decides_the_values_is_in_their_history(identity, tmp_path, extension, options, told):
    """Reproducible UIDs of DICOM follow from it."""
    array = np.random.default_rng(0).integers(100, 900, (48, 40, 36)).astype(np.int16)
    path = tmp_path / f"mr{extension}"
    if extension == ".npy":
        np.save(path, array)
    else:
        nib.Nifti1Image(array, np.eye(4)).to_filename(path)
    report = restore(RestoreConfig(input=path, task="mri", options=RestoreOptions(**options)), restorer=identity)
    assert report.steps == (f"restored: mri-sr, weights identity, fp32 on cpu{told}",)


def test_the_report_tells_an_output_by_all_its_files(tmp_path, identity):
    array = np.random.default_rng(0).integers(100, 900, (24, 20, 3)).astype(np.int16)
    hashes = []
    for name, values in (("a", array), ("b", array + 1)):
        nib.Nifti1Image(values, np.eye(4)).to_filename(tmp_path / f"{name}.nii")
        config = RestoreConfig(input=tmp_path / f"{name}.nii", output=tmp_path / f"{name}" / "out.mhd", task="mri")
        config.output.parent.mkdir()
        record = restore(config, restorer=identity).output
        assert (record.files, record.bytes) == (2, sum(path.stat().st_size for path in config.output.parent.iterdir()))
        hashes.append(record.sha256)
    assert hashes[0] != hashes[1]  # whose headers are the same


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.nii.gz", "a_restored.nii.gz"),
        ("a.b.NII.GZ", "a.b_restored.NII.GZ"),
        ("a.nii", "a_restored.nii"),
        ("a.mhd", "a_restored.mhd"),
    ],
)
def test_the_default_output_keeps_name_and_format(tmp_path, name, expected):
    assert default_output(tmp_path / name, format_of(tmp_path / name)) == tmp_path / expected


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        ("series.1/", "dicom", "series.1_restored"),
        ("series.1/", "nifti", "series.1_restored.nii.gz"),
        ("study.zip", "dicom", "study_restored"),
        ("study.zip", "metaimage", "study_restored.mha"),
        ("a.dcm", "dicom", "a_restored.dcm"),
        ("a.IMA", "dicom", "a_restored.dcm"),
        ("a.dcm", "nrrd", "a_restored.nrrd"),
        ("1.2.840.113619", "dicom", "1.2.840.113619_restored.dcm"),
        ("a.nrrd", "nifti", "a_restored.nii.gz"),
    ],
)
def test_the_default_output_of_other_formats(tmp_path, name, kind, expected):
    path = tmp_path / name.rstrip("/")
    if name.endswith("/"):
        path.mkdir()
    elif name.endswith(".zip"):
        zipfile.ZipFile(path, "w").close()
    else:
        path.write_bytes(b"DICM")
    assert default_output(path, kind) == tmp_path / expected


def test_the_modality_gives_the_task():
    assert task_of("PT", "x").name == "pet-synthesis"
    with pytest.raises(UsageError, match="x: expected CT, PT or MR to choose the task by, got modality US"):
        task_of("US", "x")


@pytest.mark.real_data
def test_a_real_dicom_series_keeps_its_voxels(identity, shared, tmp_path):
    series = shared / "data" / "dicom" / "ct_ge_abdomen"
    out = tmp_path / "ct.nii.gz"
    report = restore(RestoreConfig(input=series, output=out), restorer=identity)
    assert report.task == "ct-denoise"
    before, after = read_volume(series), read_volume(out)
    np.testing.assert_array_equal(after.array, before.array)
    np.testing.assert_allclose(after.geometry.affine, before.geometry.affine, atol=1e-4)
    assert after.provenance.dtype == np.int16


class Smearing(nn.Module):
    """Every row of a slice becomes its mean."""

    def forward(self, x):
        return x.mean(dim=3, keepdim=True).expand_as(x).clone()


def test_pet_is_restored_in_three_planes_whatever_the_format(tmp_path, monkeypatch) -> None:
    restorer = Restorer.from_network(Smearing(), card_for_tasks("smearing", PRESETS["tat-small"]), device="cpu")
    array = np.random.default_rng(0).gamma(2.0, 2.0, (20, 24, 28)).astype(np.float32).clip(0.0, 20.0)
    nib.Nifti1Image(array.T, np.diag([-4.0, -4.0, 3.0, 1.0])).to_filename(tmp_path / "pet.nii")
    wanted = (2 * array.mean(2, keepdims=True) + array.mean(1, keepdims=True)) / 3
    for name in ("a.nii", "b.nii.gz", "c.mha"):
        done = restore(RestoreConfig(input=tmp_path / "pet.nii", output=tmp_path / name, task="pet"), restorer=restorer)
        assert "in 3 planes" in done.steps[-1]
        assert done.memory.scan == "whole"
        np.testing.assert_allclose(read_volume(tmp_path / name).array, wanted, atol=1e-3)
    alone = RestoreConfig(
        input=tmp_path / "pet.nii", output=tmp_path / "d.nii", task="pet", options=RestoreOptions(planes=1)
    )
    assert "planes" not in restore(alone, restorer=restorer).steps[-1]
    within = np.broadcast_to(array.mean(2, keepdims=True), array.shape)
    np.testing.assert_allclose(read_volume(tmp_path / "d.nii").array, within, atol=1e-3)

    def no_room(*_, **__) -> None:
        msg = "expected to stay within"
        raise DeviceError(msg)

    monkeypatch.setattr("tatcli.workflows.restoring.whole.check_room", no_room)
    tight = RestoreConfig(input=tmp_path / "pet.nii", output=tmp_path / "e.nii", task="pet")
    done = restore(tight, restorer=restorer)
    np.testing.assert_allclose(read_volume(tmp_path / "e.nii").array, within, atol=1e-3)
    assert any("in the plane of its slices alone" in warning for warning in done.warnings)
    monkeypatch.undo()
    monkeypatch.setattr("tatcli.workflows.restoring.whole._fitted", no_room)  # what the files' sizes didn't tell
    done = restore(replace(tight, output=tmp_path / "g.nii"), restorer=restorer)
    np.testing.assert_allclose(read_volume(tmp_path / "g.nii").array, within, atol=1e-3)
    assert any("in the plane of its slices alone" in warning for warning in done.warnings)
    asked = replace(tight, output=tmp_path / "f.nii", options=RestoreOptions(planes=2))
    with pytest.raises(DeviceError, match="expected to stay within"):
        restore(asked, restorer=restorer)
    assert not (tmp_path / "f.nii").exists()


class Brighter(nn.Module):
    def forward(self, x):
        return x * 1.1


@pytest.mark.parametrize(
    ("name", "dtype", "slope", "greatest", "told"),
    [
        ("a.nii", np.uint8, 1.0, 255.0, "255 is the most that uint8 holds"),
        ("a.mha", np.uint8, 1.0, 255.0, "255 is the most that uint8 holds"),
        ("a.npy", np.uint8, 1.0, 255.0, "255 is the most that uint8 holds"),
        ("a.nii.gz", np.int16, 0.01, 327.67, "327.67 is the most that int16 holds"),
        ("a.nii", np.int16, 1.0, 255.0, None),
        ("a.nii", np.float32, 1.0, 255.0, None),
    ],
)
def test_what_the_voxel_type_cannot_hold_is_told(tmp_path, name, dtype, slope, greatest, told):
    array = np.linspace(0, greatest / slope, 16 * 16 * 2).reshape(16, 16, 2).astype(dtype)
    if name == "a.npy":
        np.save(tmp_path / name, array)
    elif name == "a.mha":
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(array), tmp_path / name)
    else:
        image = nib.Nifti1Image(array, np.eye(4))
        image.header.set_slope_inter(slope, 0.0)
        image.to_filename(tmp_path / name)
    card = card_for_tasks("brighter", PRESETS["tat-small"])
    brighter = Restorer.from_network(Brighter(), card, device="cpu", precision="fp32")
    options = RestoreOptions(data_consistency=False)
    report = restore(RestoreConfig(input=tmp_path / name, task="mri", options=options), restorer=brighter)
    found = [warning for warning in report.warnings if "restored values reach" in warning]
    greatest_written = float(read_volume(report.output.path).array.max())
    if told is None:
        assert found == []
        assert greatest_written == pytest.approx(report.after.maximum, abs=0.5)
        return
    most = f"{report.after.maximum:.6g}"
    rest = "and is stored for what lies beyond; convert the input to float32 to keep it"
    assert found == [f"restored values reach {most}, {told} {rest}"]
    assert greatest_written == pytest.approx(greatest)
    assert report.after.maximum > 1.05 * greatest


def test_what_the_voxel_type_cannot_hold_is_told_of_simulations(tmp_path):
    array = np.zeros((32, 32, 2), np.uint8)
    array[10:20, 10:20] = 255
    nib.Nifti1Image(array, np.eye(4)).to_filename(tmp_path / "a.nii")
    nib.Nifti1Image(array.astype(np.int16), np.eye(4)).to_filename(tmp_path / "b.nii")
    found = {}
    for name in ("a", "b"):
        config = SimulateConfig(input=tmp_path / f"{name}.nii", output=tmp_path / f"{name}_low.nii", task="mri")
        found[name] = simulate_scan(config).warnings
    most = read_volume(tmp_path / "b_low.nii").array.max()
    assert read_volume(tmp_path / "a_low.nii").array.max() == 255 < most
    (told,) = found["a"]
    assert float(told.partition("simulated values reach ")[2].partition(",")[0]) == pytest.approx(most, abs=0.5)
    assert "255 is the most that uint8 holds" in told
    assert found["b"] == ()
