import math
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from tatcli.errors import UnitsError, UsageError
from tatcli.intensity import Units
from tatcli.volumes import read_volume, write_volume
from tatcli.volumes.pet_header import PetHeader, moment, pet_header, rests_on_private
from tatcli.volumes.pet_tags import PetTags
from tatcli.volumes.suv import suv_factor

HALF_LIFE = 6586.2
NOON = datetime(2020, 5, 17, 12, 0, 0)  # noqa: DTZ001
HEADER = PetHeader(
    units="BQML",
    corrections=("ATTN", "DECY"),
    decay_correction="START",
    weight=70.0,
    dose=350e6,
    half_life=HALF_LIFE,
    injected=NOON,
    series_time=NOON + timedelta(hours=1),
    acquired=NOON + timedelta(hours=1),
)
ONE_HOUR = 70e3 / (350e6 * 0.5 ** (3600 / HALF_LIFE))


def test_the_formula() -> None:
    assert suv_factor([HEADER], "scan") == pytest.approx(ONE_HOUR, rel=1e-12)
    # A uniform body that holds the whole decayed dose has SUV 1 everywhere: Bq per gram.
    decayed = 350e6 * 0.5 ** (3600 / HALF_LIFE)
    assert decayed / 70e3 * suv_factor([HEADER], "scan") == pytest.approx(1.0)


def test_later_beds_don_t_matter() -> None:
    beds = [replace(HEADER, acquired=NOON + timedelta(hours=1, minutes=3 * bed)) for bed in range(5)]
    assert suv_factor(beds, "scan") == pytest.approx(ONE_HOUR)


def test_the_time_of_post_processing_is_not_the_scan() -> None:
    late = replace(HEADER, series_time=NOON + timedelta(hours=9))
    beds = [replace(late, acquired=NOON + timedelta(hours=1, minutes=3 * bed)) for bed in range(3)]
    assert suv_factor(beds, "scan") == pytest.approx(ONE_HOUR)
    private = [replace(bed, ge_scan_time=NOON + timedelta(minutes=30)) for bed in beds]
    assert suv_factor(private, "scan") == pytest.approx(70e3 / (350e6 * 0.5 ** (1800 / HALF_LIFE)))


def test_the_series_time_is_the_scan_s_unless_it_is_later() -> None:
    private = replace(HEADER, ge_scan_time=NOON + timedelta(minutes=30), frame_reference=900.0, frame_duration=300.0)
    assert suv_factor([private], "scan") == pytest.approx(ONE_HOUR)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"units": "CNTS"}, True),
        ({}, False),
        ({"ge_scan_time": NOON}, False),  # the series' time is the scan's already
        ({"series_time": NOON + timedelta(hours=9)}, False),  # the images' times tell
        ({"series_time": NOON + timedelta(hours=9), "ge_scan_time": NOON}, True),
        ({"series_time": None, "ge_scan_time": NOON}, True),
        ({"series_time": None}, False),
        ({"series_time": NOON + timedelta(hours=9), "ge_scan_time": NOON, "units": "GML"}, False),
        ({"series_time": NOON + timedelta(hours=9), "ge_scan_time": NOON, "decay_correction": "ADMIN"}, False),
        ({"series_time": NOON + timedelta(hours=9), "ge_scan_time": NOON, "corrected_to": NOON}, False),
    ],
)
def test_whether_suv_rests_on_private_attributes(changes: dict[str, Any], expected: bool) -> None:
    assert rests_on_private([replace(HEADER, **changes)]) is expected


def test_without_a_series_time_the_first_bed_s_is_the_scan_s() -> None:
    """AcquisitionTime alone, of images in no order of time: that of the earliest, and of those that have one."""
    beds = [replace(HEADER, series_time=None, acquired=NOON + timedelta(minutes=minutes)) for minutes in (63, 60, 66)]
    assert suv_factor(beds, "scan") == pytest.approx(ONE_HOUR)
    assert suv_factor([*beds, replace(beds[0], acquired=None)], "scan") == pytest.approx(ONE_HOUR)


def test_back_from_the_frame_reference_time() -> None:
    """A bed whose mean count rate falls 600 s after the reference: the scan's start follows from it."""
    duration = 300.0
    decay = math.log(2) / HALF_LIFE
    average = math.log(decay * duration / (1 - math.exp(-decay * duration))) / decay
    assert average == pytest.approx(duration / 2 - decay * duration**2 / 24, rel=1e-6)  # before the middle
    header = replace(
        HEADER,
        series_time=NOON + timedelta(hours=9),
        acquired=NOON + timedelta(hours=1, seconds=600.0 - average),
        frame_reference=600.0,
        frame_duration=duration,
    )
    assert suv_factor([header], "scan") == pytest.approx(ONE_HOUR, rel=1e-6)


def test_decay_corrected_to_the_injection() -> None:
    header = replace(HEADER, decay_correction="ADMIN", injected=None, series_time=None, acquired=None)
    assert suv_factor([header], "scan") == pytest.approx(70e3 / 350e6)


@pytest.mark.parametrize(
    "injected",
    [
        datetime(1, 1, 1, 23, 30),  # time of day only, the evening before  # noqa: DTZ001
        datetime(2020, 5, 16, 23, 30),  # noqa: DTZ001
        datetime(1998, 1, 1, 23, 30),  # the date was anonymised, the scan's wasn't  # noqa: DTZ001
    ],
)
def test_a_scan_past_midnight(injected: datetime) -> None:
    scan = datetime(2020, 5, 17, 0, 30)  # noqa: DTZ001
    header = replace(HEADER, injected=injected, series_time=scan, acquired=scan)
    assert suv_factor([header], "scan") == pytest.approx(ONE_HOUR)


@pytest.mark.parametrize("dated", [True, False])
@pytest.mark.parametrize("half_life", [HALF_LIFE, 12000.0, 1223.0])
def test_a_dynamic_scan_may_begin_before_the_injection(dated: bool, half_life: float) -> None:
    """As brain PET does, half a minute before the bolus: the dose has grown, backwards, by as much."""
    scan = NOON - timedelta(seconds=30)
    frames = [
        replace(
            HEADER,
            half_life=half_life,
            injected=NOON if dated else NOON.replace(year=1, month=1, day=1),
            series_time=scan,
            acquired=scan + timedelta(seconds=60 * number),
            frame_duration=60.0,
        )
        for number in range(5)
    ]
    assert suv_factor(frames, "scan") == pytest.approx(70e3 / (350e6 * 2 ** (30 / half_life)), rel=1e-9)
    short = [replace(frames[0], frame_duration=20.0)]  # over before the injection
    with pytest.raises(UnitsError, match="expected a scan after the injection"):
        suv_factor(short, "scan")


def test_a_moment_with_an_offset_of_its_own_is_brought_to_the_objects() -> None:
    """PS3.5 6.2: 08:00 UTC is 09:00 where the scanner's clock is an hour ahead."""
    nine = datetime(2024, 1, 1, 9, 0)  # noqa: DTZ001
    assert moment("20240101080000.00+0000", zone="+0100") == nine
    assert moment("20240101093000-0330", zone="-0400") == nine
    assert moment("20240101090000", zone="+0100") == nine
    assert moment("20240101090000+0000") == nine  # nobody says what the scanner's own is
    assert moment("090000", date="20240101", zone="+0100") == nine
    dataset = Dataset()
    dataset.TimezoneOffsetFromUTC = "+0100"
    dataset.RadiopharmaceuticalInformationSequence = [Dataset()]
    dataset.RadiopharmaceuticalInformationSequence[0].RadiopharmaceuticalStartDateTime = "20240101080000.00+0000"
    assert pet_header(dataset).injected == nine


def test_a_series_with_a_date_and_images_without_one() -> None:
    undated = replace(HEADER, acquired=datetime(1, 1, 1, 13, 0))  # noqa: DTZ001
    assert suv_factor([undated], "scan") == pytest.approx(ONE_HOUR)
    late = replace(undated, series_time=NOON + timedelta(hours=9), ge_scan_time=NOON + timedelta(hours=1))
    assert suv_factor([late], "scan") == pytest.approx(ONE_HOUR)
    assert rests_on_private([late])
    assert not rests_on_private([replace(undated, ge_scan_time=NOON + timedelta(minutes=1))])


def test_a_nuclide_that_lives_for_days_needs_dates() -> None:
    """Zr-89 (78.4 h) is imaged days after its injection; by times of day it would be the same day."""
    zirconium = replace(HEADER, half_life=78.4 * 3600, injected=datetime(1, 1, 1, 12, 0))  # noqa: DTZ001
    with pytest.raises(UnitsError, match=r"dates .* for a half-life of 78 h, .* --pet injected=YYYY"):
        suv_factor([zirconium], "scan")
    undated = datetime(1, 1, 1, 13, 0)  # noqa: DTZ001
    with pytest.raises(UnitsError, match="got times of day"):
        suv_factor([replace(zirconium, injected=NOON, series_time=undated, acquired=undated)], "scan")
    later = replace(zirconium, injected=NOON - timedelta(days=4))
    assert suv_factor([later], "scan") == pytest.approx(70e3 / (350e6 * 0.5 ** (97 / 78.4)))
    within = r" by at most 10 half-lives of 282240 s, got one 28\d+ s after"
    for days, words in ((-1, ", got one -"), (33, within)):  # after the scan, or longer before it than 32.7 days
        impossible = replace(zirconium, injected=NOON - timedelta(days=days))
        with pytest.raises(UnitsError, match=f"expected a scan after the injection{words}"):
            suv_factor([impossible], "scan")
    at_injection = replace(zirconium, decay_correction="ADMIN")
    assert suv_factor([at_injection], "scan") == pytest.approx(70e3 / 350e6)


def test_other_units() -> None:
    assert suv_factor([PetHeader(units="GML")], "scan") == 1.0
    assert suv_factor([PetHeader(units="GML", suv_type="BW")], "scan") == 1.0
    assert suv_factor([PetHeader(units="CNTS", philips_suv=0.0123)], "scan") == 0.0123
    counts = replace(HEADER, units="CNTS", philips_activity=2.5)
    assert suv_factor([counts], "scan") == pytest.approx(2.5 * ONE_HOUR)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weight": None}, r"PatientWeight \(0010,1030\)"),
        ({"dose": None, "half_life": None}, r"RadionuclideTotalDose.*RadionuclideHalfLife"),
        ({"injected": None}, "RadiopharmaceuticalStartTime"),
        ({"series_time": None, "acquired": None}, "SeriesTime"),
        ({"decay_correction": ""}, "DecayCorrection"),
        ({"decay_correction": "NONE"}, "START or ADMIN, got NONE"),
        ({"corrections": ("DECY",)}, "ATTN"),
        ({"corrections": ("ATTN",)}, "DECY"),
        ({"dose": 350.0}, "in Bq, got 350"),
        ({"dose": 2e11}, r"in Bq, got 2e\+11"),
        (
            {"weight": 91000.0},
            r"0\.005 to 500 kg as PatientWeight \(0010,1030\), got a value beyond; .* --pet weight=KG",
        ),
        ({"weight": 0.001}, r"to 500 kg as PatientWeight \(0010,1030\), got a value beyond"),
        ({"injected": NOON + timedelta(hours=1, minutes=5)}, "after the injection"),
        ({"units": "CNTS"}, r"\(7053,1000\)"),
        ({"units": "GML", "suv_type": "LBM"}, "SUVType LBM"),
        ({"units": "PROPCPS"}, "'PROPCPS'"),
        ({"units": ""}, r"no Units \(0054,1001\)"),
    ],
)
def test_what_is_missing_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UnitsError, match=message) as caught:
        suv_factor([replace(HEADER, **changes)], "scan")
    assert str(caught.value).startswith("scan: expected ")


@pytest.mark.parametrize("weight", [0.02, 0.3, 200.0])
def test_mice_rats_and_heavy_patients_have_weights(weight: float) -> None:
    assert suv_factor([replace(HEADER, weight=weight)], "scan") == pytest.approx(ONE_HOUR * weight / 70.0)


def test_the_callers_weight_outweighs_an_impossible_one() -> None:
    header = PetTags(weight=91.0).applied_to(replace(HEADER, weight=91000.0))
    assert suv_factor([header], "scan") == pytest.approx(ONE_HOUR * 91.0 / 70.0)


def test_one_unit_throughout() -> None:
    with pytest.raises(UnitsError, match="one unit throughout"):
        suv_factor([HEADER, replace(HEADER, units="CNTS")], "scan")


@pytest.mark.parametrize(
    ("value", "date", "expected"),
    [
        ("1200", "20200517", NOON),  # seconds may be left out (PS3.5, VR TM)
        ("12:00:00", "20200517", NOON),  # as before DICOM
        ("20200517120000.000000+0100", None, NOON),
        ("202005171200-0500", None, NOON),
        ("120000.25", "20200517", NOON + timedelta(seconds=0.25)),
        ("246000", "20200517", None),
        ("", "20200517", None),
        (None, None, None),
    ],
)
def test_times(value: str | None, date: str | None, expected: datetime | None) -> None:
    assert moment(value, date=date) == expected


def pet_attributes() -> dict[str, Any]:
    drug = Dataset()
    drug.RadiopharmaceuticalStartTime = "120000.00"
    drug.RadionuclideTotalDose, drug.RadionuclideHalfLife = 350e6, HALF_LIFE
    return {
        "Units": "BQML",
        "CorrectedImage": ["DECY", "ATTN"],
        "DecayCorrection": "START",
        "PatientWeight": 70,
        "SeriesDate": "20200517",
        "SeriesTime": "130000",
        "AcquisitionDate": "20200517",
        "AcquisitionTime": "130000.5",
        "FrameReferenceTime": 606000,
        "ActualFrameDuration": 300000,
        "RadiopharmaceuticalInformationSequence": Sequence([drug]),
    }


def test_the_header_is_read() -> None:
    dataset = Dataset()
    for keyword, value in pet_attributes().items():
        setattr(dataset, keyword, value)
    block = dataset.private_block(0x7053, "Philips PET Private Group", create=True)
    block.add_new(0x00, "DS", "0.5")
    block.add_new(0x09, "DS", "2.5")
    dataset.private_block(0x0009, "GEMS_PETD_01", create=True).add_new(0x0D, "DT", "20200517123000.00")
    header = pet_header(dataset)
    assert header == PetHeader(
        units="BQML",
        corrections=("DECY", "ATTN"),
        decay_correction="START",
        weight=70.0,
        dose=350e6,
        half_life=HALF_LIFE,
        injected=datetime(1, 1, 1, 12),  # noqa: DTZ001
        series_time=NOON + timedelta(hours=1),
        acquired=NOON + timedelta(hours=1, seconds=0.5),
        frame_reference=606.0,
        frame_duration=300.0,
        philips_suv=0.5,
        philips_activity=2.5,
        ge_scan_time=NOON + timedelta(minutes=30),
    )
    assert pet_header(Dataset()) == PetHeader()


def test_a_pet_series_is_read_in_suv(series: Callable[..., Any], tmp_path: Any) -> None:
    maker = series(modality="PT", common=pet_attributes())
    pixels = np.random.default_rng(0).integers(0, 32767, (4, 6, 8)).astype(np.int16)
    slopes = [0.7, 0.5, 0.3, 0.9]  # GE: every slice fills the range of its integers
    for index, plane in enumerate(pixels):
        maker.add(plane, (0, 0, 3.27 * index), RescaleSlope=slopes[index], RescaleIntercept=0)
    volume = read_volume(maker.folder)
    activity = pixels * np.array(slopes)[:, None, None]
    np.testing.assert_allclose(volume.array, activity * ONE_HOUR, rtol=1e-6)
    assert volume.units is Units.SUVBW
    assert read_volume(maker.folder, units=Units.SUVBW).array.tobytes() == volume.array.tobytes()
    raw = read_volume(maker.folder, units=Units.BQML)
    np.testing.assert_allclose(raw.array, activity, rtol=1e-6)
    assert raw.units is Units.BQML
    back = read_volume(write_volume(volume, tmp_path / "out.nii.gz"))
    assert back.array.tobytes() == volume.array.tobytes()
    with pytest.raises(UnitsError, match="expected units HU, got SUVbw"):
        read_volume(maker.folder, units=Units.HU)


def test_a_pet_series_without_weight_can_be_read_as_activity(series: Callable[..., Any]) -> None:
    maker = series(modality="PT", common={**pet_attributes(), "PatientWeight": 0})
    maker.add(np.ones((6, 8), np.int16), (0, 0, 0), RescaleSlope=2.0, RescaleIntercept=0)
    with pytest.raises(UnitsError, match="PatientWeight"):
        read_volume(maker.folder)
    assert read_volume(maker.folder, units=Units.BQML).array[0, 0, 0] == 2.0


def test_enhanced_pet_says_it_in_its_own_words() -> None:
    """Units as a code of the real world value mapping, corrections as flags, the moment of the decay correction."""
    dataset, group, real, stored, code = (Dataset() for _ in range(5))
    code.CodeValue, code.CodingSchemeDesignator = "Bq/ml", "UCUM"
    real.RealWorldValueSlope, real.RealWorldValueIntercept, real.MeasurementUnitsCodeSequence = 2.5, 0.0, [code]
    stored.RescaleSlope, stored.RescaleIntercept = 2.5, 0
    group.RealWorldValueMappingSequence, group.PixelValueTransformationSequence = [real], [stored]
    dataset.SharedFunctionalGroupsSequence = [group]
    dataset.DecayCorrected, dataset.AttenuationCorrected, dataset.ScatterCorrected = "YES", "YES", "NO"
    dataset.DecayCorrectionDateTime = "20200517130000"
    dataset.SeriesDate, dataset.SeriesTime = "20200517", "180000"  # of a late reconstruction
    drug = Dataset()
    drug.RadionuclideTotalDose, drug.RadionuclideHalfLife = 350e6, HALF_LIFE
    drug.RadiopharmaceuticalStartDateTime = "20200517120000"
    dataset.RadiopharmaceuticalInformationSequence, dataset.PatientWeight = [drug], 70
    header = pet_header(dataset)
    assert (header.units, header.corrections, header.decay_correction) == ("BQML", ("DECY", "ATTN"), "START")
    assert suv_factor([header], "scan") == pytest.approx(ONE_HOUR, rel=1e-12)
    stored.RescaleSlope = 1.0  # the two contradict each other
    assert pet_header(dataset).units == ""


def test_legacy_converted_pet_keeps_classic_attributes_in_a_group() -> None:
    dataset, group, kept = Dataset(), Dataset(), Dataset()
    kept.Units, kept.DecayCorrection, kept.CorrectedImage = "BQML", "ADMIN", ["ATTN", "DECY"]
    group.UnassignedSharedConvertedAttributesSequence = [kept]
    dataset.SharedFunctionalGroupsSequence = [group]
    header = pet_header(dataset)
    assert (header.units, header.decay_correction, header.corrections) == ("BQML", "ADMIN", ("ATTN", "DECY"))


def test_the_caller_supplies_what_the_header_lacks() -> None:
    bare = PetHeader(units="BQML", series_time=NOON + timedelta(hours=1))
    with pytest.raises(UnitsError) as caught:
        suv_factor([bare], "scan")
    told = str(caught.value)
    assert "no PatientWeight (0010,1030), RadionuclideTotalDose (0018,1074), RadionuclideHalfLife" in told
    assert told.endswith("--pet weight=KG,dose=MBQ,half-life=SECONDS,decay=START,injected=HH:MM:SS")
    tags = PetTags.parse(f"weight=70, dose=350,half-life={HALF_LIFE},decay=start,injected=12:00")
    assert suv_factor([tags.applied_to(bare)], "scan") == pytest.approx(ONE_HOUR)
    assert tags.replaced(bare) == ()
    late = PetTags.parse("scanned=14:00:00").applied_to(tags.applied_to(bare))
    assert suv_factor([late], "scan") == pytest.approx(70e3 / (350e6 * 0.5 ** (7200 / HALF_LIFE)))
    dated = PetTags.parse("injected=2020-05-17T12:00:00,scanned=20200517T130000").applied_to(HEADER)
    assert suv_factor([dated], "scan") == pytest.approx(ONE_HOUR)
    assert PetTags.parse("weight=71,dose=350").replaced(HEADER) == ("weight",)


@pytest.mark.parametrize(
    "text",
    ["weight", "height=180", "weight=heavy", "dose=-1", "dose=inf", "decay=NONE", "injected=noon", "scanned=25:00"],
)
def test_words_that_are_no_pet_tags(text: str) -> None:
    with pytest.raises(UsageError, match=r"--pet .*expected"):
        PetTags.parse(text)


def test_supplied_tags_are_for_pet_only(series: Callable[..., Any]) -> None:
    maker = series(modality="PT", common={**pet_attributes(), "PatientWeight": 0})
    maker.add(np.full((6, 8), 7, np.int16), (0, 0, 0), RescaleSlope=2.0, RescaleIntercept=0)
    volume = read_volume(maker.folder, pet=PetTags(weight=70.0))
    np.testing.assert_allclose(volume.array, 14 * ONE_HOUR, rtol=1e-6)
    ct = series(folder=maker.folder.parent / "ct")
    ct.add(np.ones((6, 8), np.int16), (0, 0, 0))
    with pytest.raises(UsageError, match="expected PET together with --pet, got CT"):
        read_volume(ct.folder, pet=PetTags(weight=70.0))
