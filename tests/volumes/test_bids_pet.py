"""SUV of NIfTI PET by its BIDS sidecar: factors worked out by hand, and everything that must be refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from tatcli.errors import TatError, UnitsError, UsageError, VolumeReadError
from tatcli.intensity import Units
from tatcli.volumes import describe, read_volume, write_volume
from tatcli.volumes.bids_pet import PetScale, pet_scale
from tatcli.volumes.half_lives import half_life_of
from tatcli.volumes.pet_tags import PetTags

F18, C11 = 6586.2, 1223.4
"""s, ICRP 107: 109.77 min and 20.39 min."""
FDG: dict[str, Any] = {
    "Units": "Bq/mL",
    "TracerRadionuclide": "F18",
    "InjectedRadioactivity": 350,
    "InjectedRadioactivityUnits": "MBq",
    "ModeOfAdministration": "bolus",
    "TimeZero": "13:00:00",
    "ScanStart": F18,
    "InjectionStart": 0,
    "FrameTimesStart": [F18],
    "FrameDuration": [600],
    "ImageDecayCorrected": True,
    "ImageDecayCorrectionTime": F18,
    "AttenuationCorrection": "CT-based",
    "PatientWeight": 70,
}
"""70,000 g, 350 MBq, one half-life: 175 MBq are left, 4e-4 g/Bq."""


@pytest.fixture
def study(tmp_path: Path) -> Callable[..., Path]:
    """Write a dataset's files (without the image's voxels) and return the image's path; None takes a field away."""

    def make(*, session: str = "", tables: dict[str, Any] | None = None, **fields: Any) -> Path:
        folder = tmp_path / "study" / "sub-01" / session / "pet"
        folder.mkdir(parents=True, exist_ok=True)
        (tmp_path / "study/dataset_description.json").write_text('{"Name": "x"}', encoding="utf-8")
        for name, content in (tables or {}).items():
            text = content if isinstance(content, str) else json.dumps(content)
            (tmp_path / "study" / name).write_text(text, encoding="utf-8")
        stem = f"sub-01{f'_{session}' * bool(session)}_pet"
        told = {key: value for key, value in (FDG | fields).items() if value is not None}
        (folder / f"{stem}.json").write_text(json.dumps(told), encoding="utf-8")
        return folder / f"{stem}.nii.gz"

    return make


def scale_of(image: Path, frames: int = 1, **others: Any) -> PetScale:
    found = pet_scale(image, frames, **others)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("fields", "factor"),
    [
        ({}, 4e-4),
        ({"Units": "Bq/ml"}, 4e-4),
        ({"Units": "BQML"}, 4e-4),
        ({"Units": "kBq/mL"}, 0.4),
        ({"Units": "kBq/cc"}, 0.4),
        ({"Units": "MBq/cm3"}, 400.0),
        ({"Units": "nCi/cc"}, 4e-4 * 37.0),
        ({"InjectedRadioactivity": 350e3, "InjectedRadioactivityUnits": "kBq"}, 4e-4),
        ({"InjectedRadioactivity": 350e6, "InjectedRadioactivityUnits": "Bq"}, 4e-4),
        ({"InjectedRadioactivity": 0.35, "InjectedRadioactivityUnits": "GBq"}, 4e-4),
        ({"InjectedRadioactivity": 10, "InjectedRadioactivityUnits": "mCi"}, 4e-4 * 350 / 370),
        ({"InjectedRadioactivity": "350", "ImageDecayCorrected": "true"}, 4e-4),  # words where numbers should be
        ({"InjectedRadioactivityUnits": None, "InjectedRadioActivityUnits": "MBq"}, 4e-4),  # the standard's example
        # 573 MBq of C-11 into 70 kg, corrected to the injection: 70,000 / 573e6
        ({"TracerRadionuclide": "C11", "InjectedRadioactivity": 573, "ImageDecayCorrectionTime": 0}, 70 / 573e3),
        # two half-lives of C-11 later a quarter is left
        ({"TracerRadionuclide": "11C", "ImageDecayCorrectionTime": 2 * C11}, 8e-4),
        # corrected to a scan's start one half-life before the injection: twice the dose would have been there
        ({"TracerRadionuclide": "C11", "InjectionStart": C11, "ImageDecayCorrectionTime": 0}, 1e-4),
        # before midnight and after: seconds go on
        ({"TimeZero": "23:50:00", "InjectionStart": -F18 / 2, "ImageDecayCorrectionTime": F18 / 2}, 4e-4),
        ({"PatientWeight": 35}, 2e-4),
    ],
)  # fmt: skip
def test_the_factor_by_hand(study: Callable[..., Path], fields: dict[str, Any], factor: float) -> None:
    found = scale_of(study(**fields))
    assert (found.units, found.warnings) == (Units.SUVBW, ())
    assert found.factor == pytest.approx(factor, rel=1e-12)


def test_a_uniform_body_that_holds_what_is_left_has_suv_1(study: Callable[..., Path]) -> None:
    assert 350e6 / 2 / 70e3 * scale_of(study()).factor == pytest.approx(1.0)


@pytest.mark.parametrize("named", ["SUVbw", "g/mL", "GML"])
def test_suv_stays_as_it_is_and_needs_nothing(study: Callable[..., Path], named: str) -> None:
    found = scale_of(study(Units=named, PatientWeight=None, TracerRadionuclide=None))
    assert (found.factor, found.units, found.warnings) == (1.0, Units.SUVBW, ())


def test_suv_of_an_unnamed_kind_is_taken_with_a_warning(study: Callable[..., Path]) -> None:
    assert scale_of(study(Units="SUV")).warnings == ("Units are SUV: taken as by body weight",)


KG = {"body_weight": {"Units": "kg"}}


@pytest.mark.parametrize(
    ("tables", "session", "factor", "source"),
    [
        ({"participants.tsv": "participant_id\tbody_weight\nsub-02\t50\nsub-01\t140\n", "participants.json": KG},
         "", 8e-4, "140 kg (participants.tsv)"),
        ({"participants.tsv": "participant_id\tage\tweight\nsub-01\t33\t35000\n",
          "participants.json": {"weight": {"Units": "g"}}}, "", 2e-4, "35 kg (participants.tsv)"),
        # of two sessions each has its own, whatever the participants file says
        ({"participants.tsv": "participant_id\tbody_weight\nsub-01\t70\n", "participants.json": KG,
          "sub-01/sub-01_sessions.tsv": "session_id\tbody_weight\nses-a\t7\nses-b\t105\n", "sessions.json": KG},
         "ses-b", 6e-4, "105 kg (sub-01_sessions.tsv)"),
        ({"participants.tsv": "participant_id\tbody_weight\nsub-01\t70\n", "participants.json": KG,
          "sub-01/sub-01_sessions.tsv": "session_id\tbody_weight\nses-b\tn/a\n"},
         "ses-b", 4e-4, "70 kg (participants.tsv)"),
    ],
)  # fmt: skip
def test_the_weight_from_tables(
    study: Callable[..., Path], tables: dict[str, Any], session: str, factor: float, source: str
) -> None:
    study(session=session)
    found = scale_of(study(session=session, tables=tables, PatientWeight=None))
    assert found.factor == pytest.approx(factor, rel=1e-12)
    assert source in found.source


@pytest.mark.parametrize(
    ("unit", "weight"),
    [
        ("kg", 35), ("Kilogram", 35), ("kilograms", 35), ("g", 35e3), ("gram", 35e3), ("grams", 35e3),
        ("lb", 77.16179), ("lbs", 77.16179), ("pound", 77.16179), (" pounds", 77.16179),  # of 0.45359237 kg each
    ],
)  # fmt: skip
def test_units_of_weight(study: Callable[..., Path], unit: str, weight: float) -> None:
    table = f"participant_id\tweight\nsub-01\t{weight}\n"
    tables = {"participants.tsv": table, "participants.json": {"weight": {"Units": unit}}}
    assert scale_of(study(tables=tables, PatientWeight=None)).factor == pytest.approx(2e-4, rel=1e-6)


def test_the_source_says_it_all(study: Callable[..., Path]) -> None:
    assert scale_of(study()).source == (
        "Bq/mL x 0.0004 by sub-01_pet.json: 70 kg (sub-01_pet.json), 350 MBq F18, corrected for decay to 6586.2 s "
        "after the injection"
    )


def test_fields_are_inherited(study: Callable[..., Path]) -> None:
    common = {"TracerRadionuclide": "C11", "Units": "kBq/mL"}
    # the dataset's own file says C-11 and kBq/mL, the image's outweighs the unit
    image = study(tables={"pet.json": common}, TracerRadionuclide=None, ImageDecayCorrectionTime=C11)
    assert scale_of(image).factor == pytest.approx(4e-4)
    (image.parents[2] / "run-2_pet.json").write_text('{"TracerRadionuclide": "O15"}', encoding="utf-8")
    assert scale_of(image).factor == pytest.approx(4e-4)  # another run's


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"PatientWeight": None}, r"no body_weight in participants.tsv; add it or supply it with --pet weight=KG$"),
        ({"InjectedRadioactivity": "n/a"}, r"got no InjectedRadioactivity; .* --pet dose=MBQ$"),
        ({"InjectedRadioactivityUnits": None}, r"got no InjectedRadioactivityUnits; .* --pet dose=MBQ$"),
        ({"InjectedRadioactivityUnits": "mg"}, r"MBq, kBq or the like as InjectedRadioactivityUnits .* 'mg'"),
        ({"InjectedRadioactivityUnits": "mBq"}, r"got 0.35 Bq from InjectedRadioactivity"),  # milli isn't mega
        ({"TracerRadionuclide": None}, r"got no TracerRadionuclide; .* --pet half-life=SECONDS$"),
        ({"TracerRadionuclide": "Xy99"}, r"such as F18 as TracerRadionuclide .* 'Xy99'.*half-life=SECONDS$"),
        ({"ImageDecayCorrected": None}, r"got no ImageDecayCorrected; .* --pet decay=START$"),
        ({"ImageDecayCorrected": False}, r"decay-corrected PET, got ImageDecayCorrected false"),
        ({"ImageDecayCorrected": "perhaps"}, r"true or false as ImageDecayCorrected .* 'perhaps'"),
        ({"ImageDecayCorrectionTime": None}, r"got no ImageDecayCorrectionTime; .* --pet scanned=HH:MM:SS$"),
        ({"InjectionStart": None}, r"got no InjectionStart; .* --pet injected=HH:MM:SS$"),
        ({"InjectionStart": [0]}, r"a number as InjectionStart .* got \[0\]"),
        ({"PatientWeight": None, "TracerRadionuclide": None}, r"--pet weight=KG,half-life=SECONDS$"),
        ({"Units": None}, r"expected Units in sub-01_pet.json, got none.*--units SUVbw"),
        ({"Units": "counts"}, r"Bq/mL, kBq/mL or SUVbw as Units in sub-01_pet.json, got 'counts'"),
        ({"Units": "Bq"}, r"as Units .* got 'Bq'"),
        ({"Units": 1}, r"expected text as Units .* got 1"),
        ({"PatientWeight": 70000}, r"PatientWeight: expected a body weight, got 70000 kg"),
        ({"FrameDuration": [300, 300]}, r"expected 1 entries of FrameDuration .* got 2"),
        ({"FrameTimesStart": [0, 1]}, r"expected 1 entries of FrameTimesStart .* got 2"),
        ({"InjectionStart": 9000}, r"a scan after the injection, got one that ends before it"),
        ({"InjectionStart": 9000, "FrameTimesStart": None}, r"a scan after the injection"),
        ({"ImageDecayCorrectionTime": F18 * 1000}, r"ImageDecayCorrectionTime near the injection, .* 1000 half-lives"),
        ({"DecayCorrectionFactor": [2.0]}, r"DecayCorrectionFactor 1 to 1.065 of frame 1, .* got 2;.*scanned=HH:MM:SS"),
        ({"ModeOfAdministration": "bolus-infusion"}, r"expected a bolus, got ModeOfAdministration bolus-infusion"),
        ({"AttenuationCorrection": "none"}, r"corrected for attenuation, got AttenuationCorrection none"),
    ],
)  # fmt: skip
def test_what_is_missing_or_contradictory_is_named(
    study: Callable[..., Path], fields: dict[str, Any], match: str
) -> None:
    with pytest.raises(UnitsError, match=match) as error:
        pet_scale(study(**fields), 1)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("tables", "match"),
    [
        ({"participants.tsv": "participant_id\tbody_weight\nsub-01\t70\n"},
         r'expected its unit in participants.json \("body_weight": \{"Units": "kg"\}\), got none'),
        ({"participants.tsv": "participant_id\tbody_weight\nsub-01\t70\n",
          "participants.json": {"body_weight": {"Units": "stone"}}}, r"kg, g or lb as unit, got 'stone'"),
        ({"participants.tsv": "participant_id\tbody_weight\nsub-01\t70000\n", "participants.json": KG},
         r"body_weight of sub-01: expected a body weight, got 70000 kg"),
        ({"participants.tsv": "participant_id\tbody_weight\nsub-01\theavy\n", "participants.json": KG},
         r"expected a body weight, got heavy kg"),
        ({"participants.tsv": "participant_id\tbody_weight\nsub-01\t70\nsub-01\t80\n", "participants.json": KG},
         r"expected one body weight of sub-01, got 70 kg and 80 kg; say which with --pet weight=KG"),
        ({"participants.tsv": "participant_id\tbody_weight\nsub-01\tn/a\n", "participants.json": KG},
         r"got no body_weight in participants.tsv"),
    ],
)  # fmt: skip
def test_weights_that_say_too_little_are_refused(
    study: Callable[..., Path], tables: dict[str, Any], match: str
) -> None:
    image = study(tables=tables, PatientWeight=None)
    with pytest.raises(UnitsError, match=match):
        pet_scale(image, 1)
    # the caller's word settles each of them
    assert scale_of(image, pet=PetTags.parse("weight=70")).factor == pytest.approx(4e-4)
    with pytest.raises(UsageError, match=r"--pet weight=70000: expected 0.005 to 500 kg"):
        scale_of(image, pet=PetTags.parse("weight=70000"))


def test_two_weights_that_contradict_each_other(study: Callable[..., Path]) -> None:
    table = {"participants.tsv": "participant_id\tbody_weight\nsub-01\t80\n", "participants.json": KG}
    with pytest.raises(
        UnitsError, match=r"got 80 kg in participants.tsv and 70 kg as PatientWeight in sub-01_pet.json"
    ):
        pet_scale(study(tables=table), 1)
    assert scale_of(study(tables=table, PatientWeight=80.4)).factor == pytest.approx(4e-4 * 8 / 7)


def test_a_reconstruction_without_attenuation_correction_by_its_name(study: Callable[..., Path]) -> None:
    image = study()
    for extension in (".json", ".nii.gz"):
        other = image.with_name(f"sub-01_rec-nacstat_pet{extension}")
        other.write_text(json.dumps(FDG), encoding="utf-8")
    with pytest.raises(UnitsError, match="corrected for attenuation, got rec-nacstat"):
        pet_scale(other, 1)


NUCLIDE = "--pet half-life outweighs the sidecar's nuclide"


@pytest.mark.parametrize(
    ("fields", "word", "factor", "doubts"),
    [
        ({"PatientWeight": None}, "weight=35", 2e-4, []),
        ({}, "weight=35", 2e-4, ["--pet weight outweighs sub-01_pet.json's"]),
        ({"InjectedRadioactivity": None}, "dose=700", 2e-4, []),
        ({}, "dose=700", 2e-4, ["--pet dose outweighs the sidecar's"]),
        ({"ModeOfAdministration": "infusion", "InjectedRadioactivity": None}, "dose=350", 4e-4, []),
        ({"TracerRadionuclide": "Xy99"}, f"half-life={F18 / 2}", 8e-4, [NUCLIDE]),
        ({"ImageDecayCorrected": None}, "decay=ADMIN", 2e-4, []),
        ({"ImageDecayCorrected": None, "ImageDecayCorrectionTime": None}, "decay=START", 4e-4, []),
        ({"ImageDecayCorrected": False}, "decay=START", 4e-4, ["--pet decay outweighs the sidecar's"]),
        # 13:00:00 + 6586.2 s = 14:49:46.2; an injection at 13:00:00 is one half-life before
        ({"InjectionStart": None}, "injected=13:00:00", 4e-4, []),
        # over midnight: from 23:30:00 to 00:10:47 are 2447 s
        ({"TracerRadionuclide": "C11", "TimeZero": "00:10:47", "ImageDecayCorrectionTime": 0, "InjectionStart": None,
          "FrameTimesStart": [0]}, "injected=23:30:00", 2e-4 * 2 ** (2447 / C11), []),
        ({"TracerRadionuclide": "C11", "TimeZero": "23:30:00", "ImageDecayCorrectionTime": None},
         "scanned=00:10:47", 2e-4 * 2 ** (2447 / C11), []),
        # Zr-89, three days later: dates are needed, and tell
        ({"TracerRadionuclide": "Zr89", "FrameTimesStart": None},
         "injected=2020-05-17T12:00:00,scanned=2020-05-20T12:00:00", 2e-4 * 2 ** (72 / 78.41), []),
        ({"TracerRadionuclide": "Zr89"},  # frames count from TimeZero, which doesn't tell when the injection was
         "injected=2020-05-17T12:00:00,scanned=2020-05-20T12:00:00", 2e-4 * 2 ** (72 / 78.41), []),
        # factors that contradict the sidecar's time don't contradict the caller's: 13:00:00 + 6586 s
        ({"DecayCorrectionFactor": [2.0]}, "scanned=14:49:46", 2e-4 * 2 ** (6586 / F18), []),
        ({"DecayCorrectionFactor": [2.0]}, "decay=START", 4e-4, ["--pet decay outweighs the sidecar's"]),
    ],
)  # fmt: skip
def test_the_caller_s_word(
    study: Callable[..., Path], fields: dict[str, Any], word: str, factor: float, doubts: list[str]
) -> None:
    found = scale_of(study(**fields), pet=PetTags.parse(word))
    assert found.factor == pytest.approx(factor, rel=1e-9)
    assert list(found.warnings) == doubts


@pytest.mark.parametrize(
    ("fields", "word", "match"),
    [
        ({"TimeZero": None}, "injected=13:00", r"expected TimeZero \(hh:mm:ss\) in sub-01_pet.json"),
        ({"TimeZero": "noon"}, "injected=13:00", r"which ImageDecayCorrectionTime counts from, got 'noon'"),
        ({"TracerRadionuclide": "Zr89"}, "injected=13:00", r"expected dates with the times of a nuclide"),
        ({"PatientWeight": None}, "dose=350", r"got no body_weight in participants.tsv"),
        # the only frame ends 7186.2 s after 13:00:00, at 14:59:46, whatever InjectionStart says
        ({}, "injected=15:00", r"expected a scan after the injection, got one that ends before it"),
    ],
)
def test_the_caller_s_word_that_doesn_t_suffice(
    study: Callable[..., Path], fields: dict[str, Any], word: str, match: str
) -> None:
    with pytest.raises(UnitsError, match=match):
        pet_scale(study(**fields), 1, pet=PetTags.parse(word))


def test_a_scan_that_begins_before_the_injection_and_goes_on_after_it(study: Callable[..., Path]) -> None:
    frames = {"FrameTimesStart": [0, 60], "FrameDuration": [60, 600], "ImageDecayCorrectionTime": 0}
    found = scale_of(study(**frames, InjectionStart=90), 2)
    assert found.factor == pytest.approx(2e-4 * 2 ** (-90 / F18), rel=1e-9)
    with pytest.raises(UnitsError, match="got one that ends before it"):
        pet_scale(study(**frames, InjectionStart=670), 2)


def test_units_by_the_caller(study: Callable[..., Path]) -> None:
    assert scale_of(study(), units=Units.SUVBW).factor == pytest.approx(4e-4)
    raw = scale_of(study(Units="kBq/mL", PatientWeight=None), units=Units.BQML)
    assert (raw.units, raw.factor) == (Units.BQML, 1000.0)
    vouched = scale_of(study(Units=None, PatientWeight=None), units=Units.SUVBW)
    assert (vouched.units, vouched.factor) == (Units.SUVBW, 1.0)
    with pytest.raises(UnitsError, match="expected units HU, got SUVbw from its sidecar"):
        pet_scale(study(), 1, units=Units.HU)


def test_absent_attenuation_correction_is_a_doubt(study: Callable[..., Path]) -> None:
    found = scale_of(study(AttenuationCorrection="n/a"))
    assert found.warnings == ("AttenuationCorrection is absent: PET is taken as corrected",)


def test_decay_factors_that_fit(study: Callable[..., Path]) -> None:
    frames = {"FrameTimesStart": [0, C11], "FrameDuration": [C11, C11], "TracerRadionuclide": "C11"}
    # by the start of a frame, or averaged over it: λd / (1 - 2^-1) = 1.386
    # or, rounded, by its end
    for factors in ([1.0, 2.0], [1.386, 2.773], [2.05, 4.1]):
        image = study(**frames, ImageDecayCorrectionTime=0, DecayCorrectionFactor=factors)
        assert scale_of(image, 2).factor == pytest.approx(2e-4)
    with pytest.raises(UnitsError, match=r"DecayCorrectionFactor 2 to 4 of frame 2, .* got 1;"):
        pet_scale(study(**frames, ImageDecayCorrectionTime=0, DecayCorrectionFactor=[1, 1]), 2)
    with pytest.raises(UnitsError, match=r"DecayCorrectionFactor 1 to 2 of frame 1, .* got 2.3;"):
        pet_scale(study(**frames, ImageDecayCorrectionTime=0, DecayCorrectionFactor=[2.3, 4]), 2)


@pytest.mark.parametrize("told", [{"EchoTime": 3}, {"Units": "mm"}, {"TracerRadionuclide": "F18"}, None])
def test_what_isn_t_pet_stays_as_it_was(tmp_path: Path, told: dict[str, Any] | None) -> None:
    (tmp_path / "t1.json").write_text("{" if told is None else json.dumps(told), encoding="utf-8")
    image = tmp_path / "t1.nii.gz"
    assert pet_scale(image, 1) is None
    with pytest.raises(UsageError, match=r"NAME_pet.json.*--pet, got neither"):
        pet_scale(image, 1, pet=PetTags.parse("weight=70"))


@pytest.mark.parametrize("name", ["fdg", "pet", "sub-01_pet_restored"])
def test_another_name_with_a_sidecar_of_its_own(tmp_path: Path, name: str) -> None:
    (tmp_path / f"{name}.json").write_text(json.dumps(FDG), encoding="utf-8")
    assert scale_of(tmp_path / f"{name}.nii.gz").factor == pytest.approx(4e-4)
    assert (pet_scale(tmp_path / f"other_{name}.nii.gz", 1) is None) == (name != "pet")  # that one is inherited


def test_no_sidecar_or_another_program_s(tmp_path: Path) -> None:
    image = tmp_path / "sub-01_pet.nii.gz"
    assert pet_scale(image, 1) is None
    (tmp_path / "sub-01_pet.json").write_text('{"slices": 3}', encoding="utf-8")
    assert pet_scale(image, 1) is None
    (tmp_path / "other_pet.json").write_text(json.dumps(FDG), encoding="utf-8")
    assert pet_scale(image, 1) is None


@pytest.mark.parametrize(("text", "match"), [("{", "expected a JSON file"), ("[1]", "expected a JSON object")])
def test_a_broken_sidecar_is_refused(tmp_path: Path, text: str, match: str) -> None:
    (tmp_path / "sub-01_pet.json").write_text(text, encoding="utf-8")
    with pytest.raises(VolumeReadError, match=rf"sub-01_pet.json: {match}"):
        pet_scale(tmp_path / "sub-01_pet.nii.gz", 1)


@pytest.mark.parametrize(
    ("nuclide", "minutes"),
    [
        ("F18", 109.77), ("18F", 109.77), ("[18F]", 109.77), ("F-18", 109.77), ("^18^Fluorine", 109.77), ("C11", 20.39),
        ("11c", 20.39), ("^64^Copper ", 762.0), ("Tc94m", 52.0), ("94mTc", 52.0), ("^94m^Technetium", 52.0),
        ("52Mn", 8051.04), ("^52^Manganese", 8051.04), ("52mMn", 21.1), ("O-15", 122.24 / 60), ("Ga68", 67.71),
        ("82Rb", 1.273), ("N13", 9.965), ("89Zr", 4704.6), ("I124", 6013.44),
    ],
)  # fmt: skip
def test_half_lives(nuclide: str, minutes: float) -> None:
    found = half_life_of(nuclide)
    assert found is not None
    assert found / 60 == pytest.approx(minutes, rel=1e-12)


@pytest.mark.parametrize(
    ("nuclide", "seconds"),
    [
        ("Oxygen-14", 70.6), ("Na-22", 8.21e7), ("K-38", 458), ("Sc-43", 14008), ("Sc-44", 14292), ("Ti-45", 11088),
        ("Mn-51", 2772), ("Fe-52", 29790), ("Cu-60", 1422), ("Cu-61", 11999), ("Cu-62", 580), ("Zn-62", 33070),
        ("Ga-66", 34164), ("Ge-68", 2.341e7), ("As-70", 3156), ("As-72", 93600), ("Se-73", 25740), ("Br-75", 5802),
        ("Br-76", 58320), ("Br-77", 205330), ("Y-86", 53064), ("Y-90", 230760), ("Nb-90", 52560), ("Tb-152", 63000),
    ],
)  # fmt: skip
def test_half_lives_of_the_rarer_nuclides(nuclide: str, seconds: float) -> None:
    found = half_life_of(nuclide)
    assert found is not None
    assert found == pytest.approx(seconds, rel=2e-3)


@pytest.mark.parametrize("nuclide", ["", "F", "18", "FDG", "F19", "C-111A1", "Fluor18"])
def test_no_nuclide_is_guessed(nuclide: str) -> None:
    assert half_life_of(nuclide) is None


def stored(image: Path, numbers: np.ndarray, *, slope: float = 1.0, intercept: float = 0.0) -> Path:
    """Write numbers as they are, with a rescale."""
    made = nib.Nifti1Image(numbers, np.diag([-2.0, 2.0, 3.0, 1.0]))
    made.header.set_slope_inter(slope, intercept)
    made.to_filename(image)
    return image


def test_values_are_suv_and_written_back_as_they_were(study: Callable[..., Path], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    numbers = rng.integers(-5, 15000, (7, 6, 5, 2)).astype(np.int16)
    image = study(FrameTimesStart=[F18, 2 * F18], FrameDuration=[60, 60])
    made = nib.Nifti1Image(numbers, np.diag([-2.0, 2.0, 3.0, 1.0]))
    made.header["cal_max"] = 20000
    made.to_filename(image)
    volume = read_volume(image)
    assert (volume.units, volume.provenance.modality) == (Units.SUVBW, "PT")
    np.testing.assert_allclose(volume.array, numbers.T * 4e-4, rtol=1e-6)
    assert volume.provenance.steps[0].startswith("SUVbw from Bq/mL x 0.0004 by sub-01_pet.json: 70 kg")
    write_volume(volume, tmp_path / "back.nii.gz")
    back = nib.load(tmp_path / "back.nii.gz")
    assert back.header.binaryblock == nib.load(image).header.binaryblock
    np.testing.assert_array_equal(np.asarray(back.dataobj), numbers)
    # a voxel that is doubled is doubled in Bq/ml, the others stay as they are
    array = volume.array.copy()
    array[0, 0, 0, 0] *= 2
    write_volume(volume.with_array(array, step="test"), tmp_path / "changed.nii.gz")
    numbers[0, 0, 0, 0] *= 2
    np.testing.assert_array_equal(np.asarray(nib.load(tmp_path / "changed.nii.gz").dataobj), numbers)


def test_floats_and_rescaled_numbers_come_back_bit_for_bit(study: Callable[..., Path], tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    image = study(Units="kBq/mL")
    for numbers in (rng.gamma(2, 7, (5, 4, 3)).astype(np.float32), rng.gamma(2, 7, (5, 4, 3))):
        made = nib.Nifti1Image(numbers, np.eye(4))
        made.to_filename(image)
        write_volume(read_volume(image), tmp_path / "back.nii", overwrite=True)
        back = np.asarray(nib.load(tmp_path / "back.nii").dataobj)
        assert back.tobytes() == numbers.tobytes()
    np.testing.assert_allclose(read_volume(image).array, numbers.T * 0.4, rtol=1e-6)


def test_another_format_holds_suv(study: Callable[..., Path], tmp_path: Path) -> None:
    image = stored(study(), np.arange(60, dtype=np.int16).reshape(5, 4, 3))
    write_volume(read_volume(image), tmp_path / "pet.nrrd")
    found = read_volume(tmp_path / "pet.nrrd")
    assert found.provenance.dtype == np.float32
    np.testing.assert_array_equal(found.array, read_volume(image).array)


def test_a_description_says_where_suv_is_from(study: Callable[..., Path]) -> None:
    image = stored(study(), np.arange(60, dtype=np.int16).reshape(5, 4, 3))
    info = describe(image, values=True)
    assert (info.modality, info.units) == ("PT", "SUVbw")
    assert info.units_from.startswith("Bq/mL x 0.0004 by sub-01_pet.json")
    assert [fit.fits for fit in info.tasks] == [False, True, False]
    assert info.value_range == pytest.approx((0.0, 59 * 4e-4))
    study(PatientWeight=None)
    with pytest.raises(TatError, match="--pet weight=KG"):
        describe(image)
    assert describe(image, pet=PetTags.parse("weight=35")).units_from.startswith("Bq/mL x 0.0002")
