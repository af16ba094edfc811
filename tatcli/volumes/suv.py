"""PET activity -> SUVbw, after QIBA's vendor-neutral pseudo-code.

Source: RSNA QIBA, "Standardized Uptake Value (SUV): computing SUV from DICOM" (vendor-neutral pseudo-code, "happy
path" and "robust" variants). SUVbw = activity (Bq/ml) * weight (g) / decayed dose (Bq): the dose that would be left at
the time to which the image was decay-corrected.
"""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from tatcli.errors import UnitsError
from tatcli.volumes.pet_header import is_post_processed, seconds_between, shorter_way

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tatcli.volumes.pet_header import PetHeader

__all__ = ["PLAUSIBLE_WEIGHT", "suv_factor"]

PLAUSIBLE_WEIGHT: Final = (0.005, 500.0)
"""kg, from a newborn mouse up. Some systems write grams where the standard says kg."""

_PLAUSIBLE_DOSE: Final = (1e5, 1e11)
"""Bq: from a mouse's 0.1 MBq to 100 GBq. Some systems write MBq where the standard says Bq."""
_LONGEST_WAIT: Final = 10.0
"""Half-lives between injection and scan: after as many, nothing is left to be imaged."""
_EARLIEST: Final = 600.0
"""s before the injection that a dynamic scan may begin; it goes on after it."""
_SAME_DAY: Final = 6 * 3600.0
"""s: a tracer with a shorter half-life is scanned within a day of its injection, so that times of day suffice."""


def suv_factor(headers: Sequence[PetHeader], name: str) -> float:
    """The factor from rescaled values to SUVbw, the same for all images of the series.

    Args:
        headers: of every image of the series.
        name: the file or series, for messages.

    Raises:
        UnitsError: units that don't lead to SUVbw, a missing or implausible tag (named), no decay correction.
    """
    first = headers[0]
    if len({(header.units, header.decay_correction) for header in headers}) > 1:
        msg = f"{name}: expected one unit throughout the PET series, got several; split the series"
        raise UnitsError(msg)
    if first.units == "GML":
        if first.suv_type not in ("", "BW"):
            msg = f"{name}: expected SUV by body weight, got SUVType {first.suv_type}; export the series in Bq/ml"
            raise UnitsError(msg)
        return 1.0
    if first.units == "CNTS":
        return _counts_factor(headers, name)
    if first.units != "BQML":
        got = repr(first.units) if first.units else "no Units (0054,1001)"
        msg = f"{name}: expected PET in BQML, GML or CNTS, got {got}; export the series in Bq/ml"
        raise UnitsError(msg)
    return _activity_factor(headers, name)


def _counts_factor(headers: Sequence[PetHeader], name: str) -> float:
    factors = {header.philips_suv for header in headers}
    if len(factors) == 1 and headers[0].philips_suv is not None:
        return headers[0].philips_suv
    activities = {header.philips_activity for header in headers}
    if len(activities) == 1 and headers[0].philips_activity is not None:
        return headers[0].philips_activity * _activity_factor(headers, name)
    msg = f"{name}: expected Philips' SUV factor (7053,1000) for PET in counts, got none; export the series in Bq/ml"
    raise UnitsError(msg)


def _activity_factor(headers: Sequence[PetHeader], name: str) -> float:
    """Bq/ml -> SUVbw: g per Bq of decayed dose."""
    first = headers[0]
    _check_tags(first, name)
    weight, dose, half_life = first.weight or 0.0, first.dose or 0.0, first.half_life or 0.0
    if first.decay_correction == "ADMIN":  # corrected to the injection itself: nothing has decayed yet
        return weight * 1000.0 / dose
    wait = _seconds_to_scan(headers, name)
    if wait > _LONGEST_WAIT * half_life or (wait < 0 and not _goes_on(headers, wait)):
        late = f" by at most {_LONGEST_WAIT:g} half-lives of {half_life:.0f} s" if wait > 0 else ""
        msg = f"{name}: expected a scan after the injection{late}, got one {wait:.0f} s after it; repair the times"
        raise UnitsError(msg)
    return weight * 1000.0 / (dose * math.exp2(-wait / half_life))


def _check_tags(header: PetHeader, name: str) -> None:
    needed: dict[str, tuple[object, str]] = {
        "PatientWeight (0010,1030)": (header.weight, "weight=KG"),
        "RadionuclideTotalDose (0018,1074)": (header.dose, "dose=MBQ"),
        "RadionuclideHalfLife (0018,1075)": (header.half_life, "half-life=SECONDS"),
        "DecayCorrection (0054,1102)": (header.decay_correction or None, "decay=START"),
    }
    if header.decay_correction != "ADMIN":
        needed["RadiopharmaceuticalStartTime (0018,1072)"] = (header.injected, "injected=HH:MM:SS")
        needed["SeriesTime (0008,0031) or AcquisitionTime (0008,0032)"] = (
            header.series_time or header.acquired or header.corrected_to,
            "scanned=HH:MM:SS",
        )
    if missing := {tag: flag for tag, (value, flag) in needed.items() if value is None}:
        msg = f"{name}: expected the tags that SUVbw needs, got no {', '.join(missing)}; supply them with --pet "
        msg += ",".join(missing.values())
        raise UnitsError(msg)
    if header.decay_correction not in ("START", "ADMIN"):
        msg = f"{name}: expected DecayCorrection START or ADMIN, got {header.decay_correction}; SUVbw can't be computed"
        raise UnitsError(msg)
    absent = [word for word in ("ATTN", "DECY") if header.corrections is not None and word not in header.corrections]
    if absent:
        msg = f"{name}: expected PET corrected for attenuation and decay, got none of {absent}; choose that series"
        raise UnitsError(msg)
    lightest, heaviest = PLAUSIBLE_WEIGHT
    if not lightest <= (header.weight or 0.0) <= heaviest:
        msg = f"{name}: expected {lightest:g} to {heaviest:g} kg as PatientWeight (0010,1030), got a value beyond"
        raise UnitsError(msg + "; repair the tag, or say --pet weight=KG")  # (messages name no patient's)
    if not _PLAUSIBLE_DOSE[0] <= (header.dose or 0.0) <= _PLAUSIBLE_DOSE[1]:
        msg = f"{name}: expected RadionuclideTotalDose in Bq, got {header.dose:g}, which is none; repair the tag"
        raise UnitsError(msg)


def _seconds_to_scan(headers: Sequence[PetHeader], name: str) -> float:
    scan = _scan_time(headers)
    injected = headers[0].injected
    if scan is None or injected is None:
        msg = f"{name}: expected the times of injection and scan, got none; add the tags or convert to SUV first"
        raise UnitsError(msg)
    half_life = headers[0].half_life or 0.0
    dated = min(injected.year, scan.year) > 1
    if half_life > _SAME_DAY and not dated:
        msg = f"{name}: expected dates of injection and scan for a half-life of {half_life / 3600:.0f} h,"
        msg += " got times of day; say --pet injected=YYYY-MM-DDTHH:MM:SS,scanned=YYYY-MM-DDTHH:MM:SS"
        raise UnitsError(msg)
    if dated:
        seconds = (scan - injected).total_seconds()
        early = seconds < 0 and _goes_on(headers, seconds)
        if 0 <= seconds <= _LONGEST_WAIT * half_life or early or half_life > _SAME_DAY:
            return seconds
        # Anonymisation shifts one date and forgets the other; the times of day still hold.
    seconds = (scan - injected.replace(year=scan.year, month=scan.month, day=scan.day)).total_seconds()
    return seconds if seconds >= 0 else shorter_way(seconds)


def _goes_on(headers: Sequence[PetHeader], wait: float) -> bool:
    """Whether a scan that began a little before the injection (``wait`` below 0) has images of what came after it."""
    times = [(one.acquired, one.frame_duration or 0.0) for one in headers if one.acquired is not None]
    scan = _scan_time(headers)
    if wait < -_EARLIEST or scan is None or not times:
        return False
    return wait + max(seconds_between(scan, begin) + duration for begin, duration in times) > 0


def _scan_time(headers: Sequence[PetHeader]) -> datetime | None:
    """The moment to which a START-corrected series is decay-corrected: the robust variant of the pseudo-code."""
    if headers[0].corrected_to is not None:  # the header or the caller says it outright
        return headers[0].corrected_to
    series = headers[0].series_time
    if series is not None and not is_post_processed(headers):
        return series
    if headers[0].ge_scan_time is not None:
        return headers[0].ge_scan_time
    header = headers[0]
    if header.acquired is not None and header.frame_reference and header.frame_duration and header.half_life:
        decay = math.log(2.0) / header.half_life
        within = decay * header.frame_duration
        average = math.log(within / -math.expm1(-within)) / decay  # when the frame has its mean count rate, s
        return header.acquired - timedelta(seconds=header.frame_reference - average)
    return min((one.acquired for one in headers if one.acquired is not None), default=None)
