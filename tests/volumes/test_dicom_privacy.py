"""De-identified outputs: nothing of the patient is left at any depth, and the scan is still one."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from tatcli.errors import UsageError
from tatcli.intensity import Units
from tatcli.volumes import read_volume, write_volume
from tatcli.volumes.dicom_options import DicomOptions

ANONYMOUS = DicomOptions(anonymise=True, software=("weights identity", "ab" * 32))
PATIENT = {
    "PatientName": "Secret^Name", "PatientID": "ID4711", "PatientBirthDate": "19570809", "StudyDate": "20200517",
    "StudyInstanceUID": "1.2.3.777", "FrameOfReferenceUID": "1.2.3.888", "AccessionNumber": "ACC99",
    "InstitutionName": "Saint Elsewhere", "ReferringPhysicianName": "Doc^Tor", "SeriesDescription": "Secret scan",
    "OtherPatientIDsSequence": Sequence([]), "StationName": "STATION5", "DerivationDescription": "hidden derivation",
}  # fmt: skip
SECRETS = (b"Secret", b"Name", b"ID4711", b"19570809", b"20200517", b"1.2.3.777", b"1.2.3.888", b"ACC99", b"Elsewhere",
           b"Doc^Tor", b"STATION5", b"hidden", b"130000")  # fmt: skip


@pytest.fixture
def profile() -> None:
    pytest.importorskip("dicomanonymizer", reason="needs dicom-anonymizer: pip install 'tatcli[anonymise]'")


def nested() -> dict[str, Any]:
    """Names below the top level, where a de-identifier that only looks at the top leaves them."""
    request, reference, code = Dataset(), Dataset(), Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "1", "99X", "visible"
    request.RequestedProcedureID, request.AccessionNumber = "hidden1", "hidden2"
    request.ScheduledProtocolCodeSequence = Sequence([code])
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", "1.2.3.777.1"
    own, equipment = Dataset(), Dataset()
    own.CodeValue, own.CodingSchemeDesignator, own.CodeMeaning = "2", "99X", "hidden code"
    equipment.Manufacturer, equipment.ContributionDescription = "M", "hidden contribution"
    return {
        "RequestAttributesSequence": Sequence([request]), "ReferencedImageSequence": Sequence([reference]),
        "DerivationCodeSequence": Sequence([own]), "ContributingEquipmentSequence": Sequence([equipment]),
    }  # fmt: skip


def test_nothing_of_the_patient_is_left(series: Callable[..., Any], tmp_path: Path, profile: None) -> None:
    maker = series(common={**PATIENT, **nested()})
    pixels = np.random.default_rng(0).integers(0, 3000, (3, 6, 8)).astype(np.int16)
    maker.add_stack(pixels)
    path = next(maker.folder.iterdir())
    dataset = pydicom.dcmread(path)
    dataset.private_block(0x0029, "MAKER", create=True).add_new(0x10, "LO", "hidden private")
    dataset.save_as(path)
    volume = read_volume(maker.folder)
    write_volume(volume.with_array(volume.array, step="restored: made up"), tmp_path / "out", dicom=ANONYMOUS)
    files = sorted((tmp_path / "out").iterdir())
    for file in files:
        data = file.read_bytes()
        assert not [secret for secret in SECRETS if secret in data]
    first, *others = map(pydicom.dcmread, files)
    assert first.PatientIdentityRemoved == "YES"
    assert first.DeidentificationMethodCodeSequence[0].CodeValue == "113100"
    assert first.ContributingEquipmentSequence[0].SoftwareVersions[0] == "weights identity"
    assert first.DerivationDescription.startswith("restored: made up")
    assert [code.CodeValue for code in first.DerivationCodeSequence] == ["110001"]
    assert "ContributionDateTime" not in first.ContributingEquipmentSequence[0]
    assert "InstanceCreationDate" not in first
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
        assert all(other[keyword].value == first[keyword].value for other in others)
    back = read_volume(tmp_path / "out")
    assert back.array.tobytes() == volume.array.tobytes()
    np.testing.assert_array_equal(back.geometry.affine, volume.geometry.affine)
    assert back.units is Units.HU


def test_frames_keep_no_text_of_the_source(enhanced: Callable[..., Path], tmp_path: Path, profile: None) -> None:
    path = enhanced(np.ones((2, 6, 8), np.uint16), [{"position": [0, 0, 2.0 * index]} for index in range(2)])
    dataset = pydicom.dcmread(path)
    for index, place in enumerate((*dataset.SharedFunctionalGroupsSequence, *dataset.PerFrameFunctionalGroupsSequence)):
        item = Dataset()
        item.DerivationDescription = f"hidden {index}"
        place.DerivationImageSequence = [item]
    dataset.DerivationDescription = "hidden derivation"
    dataset.save_as(path)
    volume = read_volume(path)
    for form in ("keep", "classic"):
        options = DicomOptions(anonymise=True, enhanced=form)
        write_volume(volume.with_array(volume.array, step="restored: made up"), tmp_path / form, dicom=options)
        for file in (tmp_path / form).iterdir():
            assert b"hidden" not in file.read_bytes()
            assert pydicom.dcmread(file).DerivationDescription.startswith("restored: made up")


def test_pet_is_written_in_suv_since_its_times_go(series: Callable[..., Any], tmp_path: Path, profile: None) -> None:
    drug = Dataset()
    drug.RadionuclideTotalDose, drug.RadionuclideHalfLife = 350e6, 6586.2
    drug.RadiopharmaceuticalStartTime = "120000"
    header = {
        "Units": "BQML", "CorrectedImage": ["DECY", "ATTN"], "DecayCorrection": "START", "PatientWeight": 70,
        "SeriesDate": "20200517", "SeriesTime": "130000", "RadiopharmaceuticalInformationSequence": Sequence([drug]),
    }  # fmt: skip
    maker = series(modality="PT", common={**PATIENT, **header})
    for index, plane in enumerate(np.random.default_rng(0).integers(0, 32768, (3, 6, 8)).astype(np.int16)):
        maker.add(plane, (0, 0, 3.0 * index), RescaleSlope=0.1 * 3**index, RescaleIntercept=0)
    volume = read_volume(maker.folder)
    for name, factor in (("same", 1.0), ("changed", 0.8)):
        scaled = volume.with_array(volume.array * np.float32(factor), step="restored: made up")
        write_volume(scaled, tmp_path / name, dicom=ANONYMOUS)
        back = read_volume(tmp_path / name)
        assert back.units is Units.SUVBW
        np.testing.assert_allclose(back.array, scaled.array, rtol=1e-6, atol=scaled.array.max() / 32767 / 2 * 1.001)
        dataset = pydicom.dcmread(tmp_path / name / "00001.dcm")
        assert (dataset.Units, dataset.SUVType) == ("GML", "BW")
        assert "PatientWeight" not in dataset


def test_a_mosaic_is_unreadable_without_private_attributes(series: Callable[..., Any], tmp_path: Path) -> None:
    maker = series(modality="MR")
    path = maker.add(np.ones((6, 8), np.int16), (0, 0, 0))
    volume = read_volume(path)
    image = volume.provenance.header.frames[0][0]
    object.__setattr__(image, "tile", (0, 0))
    with pytest.raises(UsageError, match=r"--private drop: .* Siemens mosaic"):
        write_volume(volume, tmp_path / "out", dicom=DicomOptions(private="drop"))
    assert not (tmp_path / "out").exists()


def test_without_the_package(series: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    maker = series()
    maker.add_stack(np.ones((2, 6, 8), np.int16))
    monkeypatch.setitem(sys.modules, "dicomanonymizer.simpledicomanonymizer", None)
    with pytest.raises(UsageError, match=r"pip install 'tatcli\[anonymise\]'"):
        write_volume(read_volume(maker.folder), tmp_path / "out", dicom=ANONYMOUS)
    assert not (tmp_path / "out").exists()


def test_names_in_the_pixels_are_refused(series: Callable[..., Any], tmp_path: Path, profile: None) -> None:
    maker = series()
    for height, says in ((0.0, "NO"), (2.0, "YES")):
        maker.add(np.ones((6, 8), np.int16), (0, 0, height), BurnedInAnnotation=says)
    volume = read_volume(maker.folder)
    with pytest.raises(UsageError, match=r"--anonymise: .* got BurnedInAnnotation YES in 919.dcm"):
        write_volume(volume, tmp_path / "out", dicom=ANONYMOUS)
    assert not (tmp_path / "out").exists()
    write_volume(volume, tmp_path / "out", dicom=DicomOptions())


def test_overlays_are_removed(series: Callable[..., Any], tmp_path: Path, profile: None) -> None:
    path = series().add(np.ones((6, 8), np.int16), (0, 0, 0))
    dataset = pydicom.dcmread(path)
    dataset.add_new((0x6000, 0x3000), "OW", b"name of.")
    dataset.save_as(path)
    write_volume(read_volume(path), tmp_path / "out", dicom=ANONYMOUS)
    assert b"name of." not in next((tmp_path / "out").iterdir()).read_bytes()


def test_what_the_profile_removes_leaves_no_stand_in(series: Callable[..., Any], tmp_path: Path, profile: None) -> None:
    """X of table E.1-1 is removal, of dates too; a sequence that may be absent isn't there without items."""
    study, context = Dataset(), Dataset()
    study.ReferencedSOPClassUID, study.ReferencedSOPInstanceUID = "1.2.840.10008.3.1.2.3.1", "1.2.3.777.2"
    context.ValueType = "TEXT"
    dates = ("PerformedProcedureStepStartDate", "DateOfSecondaryCapture", "LastMenstrualDate")
    header = dict.fromkeys(dates, "20200517") | {"StudyDate": "20200517", "SeriesDate": "20200517"}
    sequences = {"ReferencedStudySequence": [study], "AcquisitionContextSequence": [context]}
    path = series(common={**header, **sequences}).add(np.ones((6, 8), np.int16), (0, 0, 0))
    write_volume(read_volume(path), tmp_path / "out", dicom=ANONYMOUS)
    dataset = pydicom.dcmread(tmp_path / "out" / "00001.dcm")
    assert not [keyword for keyword in (*dates, "ReferencedStudySequence") if keyword in dataset]
    assert (dataset.StudyDate, dataset.SeriesDate) == ("19000101", "19000101")
    assert len(dataset.AcquisitionContextSequence) == 0


def test_anonymous_uids_lie_under_the_root_and_tell_studies_apart(
    series: Callable[..., Any], tmp_path: Path, profile: None
) -> None:
    found = {}
    for name, study, place in (("a", "1.2.3.777", "1.2.3.888"), ("b", "1.2.3.777", ""), ("c", "1.2.3.778", "")):
        events = ["1.2.3.777.3", "1.2.3.777.4"]
        header = {"StudyInstanceUID": study, "FrameOfReferenceUID": place, "IrradiationEventUID": events}
        path = series(folder=tmp_path / name, common=header).add(np.ones((6, 8), np.int16), (0, 0, 0))
        options = DicomOptions(anonymise=True, uid_root="1.2.826.0.1")
        write_volume(read_volume(path), tmp_path / f"{name}_out", dicom=options)
        found[name] = pydicom.dcmread(tmp_path / f"{name}_out" / "00001.dcm")
    for dataset in found.values():
        uids = [dataset.SOPInstanceUID, dataset.SeriesInstanceUID, dataset.StudyInstanceUID]
        uids += [dataset.SourceImageSequence[0].ReferencedSOPInstanceUID, *dataset.IrradiationEventUID]
        assert all(uid.startswith("1.2.826.0.1.") for uid in uids)
        assert len(set(uids)) == 6
        assert dataset.file_meta.MediaStorageSOPInstanceUID == dataset.SOPInstanceUID
    assert found["a"].StudyInstanceUID == found["b"].StudyInstanceUID != found["c"].StudyInstanceUID
    assert found["a"].FrameOfReferenceUID.startswith("1.2.826.0.1.")
    assert found["b"].FrameOfReferenceUID == found["c"].FrameOfReferenceUID == ""  # nowhere isn't the same place


def test_names_under_a_key_are_removed(series: Callable[..., Any], tmp_path: Path, profile: None) -> None:
    encrypted = Dataset()
    encrypted.EncryptedContentTransferSyntaxUID, encrypted.EncryptedContent = "1.2.840.10008.1.2.1", b"hidden"
    maker = series(common={"EncryptedAttributesSequence": [encrypted]})
    path = maker.add(np.ones((6, 8), np.int16), (0, 0, 0))
    for name, options in (("anonymous", ANONYMOUS), ("plain", DicomOptions())):
        write_volume(read_volume(path), tmp_path / name, dicom=options)
        dataset = pydicom.dcmread(tmp_path / name / "00001.dcm")
        assert ("EncryptedAttributesSequence" in dataset) == (name == "plain")
