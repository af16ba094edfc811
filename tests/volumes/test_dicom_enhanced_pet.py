"""Enhanced PET, true and legacy converted: read."""

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
from tatcli.volumes import read_volume

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
