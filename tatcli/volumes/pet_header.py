"""What a PET image's header says about its units: collected here, judged in :mod:`tatcli.volumes.suv`."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydicom.dataset import Dataset

__all__ = [
    "NO_DATE",
    "PetHeader",
    "is_post_processed",
    "moment",
    "pet_header",
    "rests_on_private",
    "seconds_between",
    "shorter_way",
]

_PHILIPS: Final = "Philips PET Private Group"
_GE: Final = "GEMS_PETD_01"
_CODED_UNITS: Final = {"Bq/ml": "BQML", "g/ml{SUVbw}": "GML", "g/ml": "GML", "{counts}": "CNTS"}
NO_DATE: Final = "00010101"
"""Stands for the date where only the time of day is known."""
_OFFSET: Final = re.compile(r"([+-])(\d\d)([0-5]\d)$")
_DAY: Final = 86400.0


@dataclass(frozen=True)
class PetHeader:
    """What a PET image's header says about its units.

    Attributes:
        units: (0054,1001) BQML, CNTS, GML ...
        suv_type: (0054,1006), '' where absent.
        corrections: (0028,0051), None where absent.
        decay_correction: (0054,1102) START, ADMIN or NONE.
        weight: kg.
        dose: injected, Bq.
        half_life: s.
        injected: date and time of the injection; here and below the year 1 stands where only the time of day is known.
        series_time, acquired: start of the series and of this image.
        frame_reference, frame_duration: s.
        philips_suv, philips_activity: (7053,xx00) SUV and (7053,xx09) Bq/ml per count.
        ge_scan_time: (0009,xx0d).
        corrected_to: (0018,9701), of enhanced objects, or the caller's word: the moment of the decay correction.
    """

    units: str = ""
    suv_type: str = ""
    corrections: tuple[str, ...] | None = None
    decay_correction: str = ""
    weight: float | None = None
    dose: float | None = None
    half_life: float | None = None
    injected: datetime | None = None
    series_time: datetime | None = None
    acquired: datetime | None = None
    frame_reference: float | None = None
    frame_duration: float | None = None
    philips_suv: float | None = None
    philips_activity: float | None = None
    ge_scan_time: datetime | None = None
    corrected_to: datetime | None = None


def pet_header(dataset: Dataset, frame: Dataset | None = None) -> PetHeader:
    """Collect what SUV needs from a PET image's header, classic or enhanced; nothing is judged here.

    Args:
        dataset: of the file.
        frame: of enhanced objects the frame's own functional groups, which outweigh the rest.
    """
    from pydicom.dataset import Dataset as NewDataset

    place = _Places(dataset, frame)
    drugs = place.get("RadiopharmaceuticalInformationSequence")
    drug = drugs[0] if drugs else NewDataset()
    zone = place.get("TimezoneOffsetFromUTC")
    injected = moment(drug.get("RadiopharmaceuticalStartDateTime"), zone=zone) or moment(
        drug.get("RadiopharmaceuticalStartTime"), date=NO_DATE
    )
    content = place.get("FrameContentSequence")
    acquired = moment(place.get("AcquisitionTime"), date=place.get("AcquisitionDate") or NO_DATE)
    reference, duration = _positive(place.get("FrameReferenceTime")), _positive(place.get("ActualFrameDuration"))
    return PetHeader(
        units=_word(place.get("Units")) or _coded_units(place),
        suv_type=_word(place.get("SUVType")),
        corrections=_corrections(place),
        decay_correction=_word(place.get("DecayCorrection")) or ("START" if _is_yes(place, "DecayCorrected") else ""),
        weight=_positive(place.get("PatientWeight")),
        dose=_positive(drug.get("RadionuclideTotalDose")),
        half_life=_positive(drug.get("RadionuclideHalfLife")),
        injected=injected,
        series_time=moment(place.get("SeriesTime"), date=place.get("SeriesDate") or NO_DATE),
        acquired=acquired or (moment(content[0].get("FrameAcquisitionDateTime"), zone=zone) if content else None),
        frame_reference=None if reference is None else reference / 1000.0,
        frame_duration=None if duration is None else duration / 1000.0,
        philips_suv=_positive(_private(dataset, 0x7053, _PHILIPS, 0x00)),
        philips_activity=_positive(_private(dataset, 0x7053, _PHILIPS, 0x09)),
        ge_scan_time=moment(_private(dataset, 0x0009, _GE, 0x0D)),
        corrected_to=moment(place.get("DecayCorrectionDateTime"), zone=zone)
        if _is_yes(place, "DecayCorrected")
        else None,
    )


def rests_on_private(headers: Sequence[PetHeader]) -> bool:
    """Whether SUV follows from the vendor's private attributes: counts, or no series' time that is the scan's."""
    first = headers[0]
    if first.units == "CNTS":
        return True
    if first.units != "BQML" or first.decay_correction == "ADMIN" or first.corrected_to is not None:
        return False
    return first.ge_scan_time is not None and (first.series_time is None or is_post_processed(headers))


def is_post_processed(headers: Sequence[PetHeader]) -> bool:
    """Whether the series' time is later than its images': that of a post-processing, not of the scan."""
    series = headers[0].series_time
    acquired = [header.acquired for header in headers if header.acquired is not None]
    return series is not None and bool(acquired) and seconds_between(min(acquired), series) > 0


def seconds_between(begin: datetime, end: datetime) -> float:
    """From one moment to another; where one has no date, the way between the times of day that is shorter."""
    if min(begin.year, end.year) > 1:
        return (end - begin).total_seconds()
    return shorter_way((end - begin.replace(year=end.year, month=end.month, day=end.day)).total_seconds())


def shorter_way(seconds: float) -> float:
    """From one time of day to another, whose dates aren't known: midnight may lie between them."""
    return math.remainder(seconds, _DAY)


class _Places:
    """An attribute of the frame, at the top level, or of all frames.

    Legacy converted enhanced objects keep in groups of their own what classic ones had at the top level.
    """

    def __init__(self, dataset: Dataset, frame: Dataset | None) -> None:
        self._places = []
        if frame is not None:
            self._places += [frame, *(frame.get("UnassignedPerFrameConvertedAttributesSequence") or [])]
        self._places.append(dataset)
        for group in dataset.get("SharedFunctionalGroupsSequence") or []:
            self._places += [group, *(group.get("UnassignedSharedConvertedAttributesSequence") or [])]

    def get(self, keyword: str) -> Any:
        found = (place.get(keyword) for place in self._places)
        return next((value for value in found if value not in (None, "")), None)


def _corrections(place: _Places) -> tuple[str, ...] | None:
    """CorrectedImage, or the same from the flags of enhanced PET (PS3.3 C.8.22.3)."""
    listed = place.get("CorrectedImage")
    if listed is not None:
        words = [listed] if isinstance(listed, str) else list(listed)
        return tuple(_word(word) for word in words) or None
    if place.get("DecayCorrected") is None:
        return None
    flags = {"DECY": "DecayCorrected", "ATTN": "AttenuationCorrected", "SCAT": "ScatterCorrected"}
    return tuple(word for word, flag in flags.items() if _is_yes(place, flag))


def _coded_units(place: _Places) -> str:
    """Enhanced PET: the units (CID 84) of the real world value mapping that says the same as the rescale."""
    transformations = place.get("PixelValueTransformationSequence")
    if not transformations:
        return ""
    for mapping in place.get("RealWorldValueMappingSequence") or []:
        codes = mapping.get("MeasurementUnitsCodeSequence")
        units = _CODED_UNITS.get(str(codes[0].get("CodeValue", ""))) if codes else None
        if units is not None and _says_the_same(mapping, transformations[0]):
            return units
    return ""


def _says_the_same(mapping: Dataset, transformation: Dataset) -> bool:
    """Whether a real world value mapping is the rescale."""
    pairs = (("RealWorldValueSlope", "RescaleSlope"), ("RealWorldValueIntercept", "RescaleIntercept"))
    return all(
        math.isclose(float(mapping.get(real) or 0), float(transformation.get(stored) or 0), rel_tol=1e-6)
        for real, stored in pairs
    )


def _is_yes(place: _Places, keyword: str) -> bool:
    return _word(place.get(keyword)) == "YES"


def _word(value: Any) -> str:
    return str(value or "").strip().upper()


def _private(dataset: Dataset, group: int, creator: str, element: int) -> Any:
    try:
        return dataset.private_block(group, creator)[element].value
    except KeyError:
        return None


def _positive(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) and number > 0 else None


def moment(value: Any, *, date: Any = None, zone: Any = None) -> datetime | None:
    """DICOM's DT (YYYYMMDDHHMMSS.F&ZZXX), or TM with a DA.

    Args:
        value: the DT or TM.
        date: the DA.
        zone: the object's offset from UTC (PS3.3 C.12.1.1), in which TM and DT without an offset of their own are; a DT
            with one (PS3.5 6.2) is brought to it. None: offsets are dropped, all times being the scanner's own.
    """
    text = ("" if date is None else str(date).strip()) + ("" if value is None else str(value).strip())
    text = text.replace(":", "")
    own, here = None if date is not None else _OFFSET.search(text), _OFFSET.fullmatch(str(zone or "").strip())
    shift = _seconds(here) - _seconds(own) if own is not None and here is not None else 0.0
    text = text.split("+")[0].split("-")[0]
    whole, _, fraction = text.partition(".")
    if not whole.isdigit() or len(whole) < 12:
        return None
    try:
        moment = datetime.strptime(whole[:14].ljust(14, "0"), "%Y%m%d%H%M%S")  # noqa: DTZ007
    except ValueError:
        return None
    return moment + timedelta(seconds=shift + (float(f"0.{fraction}") if fraction.isdigit() else 0.0))


def _seconds(offset: re.Match[str]) -> float:
    """Of an offset from UTC."""
    return (60 * int(offset[2]) + int(offset[3])) * (-60.0 if offset[1] == "-" else 60.0)
