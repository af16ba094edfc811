"""What the caller knows of a PET scan and its header doesn't say: ``--pet weight=70,dose=350,injected=11:32``."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Final

from tatcli.errors import UsageError
from tatcli.volumes.pet_header import NO_DATE, moment

if TYPE_CHECKING:
    from tatcli.volumes.pet_header import PetHeader

__all__ = ["PET_KEYS", "PetTags"]

PET_KEYS: Final = ("weight", "dose", "half-life", "injected", "scanned", "decay")
_BQ_PER_MBQ: Final = 1e6
_TIME: Final = re.compile(r"(?:(\d{4})-?(\d\d)-?(\d\d)[T ])?(\d\d):?(\d\d)(?::?(\d\d))?")


@dataclass(frozen=True, kw_only=True)
class PetTags:
    """Values that stand in for, or replace, those of the header.

    Attributes:
        weight: kg.
        dose: injected, Bq.
        half_life: s.
        injected: of the injection.
        scanned: the moment to which the images are decay-corrected; both in the year 1 where only the time is known.
        decay: START or ADMIN.
    """

    weight: float | None = None
    dose: float | None = None
    half_life: float | None = None
    injected: datetime | None = None
    scanned: datetime | None = None
    decay: str | None = None

    @classmethod
    def parse(cls, text: str) -> PetTags:
        """Read ``key=value,...``: weight in kg, dose in MBq, half-life in s, injected and scanned as [DATET]HH:MM[:SS].

        Raises:
            UsageError: an unknown key, a value that isn't one.
        """
        found: dict[str, str] = {}
        for part in filter(None, (part.strip() for part in text.split(","))):
            key, equals, value = (piece.strip() for piece in part.partition("="))
            if not equals or key not in PET_KEYS:
                msg = f"--pet {part!r}: expected KEY=VALUE with a key of {', '.join(PET_KEYS)}"
                raise UsageError(msg)
            found[key] = value
        dose = _number("dose", found)
        decay = found.get("decay", "").upper() or None
        if decay not in (None, "START", "ADMIN"):
            msg = f"--pet decay={found['decay']}: expected START or ADMIN"
            raise UsageError(msg)
        return cls(
            weight=_number("weight", found),
            dose=None if dose is None else dose * _BQ_PER_MBQ,
            half_life=_number("half-life", found),
            injected=_time("injected", found),
            scanned=_time("scanned", found),
            decay=decay,
        )

    def applied_to(self, header: PetHeader) -> PetHeader:
        """The header with these values instead of its own."""
        scanned = self.scanned
        if scanned is not None and scanned.year == 1:  # the time of day on the day of the scan, where that is known
            day = header.series_time or header.acquired or scanned
            scanned = scanned.replace(year=day.year, month=day.month, day=day.day)
        return replace(
            header,
            weight=self.weight or header.weight,
            dose=self.dose or header.dose,
            half_life=self.half_life or header.half_life,
            injected=self.injected or header.injected,
            corrected_to=scanned or header.corrected_to,
            decay_correction=self.decay or header.decay_correction,
        )

    def replaced(self, header: PetHeader) -> tuple[str, ...]:
        """The names of values in the header that these contradict."""
        pairs = {
            "weight": (self.weight, header.weight),
            "dose": (self.dose, header.dose),
            "half-life": (self.half_life, header.half_life),
            "decay": (self.decay, header.decay_correction or None),
        }
        names = [
            name for name, (ours, theirs) in pairs.items() if ours is not None and theirs is not None and ours != theirs
        ]
        if (self.decay or header.decay_correction) != "ADMIN":  # for which times don't matter
            scanned = header.corrected_to or header.series_time or header.acquired
            times = {"injected": (self.injected, header.injected), "scanned": (self.scanned, scanned)}
            names += [name for name, (ours, theirs) in times.items() if ours and theirs and _differ(ours, theirs)]
        return tuple(names)


def _differ(ours: datetime, theirs: datetime) -> bool:
    """In whole seconds, and by the time of day where one of the two has no date."""
    ours, theirs = ours.replace(microsecond=0), theirs.replace(microsecond=0)
    return ours.time() != theirs.time() or (min(ours.year, theirs.year) > 1 and ours != theirs)


def _number(key: str, found: dict[str, str]) -> float | None:
    if key not in found:
        return None
    try:
        number = float(found[key])
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        msg = f"--pet {key}={found[key]}: expected a positive number"
        raise UsageError(msg)
    return number


def _time(key: str, found: dict[str, str]) -> datetime | None:
    if key not in found:
        return None
    match = _TIME.fullmatch(found[key])
    if match is not None:
        year, month, day, hour, minute, second = match.groups()
        date = f"{year}{month}{day}" if year else NO_DATE
        if (time := moment(f"{hour}{minute}{second or '00'}", date=date)) is not None:
            return time
    msg = f"--pet {key}={found[key]}: expected HH:MM, HH:MM:SS or YYYY-MM-DDTHH:MM:SS"
    raise UsageError(msg)
