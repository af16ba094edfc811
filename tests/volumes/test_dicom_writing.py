"""DICOM out: what a derived series keeps of its source, what is new, and how values are stored."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom import config
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.hooks import hooks
from pydicom.sequence import Sequence
from pydicom.uid import ImplicitVRLittleEndian, RLELossless

from tatcli.degradation.low_resolution_mri import zero_fill_volume
from tatcli.errors import GeometryError, OutputError, UsageError
from tatcli.intensity import Units
from tatcli.volumes import Volume, read_volume, write_volume
from tatcli.volumes.dicom_files import tolerant
from tatcli.volumes.dicom_options import DicomOptions
from tatcli.volumes.dicom_writing import write_dicom_folder
from tatcli.volumes.pet_tags import PetTags

RNG = np.random.default_rng(11)
SOFTWARE = ("weights identity", "ab" * 32)


def made(shape: tuple[int, ...] = (4, 6, 8), top: int = 3000, dtype: str = "int16") -> np.ndarray:
    return RNG.integers(0, top, shape).astype(dtype)


def written(volume: Volume, folder: Path, change: Any = 0.0, **options: Any) -> list[pydicom.FileDataset]:
    """The derived objects of a volume after a change of its values, in the order of their names."""
    folder.parent.mkdir(exist_ok=True)
    changed = volume.with_array(volume.array + np.float32(change), step="restored: made up")
    write_volume(changed, folder, dicom=DicomOptions(software=SOFTWARE, **options))
    return [pydicom.dcmread(path) for path in sorted(folder.iterdir())]


def sources(maker: Any) -> list[pydicom.FileDataset]:
    """The source objects by position."""
    return sorted(map(pydicom.dcmread, maker.folder.iterdir()), key=lambda one: float(one.ImagePositionPatient[2]))


PATIENT = {
    "PatientName": "Made^Up", "PatientID": "4711", "StudyInstanceUID": "1.2.3", "FrameOfReferenceUID": "1.2.4",
    "AccessionNumber": "A1", "WindowCenter": 40, "WindowWidth": 400, "SeriesTime": "101112", "ContentTime": "101113",
}  # fmt: skip


def test_patient_study_and_place_stay_and_the_rest_is_new(series: Callable[..., Any], tmp_path: Path) -> None:
    maker = series(common=PATIENT)
    maker.add_stack(made())
    before, after = sources(maker), written(read_volume(maker.folder), tmp_path / "out")
    assert [path.name for path in sorted((tmp_path / "out").iterdir())] == [f"{i:05d}.dcm" for i in range(1, 5)]
    for old, new in zip(before, after, strict=True):
        for keyword in (*PATIENT, "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "InstanceNumber"):
            assert new[keyword].value == old[keyword].value, keyword
        assert new.SOPInstanceUID != old.SOPInstanceUID
        assert new.SOPInstanceUID == new.file_meta.MediaStorageSOPInstanceUID
        assert new.SeriesInstanceUID != old.SeriesInstanceUID
        assert new.SOPClassUID == old.SOPClassUID
        assert list(new.ImageType) == ["DERIVED", "SECONDARY", "AXIAL"]
        assert (new.SeriesDescription, new.SeriesNumber) == ("made restored", 1003)
        (source,) = new.SourceImageSequence
        assert source.ReferencedSOPInstanceUID == old.SOPInstanceUID
        assert source.ReferencedSOPClassUID == old.SOPClassUID
        assert source.PurposeOfReferenceCodeSequence[0].CodeValue == "121322"
        assert source.SpatialLocationsPreserved == "YES"
        assert "restored: made up" in new.DerivationDescription
        assert "not for diagnosis" in new.DerivationDescription
        assert [code.CodeValue for code in new.DerivationCodeSequence] == ["110001"]
        (equipment,) = new.ContributingEquipmentSequence
        assert equipment.ManufacturerModelName == "tat"
        assert equipment.SoftwareVersions[:-1] == list(SOFTWARE)
        assert equipment.SoftwareVersions[-1].startswith("tat ")
        assert equipment.PurposeOfReferenceCodeSequence[0].CodeValue == "109102"
        assert new.PixelData == old.PixelData
    assert len({new.SeriesInstanceUID for new in after}) == 1
    assert len({new.SOPInstanceUID for new in after}) == 4


@pytest.mark.parametrize(("offset", "hours"), [("+0530", 5.5), ("-0800", -8.0), ("+9999", None), (None, None)])
def test_the_time_of_creation_is_in_the_source_s_time_zone(
    series: Callable[..., Any], tmp_path: Path, offset: str | None, hours: float | None
) -> None:
    """The offset holds for all dates and times of the object (PS3.3 C.12.1); without one they are local."""
    path = series(common={} if offset is None else {"TimezoneOffsetFromUTC": offset}).add(made((6, 8)), (0, 0, 0))
    (new,) = written(read_volume(path), tmp_path / "out")
    zone = None if hours is None else timezone(timedelta(hours=hours))
    now = datetime.now(zone).replace(tzinfo=None)
    for text in (
        new.InstanceCreationDate + new.InstanceCreationTime,
        new.ContributingEquipmentSequence[0].ContributionDateTime,
    ):
        assert abs(datetime.strptime(text, "%Y%m%d%H%M%S") - now) < timedelta(minutes=2)  # noqa: DTZ007


def test_what_is_stale_is_dropped(series: Callable[..., Any], tmp_path: Path) -> None:
    stale = {
        "SmallestImagePixelValue": 0, "LargestImagePixelValue": 3000, "IconImageSequence": Sequence([Dataset()]),
        "DigitalSignaturesSequence": Sequence([Dataset()]), "MACParametersSequence": Sequence([Dataset()]),
    }  # fmt: skip
    maker = series(common=stale)
    maker.add_stack(made())
    path = next(maker.folder.iterdir())
    dataset = pydicom.dcmread(path)
    dataset.add_new((0x6000, 0x0010), "US", 6)  # an overlay in the pixels' own bits
    dataset.add_new((0x6002, 0x3000), "OW", bytes(6))  # and one by itself
    dataset.save_as(path)
    for new in written(read_volume(maker.folder), tmp_path / "out"):
        assert not [keyword for keyword in stale if keyword in new]
        assert (0x6000, 0x0010) not in new
    assert sum((0x6002, 0x3000) in pydicom.dcmread(path) for path in (tmp_path / "out").iterdir()) == 1


def test_twice_the_same_run(series: Callable[..., Any], tmp_path: Path) -> None:
    maker = series(common=PATIENT)
    maker.add_stack(made())
    volume = read_volume(maker.folder)
    for name in ("a", "b"):
        written(volume, tmp_path / name, reproducible=True)
    written(volume, tmp_path / "other", reproducible=True, suffix=" other")
    written(volume, tmp_path / "random")
    texts = {
        name: [path.read_bytes() for path in sorted((tmp_path / name).iterdir())]
        for name in ("a", "b", "other", "random")
    }
    assert texts["a"] == texts["b"]
    uids = [pydicom.dcmread(next((tmp_path / name).iterdir())).SeriesInstanceUID for name in ("a", "other", "random")]
    assert len(set(uids)) == 3
    assert all(uid.startswith("2.25.") and uid.is_valid for uid in uids)
    new = written(volume, tmp_path / "root", uid_root="1.2.826.0.1.3680043", series_number=77, suffix="*" * 70)
    for dataset in new:
        assert dataset.SOPInstanceUID.startswith("1.2.826.0.1.3680043.")
        assert dataset.SOPInstanceUID.is_valid
        assert (dataset.SeriesNumber, dataset.SeriesDescription) == (77, "*" * 64)


@pytest.mark.parametrize("uid", ["", "1.2.3"])
def test_sources_without_uids_of_their_own(series: Callable[..., Any], tmp_path: Path, uid: str) -> None:
    """Anonymised so, all slices are one object to a PACS; the derived ones are apart, and one study."""
    array = made()
    for name in ("one", "other"):
        maker = series(folder=tmp_path / name, common={"SOPInstanceUID": "1.2.3"})
        maker.add_stack(array)
        for path in [] if uid else list(maker.folder.iterdir()):
            dataset = pydicom.dcmread(path)
            dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = uid
            dataset.save_as(path)
    if uid:
        shutil.copy(next((tmp_path / "one").iterdir()), tmp_path / "one" / "copy")
    volume = read_volume(tmp_path / "one")
    assert np.array_equal(volume.array, array - 1024.0)
    copies = "left out 1 further copies of the same SOP instances"
    shared = "4 images share 1 SOPInstanceUIDs: their places tell them apart"
    assert volume.provenance.warnings == ((copies, shared) if uid else ())
    for reproducible in (True, False):
        new = written(volume, tmp_path / f"new{reproducible}", reproducible=reproducible)
        assert [dataset.pixel_array.tolist() for dataset in new] == array.tolist()
        assert len({dataset.SOPInstanceUID for dataset in new}) == 4
        assert len({dataset.StudyInstanceUID for dataset in new}) == 1
        assert all(("SourceImageSequence" in dataset) == bool(uid) for dataset in new)
    again = written(read_volume(tmp_path / "one"), tmp_path / "again", reproducible=True)
    other = written(read_volume(tmp_path / "other"), tmp_path / "newother", reproducible=True)
    first = [pydicom.dcmread(path).SOPInstanceUID for path in sorted((tmp_path / "newTrue").iterdir())]
    assert [dataset.SOPInstanceUID for dataset in again] == first
    assert uid or not {dataset.SOPInstanceUID for dataset in other} & set(first)


@pytest.mark.parametrize("root", ["", "1", "a.b", "1.02", "1.2.", "3.1", "1." + "2" * 60])
def test_roots_that_are_none(root: str) -> None:
    with pytest.raises(UsageError, match="--uid-root"):
        DicomOptions(uid_root=root)


def test_private_attributes(series: Callable[..., Any], tmp_path: Path) -> None:
    maker = series()
    path = maker.add(made((6, 8)), (0, 0, 0))
    dataset = pydicom.dcmread(path)
    dataset.private_block(0x0029, "MAKER", create=True).add_new(0x10, "LO", "secret")
    dataset.save_as(path)
    volume = read_volume(path)
    (kept,) = written(volume, tmp_path / "kept")
    assert kept.private_block(0x0029, "MAKER")[0x10].value == "secret"
    (dropped,) = written(volume, tmp_path / "dropped", private="drop")
    assert not [element for element in dropped if element.tag.is_private]
    with pytest.raises(UsageError, match="--private"):
        DicomOptions(private="some")


@pytest.mark.parametrize(
    ("dtype", "bits", "change", "expected"),
    [
        ("int16", 16, 7.4, (16, 16, 1, 1, -1024)),
        ("uint16", 12, 100.0, (16, 12, 0, 1, -1024)),
        ("uint16", 12, 2000.0, (16, 16, 0, 1, -1024)),  # beyond 4095
        ("uint16", 12, -900.0, (16, 16, 1, 1, -1024)),  # below 0
    ],
)
def test_the_source_s_rescale_holds_what_it_can(
    series: Callable[..., Any], tmp_path: Path, dtype: str, bits: int, change: float, expected: tuple[int, ...]
) -> None:
    maker, pixels = series(common={"BitsStored": bits, "HighBit": bits - 1}), made(dtype=dtype)
    pixels[0, 0, :2] = 0, 3000
    maker.add_stack(pixels)
    new = written(read_volume(maker.folder), tmp_path / "out", change)
    for dataset, plane in zip(new, pixels, strict=True):
        found = (
            dataset.BitsAllocated, dataset.BitsStored, dataset.PixelRepresentation,
            dataset.RescaleSlope, dataset.RescaleIntercept,
        )  # fmt: skip
        assert found == expected
        np.testing.assert_array_equal(dataset.pixel_array, np.rint(plane + np.float64(change)))
    back = read_volume(tmp_path / "out")
    np.testing.assert_allclose(back.array, pixels.astype(np.float64) - 1024 + change, atol=0.5)


def test_values_that_no_integers_hold_get_a_rescale_of_their_own(series: Callable[..., Any], tmp_path: Path) -> None:
    maker, pixels = series(modality="MR"), made()
    maker.add_stack(pixels)
    (first, *_) = written(read_volume(maker.folder), tmp_path / "out", 1e6)
    back = read_volume(tmp_path / "out")
    np.testing.assert_allclose(back.array, pixels + 1e6, atol=float(first.RescaleSlope) / 2 + 0.07)
    assert float(first.RescaleSlope) < 0.05
    assert first.RescaleType == "US"  # MR has one beside its rescale (PS3.3 C.11.1); of CT it would say: no HU


def test_all_slices_share_the_rescale_that_they_get(series: Callable[..., Any], tmp_path: Path) -> None:
    """Readers that take the first slice's for all read them right, and so does the padding below all values."""
    maker = series(common={"RescaleSlope": 0.001, "RescaleIntercept": 0, "PixelPaddingValue": -20000})
    pixels = np.random.default_rng(8).integers(-9000, 9000, (3, 6, 8)).astype(np.int16)
    pixels[:, 0] = -20000
    maker.add_stack(pixels)
    volume = read_volume(maker.folder)
    grown = volume.array * np.array([1, 40, 7], np.float32)[:, None, None]
    grown[:, 0] = 0.0  # the padding's own number holds
    write_volume(volume.with_array(grown, step="restored: made up"), tmp_path / "out")
    new = [pydicom.dcmread(path) for path in sorted((tmp_path / "out").iterdir())]
    assert len({(float(one.RescaleSlope), float(one.RescaleIntercept)) for one in new}) == 1
    grown[:, 0] = -20.0
    np.testing.assert_allclose(read_volume(tmp_path / "out").array, grown, atol=float(new[0].RescaleSlope) * 0.51)


def test_a_ct_with_a_rescale_of_its_own_stays_in_hu(series: Callable[..., Any], tmp_path: Path) -> None:
    maker, pixels = series(), made()
    maker.add_stack(pixels)
    (first, *_) = written(read_volume(maker.folder), tmp_path / "out", 1e6)
    assert float(first.RescaleSlope) < 0.05
    assert "RescaleType" not in first
    assert read_volume(tmp_path / "out").units is Units.HU


@pytest.mark.parametrize(
    ("sop_class", "kind", "expected"),
    [
        ("1.2.840.10008.5.1.4.1.1.2", ["ORIGINAL", "PRIMARY", "AXIAL"], ["DERIVED", "SECONDARY", "AXIAL"]),
        ("1.2.840.10008.5.1.4.1.1.7", ["DERIVED", "SECONDARY"], ["DERIVED", "SECONDARY"]),
        ("1.2.840.10008.5.1.4.1.1.7.3", ["DERIVED", "SECONDARY", "AXIAL"], ["DERIVED", "SECONDARY", "AXIAL"]),
        ("1.2.840.10008.5.1.4.1.1.128", ["ORIGINAL", "PRIMARY"], ["DERIVED", "PRIMARY"]),
        ("1.2.840.10008.5.1.4.1.1.20", ["ORIGINAL", "PRIMARY", "STATIC"], ["DERIVED", "PRIMARY", "STATIC"]),
    ],
)
def test_whether_the_patient_was_there(
    series: Callable[..., Any], tmp_path: Path, sop_class: str, kind: list[str], expected: list[str]
) -> None:
    path = series(common={"SOPClassUID": sop_class, "ImageType": kind}).add(np.ones((6, 8), np.int16), (0, 0, 0))
    (new,) = written(read_volume(path), tmp_path / "out", 3.0)
    assert list(new.ImageType) == expected


def test_padding_stays(series: Callable[..., Any], tmp_path: Path) -> None:
    maker, pixels = series(common={"PixelPaddingValue": -2000, "RescaleIntercept": 0}), made()
    pixels[:, :2] = -2000
    maker.add_stack(pixels)
    volume = read_volume(maker.folder)
    for dataset in written(volume, tmp_path / "out", 5.0):
        assert dataset.PixelPaddingValue == -2000
        assert (dataset.pixel_array[:2] == -2000).all()
        assert (dataset.pixel_array[2:] >= 5).all()


def test_slices_of_different_rescale_keep_theirs(series: Callable[..., Any], tmp_path: Path) -> None:
    maker, pixels = series(modality="MR"), made((3, 6, 8), 2000, "uint16")
    for index, plane in enumerate(pixels):
        maker.add(plane, (0, 0, 2.0 * index), RescaleSlope=index + 0.5, RescaleIntercept=-index)
    volume = read_volume(maker.folder)
    new = written(volume, tmp_path / "same")
    assert [float(dataset.RescaleSlope) for dataset in new] == [0.5, 1.5, 2.5]
    np.testing.assert_array_equal([dataset.pixel_array for dataset in new], pixels)
    written(volume, tmp_path / "changed", 0.3)
    back = read_volume(tmp_path / "changed")
    for index in range(3):
        np.testing.assert_allclose(back.array[index], volume.array[index] + 0.3, atol=(index + 0.5) / 2 + 1e-3)


def pet_series(series: Callable[..., Any], **more: Any) -> tuple[Any, np.ndarray]:
    drug = Dataset()
    drug.RadionuclideTotalDose, drug.RadionuclideHalfLife = 350e6, 6586.2
    drug.RadiopharmaceuticalStartTime = "120000"
    header = {
        "Units": "BQML", "CorrectedImage": ["DECY", "ATTN"], "DecayCorrection": "START", "PatientWeight": 70,
        "SeriesDate": "20200517", "SeriesTime": "130000", "RadiopharmaceuticalInformationSequence": Sequence([drug]),
        "PatientName": "Made^Up", **more,
    }  # fmt: skip
    maker, pixels = series(modality="PT", common=header), made((4, 6, 8), 32768)
    for index, plane in enumerate(pixels):
        maker.add(plane, (0, 0, 3.0 * index), RescaleSlope=0.1 * 3**index, RescaleIntercept=0)
    return maker, pixels


def test_pet_goes_back_to_bq_with_a_slope_per_slice(series: Callable[..., Any], tmp_path: Path) -> None:
    maker, pixels = pet_series(series)
    volume = read_volume(maker.folder)
    same = written(volume, tmp_path / "same")
    np.testing.assert_array_equal([dataset.pixel_array for dataset in same], pixels)
    assert read_volume(tmp_path / "same").array.tobytes() == volume.array.tobytes()
    assert [list(dataset.ImageType)[:2] for dataset in same] == [["DERIVED", "PRIMARY"]] * 4  # PET knows no SECONDARY
    smooth = volume.with_array(volume.array * np.float32(0.37), step="restored: made up")
    write_volume(smooth, tmp_path / "smooth")
    back = read_volume(tmp_path / "smooth")
    factor = volume.provenance.header.factor
    for index, path in enumerate(sorted((tmp_path / "smooth").iterdir())):
        dataset = pydicom.dcmread(path)
        assert dataset.Units == "BQML"
        assert dataset.RescaleIntercept == 0
        assert dataset.pixel_array.max() == 32767
        step = float(dataset.RescaleSlope) * factor
        np.testing.assert_allclose(back.array[index], smooth.array[index], atol=step / 2 * (1 + 1e-4))


def test_other_values_are_other_instances(series: Callable[..., Any], tmp_path: Path) -> None:
    """What was done, and the caller's word on SUV, decide the values: never the same UID over other pixels."""
    maker, _ = pet_series(series)
    found = set()
    for number, (tags, step) in enumerate([(None, "a"), (None, "b"), ("weight=80", "a"), ("weight=81", "a")]):
        volume = read_volume(maker.folder, pet=None if tags is None else PetTags.parse(tags))
        moved = volume.with_array(volume.array + np.float32(0.5), step=f"restored: {step}")
        write_volume(moved, tmp_path / str(number), dicom=DicomOptions(reproducible=True))
        dataset = pydicom.dcmread(tmp_path / str(number) / "00001.dcm")
        found |= {dataset.SOPInstanceUID, dataset.SeriesInstanceUID}
    assert len(found) == 8


def test_counts_without_the_vendor_s_factor_become_suv(series: Callable[..., Any], tmp_path: Path) -> None:
    """Windows follow the unit (PS3.3 C.11.2.1.2); real world values keep theirs, however the numbers are stored."""
    code, real = Dataset(), Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "Bq/ml", "UCUM", "Bq/ml"
    real.RealWorldValueSlope, real.RealWorldValueIntercept = 7.5, 0.0  # 2.5 Bq/ml for each count of 3
    real.MeasurementUnitsCodeSequence = [code]
    windows = {"WindowCenter": [600, 6000], "WindowWidth": [1200, 12000]}
    maker = series(modality="PT", common={"Units": "CNTS", "CorrectedImage": ["DECY", "ATTN"], **windows})
    pixels = made((2, 6, 8), 32768)
    for index, plane in enumerate(pixels):
        path = maker.add(plane, (0, 0, 3.0 * index), RescaleSlope=3, RescaleIntercept=0)
        dataset = pydicom.dcmread(path)
        dataset.RealWorldValueMappingSequence = [real]
        dataset.private_block(0x7053, "Philips PET Private Group", create=True).add_new(0x00, "DS", "0.001")
        dataset.save_as(path)
    volume = read_volume(maker.folder)
    for name, change in (("same", 0.0), ("changed", 1.0)):
        for index, dataset in enumerate(written(volume, tmp_path / name, change, private="drop")):
            assert (dataset.Units, dataset.SUVType) == ("GML", "BW")
            assert [float(value) for value in dataset.WindowCenter] == pytest.approx([0.6, 6.0])
            assert [float(value) for value in dataset.WindowWidth] == pytest.approx([1.2, 12.0])
            assert dataset.VOILUTFunction == "LINEAR_EXACT"
            (found,) = dataset.RealWorldValueMappingSequence
            activity = dataset.pixel_array * found.RealWorldValueSlope + found.RealWorldValueIntercept
            suv = pixels[index] * 3e-3 + change
            np.testing.assert_allclose(activity, suv * 2500, atol=2500 * suv.max() / 32767)
        np.testing.assert_allclose(read_volume(tmp_path / name).array, volume.array + change, atol=3e-3)
    (kept, _) = written(volume, tmp_path / "kept")
    assert (kept.Units, list(kept.WindowCenter), "VOILUTFunction" in kept) == ("CNTS", [600, 6000], False)


@pytest.mark.parametrize(("series_time", "units"), [("180000", "GML"), ("", "GML"), ("130000", "BQML")])
def test_the_vendor_s_time_of_the_scan_counts_where_the_series_is_later_or_absent(
    series: Callable[..., Any], tmp_path: Path, series_time: str, units: str
) -> None:
    times = {"SeriesTime": series_time, "AcquisitionDate": "20200517", "AcquisitionTime": "130000"}
    maker, _ = pet_series(series, **times)
    for path in maker.folder.iterdir():
        dataset = pydicom.dcmread(path)
        dataset.private_block(0x0009, "GEMS_PETD_01", create=True).add_new(0x0D, "DT", "20200517123000")
        dataset.save_as(path)
    volume = read_volume(maker.folder)
    new = written(volume, tmp_path / "out", private="drop")
    assert {dataset.Units for dataset in new} == {units}
    np.testing.assert_allclose(read_volume(tmp_path / "out").array, volume.array, rtol=1e-6)


def test_one_changed_slice_leaves_the_others_as_they_were(series: Callable[..., Any], tmp_path: Path) -> None:
    maker, pixels = pet_series(series)
    volume = read_volume(maker.folder)
    array = volume.array.copy()
    array[2] *= 0.5
    write_volume(volume.with_array(array, step="restored: made up"), tmp_path / "out")
    new = [pydicom.dcmread(path) for path in sorted((tmp_path / "out").iterdir())]
    slopes = [float(dataset.RescaleSlope) for dataset in new]
    np.testing.assert_allclose(slopes[:2] + slopes[3:], [0.1, 0.3, 2.7])
    np.testing.assert_allclose(slopes[2], 0.9 * pixels[2].max() / 2 / 32767, rtol=1e-6)


def test_a_finer_matrix_is_placed_right(series: Callable[..., Any], tmp_path: Path) -> None:
    """The field of view stays: new spacing and first pixel, and the reader finds the volume's own affine."""
    maker = series(modality="MR", orientation=(0.8, 0.6, 0, 0, 0, -1), common={"FrameOfReferenceUID": "1.2"})
    maker.add_stack(made(), step=np.cross((0.8, 0.6, 0), (0, 0, -1)) * 3.0)
    volume = read_volume(maker.folder)
    fine = zero_fill_volume(volume, 2, 0)
    write_volume(fine, tmp_path / "out")
    back = read_volume(tmp_path / "out")
    assert back.array.shape == (4, 12, 16)
    np.testing.assert_allclose(back.geometry.affine, fine.geometry.affine, atol=1e-6)
    np.testing.assert_allclose(back.array, fine.array, atol=0.5)
    dataset = pydicom.dcmread(tmp_path / "out" / "00001.dcm")
    assert [code.CodeValue for code in dataset.DerivationCodeSequence] == ["110001", "113085"]
    assert dataset.SourceImageSequence[0].SpatialLocationsPreserved == "NO"
    with pytest.raises(GeometryError, match="the slices that the scanner acquired"):
        write_volume(zero_fill_volume(volume, 2, 1), tmp_path / "across")
    assert not (tmp_path / "across").exists()


def test_uneven_slices_keep_their_places(series: Callable[..., Any], tmp_path: Path) -> None:
    maker, pixels = series(), made()
    for plane, height in zip(pixels, (0.0, 2.0, 7.0, 9.0), strict=True):
        maker.add(plane, (0, 0, height))
    volume = read_volume(maker.folder, uneven=True)
    new = written(volume, tmp_path / "out", 1.0)
    assert [float(dataset.ImagePositionPatient[2]) for dataset in new] == [0.0, 2.0, 7.0, 9.0]
    np.testing.assert_array_equal([dataset.pixel_array for dataset in new], pixels + 1)
    for name in ("out.nii.gz", "out.mha"):
        with pytest.raises(GeometryError, match="whose places only DICOM can hold"):
            write_volume(volume, tmp_path / name)


@pytest.mark.parametrize("encoding", ["RLE", "lossy"])
def test_other_encodings_become_plain_ones(series: Callable[..., Any], tmp_path: Path, encoding: str) -> None:
    maker, pixels = series(common={"PatientName": "Made^Up"}), made((6, 8))
    path = maker.add(pixels, (0, 0, 0))
    dataset = pydicom.dcmread(path)
    if encoding == "RLE":
        dataset.compress(RLELossless)
        dataset.save_as(path)
    else:
        dataset.LossyImageCompression, dataset.LossyImageCompressionRatio = "01", 9.5
        dataset.LossyImageCompressionMethod = "ISO_10918_1"
        dataset.save_as(path)
    (new,) = written(read_volume(path), tmp_path / "out")
    assert new.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"
    np.testing.assert_array_equal(new.pixel_array, pixels)
    assert new.PatientName == "Made^Up"
    assert new.get("LossyImageCompression") == ("01" if encoding == "lossy" else None)
    assert new.get("LossyImageCompressionRatio") == (9.5 if encoding == "lossy" else None)


def test_big_endian_becomes_little(tmp_path: Path) -> None:
    path = Path(get_testdata_file("MR_small_bigendian.dcm"))
    source = pydicom.dcmread(path)
    assert source.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.2"
    (new,) = written(read_volume(path), tmp_path / "out")
    np.testing.assert_array_equal(new.pixel_array, source.pixel_array)
    for element in source:
        if element.VR in ("US", "SS", "UL", "FL", "FD", "PN", "DS") and element.keyword in new:
            assert new[element.tag].value == element.value or "PixelValue" in element.keyword


def test_words_of_big_endian_turn(tmp_path: Path) -> None:
    """Overlays and look-up tables, which pydicom hands on as bytes."""
    path = tmp_path / "source.dcm"
    source = pydicom.dcmread(get_testdata_file("MR_small_bigendian.dcm"))
    table = Dataset()
    table.LUTDescriptor = [2, 0, 16]
    table["LUTDescriptor"].VR = "US"
    table.add_new("LUTData", "OW", np.array([1, 258], dtype=">u2").tobytes())
    source.VOILUTSequence = Sequence([table])
    source.add_new((0x6000, 0x3000), "OW", np.array([3, 4], dtype=">u2").tobytes())
    source.save_as(path)
    (new,) = written(read_volume(path), tmp_path / "out")
    assert np.frombuffer(new.VOILUTSequence[0].LUTData, "<u2").tolist() == [1, 258]
    assert np.frombuffer(new[0x6000, 0x3000].value, "<u2").tolist() == [3, 4]


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("change", [0.0, -900.0])  # the derived objects are unsigned, as the source, or signed
def test_types_that_implicit_vr_leaves_open(
    series: Callable[..., Any], tmp_path: Path, nested: bool, change: float
) -> None:
    """Curves, of which pydicom knows no type; numbers whose type follows the source's pixels, not the new ones'."""
    path = series().add(np.full((6, 8), 30, np.uint16), (0, 0, 0))
    dataset, item = pydicom.dcmread(path), Dataset()
    place = item if nested else dataset
    place.add_new((0x5000, 0x3000), "OW", np.array([1, 258, 3], "<u2").tobytes())
    place.add_new("GrayLookupTableDescriptor", "US", [2, 40000, 16])
    place.add_new("SmallestValidPixelValue", "US", 40000)
    if nested:
        dataset.ProcedureCodeSequence = Sequence([item])
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    pydicom.dcmwrite(path, dataset, implicit_vr=True, little_endian=True, force_encoding=True)
    (new,) = written(read_volume(path), tmp_path / "out", change)
    assert bool(new.PixelRepresentation) == (change < 0)
    found = new.ProcedureCodeSequence[0] if nested else new
    assert found[0x5000, 0x3000].VR == "OW"
    assert np.frombuffer(found[0x5000, 0x3000].value, "<u2").tolist() == [1, 258, 3]
    assert (found["GrayLookupTableDescriptor"].VR, list(found.GrayLookupTableDescriptor)) == ("US", [2, 40000, 16])
    assert (found["SmallestValidPixelValue"].VR, found.SmallestValidPixelValue) == ("US", 40000)


def test_a_single_object_may_be_a_file(series: Callable[..., Any], tmp_path: Path) -> None:
    maker = series()
    path = maker.add(made((6, 8)), (0, 0, 0))
    target = write_volume(read_volume(path), tmp_path / "one.dcm")
    assert read_volume(target).array.tobytes() == read_volume(path).array.tobytes()
    maker.add(made((6, 8)), (0, 0, 2))
    with pytest.raises(OutputError, match="expected a folder for the 2 objects"):
        write_volume(read_volume(maker.folder), tmp_path / "two.dcm")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["dicom", "one.dcm"]


def test_a_folder_appears_whole_or_not_at_all(
    series: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    maker = series()
    maker.add_stack(made())
    volume = read_volume(maker.folder)
    write_volume(volume, tmp_path / "out")
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    list(maker.folder.iterdir())[2].write_bytes(b"gone")  # between reading and writing
    for target in ("out", "new"):
        with pytest.raises(Exception, match="expected a DICOM file"):
            write_volume(volume, tmp_path / target, overwrite=True)
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["dicom", "out"]


def test_a_folder_may_be_named_by_a_uid(series: Callable[..., Any], tmp_path: Path) -> None:
    """A UID's digits are no extension."""
    maker = series(folder=tmp_path / "1.2.840.113619.2")
    maker.add_stack(made())
    assert len(written(read_volume(maker.folder), tmp_path / "1.2.840.113619.3")) == 4
    with pytest.raises(UsageError, match=r"expected a folder for DICOM, .* got '.4d'"):
        write_volume(read_volume(maker.folder), tmp_path / "1.4d")


def test_folders_that_are_not_written_to(series: Callable[..., Any], tmp_path: Path) -> None:
    maker = series()
    maker.add_stack(made())
    volume = read_volume(maker.folder)
    (tmp_path / "empty").mkdir()
    write_volume(volume, tmp_path / "empty")
    with pytest.raises(OutputError, match="got one with 4 entries"):
        write_volume(volume, tmp_path / "empty")
    write_volume(volume, tmp_path / "empty", overwrite=True)
    shutil.copy(tmp_path / "empty" / "00001.dcm", tmp_path / "empty" / "mine.txt")
    for target, message in (
        (tmp_path / "empty", "other files in it"),
        (maker.folder, "apart from the input"),
        (maker.folder / "below", "apart from the input"),
        (tmp_path, "apart from the input"),
        (tmp_path / "no" / "where", "expected an existing folder"),
    ):
        with pytest.raises(OutputError, match=message):
            write_volume(volume, target, overwrite=True)
    assert len(list(maker.folder.iterdir())) == 4


def test_dicom_comes_from_dicom_only(series: Callable[..., Any], tmp_path: Path) -> None:
    maker = series()
    maker.add_stack(made())
    nifti = write_volume(read_volume(maker.folder), tmp_path / "scan.nii.gz")
    with pytest.raises(OutputError, match=r"expected a scan read from DICOM .* got nifti"):
        write_volume(read_volume(nifti), tmp_path / "out")


def test_enhanced_stays_enhanced(enhanced: Callable[..., Path], tmp_path: Path) -> None:
    pixels, heights = made((4, 6, 8), dtype="uint16"), [6.0, 0.0, 9.0, 3.0]
    frames = [{"position": [1, 2, height], "slope": 1 + index} for index, height in enumerate(heights)]
    path = enhanced(pixels, frames)
    volume = read_volume(path)
    (new,) = written(volume, tmp_path / "same")
    np.testing.assert_array_equal(new.pixel_array, pixels)
    assert list(new.ImageType)[:2] == ["DERIVED", "PRIMARY"]
    for index, group in enumerate(new.PerFrameFunctionalGroupsSequence):
        (source,) = group.DerivationImageSequence[0].SourceImageSequence
        assert source.ReferencedFrameNumber == index + 1
        assert source.ReferencedSOPInstanceUID == pydicom.dcmread(path).SOPInstanceUID
        assert list(group.MRImageFrameTypeSequence[0].FrameType) == ["DERIVED", "PRIMARY", "T2", "M"]
    referenced = new.SourceImageEvidenceSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    assert referenced.ReferencedSOPInstanceUID == pydicom.dcmread(path).SOPInstanceUID
    (recoded,) = written(volume, tmp_path / "far", 1e6)
    slopes = {
        float(group.PixelValueTransformationSequence[0].RescaleSlope)
        for group in recoded.PerFrameFunctionalGroupsSequence
    }
    assert max(slopes) < 1
    np.testing.assert_allclose(read_volume(tmp_path / "far").array, volume.array + 1e6, atol=max(slopes) / 2 + 0.07)
    fine = zero_fill_volume(volume, 2, 0)
    write_volume(fine, tmp_path / "fine")
    back = read_volume(tmp_path / "fine")
    np.testing.assert_allclose(back.geometry.affine, fine.geometry.affine, atol=1e-6)


def test_enhanced_becomes_classic_by_option(enhanced: Callable[..., Path], tmp_path: Path) -> None:
    pixels, heights = made((4, 6, 8), dtype="uint16"), [6.0, 0.0, 9.0, 3.0]
    path = enhanced(pixels, [{"position": [1, 2, h], "slope": 1 + i} for i, h in enumerate(heights)])
    volume = read_volume(path)
    new = written(volume, tmp_path / "out", enhanced="classic")
    assert [float(dataset.ImagePositionPatient[2]) for dataset in new] == heights
    for index, dataset in enumerate(new):
        assert dataset.SOPClassUID == "1.2.840.10008.5.1.4.1.1.4"
        assert (dataset.InstanceNumber, float(dataset.RescaleSlope), float(dataset.EchoTime)) == (
            index + 1,
            index + 1,
            10,
        )
        assert list(dataset.ImageType) == ["DERIVED", "SECONDARY", "T2", "M"]
        assert dataset.SourceImageSequence[0].ReferencedFrameNumber == index + 1
        assert "PerFrameFunctionalGroupsSequence" not in dataset
        assert "NumberOfFrames" not in dataset
        np.testing.assert_array_equal(dataset.pixel_array, pixels[index])
    back = read_volume(tmp_path / "out")
    np.testing.assert_array_equal(back.array, volume.array)
    np.testing.assert_allclose(back.geometry.affine, volume.geometry.affine)
    with pytest.raises(OutputError, match="4 classic objects"):
        write_volume(volume, tmp_path / "one.dcm", dicom=DicomOptions(enhanced="classic"))


def test_several_enhanced_objects(enhanced: Callable[..., Path], tmp_path: Path) -> None:
    """The parts of a concatenation, two frames each: the derived objects are none of its parts, and count on."""
    pixels, uid = made((4, 6, 8), dtype="uint16"), "1.2.840.1"
    (tmp_path / "source").mkdir()
    for number in (1, 2):
        frames = [{"position": [1, 2, 3.0 * (2 * number + index)]} for index in range(2)]
        path = enhanced(pixels[2 * number - 2 : 2 * number], frames, f"source/{number}.dcm")
        dataset = pydicom.dcmread(path)
        dataset.SeriesInstanceUID, dataset.ConcatenationUID, dataset.InConcatenationNumber = "1.2.840.2", uid, number
        dataset.SOPInstanceUIDOfConcatenationSource, dataset.ConcatenationFrameOffsetNumber = uid, 2 * number - 2
        dataset.InConcatenationTotalNumber, dataset.SOPInstanceStatus = 2, "AO"
        dataset.save_as(path)
    volume = read_volume(tmp_path / "source")
    np.testing.assert_array_equal(volume.array, pixels)
    for new in written(volume, tmp_path / "enhanced"):
        assert [keyword for keyword in new.dir() if "Concatenation" in keyword or "Status" in keyword] == []
    new = written(volume, tmp_path / "classic", enhanced="classic")
    assert [(one.InstanceNumber, float(one.ImagePositionPatient[2])) for one in new] == [
        (1, 6),
        (2, 9),
        (3, 12),
        (4, 15),
    ]


def test_a_part_of_an_enhanced_object(enhanced: Callable[..., Path], tmp_path: Path) -> None:
    pixels = made((4, 6, 8), dtype="uint16")
    path = enhanced(pixels, [{"position": [0, 0, 3.0 * (i // 2)], "kind": "MP"[i % 2]} for i in range(4)])
    dataset = pydicom.dcmread(path)
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "MIXED", "MIXED"]
    dataset.ComplexImageComponent, dataset.AcquisitionContrast = "MIXED", "MIXED"
    for index, group in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        kind = group.MRImageFrameTypeSequence[0]
        kind.ComplexImageComponent = ("MAGNITUDE", "PHASE")[index % 2]
        kind.AcquisitionContrast = ("T1", "T2")[index // 2]
    dataset.RepresentativeFrameNumber = 4
    dataset.save_as(path)
    (magnitude,) = written(read_volume(path, series="3:M"), tmp_path / "magnitude")
    assert "RepresentativeFrameNumber" not in magnitude
    (new,) = written(read_volume(path, series="3:P"), tmp_path / "out")
    assert new.RepresentativeFrameNumber == 2
    # What the frames that are left agree on is mixed no more (PS3.3 C.8.16.1).
    assert list(new.ImageType) == ["DERIVED", "PRIMARY", "T2", "P"]
    assert (new.ComplexImageComponent, new.AcquisitionContrast) == ("PHASE", "MIXED")
    assert new.NumberOfFrames == 2
    np.testing.assert_array_equal(new.pixel_array, pixels[1::2])
    numbers = [
        group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedFrameNumber
        for group in new.PerFrameFunctionalGroupsSequence
    ]
    assert numbers == [2, 4]


def test_numbers_of_broken_bytes_are_as_good_as_absent(series: Callable[..., Any], tmp_path: Path) -> None:
    """A number of half its bytes cost a traceback once all the work was done; in the padding, on reading."""
    path = series().add(made((6, 8)), (0, 0, 0), PixelPaddingValue=7)
    dataset = pydicom.dcmread(path)
    dataset.add_new("AcquisitionDuration", "SH", "half")
    dataset.save_as(path)
    content = path.read_bytes().replace(b"\x73\x90SH\x04\x00", b"\x73\x90FD\x04\x00")
    path.write_bytes(content.replace(b"\x20\x01SS\x02\x00", b"\x20\x01SL\x02\x00"))
    (new,) = written(read_volume(path), tmp_path / "out", change=3.0)
    assert new["AcquisitionDuration"].is_empty
    assert new.get("PixelPaddingValue") is None
    assert np.array_equal(new.pixel_array, pydicom.dcmread(path).pixel_array + 3)


def test_pydicom_is_left_as_it_was(series: Callable[..., Any]) -> None:
    """Its settings are the process's: eased while any of several threads reads, not a moment longer."""
    path = series().add(made((6, 8)), (0, 0, 0))
    before = (config.settings.reading_validation_mode, hooks.raw_element_value)
    first, second = tolerant(path), tolerant(path)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert config.settings.reading_validation_mode == config.IGNORE
    second.__exit__(None, None, None)
    assert (config.settings.reading_validation_mode, hooks.raw_element_value) == before


@pytest.mark.parametrize("shape", [(2, 6, 8), (2, 256, 256)])  # refused as the file is closed, or in its pixels
def test_a_full_disk_is_no_damaged_file(series: Callable[..., Any], tmp_path: Path, shape: tuple[int, ...]) -> None:
    full = Path("/dev/full")
    if not full.is_char_device():
        pytest.skip("needs /dev/full")
    maker = series()
    maker.add_stack(made(shape))
    (tmp_path / "out").mkdir()
    (tmp_path / "out/00001.dcm").symlink_to(full)
    with pytest.raises(OSError, match="No space left on device") as caught:
        write_dicom_folder(read_volume(maker.folder), tmp_path / "out")
    assert caught.value.errno == errno.ENOSPC
