"""Enhanced PET, true and legacy converted: read, written back, made classic and anonymous, and read again."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from tatcli.intensity import Units
from tatcli.volumes import read_volume, write_volume
from tatcli.volumes.dicom_options import DicomOptions

HALF_LIFE = 6586.2
ONE_HOUR = 70e3 / (350e6 * 0.5 ** (3600 / HALF_LIFE))
ENHANCED, LEGACY, CLASSIC = (f"1.2.840.10008.5.1.4.1.1.{end}" for end in ("130", "128.1", "128"))
SLOPES = (0.7, 0.5, 0.9)
PIXELS = np.random.default_rng(5).integers(0, 32768, (3, 6, 8)).astype(np.int16)
ACTIVITY = PIXELS * np.array(SLOPES)[:, None, None]


def item(**attributes: Any) -> list[Dataset]:
    """A sequence of one item."""
    dataset = Dataset()
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return [dataset]


def mapping(slope: float, code: str = "Bq/ml") -> Dataset:
    """Real world values of these units."""
    (found,) = item(
        RealWorldValueSlope=slope, RealWorldValueIntercept=0.0, LUTExplanation=code, LUTLabel=code,
        MeasurementUnitsCodeSequence=item(CodeValue=code, CodingSchemeDesignator="UCUM", CodeMeaning=code),
    )  # fmt: skip
    found.add_new("RealWorldValueFirstValueMapped", "SS", -32768)
    found.add_new("RealWorldValueLastValueMapped", "SS", 32767)
    return found


@pytest.fixture
def pet(series: Callable[..., Any], tmp_path: Path) -> Callable[..., Path]:
    """``pet(slopes, shared=...)``: an object with a rescale for each frame, or one for all."""

    def make(slopes: tuple[float, ...] = SLOPES, *, shared: bool = False, legacy: bool = False) -> Path:
        maker = series(modality="PT")
        dataset = maker.header(PIXELS, None)
        for keyword in ("PixelSpacing", "SliceThickness"):
            delattr(dataset, keyword)
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = LEGACY if legacy else ENHANCED
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "STATIC", "NONE"]
        dataset.NumberOfFrames, dataset.PatientWeight = len(slopes), 70
        dataset.SeriesDate, dataset.SeriesTime = "20200517", "180000"  # of a late reconstruction
        dataset.RadiopharmaceuticalInformationSequence = item(
            RadionuclideTotalDose=350e6, RadionuclideHalfLife=HALF_LIFE,
            RadiopharmaceuticalStartDateTime="20200517120000",
        )  # fmt: skip
        if not legacy:
            dataset.DecayCorrected, dataset.AttenuationCorrected, dataset.ScatterCorrected = "YES", "YES", "NO"
            dataset.RandomsCorrected, dataset.CountsSource = "YES", "EMISSION"
            dataset.DecayCorrectionDateTime = "20200517130000"
        (common,) = item(
            PlaneOrientationSequence=item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0]),
            PixelMeasuresSequence=item(PixelSpacing=[4.0, 4.0], SliceThickness=3.0),
            FrameVOILUTSequence=item(WindowCenter=10000, WindowWidth=20000),
        )
        if legacy:
            common.UnassignedSharedConvertedAttributesSequence = item(
                DecayCorrection="ADMIN", CorrectedImage=["ATTN", "DECY"], SeriesType=["STATIC", "IMAGE"]
            )
        groups = []
        for index, slope in enumerate(slopes):
            (group,) = item(
                PlanePositionSequence=item(ImagePositionPatient=[-12.0, -16.0, 3.0 * index]),
                FrameContentSequence=item(
                    FrameAcquisitionDateTime=f"2020051713{index:02d}10", FrameAcquisitionDuration=60000.0,
                    FrameReferenceDateTime=f"2020051713{index:02d}40",
                ),
                PETFrameTypeSequence=item(FrameType=["ORIGINAL", "PRIMARY", "STATIC", "NONE"]),
                PETFrameCorrectionFactorsSequence=item(DecayFactor=1.0 + index / 100),
            )  # fmt: skip
            values = {
                "PixelValueTransformationSequence": item(RescaleSlope=slope, RescaleIntercept=0, RescaleType="US"),
                "RealWorldValueMappingSequence": [mapping(slope)],
            }
            for keyword, value in values.items():
                setattr(common if shared else group, keyword, value)
            if legacy:
                del group.PETFrameCorrectionFactorsSequence, (common if shared else group).RealWorldValueMappingSequence
                group.UnassignedPerFrameConvertedAttributesSequence = item(
                    Units="BQML", FrameReferenceTime=1000 * index
                )
                group.ConversionSourceAttributesSequence = item(
                    ReferencedSOPClassUID=CLASSIC, ReferencedSOPInstanceUID=f"1.2.3.{index}"
                )
            groups.append(group)
        dataset.SharedFunctionalGroupsSequence, dataset.PerFrameFunctionalGroupsSequence = [common], groups
        dataset.PixelData = PIXELS.tobytes()
        path = tmp_path / "pet.dcm"
        dataset.save_as(path, enforce_file_format=True)
        return path

    return make


@pytest.mark.parametrize("shared", [False, True])
def test_units_of_frames_are_read(pet: Callable[..., Path], shared: bool) -> None:
    volume = read_volume(pet((0.7,) * 3 if shared else SLOPES, shared=shared))
    activity = PIXELS * 0.7 if shared else ACTIVITY
    np.testing.assert_allclose(volume.array, activity * ONE_HOUR, rtol=1e-6)
    assert volume.units is Units.SUVBW


def test_legacy_units_of_frames_are_read(pet: Callable[..., Path]) -> None:
    volume = read_volume(pet(legacy=True))
    np.testing.assert_allclose(volume.array, ACTIVITY * 70e3 / 350e6, rtol=1e-6)
    header = volume.provenance.header.frames[0][2].pet
    assert (header.acquired, header.frame_reference) == (datetime(2020, 5, 17, 13, 2, 10), 2.0)  # noqa: DTZ001


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("options", [{}, {"enhanced": "classic"}, {"anonymise": True}, {"private": "drop"},
                                     {"enhanced": "classic", "anonymise": True}], ids=str)  # fmt: skip
@pytest.mark.parametrize("change", [1.0, 0.37])
def test_there_and_back(
    pet: Callable[..., Path], tmp_path: Path, options: dict[str, Any], change: float, shared: bool, legacy: bool
) -> None:
    if options.get("anonymise"):
        pytest.importorskip("dicomanonymizer", reason="needs dicom-anonymizer: pip install 'tatcli[anonymise]'")
    volume = read_volume(pet((0.7,) * 3 if shared else SLOPES, shared=shared, legacy=legacy))
    changed = volume.with_array(volume.array * np.float32(change), step="restored: made up")
    write_volume(changed, tmp_path / "out", dicom=DicomOptions(**options))
    back = read_volume(tmp_path / "out")
    assert back.units is Units.SUVBW
    steps = changed.array.max(axis=(1, 2), keepdims=True) / 32767
    atol = 0 if change == 1.0 else np.broadcast_to(steps / 2 * 1.001, back.array.shape)
    assert (np.abs(back.array - changed.array) <= atol + 1e-6 * changed.array).all()
    assert [len(back.provenance.header.frames), back.geometry.shape] == [1, (3, 6, 8)]


def activity_of(dataset: Dataset, place: Dataset, pixels: np.ndarray) -> np.ndarray:
    """Bq/ml by the mapping of that unit."""
    (found,) = (
        one for one in place.RealWorldValueMappingSequence if one.MeasurementUnitsCodeSequence[0].CodeValue == "Bq/ml"
    )
    assert (found.RealWorldValueFirstValueMapped, found.RealWorldValueLastValueMapped) == (
        (-32768, 32767) if dataset.PixelRepresentation else (0, 65535)
    )
    return np.asarray(pixels * found.RealWorldValueSlope + found.RealWorldValueIntercept)


@pytest.mark.parametrize("change", [1.0, 0.37])
@pytest.mark.parametrize("anonymise", [False, True])
def test_mappings_and_windows_keep_their_meaning(
    pet: Callable[..., Path], tmp_path: Path, change: float, anonymise: bool
) -> None:
    if anonymise:
        pytest.importorskip("dicomanonymizer", reason="needs dicom-anonymizer: pip install 'tatcli[anonymise]'")
    volume = read_volume(pet())
    changed = volume.with_array(volume.array * np.float32(change), step="restored: made up")
    write_volume(changed, tmp_path / "keep", dicom=DicomOptions(anonymise=anonymise))
    kept = pydicom.dcmread(tmp_path / "keep" / "00001.dcm")
    write_volume(changed, tmp_path / "classic", dicom=DicomOptions(anonymise=anonymise, enhanced="classic"))
    factor = ONE_HOUR if anonymise else 1.0
    for index, path in enumerate(sorted((tmp_path / "classic").iterdir())):
        step = max(SLOPES) * change
        group = kept.PerFrameFunctionalGroupsSequence[index]
        np.testing.assert_allclose(
            activity_of(kept, group, kept.pixel_array[index]), ACTIVITY[index] * change, atol=step
        )
        classic = pydicom.dcmread(path)
        np.testing.assert_allclose(
            activity_of(classic, classic, classic.pixel_array), ACTIVITY[index] * change, atol=step
        )
        assert float(classic.WindowCenter) == pytest.approx(10000 * factor)
        assert float(classic.WindowWidth) == pytest.approx(20000 * factor)
        assert classic.get("VOILUTFunction") == ("LINEAR_EXACT" if anonymise else None)
        first = group.RealWorldValueMappingSequence[0]
        assert first.MeasurementUnitsCodeSequence[0].CodeValue == ("g/ml{SUVbw}" if anonymise else "Bq/ml")
    window = kept.SharedFunctionalGroupsSequence[0].FrameVOILUTSequence[0]
    assert (float(window.WindowCenter), float(window.WindowWidth)) == pytest.approx((10000 * factor, 20000 * factor))


def test_classic_pet_says_what_its_modules_demand(pet: Callable[..., Path], tmp_path: Path) -> None:
    """Type 1 and 2 of the PET series and image modules (PS3.3 C.8.9.1, C.8.9.4)."""
    write_volume(read_volume(pet()), tmp_path / "out", dicom=DicomOptions(enhanced="classic"))
    for index, path in enumerate(sorted((tmp_path / "out").iterdir())):
        dataset = pydicom.dcmread(path)
        assert dataset.SOPClassUID == CLASSIC
        assert (dataset.Units, dataset.DecayCorrection, dataset.CountsSource) == ("BQML", "START", "EMISSION")
        assert list(dataset.SeriesType) == ["STATIC", "IMAGE"]
        assert list(dataset.CorrectedImage) == ["DECY", "ATTN", "RAN"]
        assert list(dataset.ImageType) == ["DERIVED", "PRIMARY", "STATIC", "NONE"]
        # The reference of all times is the moment of the decay correction (C.8.9.1.1.2).
        assert (dataset.SeriesDate, dataset.SeriesTime) == ("20200517", "130000")
        assert float(dataset.FrameReferenceTime) == 40e3 + 60e3 * index
        assert (dataset.AcquisitionDate, dataset.AcquisitionTime) == ("20200517", f"13{index:02d}10")
        assert dataset.ActualFrameDuration == 60000
        assert float(dataset.DecayFactor) == 1.0 + index / 100
        assert (dataset.NumberOfSlices, dataset.ImageIndex) == (3, index + 1)
        assert not dataset["CollimatorType"].value
        for keyword in ("Units", "DecayCorrected", "DecayCorrectionDateTime"):
            assert keyword in dataset


def test_what_frames_were_converted_from_is_no_attribute_of_theirs(pet: Callable[..., Path], tmp_path: Path) -> None:
    write_volume(read_volume(pet(legacy=True)), tmp_path / "out", dicom=DicomOptions(enhanced="classic"))
    for index, path in enumerate(sorted((tmp_path / "out").iterdir())):
        dataset = pydicom.dcmread(path)
        for keyword in ("ReferencedSOPClassUID", "ReferencedSOPInstanceUID", "ConversionSourceAttributesSequence"):
            assert keyword not in dataset
        assert (dataset.Units, dataset.DecayCorrection, dataset.CountsSource) == ("BQML", "ADMIN", "EMISSION")
        assert float(dataset.FrameReferenceTime) == 1000 * index
        assert (dataset.SeriesTime, dataset.ImageIndex) == ("180000", index + 1)


def test_times_of_one_slice(pet: Callable[..., Path], tmp_path: Path) -> None:
    """A dynamic scan; the factor of the decay correction, where no frame says it, is that of the mean count rate."""
    path = pet()
    dataset = pydicom.dcmread(path)
    for group in dataset.PerFrameFunctionalGroupsSequence:
        group.PlanePositionSequence[0].ImagePositionPatient = [-12.0, -16.0, 0.0]
        del group.PETFrameCorrectionFactorsSequence
    dataset.save_as(path)
    volume = read_volume(path)
    assert volume.array.shape == (3, 1, 6, 8)
    write_volume(volume, tmp_path / "out", dicom=DicomOptions(enhanced="classic"))
    for index, file in enumerate(sorted((tmp_path / "out").iterdir())):
        dataset = pydicom.dcmread(file)
        assert list(dataset.SeriesType) == ["DYNAMIC", "IMAGE"]
        assert (dataset.NumberOfSlices, dataset.NumberOfTimeSlices, dataset.ImageIndex) == (1, 3, index + 1)
        seconds = 60 * index + 10 + (np.arange(6000) + 0.5) / 100
        assert float(dataset.DecayFactor) == pytest.approx(1 / np.mean(0.5 ** (seconds / HALF_LIFE)), rel=1e-9)
    assert read_volume(tmp_path / "out").array.shape == (3, 1, 6, 8)


@pytest.mark.parametrize(("form", "expected"), [("keep", [False]), ("classic", [True, False, False])])
def test_padding_means_nothing_once_a_frame_is_recoded(
    pet: Callable[..., Path], tmp_path: Path, form: str, expected: list[bool]
) -> None:
    """An object's padding value is of the source's numbers, which its first frame may keep."""
    path, pixels = pet(), PIXELS.copy()
    pixels[0, 1, 1] = 32767  # fills its type, so that the frame's slope is the source's again
    dataset = pydicom.dcmread(path)
    dataset.PixelData = pixels.tobytes()
    dataset.add_new("PixelPaddingValue", "SS", -7)
    dataset.save_as(path)
    volume = read_volume(path)
    array = volume.array.copy()
    array[2, 0, 0] = 0.01
    for name, values, kept in (("same", volume.array, [True] * len(expected)), ("changed", array, expected)):
        restored = volume.with_array(values, step="restored: made up")
        write_volume(restored, tmp_path / name, dicom=DicomOptions(enhanced=form))
        assert ["PixelPaddingValue" in pydicom.dcmread(one) for one in sorted((tmp_path / name).iterdir())] == kept


@pytest.mark.parametrize("form", ["keep", "classic"])
def test_legacy_frames_say_nothing_of_the_source_s_pixels(pet: Callable[..., Path], tmp_path: Path, form: str) -> None:
    """What classic objects had at the top level, legacy converted ones keep in groups of their own."""
    path = pet(legacy=True)
    dataset = pydicom.dcmread(path)
    for group in dataset.PerFrameFunctionalGroupsSequence:
        part = group.UnassignedPerFrameConvertedAttributesSequence[0]
        part.add_new("SmallestImagePixelValue", "SS", 0)
        part.add_new("LargestImagePixelValue", "SS", 32767)
        part.IconImageSequence = item(Rows=4, Columns=4)
    shared = dataset.SharedFunctionalGroupsSequence[0].UnassignedSharedConvertedAttributesSequence[0]
    shared.add_new("LargestPixelValueInSeries", "SS", 32767)
    dataset.save_as(path)
    volume = read_volume(path)
    changed = volume.with_array(volume.array * np.float32(0.5), step="restored: made up")
    write_volume(changed, tmp_path / "out", dicom=DicomOptions(enhanced=form))
    new = [pydicom.dcmread(file) for file in sorted((tmp_path / "out").iterdir())]
    assert len(new) == (1 if form == "keep" else 3)
    stale = {"SmallestImagePixelValue", "LargestImagePixelValue", "IconImageSequence", "LargestPixelValueInSeries"}
    assert not [element.keyword for one in new for element in one.iterall() if element.keyword in stale]
    assert sum(element.keyword == "Units" for one in new for element in one.iterall()) == 3  # the rest is still there
