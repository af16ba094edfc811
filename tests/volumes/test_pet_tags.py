"""What is said of ``--pet`` against a header that knows better, or otherwise."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from tatcli.intensity import Units
from tatcli.volumes import read_volume
from tatcli.volumes.pet_header import PetHeader
from tatcli.volumes.pet_tags import PetTags

HEADER = PetHeader(
    units="BQML",
    decay_correction="START",
    injected=datetime(1, 1, 1, 12, 0, 0, 250000),  # noqa: DTZ001
    series_time=datetime(2020, 5, 17, 13),  # noqa: DTZ001
    acquired=datetime(2020, 5, 17, 13, 4),  # noqa: DTZ001
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("injected=12:00,scanned=13:00", ()),
        ("injected=2020-05-17T12:00:00,scanned=2020-05-17T13:00:00", ()),  # the header's injection has no date
        ("injected=12:01", ("injected",)),
        ("scanned=13:00:01", ("scanned",)),
        ("scanned=2020-05-18T13:00", ("scanned",)),
        ("injected=11:00,scanned=14:00,decay=ADMIN", ("decay",)),  # times don't matter any more
    ],
)
def test_times_that_contradict_the_header_are_named(text: str, expected: tuple[str, ...]) -> None:
    assert PetTags.parse(text).replaced(HEADER) == expected


def test_times_that_the_header_lacks_contradict_nothing() -> None:
    assert PetTags.parse("injected=12:00,scanned=13:00").replaced(PetHeader(units="BQML")) == ()


def pet_series(series: Callable[..., Any], units: str) -> Any:
    drug = Dataset()
    drug.RadionuclideTotalDose, drug.RadionuclideHalfLife = 350e6, 6586.2
    drug.RadiopharmaceuticalStartTime = "120000"
    header = {
        "Units": units, "CorrectedImage": ["DECY", "ATTN"], "DecayCorrection": "START", "PatientWeight": 70,
        "SeriesDate": "20200517", "SeriesTime": "130000", "RadiopharmaceuticalInformationSequence": [drug],
    }  # fmt: skip
    maker = series(modality="PT", common=header)
    path = maker.add(np.ones((6, 8), np.int16), (0, 0, 0), RescaleSlope=2.0, RescaleIntercept=0)
    if units == "CNTS":
        dataset = pydicom.dcmread(path)
        dataset.private_block(0x7053, "Philips PET Private Group", create=True).add_new(0x00, "DS", "0.5")
        dataset.save_as(path)
    return maker


@pytest.mark.parametrize(
    ("units", "wanted", "value", "reason"),
    [
        ("GML", None, 2.0, "the header's values are SUV already"),
        ("CNTS", None, 1.0, "the header has the vendor's factor to SUV (7053,1000)"),
        ("BQML", Units.BQML, 2.0, "values stay Bq/ml"),
    ],
)
def test_no_effect_is_said_instead_of_another_one(
    series: Callable[..., Any], units: str, wanted: Units | None, value: float, reason: str
) -> None:
    maker = pet_series(series, units)
    volume = read_volume(maker.folder, units=wanted, pet=PetTags.parse("weight=80,scanned=15:00"))
    assert volume.array[0, 0, 0] == value
    (warning,) = volume.provenance.warnings
    assert warning == f"--pet has no effect: {reason}"
    assert read_volume(maker.folder, units=wanted).provenance.warnings == ()


def test_times_outweigh_the_header_s_with_a_word(series: Callable[..., Any]) -> None:
    maker = pet_series(series, "BQML")
    volume = read_volume(maker.folder, pet=PetTags.parse("injected=11:00,scanned=13:00"))
    assert volume.provenance.warnings == ("--pet injected outweighs the header's",)
