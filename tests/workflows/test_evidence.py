"""Maps and preview of a restoration, as files, and what data consistency does to them."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK
from PIL import Image
from pydicom.data import get_testdata_file
from pydicom.uid import generate_uid
from torch import nn

from tatcli.degradation.low_resolution_mri import low_resolution
from tatcli.errors import GeometryError, OutputError, UsageError
from tatcli.inference import RestoreOptions, Restorer
from tatcli.intensity import Units
from tatcli.model.config import PRESETS
from tatcli.model.weights import card_for_tasks
from tatcli.tasks import TASKS
from tatcli.volumes import Geometry, Provenance, Volume, read_volume
from tatcli.workflows.evidence import EvidenceConfig, RestoredScan, _shown
from tatcli.workflows.restore import RestoreConfig, restore


class Darker(nn.Module):
    """Takes a tenth of the range off the left half: 10 % of 4096 HU."""

    def forward(self, x):
        y = x.clone()
        y[..., : x.shape[3] // 2] -= 0.1
        return y


@pytest.fixture(scope="module")
def darker():
    return Restorer.from_network(Darker(), card_for_tasks("darker", PRESETS["tat-small"]), device="cpu")


@pytest.fixture
def ct(tmp_path):
    """Columns run to the patient's left, so that the picture's left is the array's."""
    array = np.random.default_rng(0).integers(-100, 200, (20, 16, 5)).astype(np.int16)
    nib.Nifti1Image(array, np.diag([-1.0, -1.0, 3.0, 1.0])).to_filename(tmp_path / "ct.nii")
    return tmp_path / "ct.nii"


def write_ct_series(folder, heights) -> None:
    """CT slices at these heights (mm), all of the same voxels."""
    folder.mkdir()
    dataset = pydicom.dcmread(str(get_testdata_file("CT_small.dcm")))
    for number, height in enumerate(heights):
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        dataset.InstanceNumber, dataset.SliceLocation = number + 1, height
        dataset.ImagePositionPatient = [-158.0, -179.0, height]
        dataset.save_as(folder / f"{number}.dcm")


def test_maps_lie_on_the_scans_grid(darker, ct, tmp_path) -> None:
    evidence = EvidenceConfig(
        uncertainty=tmp_path / "spread.nii.gz", residual=tmp_path / "residual.nrrd", preview=tmp_path / "panel.png"
    )
    config = RestoreConfig(
        input=ct, task="ct", output=tmp_path / "out.nii", evidence=evidence, report=tmp_path / "run.json"
    )
    report = restore(config, restorer=darker)
    source, out = read_volume(ct), read_volume(tmp_path / "out.nii")
    residual, spread = read_volume(tmp_path / "residual.nrrd"), read_volume(tmp_path / "spread.nii.gz")
    np.testing.assert_allclose(residual.array[..., :10], -409.6, atol=1e-2)
    np.testing.assert_allclose(residual.array[..., 10:], 0.0, atol=1e-3)
    np.testing.assert_array_equal(np.rint(source.array + residual.array), out.array)  # the output is int16
    for made in (residual, spread):
        np.testing.assert_allclose(made.geometry.affine, source.geometry.affine, atol=1e-5)
        assert made.provenance.dtype == np.float32
    # darkened in half of the eight views wherever a voxel is: columns 4 of 4 + rows 2 of 4, or 0 + 2, or ...
    lower = (np.arange(16) < 8).astype(float)[:, None]
    left = (np.arange(20) < 10).astype(float)[None, :]
    masks = [left + 0 * lower, 1 - left + 0 * lower, lower + 0 * left, 1 - lower + 0 * left] * 2
    np.testing.assert_allclose(spread.array[2], 409.6 * np.std(masks, axis=0, ddof=1), atol=0.1)
    told = json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))
    assert told["evidence"]["--residual"] == str(tmp_path / "residual.nrrd")
    assert told["evidence"]["uncertainty_mean"] == pytest.approx(float(spread.array.mean()), rel=1e-3)
    assert report.seconds["evidence"] > 0


def test_infinite_voxels_have_no_spread_and_no_change(darker, tmp_path) -> None:
    """Without a word of NumPy's: infinity less infinity is expected here."""
    array = np.random.default_rng(0).uniform(-500.0, 500.0, (3, 16, 20)).astype(np.float32)
    array[1, 4:6, 4:6], array[1, 9, 9] = np.inf, -np.inf
    nib.Nifti1Image(array.T, np.diag([-1.0, -1.0, 4.0, 1.0])).to_filename(tmp_path / "in.nii")
    maps = {"residual": tmp_path / "residual.nii", "uncertainty": tmp_path / "spread.nii"}
    evidence = EvidenceConfig(**maps, preview=tmp_path / "panel.png")
    report = restore(RestoreConfig(input=tmp_path / "in.nii", task="ct", evidence=evidence), restorer=darker)
    assert (report.before.nonfinite, report.after.nonfinite) == (5, 5)
    assert report.before.mean == pytest.approx(array[np.isfinite(array)].mean(dtype=np.float64))
    for path in maps.values():
        np.testing.assert_array_equal(np.isfinite(read_volume(path).array), np.isfinite(array))


def test_the_preview(darker, ct, tmp_path) -> None:
    """Three pictures: input, restored with its left half dark, the difference black there and grey elsewhere.

    Below the A at the upper edge, and right of the R in the left half.
    """
    config = RestoreConfig(input=ct, task="ct", evidence=EvidenceConfig(preview=tmp_path / "panel.png"))
    restore(config, restorer=darker)
    sheet = np.asarray(Image.open(tmp_path / "panel.png"))
    width = round(512 * 20 / 16)
    top = sheet.shape[0] - 8 - 512
    before, after = (sheet[top : top + 512, start : start + width] for start in (8, 16 + width))
    difference = sheet[top : top + 512, 24 + 2 * width + 8 :][:, :width]
    assert before[:, : width // 2 - 20].mean() > 60
    assert after[:, 40 : width // 2 - 80].max() == 0  # below -160 HU
    assert after[240:272, :40].max() == 255  # the R
    np.testing.assert_array_equal(after[:, width // 2 + 80 :], before[:, width // 2 + 80 :])
    assert difference[:, 40 : width // 2 - 80].max() == 0
    assert set(np.unique(difference[:, width // 2 + 80 : width - 1])) <= {127, 128}


def test_holes_are_no_difference_in_the_preview(darker, ct, tmp_path) -> None:
    """They were black there, as tissue that lost a quarter of the window."""
    image = nib.load(ct)
    array = image.get_fdata().astype(np.float32)
    array[10:] = np.nan  # (the picture's right half)
    nib.Nifti1Image(array, image.affine).to_filename(tmp_path / "holes.nii")
    evidence = EvidenceConfig(preview=tmp_path / "panel.png")
    restore(RestoreConfig(input=tmp_path / "holes.nii", task="ct", evidence=evidence), restorer=darker)
    sheet = np.asarray(Image.open(tmp_path / "panel.png"))
    width = round(512 * 20 / 16)
    difference = sheet[-520:-8, 24 + 2 * width + 8 :][:, :width]
    assert difference[:, 40 : width // 2 - 80].max() == 0
    assert set(np.unique(difference[:, width // 2 + 80 : width - 1])) <= {127, 128}


def test_the_preview_of_an_array_claims_no_sides(darker, tmp_path) -> None:
    """Nobody knows where the patient's right lies in it."""
    array = np.full((3, 20, 16), 40.0, dtype=np.float32)
    array[0, :10] = 90.0
    np.save(tmp_path / "slices.npy", array)
    evidence = EvidenceConfig(preview=tmp_path / "panel.png")
    restore(RestoreConfig(input=tmp_path / "slices.npy", task="ct", units="HU", evidence=evidence), restorer=darker)
    sheet = np.asarray(Image.open(tmp_path / "panel.png"))
    assert len(np.unique(sheet[sheet.shape[0] - 8 - 512 :][:512, 8 : 8 + round(512 * 16 / 20)])) == 1  # no letter


def test_whether_a_file_says_how_the_patient_lies(ct, tmp_path) -> None:
    array = np.zeros((4, 4, 2), dtype=np.int16)
    image = nib.Nifti1Image(array, None)
    image.header["sform_code"] = image.header["qform_code"] = 0
    nib.save(image, tmp_path / "a.nii")
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(array), tmp_path / "a.nrrd")
    content = (tmp_path / "a.nrrd").read_bytes()
    (tmp_path / "b.nrrd").write_bytes(content.replace(b"space: left-posterior-superior", b"space: scanner-xyz"))
    np.save(tmp_path / "c.npy", array)
    dataset = pydicom.dcmread(str(get_testdata_file("CT_small.dcm")))
    dataset.save_as(tmp_path / "d.nd.dcm")
    del dataset.ImagePositionPatient
    dataset.save_as(tmp_path / "e.nd.dcm")
    known = [read_volume(path).provenance.oriented for path in (ct, *sorted(tmp_path.glob("?.n*")))]
    assert known == [True, False, True, False, False, True, False]


def test_maps_of_frames_keep_their_step(tmp_path, darker) -> None:
    made = SimpleITK.GetImageFromArray(np.arange(384, dtype=np.int16).reshape(2, 3, 8, 8), isVector=False)
    made.SetSpacing((1.0, 1.0, 3.0, 2.5))
    SimpleITK.WriteImage(made, tmp_path / "in.nrrd")
    maps = {"residual": tmp_path / "residual.nrrd", "uncertainty": tmp_path / "spread.nii"}
    restore(RestoreConfig(input=tmp_path / "in.nrrd", task="ct", evidence=EvidenceConfig(**maps)), restorer=darker)
    assert SimpleITK.ReadImage(maps["residual"]).GetSpacing() == (1.0, 1.0, 3.0, 2.5)
    assert nib.load(maps["uncertainty"]).header["pixdim"][4] == 2.5


def test_a_refined_grid(tmp_path, darker) -> None:
    array = np.random.default_rng(0).gamma(2.0, 100.0, (16, 12, 3)).astype(np.float32)
    nib.Nifti1Image(array, np.diag([-1.0, -1.0, 3.0, 1.0])).to_filename(tmp_path / "mri.nii")
    evidence = EvidenceConfig(residual=tmp_path / "residual.nii")
    options = RestoreOptions(scale=2)
    restore(RestoreConfig(input=tmp_path / "mri.nii", task="mri", options=options, evidence=evidence), restorer=darker)
    residual, out = read_volume(tmp_path / "residual.nii"), read_volume(tmp_path / "mri_restored.nii")
    assert residual.array.shape == out.array.shape == (3, 24, 32)
    # DC is measured; without that, half of the voxels are darker by a tenth of the range
    darkened = 0.05 * float(np.percentile(read_volume(tmp_path / "mri.nii").array, 99.5))
    assert abs(float(residual.array.mean())) < 0.2 * darkened
    assert float(np.abs(residual.array).max()) > 1.0


def test_a_refined_grid_is_compared_without_its_padding() -> None:
    """What fills the corners would ring into the body, where the restoration saw none of it."""
    y, x = np.mgrid[-1:1:40j, -1:1:40j]
    array = np.where(x**2 + y**2 < 0.9, np.random.default_rng(0).uniform(0, 500, (3, 40, 40)), 63000.0)
    geometry = Geometry.from_spacing((4.0, 1.0, 1.0), (3, 40, 40))
    volume = Volume(array.astype(np.float32), geometry, Units.ARBITRARY, Provenance(padding=((63000.0, 63000.0),)))
    task, options = TASKS["mri-sr"], RestoreOptions(scale=2, data_consistency=False, check_values=False)
    same = Restorer.from_network(nn.Identity(), card_for_tasks("same", PRESETS["tat-small"]), device="cpu")
    restored = same(volume, task, options=options)
    done = RestoredScan(volume=volume, restored=restored, task=task, restorer=same, options=options)
    _, before = _shown(done)
    np.testing.assert_allclose(before.array, restored.array, atol=1e-2)
    assert (before.array == 63000.0).sum() == 4 * (array == 63000.0).sum()


def test_data_consistency_by_spectrum_and_factor(tmp_path, darker) -> None:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[-1:1:96j, -1:1:96j]
    head = np.where(x**2 + y**2 < 0.6, 500.0, 0.0) + rng.normal(100, 20, (2, 96, 96))
    lq = low_resolution(head.astype(np.float32), 3.0)
    nib.Nifti1Image(lq.T, np.diag([-1.0, -1.0, 4.0, 1.0])).to_filename(tmp_path / "lq.nii")
    reports = {}
    for name, options in {
        "spectrum": RestoreOptions(),
        "factor": RestoreOptions(kspace_factor=3.0),
        "none": RestoreOptions(data_consistency=False),
    }.items():
        for suffix in (".nii", ".mha"):  # plane by plane, and as a whole
            output = tmp_path / f"{name}{suffix}"
            reports[output.name] = restore(
                RestoreConfig(input=tmp_path / "lq.nii", output=output, task="mri", options=options), restorer=darker
            )
    out = {name: read_volume(tmp_path / name).array for name in reports}
    for name in ("spectrum.nii", "spectrum.mha", "factor.nii", "factor.mha"):
        assert "measured k-space put back: lines -16 to 15 x -16 to 15" in reports[name].steps[-1]
        np.testing.assert_allclose(out[name], out["spectrum.nii"], atol=1e-3)
        assert out[name].mean() == pytest.approx(float(lq.mean()), rel=1e-3)
    for name in ("none.nii", "none.mha"):
        assert "restored" in reports[name].steps[-1]
        assert out[name].mean() < 0.95 * float(lq.mean())


def test_an_empty_first_frame_hides_no_spectrum(tmp_path, darker) -> None:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[-1:1:96j, -1:1:96j]
    head = np.where(x**2 + y**2 < 0.6, 500.0, 0.0) + rng.normal(100, 20, (2, 96, 96))
    lq = low_resolution(head.astype(np.float32), 3.0)
    out = {}
    for first, frames in {"empty": (0.0 * lq, lq), "full": (lq, 0.0 * lq)}.items():
        path = tmp_path / f"{first}.nii"
        nib.Nifti1Image(np.stack(frames).T, np.diag([-1.0, -1.0, 4.0, 1.0])).to_filename(path)
        for suffix, options in ((".nii", {}), (".mha", {"residual": tmp_path / f"{first}_r.nii"})):  # by planes; whole
            output = tmp_path / f"{first}_out{suffix}"
            report = restore(
                RestoreConfig(input=path, output=output, task="mri", evidence=EvidenceConfig(**options)),
                restorer=darker,
            )
            assert "measured k-space put back: lines -16 to 15 x -16 to 15" in report.steps[-1]
            assert not any("not empty outside" in warning for warning in report.warnings)
            out[first + suffix] = read_volume(output).array
    for suffix in (".nii", ".mha"):
        np.testing.assert_array_equal(out["empty" + suffix][::-1], out["full" + suffix])
        assert out["full" + suffix][0].mean() == pytest.approx(float(lq.mean()), rel=1e-3)


def test_what_is_refused_before_the_work(darker, ct, tmp_path) -> None:
    def refuse(error, match, **options) -> None:
        with pytest.raises(error, match=match):
            restore(RestoreConfig(input=ct, task="ct", evidence=EvidenceConfig(**options)), restorer=darker)
        assert [path.name for path in tmp_path.iterdir()] == ["ct.nii"]

    refuse(UsageError, r"--preview panel.jpg: expected a name ending in .png", preview=tmp_path / "panel.jpg")
    refuse(UsageError, "an output ending in", residual=tmp_path / "map.txt")
    for name in ("folder", "map.dcm"):
        refuse(UsageError, "--residual .*expected a map in NIfTI, NRRD or MetaImage", residual=tmp_path / name)
        refuse(UsageError, "--uncertainty .*got a name for DICOM; name it", uncertainty=tmp_path / name)
    refuse(OutputError, "got a name that is used twice", residual=tmp_path / "a.nii", uncertainty=tmp_path / "a.nii")
    refuse(OutputError, "got a name that is used twice", residual=tmp_path / "ct_restored.nii")
    for options in (RestoreOptions(data_consistency=True), RestoreOptions(kspace_factor=2.0)):
        for output in ("out.nii", "out.mha"):
            with pytest.raises(UsageError, match="expected only with mri-sr, got ct-denoise"):
                restore(RestoreConfig(input=ct, task="ct", output=tmp_path / output, options=options), restorer=darker)
    assert [path.name for path in tmp_path.iterdir()] == ["ct.nii"]


def test_maps_of_uneven_slices_are_refused_before_the_work(tmp_path) -> None:
    """Their files hold one step between slices; a picture of one slice needs none."""
    write_ct_series(tmp_path / "ct", (0.0, 2.0, 27.0, 29.0))

    def asked(**evidence) -> RestoreConfig:
        return RestoreConfig(input=tmp_path / "ct", output=tmp_path / "out", evidence=EvidenceConfig(**evidence))

    for option in ("residual", "uncertainty"):
        with pytest.raises(GeometryError, match=f"ct: expected evenly spaced slices for --{option}, got uneven"):
            restore(asked(**{option: tmp_path / "map.nii.gz"}))
        assert [path.name for path in tmp_path.iterdir()] == ["ct"]
    identity = Restorer.from_network(nn.Identity(), card_for_tasks("same", PRESETS["tat-small"]), device="cpu")
    restore(asked(preview=tmp_path / "panel.png"), restorer=identity)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ct", "out", "panel.png"]


def test_warnings_of_the_domain_come_along(darker, tmp_path) -> None:
    array = np.random.default_rng(0).integers(-100, 200, (20, 16, 5)).astype(np.int16)
    array[:4] = 6000
    nib.Nifti1Image(array, np.diag([-1.0, -1.0, 3.0, 1.0])).to_filename(tmp_path / "metal.nii")
    report = restore(RestoreConfig(input=tmp_path / "metal.nii", task="ct"), restorer=darker)
    (warning,) = report.warnings
    assert "lie above 3072 HU, where darker's range ends" in warning
