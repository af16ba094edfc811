"""What is left of an injected activity at the time that a BIDS PET image's values stand for.

Times are seconds from TimeZero, so that midnight doesn't matter; the caller's own are times of day.
"""

from __future__ import annotations

import math
import re
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from tatcli.errors import UnitsError
from tatcli.volumes.half_lives import half_life_of
from tatcli.volumes.pet_header import shorter_way

if TYPE_CHECKING:
    from tatcli.volumes.bids_fields import PetFields
    from tatcli.volumes.pet_tags import PetTags

__all__ = ["decayed_share", "known_half_life"]

_LONGEST_WAIT: Final = 10.0
"""Half-lives between injection and reference time, as in DICOM."""
_SAME_DAY: Final = 6 * 3600.0
"""s: with a longer half-life, times of day alone don't say how long ago the injection was."""
_MOST_HALF_LIVES: Final = 1000.0
"""Where a float can still hold what they make of an activity."""
_FACTORS_AGREE: Final = 0.05
_CLOCK: Final = re.compile(r"T?(\d\d?):(\d\d):(\d\d(?:\.\d+)?)Z?")


def known_half_life(fields: PetFields, tags: PetTags) -> float:
    """The nuclide's half-life, s.

    Args:
        fields: of the sidecar.
        tags: the caller's word outweighs it.

    Raises:
        UnitsError: a nuclide that isn't known.
    """
    nuclide = fields.text("TracerRadionuclide") or ""
    half_life = tags.half_life or half_life_of(nuclide)
    if half_life is None:
        msg = f"{fields.image}: expected a nuclide such as F18 as TracerRadionuclide in {fields.name}, got {nuclide!r};"
        raise UnitsError(msg + " correct it, or say --pet half-life=SECONDS")
    return half_life


def decayed_share(fields: PetFields, tags: PetTags, half_life: float) -> tuple[float, str]:
    """What is left of the injected activity, as a share, and when, in words.

    Args:
        fields: of the sidecar, with all that is needed.
        tags: the caller's word.
        half_life: s.

    Raises:
        UnitsError: images that aren't decay-corrected, times that can't be or contradict each other.
    """
    if tags.decay is None and fields.flag("ImageDecayCorrected") is False:
        msg = f"{fields.image}: expected decay-corrected PET, got ImageDecayCorrected false in {fields.name}, so that"
        raise UnitsError(msg + " every frame has a scale of its own; correct the images for decay first")
    if tags.decay == "ADMIN":
        return 1.0, "corrected for decay to the injection"
    key = "ScanStart" if tags.decay == "START" else "ImageDecayCorrectionTime"
    wait = _wait(fields, tags, key, half_life)
    _check_wait(fields, wait, key, injected=_injected(fields, tags, key, wait), half_life=half_life)
    if tags.decay is None and tags.scanned is None:
        _check_factors(fields, fields.number(key) or 0.0, half_life)
    after = "the injection" if wait == 0 else f"{abs(wait):g} s {'after' if wait > 0 else 'before'} the injection"
    return math.exp2(-wait / half_life), f"corrected for decay to {after}"


def _wait(fields: PetFields, tags: PetTags, key: str, half_life: float) -> float:
    """Seconds from the injection to the time that the images are corrected to."""
    if tags.injected is None and tags.scanned is None:
        return (fields.number(key) or 0.0) - (fields.number("InjectionStart") or 0.0)
    dated = [time for time in (tags.injected, tags.scanned) if time is not None and time.year > 1]
    if len(dated) == 2:
        return (dated[1] - dated[0]).total_seconds()
    if half_life > _SAME_DAY:
        msg = f"{fields.image}: expected dates with the times of a nuclide that lives this long, got times of day; say"
        raise UnitsError(msg + " --pet injected=YYYY-MM-DDTHH:MM:SS,scanned=YYYY-MM-DDTHH:MM:SS")
    injected = _second_of_day(fields, tags.injected, "InjectionStart")
    return shorter_way(_second_of_day(fields, tags.scanned, key) - injected)


def _injected(fields: PetFields, tags: PetTags, key: str, wait: float) -> float | None:
    """The injection, s from TimeZero; None where it isn't known."""
    if tags.injected is None:
        return fields.number("InjectionStart")
    reference = fields.number(key) if tags.scanned is None else None
    return None if reference is None else reference - wait


def _second_of_day(fields: PetFields, told: datetime | None, key: str) -> float:
    """Of what the caller says, or else of a field."""
    if told is not None:
        return (told - told.replace(hour=0, minute=0, second=0, microsecond=0)) / timedelta(seconds=1)
    zero = fields.text("TimeZero")
    match = _CLOCK.fullmatch(zero or "")
    if match is None:
        got = "none" if zero is None else repr(zero)
        msg = f"{fields.image}: expected TimeZero (hh:mm:ss) in {fields.name}, which {key} counts from, got {got};"
        raise UnitsError(msg + " correct it, or say both --pet injected=HH:MM:SS,scanned=HH:MM:SS")
    return int(match[1]) * 3600 + int(match[2]) * 60 + float(match[3]) + (fields.number(key) or 0.0)


def _check_wait(fields: PetFields, wait: float, key: str, *, injected: float | None, half_life: float) -> None:
    """Images may be corrected to a time before the injection, where the scan began before it and went on after it.

    Args:
        fields: of the sidecar.
        wait: from the injection to the time that the images are corrected to, s.
        key: of that time.
        injected: the injection, s from TimeZero; None: not known.
        half_life: s.
    """
    starts, durations = fields.numbers("FrameTimesStart"), fields.numbers("FrameDuration")
    after = wait >= 0
    if starts is not None and durations is not None and injected is not None:
        after = max(start + duration for start, duration in zip(starts, durations, strict=True)) > injected
    where = f"{key} and FrameTimesStart in {fields.name}"
    if not after:
        msg = f"{fields.image}: expected a scan after the injection, got one that ends before it; correct"
        raise UnitsError(msg + f" InjectionStart, {where}")
    if abs(wait) > _LONGEST_WAIT * half_life:
        far = f"{wait:g} s from it, {abs(wait) / half_life:.0f} half-lives"
        msg = f"{fields.image}: expected {key} near the injection, got {far}; correct InjectionStart, {where}"
        raise UnitsError(msg)


def _check_factors(fields: PetFields, reference: float, half_life: float) -> None:
    """DecayCorrectionFactor, where it is there, must be that of a correction to the reference time.

    Between exp(λ(t - reference)) for the start t of the frame and for its end, whichever the scanner goes by.
    """
    starts, durations = fields.numbers("FrameTimesStart"), fields.numbers("FrameDuration")
    factors = fields.numbers("DecayCorrectionFactor")
    if starts is None or durations is None or factors is None or len(factors) != len(starts):
        return
    for number, (start, duration, factor) in enumerate(zip(starts, durations, factors, strict=True), start=1):
        least = math.exp2(min((start - reference) / half_life, _MOST_HALF_LIVES))
        most = math.exp2(min((start + duration - reference) / half_life, _MOST_HALF_LIVES))
        if not least * (1 - _FACTORS_AGREE) <= factor <= most * (1 + _FACTORS_AGREE):
            msg = (
                f"{fields.image}: expected DecayCorrectionFactor {least:.4g} to {most:.4g} of frame {number}, as "
                f"ImageDecayCorrectionTime {reference:g} makes it, got {factor:g}; correct {fields.name}, or say the "
                "time with --pet scanned=HH:MM:SS"
            )
            raise UnitsError(msg)
