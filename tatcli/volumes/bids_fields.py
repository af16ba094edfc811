"""Fields of a PET sidecar, read as what they should be: a wrong type is refused, ``n/a`` is absence."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from tatcli.errors import UnitsError
from tatcli.volumes.bids_sidecar import ImageMetadata

__all__ = ["PetFields"]

_PER_FRAME: Final = ("FrameTimesStart", "FrameDuration")


@dataclass(frozen=True)
class PetFields:
    """The fields of an image's sidecar.

    Attributes:
        metadata: where they are from.
        frames: of the image; both lists of frame times have as many entries.

    Raises:
        UnitsError: they have another number.
    """

    metadata: ImageMetadata
    frames: int

    def __post_init__(self) -> None:
        for key in _PER_FRAME:
            numbers = self.numbers(key)
            if numbers is not None and len(numbers) != self.frames:
                msg = f"{self.image}: expected {self.frames} entries of {key} in {self.name}, one for each frame, got"
                raise UnitsError(msg + f" {len(numbers)}; correct it")

    @property
    def image(self) -> str:
        """The image's name."""
        return self.metadata.image.name

    @property
    def name(self) -> str:
        """The sidecar's name."""
        return self.metadata.name

    def text(self, key: str) -> str | None:
        """A word; None where it is absent.

        Raises:
            UnitsError: it is something else.
        """
        value = self._value(key)
        if value is not None and not isinstance(value, str):
            raise self._wrong(key, "text", value)
        return None if value is None else value.strip()

    def description(self, key: str) -> str:
        """What stands there in free form, in lower case; '' where it is absent."""
        value = self._value(key)
        return "" if value is None else str(value).strip().lower()

    def number(self, key: str) -> float | None:
        """A finite number; None where it is absent.

        Raises:
            UnitsError: it is something else.
        """
        value = self._value(key)
        return None if value is None else self._number(key, value)

    def numbers(self, key: str) -> tuple[float, ...] | None:
        """A list of finite numbers, or one alone; None where it is absent.

        Raises:
            UnitsError: it is something else.
        """
        value = self._value(key)
        if value is None:
            return None
        return tuple(self._number(key, entry) for entry in (value if isinstance(value, list) else [value]))

    def flag(self, key: str) -> bool | None:
        """True or false; None where it is absent.

        Raises:
            UnitsError: it is something else.
        """
        value = self._value(key)
        words = {"true": True, "false": False}
        found = words.get(value.strip().lower()) if isinstance(value, str) else value
        if found is not None and isinstance(found, bool):
            return found
        if value is None:
            return None
        raise self._wrong(key, "true or false", value)

    def dose_units(self) -> str | None:
        """The unit of InjectedRadioactivity, also with ``RadioActivity``, as the specification's example has it."""
        return self.text("InjectedRadioactivityUnits") or self.text("InjectedRadioActivityUnits")

    def _value(self, key: str) -> Any:
        fields: Mapping[str, Any] = self.metadata.fields
        value = fields.get(key)
        return None if isinstance(value, str) and value.strip().lower() in ("", "n/a") else value

    def _number(self, key: str, value: Any) -> float:
        try:
            number = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number):
            raise self._wrong(key, "a number", value)
        return number

    def _wrong(self, key: str, expected: str, value: Any) -> UnitsError:
        got = repr(value)
        got = got if len(got) <= 40 else got[:37] + "..."
        return UnitsError(f"{self.image}: expected {expected} as {key} in {self.name}, got {got}; correct it")
