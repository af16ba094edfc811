"""What a NIfTI PET image's values are, by its BIDS sidecar: the units that it names, and the factor from them to SUVbw.

Source: Brain Imaging Data Structure 1.11, "Positron emission tomography". SUVbw is that of :mod:`tatcli.volumes.suv`,
body weight (g) over what of the injected activity (Bq) is left at the time to which the images are decay-corrected.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tatcli.errors import TatError, UnitsError, UsageError, VolumeReadError
from tatcli.intensity import Units
from tatcli.volumes.bids_decay import decayed_share, known_half_life
from tatcli.volumes.bids_fields import PetFields
from tatcli.volumes.bids_sidecar import ImageMetadata, entities_of, image_metadata, suffix_of
from tatcli.volumes.body_weight import BodyWeight, body_weight
from tatcli.volumes.pet_tags import PetTags
from tatcli.volumes.suv import PLAUSIBLE_WEIGHT

__all__ = ["SUV_UNITS", "PetScale", "derived_fields", "pet_scale", "weight_field"]

_OF_PET: Final = ("Units", "InjectedRadioactivity", "TracerRadionuclide", "ImageDecayCorrected")
"""A file without any of these is another program's."""
_NAMED: Final = ("Units", "TracerRadionuclide")
_PREFIXES: Final = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "m": 1e-3, "u": 1e-6, "µ": 1e-6, "μ": 1e-6, "n": 1e-9}
_BECQUERELS: Final = {"bq": 1.0, "ci": 3.7e10}
_ACTIVITY: Final = re.compile(r"([kMGmuµμn]?)(B[qQ]|C[iI])")
_PER_VOLUME: Final = re.compile(r"(.+?)\s*/\s*(?:m[lL]|cc|cm\^?3)")
SUV_UNITS: Final = "g/mL"
"""What a sidecar names SUVbw: body weight per volume, since activities cancel."""
_SUV: Final = ("suvbw", SUV_UNITS.lower(), "gml", "suv")
_PLAUSIBLE_DOSE: Final = (1e5, 1e11)
"""Bq: as in DICOM."""


@dataclass(frozen=True, kw_only=True)
class PetScale:
    """What the values of a PET image are.

    Attributes:
        units: once they are multiplied by the factor.
        factor: 1 where they are in these units already.
        source: how that is known, one line.
        warnings: what was doubtful, one line each.
    """

    units: Units
    factor: float
    source: str
    warnings: tuple[str, ...] = ()


def pet_scale(image: Path, frames: int, *, units: Units | None = None, pet: PetTags | None = None) -> PetScale | None:
    """What a NIfTI image's sidecar says of its values; None where it isn't PET, or has no sidecar.

    Args:
        image: ``..._pet.nii`` or ``..._pet.nii.gz``; by another name, one whose own sidecar names nuclide and units.
        frames: how many it has.
        units: the caller's word on the units; ``BQML`` leaves activity as it is, in Bq/ml.
        pet: the caller's word on what SUV needs.

    Raises:
        UnitsError: what SUV needs is missing, contradictory or impossible; units that contradict the caller's.
        UsageError: the caller's word on a PET that there isn't.
        VolumeReadError: a sidecar or table that can't be read.
    """
    metadata = _pet_metadata(image)
    if metadata is None:
        if pet is not None:
            msg = (
                f"{image.name}: expected a PET in DICOM, or in NIfTI with a BIDS sidecar (NAME_pet.json), together with"
            )
            raise UsageError(msg + " --pet, got neither; leave it out")
        return None
    fields = PetFields(metadata, frames)
    named = fields.text("Units")
    if named is None:
        return _unnamed(fields, units)
    if named.lower() in _SUV:
        doubts = ("Units are SUV: taken as by body weight",) if named.lower() == "suv" else ()
        return PetScale(
            units=_agreed(units, image.name), factor=1.0, source=f"Units {named} in {metadata.name}", warnings=doubts
        )
    becquerels = _concentration(named)
    if becquerels is None:
        msg = f"{image.name}: expected Bq/mL, kBq/mL or SUVbw as Units in {metadata.name}, got {named!r}; correct it"
        raise UnitsError(msg)
    if units is Units.BQML:
        return PetScale(units=units, factor=becquerels, source=f"Units {named} in {metadata.name}")
    return _suv_scale(fields, becquerels, agreed=_agreed(units, image.name), tags=pet or PetTags())


def derived_fields(image: Path, *, pet: PetTags | None = None) -> dict[str, Any] | None:
    """The fields of a PET image's sidecar for what is made of it; None where it isn't PET, or has no sidecar.

    The body weight goes with them, as PatientWeight: derivatives have no table of their participants.

    Args:
        image: NIfTI.
        pet: the caller's word.
    """
    with suppress(TatError):  # what is wrong with it shows when it is read
        if (metadata := _pet_metadata(image)) is not None:
            return metadata.fields | weight_field(metadata, pet)
    return None


def weight_field(metadata: ImageMetadata, pet: PetTags | None = None) -> dict[str, Any]:
    """The body weight on an image as a field of its sidecar; nothing where it isn't known."""
    with suppress(TatError):
        weight, _ = _weight(metadata, pet or PetTags())
        return {} if weight is None else {"PatientWeight": weight.kilograms}
    return {}


def _pet_metadata(image: Path) -> ImageMetadata | None:
    if suffix_of(image) == "pet" and entities_of(image):
        metadata = image_metadata(image)
        return metadata if any(key in metadata.fields for key in _OF_PET) else None
    with suppress(VolumeReadError):  # a file that has nothing to do with PET
        metadata = image_metadata(image, inherit=False)
        return metadata if all(key in metadata.fields for key in _NAMED) else None
    return None


def _unnamed(fields: PetFields, units: Units | None) -> PetScale:
    if units is None:
        msg = f"{fields.image}: expected Units in {fields.name}, got none; add them, or say --units SUVbw if that"
        raise UnitsError(msg + " is what the values are")
    return PetScale(units=units, factor=1.0, source="the caller's word")


def _agreed(wanted: Units | None, name: str) -> Units:
    if wanted not in (None, Units.SUVBW):
        msg = f"{name}: expected units {wanted}, got {Units.SUVBW} from its sidecar; leave the units to the sidecar"
        raise UnitsError(msg)
    return Units.SUVBW


def _concentration(named: str) -> float | None:
    """Bq/ml of one such unit; None where it is none of activity per volume."""
    if named.upper() == "BQML":
        return 1.0
    match = _PER_VOLUME.fullmatch(named)
    return None if match is None else _activity(match[1])


def _activity(named: str) -> float | None:
    """Bq of one such unit."""
    match = _ACTIVITY.fullmatch(named.strip())
    return None if match is None else _PREFIXES[match[1]] * _BECQUERELS[match[2].lower()]


def _suv_scale(fields: PetFields, becquerels: float, *, agreed: Units, tags: PetTags) -> PetScale:
    """The factor to SUVbw: g per Bq of what is left of the injected activity."""
    weight, doubts = _weight(fields.metadata, tags)
    dose = _dose(fields, tags)
    _check_present(fields, weight, dose, tags)
    assert weight is not None  # noqa: S101  as was checked
    assert dose is not None  # noqa: S101
    if not _PLAUSIBLE_DOSE[0] <= dose <= _PLAUSIBLE_DOSE[1]:
        msg = f"{fields.image}: expected the injected activity of a PET, got {dose:g} Bq from InjectedRadioactivity and"
        raise UnitsError(msg + f" its units in {fields.name}; correct them, or say --pet dose=MBQ")
    doubts += _doubts(fields, tags)
    half_life = known_half_life(fields, tags)
    share, when = decayed_share(fields, tags, half_life)
    factor = becquerels * weight.kilograms * 1000.0 / (dose * share)
    nuclide = fields.text("TracerRadionuclide") or "of a nuclide that isn't named"
    source = (
        f"{fields.text('Units')} x {factor:.6g} by {fields.name}: {weight.kilograms:g} kg ({weight.source}), "
        f"{dose / 1e6:g} MBq {nuclide}, {when}"
    )
    return PetScale(units=agreed, factor=factor, source=source, warnings=tuple(doubts))


def _weight(metadata: ImageMetadata, tags: PetTags) -> tuple[BodyWeight | None, list[str]]:
    if tags.weight is None:
        return body_weight(metadata), []
    lightest, heaviest = PLAUSIBLE_WEIGHT
    if not lightest <= tags.weight <= heaviest:
        msg = f"--pet weight={tags.weight:g}: expected {lightest:g} to {heaviest:g} kg; correct it"
        raise UsageError(msg)
    try:
        told = body_weight(metadata)
    except TatError:  # the caller's word settles it
        told = None
    outweighed = told is not None and told.kilograms != tags.weight
    doubts = [f"--pet weight outweighs {told.source}'s"] if told is not None and outweighed else []
    return BodyWeight(tags.weight, "--pet"), doubts


def _dose(fields: PetFields, tags: PetTags) -> float | None:
    """The injected activity, Bq."""
    if tags.dose is not None:
        return tags.dose
    number, named = fields.number("InjectedRadioactivity"), fields.dose_units()
    if number is None or named is None:
        return None
    becquerels = _activity(named)
    if becquerels is None:
        msg = f"{fields.image}: expected MBq, kBq or the like as InjectedRadioactivityUnits in {fields.name}, got"
        raise UnitsError(msg + f" {named!r}; correct it, or say --pet dose=MBQ")
    return number * becquerels


def _check_present(fields: PetFields, weight: BodyWeight | None, dose: float | None, tags: PetTags) -> None:
    """Everything that is missing in one message, each with what supplies it."""
    missing = {}
    if weight is None:
        missing["body_weight in participants.tsv"] = "weight=KG"
    if dose is None:
        known = fields.number("InjectedRadioactivity") is not None
        missing[f"InjectedRadioactivity{'Units' * known}"] = "dose=MBQ"
    if fields.text("TracerRadionuclide") is None and tags.half_life is None:
        missing["TracerRadionuclide"] = "half-life=SECONDS"
    decay = tags.decay or fields.flag("ImageDecayCorrected")
    if decay is None:
        missing["ImageDecayCorrected"] = "decay=START"
    if decay != "ADMIN":
        if fields.number("InjectionStart") is None and tags.injected is None:
            missing["InjectionStart"] = "injected=HH:MM:SS"
        key = "ScanStart" if decay == "START" else "ImageDecayCorrectionTime"
        if decay is not False and fields.number(key) is None and tags.scanned is None:
            missing[key] = "scanned=HH:MM:SS"
    if missing:
        msg = (
            f"{fields.image}: expected what SUVbw needs in {fields.name}, got no {', '.join(missing)}; add it or supply"
        )
        raise UnitsError(msg + f" it with --pet {','.join(missing.values())}")


def _doubts(fields: PetFields, tags: PetTags) -> list[str]:
    """Warnings; refuses images that SUV isn't defined for."""
    doubts = []
    mode = fields.description("ModeOfAdministration")
    if "infusion" in mode and tags.dose is None:
        msg = f"{fields.image}: expected a bolus, got ModeOfAdministration {mode}, for which there is no injected"
        raise UnitsError(msg + " activity at one time; say with --pet dose=MBQ which one SUV is to go by")
    if tags.dose is not None and fields.number("InjectedRadioactivity") is not None:
        doubts.append("--pet dose outweighs the sidecar's")
    if tags.half_life is not None and fields.text("TracerRadionuclide") is not None:
        doubts.append("--pet half-life outweighs the sidecar's nuclide")
    if tags.decay is not None and fields.flag("ImageDecayCorrected") is not None:
        doubts.append("--pet decay outweighs the sidecar's")
    attenuation = fields.description("AttenuationCorrection")
    without = next((word for word in entities_of(fields.metadata.image) if word.startswith("rec-nac")), None)
    if attenuation in ("none", "no", "false") or without is not None:
        got = without or f"AttenuationCorrection {attenuation}"
        msg = f"{fields.image}: expected PET corrected for attenuation, got {got}; choose the corrected image"
        raise UnitsError(msg)
    if not attenuation:
        doubts.append("AttenuationCorrection is absent: PET is taken as corrected")
    return doubts
