"""DICOM in, DICOM out, with a network that changes nothing: every real folder is restored or refused for a true reason.

The written series is read back by pydicom, SimpleITK, dcm2niix and dcmtk, and validated by dciodvfy.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK
from torch import nn

from tatcli.errors import TatError
from tatcli.inference import Restorer
from tatcli.model.config import PRESETS
from tatcli.model.weights import card_for_tasks
from tatcli.volumes import list_series, read_volume, write_volume
from tatcli.volumes.dicom import find_scan
from tatcli.volumes.dicom_options import DicomOptions
from tatcli.workflows.restore import RestoreConfig, restore

pytestmark = [pytest.mark.real_data, pytest.mark.slow]


class Identity(nn.Module):
    def forward(self, x):
        return x.clone()


@pytest.fixture(scope="module")
def identity():
    return Restorer.from_network(Identity(), card_for_tasks("identity", PRESETS["tat-small"]), device="cpu")


@pytest.fixture(scope="module")
def dicom(shared, tmp_path_factory):
    """The folders of real files; of the whole-body PET a stack of neighbouring slices."""
    root = tmp_path_factory.mktemp("dicom")
    for folder in (shared / "data" / "dicom").iterdir():
        if folder.name != PET:
            (root / folder.name).symlink_to(folder, target_is_directory=True)
    (root / PET).mkdir()
    for path in sorted((shared / "data" / "dicom" / PET).iterdir())[40:60]:
        (root / PET / path.name).symlink_to(path)
    return root


def tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"needs {name}")
    return found


FILES = ("ct_15_transfer_syntaxes", "ct_wg04_transfer_syntaxes", "mr_9_transfer_syntaxes", "single_files")
"""Folders of files that don't belong together: restored one by one."""
PET = "pet_ge_jpegls_bqml"
NO_POSITIONS = "expected a position for each of its 10 frames, got none"
TABLE = {
    # folder or file, then :part -> the number of derived objects, or why there is none
    "ct_ge_abdomen": 12,
    "ct_ge_gantry_tilt_variable_spacing": 28,
    "ct_jpeg2000": 20,
    "mr_ge_oblique_signed16": 16,
    "mr_implicit_vr_oblique": 20,
    "mr_philips_enhanced_mixed_content:FIELD_MAP": "expected MR magnitudes for mri-sr, got a map (ImageType FIELD_MAP)",
    "mr_philips_enhanced_mixed_content:M": 1,
    "mr_philips_rawdata_without_pixels": 1,
    "mr_philips_slope2.36": 24,
    "mr_siemens_enhanced_4d": 4,
    "mr_siemens_enhanced_multiframe": 1,
    "mr_siemens_mosaic": 2,
    "mr_siemens_multiecho_one_series:TE20": 3,
    "mr_siemens_multiecho_one_series:TE40": 2,
    "mr_siemens_multiecho_one_series:TE60": 2,
    "mr_siemens_phase_slope2_intercept-4096": "expected MR magnitudes for mri-sr, got phases (ImageType P)",
    "mr_siemens_two_echoes:TE4.92": 18,
    "mr_siemens_two_echoes:TE7.38": 18,
    "oblique": 3,
    PET: 20,
    "single_files/693_J2KI.dcm": 1,
    "single_files/CT_small.dcm": 1,
    "single_files/ExplVR_BigEnd.dcm": "expected greyscale pixels, got RGB",
    "single_files/JPEG2000.dcm": "expected CT, PT or MR to choose the task by, got modality NM",
    "single_files/MR_small_bigendian.dcm": 1,
    "single_files/eCT_Supplemental.dcm": 1,
    "single_files/emri_small.dcm": NO_POSITIONS,
    "single_files/emri_small_RLE.dcm": NO_POSITIONS,
    "single_files/emri_small_big_endian.dcm": NO_POSITIONS,
    "single_files/emri_small_jpeg_2k_lossless.dcm": NO_POSITIONS,
    "single_files/emri_small_jpeg_ls_lossless.dcm": NO_POSITIONS,
    "single_files/no_meta.dcm": "expected a DICOM file, got something else",
}
"""The files of the folders with the same slice in many transfer syntaxes are all restored."""


def scans(dicom: Path) -> dict[str, tuple[Path, str | None]]:
    """Name -> input and series of everything that can be asked to be restored."""
    found = {}
    for folder in sorted(dicom.iterdir()):
        if folder.name in FILES:
            found |= {f"{folder.name}/{path.name}": (path, None) for path in sorted(folder.iterdir())}
            continue
        for info in list_series(folder):
            name = f"{folder.name}:{info.part}" if info.part else folder.name
            found[name] = (folder, f"{info.uid}:{info.part}" if info.part else info.uid)
    return found


@pytest.fixture(scope="module")
def outputs(dicom, identity, tmp_path_factory):
    """Name -> (input, series, output folder or the refusal) of everything, restored once."""
    root = tmp_path_factory.mktemp("restored")
    found = {}
    for name, (path, series) in scans(dicom).items():
        target = root / name.replace("/", "_").replace(":", "_").replace(".", "_")
        config = RestoreConfig(
            input=path, series=series, output=target, format="dicom", dicom=DicomOptions(reproducible=True)
        )
        try:
            restore(config, restorer=identity)
        except TatError as error:
            assert not target.exists()
            found[name] = (path, series, str(error))
        else:
            found[name] = (path, series, target)
    return found


def test_the_table(outputs, dicom):
    """What is restored, and why the rest isn't."""
    assert {name.split("/")[0].split(":")[0] for name in outputs} == {path.name for path in dicom.iterdir()}
    for name, (_, _, result) in outputs.items():
        expected = TABLE.get(name, 1 if name.split("/")[0] in FILES[:3] else None)
        if isinstance(expected, int):
            assert isinstance(result, Path), (name, result)
            assert len(list(result.iterdir())) == expected, name
        else:
            assert isinstance(result, str), name
            assert expected in result, (name, result)
    assert set(TABLE) <= set(outputs)


def restored(outputs):
    return {name: found for name, found in outputs.items() if isinstance(found[2], Path)}


def test_voxels_and_places_come_back(outputs):
    """Exact to the bit: HU, arbitrary units and, through Bq/ml, SUV."""
    for name, (path, series, target) in restored(outputs).items():
        before, after = read_volume(path, series=series, uneven=True), read_volume(target, uneven=True)
        assert after.array.tobytes() == before.array.tobytes(), name
        assert after.units is before.units
        np.testing.assert_allclose(after.geometry.affine, before.geometry.affine, atol=1e-9, err_msg=name)


def test_pydicom_reads_the_same_numbers_at_the_same_places(outputs):
    for name, (path, series, target) in restored(outputs).items():
        frames = find_scan(path, series=series, uneven=True).stack.frames
        files = list(dict.fromkeys(image.path for frame in frames for image in frame))
        for old_path, new_path in zip(files, sorted(target.iterdir()), strict=True):
            old, new = pydicom.dcmread(old_path, force=True), pydicom.dcmread(new_path)
            for keyword in ("PatientName", "PatientID", "StudyInstanceUID", "FrameOfReferenceUID", "StudyDate"):
                assert not old.get(keyword) or new[keyword].value == old[keyword].value, (name, keyword)
            for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope"):
                assert str(new.get(keyword)) == str(old.get(keyword)), (name, keyword)
            assert new.get("WindowCenter") == old.get("WindowCenter")
            assert new.ImageType[0] == "DERIVED"
            plain = not old.file_meta.get("TransferSyntaxUID", pydicom.uid.ImplicitVRLittleEndian).is_encapsulated
            if plain and old.BitsStored == old.BitsAllocated and ":M" not in name:
                np.testing.assert_array_equal(new.pixel_array, old.pixel_array, err_msg=name)


def test_simpleitk_reads_the_same(outputs):
    """Its own series reader finds tat's geometry and values in the output."""
    for name in ("ct_ge_abdomen", "ct_jpeg2000", "mr_ge_oblique_signed16", "mr_implicit_vr_oblique"):
        target = outputs[name][2]
        volume = read_volume(target)
        reader = SimpleITK.ImageSeriesReader()
        (series,) = reader.GetGDCMSeriesIDs(str(target))
        reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(target), series))
        SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
        image = reader.Execute()
        SimpleITK.ProcessObject.SetGlobalWarningDisplay(True)
        np.testing.assert_allclose(volume.array, SimpleITK.GetArrayFromImage(image), rtol=1e-6)
        affine = np.eye(4)
        affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
        affine[:3, 3] = image.GetOrigin()
        np.testing.assert_allclose(volume.geometry.affine, affine, atol=1e-6)


def converted(source: Path, target: Path) -> list[nib.Nifti1Image]:
    target.mkdir()
    subprocess.run(
        [tool("dcm2niix"), "-b", "n", "-z", "n", "-f", "%s_%e_%d", "-o", target, source],
        check=False,
        capture_output=True,
        timeout=300,
    )
    return [nib.load(path) for path in sorted(target.glob("*.nii"))]


@pytest.mark.parametrize(
    "name",
    ["ct_ge_abdomen", "ct_jpeg2000", "mr_ge_oblique_signed16", "mr_philips_rawdata_without_pixels",
     "mr_philips_slope2.36", "mr_siemens_enhanced_4d", "mr_siemens_enhanced_multiframe", "mr_siemens_mosaic",
     PET],
)  # fmt: skip
def test_dcm2niix_converts_source_and_output_alike(outputs, name, tmp_path):
    tool("dcm2niix")
    path, _, target = outputs[name]
    (before,), (after,) = converted(path, tmp_path / "before"), converted(target, tmp_path / "after")
    # It turns 3-D acquisitions to canonical axes; enhanced MR may say 3D of original images only.
    before, after = nib.as_closest_canonical(before), nib.as_closest_canonical(after)
    np.testing.assert_allclose(after.affine, before.affine, atol=1e-3)
    np.testing.assert_array_equal(np.asarray(after.dataobj), np.asarray(before.dataobj))


def test_dcmtk_reads_every_output(outputs, tmp_path):
    """dcmconv parses each file and writes it anew in implicit VR: the same attributes, the same pixels."""
    dcmconv = tool("dcmconv")
    for name, (_, _, target) in restored(outputs).items():
        path = max(target.iterdir())
        subprocess.run([dcmconv, "+ti", path, tmp_path / "again.dcm"], check=True, capture_output=True, timeout=60)
        ours, theirs = pydicom.dcmread(path), pydicom.dcmread(tmp_path / "again.dcm")
        np.testing.assert_array_equal(theirs.pixel_array, ours.pixel_array, err_msg=name)
        for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope"):
            assert theirs.get(keyword) == ours.get(keyword), (name, keyword)


def complaints(path: Path) -> Counter[str]:
    done = subprocess.run([tool("dciodvfy"), path], check=False, capture_output=True, timeout=120)
    text = (done.stdout + done.stderr).decode("latin-1")
    return Counter(line for line in text.splitlines() if line.startswith("Error"))


def test_dciodvfy_has_nothing_new_to_complain_of(outputs, tmp_path):
    tool("dciodvfy")
    for name, (path, series, target) in restored(outputs).items():
        first = find_scan(path, series=series, uneven=True).stack.frames[0][0].path
        before = complaints(first)
        if any(
            "Information Object Not found" in line for line in before
        ):  # the class stands in the meta information only
            source = pydicom.dcmread(first)
            source.SOPClassUID = source.file_meta.MediaStorageSOPClassUID
            source.SOPInstanceUID = source.file_meta.MediaStorageSOPInstanceUID
            source.save_as(tmp_path / "repaired.dcm")
            before = complaints(tmp_path / "repaired.dcm")
        new = set(complaints(min(target.iterdir()))) - set(before)
        assert not new, (name, new)


@pytest.mark.parametrize("name", ["mr_philips_rawdata_without_pixels", "mr_siemens_enhanced_4d"])
def test_classic_objects_of_enhanced_ones_are_valid_too(dicom, identity, name, tmp_path):
    config = RestoreConfig(
        input=dicom / name, output=tmp_path / "out", dicom=DicomOptions(enhanced="classic", reproducible=True)
    )
    restore(config, restorer=identity)
    before, after = read_volume(dicom / name), read_volume(tmp_path / "out")
    np.testing.assert_array_equal(after.array, before.array)
    np.testing.assert_allclose(after.geometry.affine, before.geometry.affine, atol=1e-6)
    source = before.provenance.header.frames[0][0].path
    assert not set(complaints(tmp_path / "out" / "00001.dcm")) - set(complaints(source))


@pytest.mark.parametrize("name", ["ct_ge_abdomen", PET, "mr_siemens_enhanced_multiframe"])
def test_anonymised_outputs_are_valid_too(dicom, name, tmp_path):
    pytest.importorskip("dicomanonymizer", reason="needs dicom-anonymizer: pip install 'tatcli[anonymise]'")
    volume = read_volume(dicom / name)
    write_volume(volume.with_array(volume.array, step="x"), tmp_path / "out", dicom=DicomOptions(anonymise=True))
    back = read_volume(tmp_path / "out")
    np.testing.assert_allclose(back.array, volume.array, rtol=1e-6)
    assert back.units is volume.units
    source = volume.provenance.header.frames[0][0].path
    assert not set(complaints(min((tmp_path / "out").iterdir()))) - set(complaints(source))


def test_the_report_names_nobody(dicom, identity, tmp_path, capfd):
    """Reports, messages and file names carry nothing of the patient."""
    path = dicom / "mr_siemens_mosaic"
    config = RestoreConfig(input=path, output=tmp_path / "out", report=tmp_path / "report.json")
    report = restore(config, restorer=identity)
    header = pydicom.dcmread(next(path.iterdir()))
    words = {
        str(header.get(keyword) or "") for keyword in ("PatientName", "PatientID", "PatientBirthDate", "StudyDate")
    }
    words |= {str(header.get(keyword) or "") for keyword in ("InstitutionName", "AccessionNumber", "StudyInstanceUID")}
    text = (tmp_path / "report.json").read_text() + "".join(entry.name for entry in tmp_path.rglob("*"))
    text += "".join(capfd.readouterr())
    for word in words - {""}:
        assert word not in text
    assert json.loads(report.to_json())["output"]["files"] == 2
