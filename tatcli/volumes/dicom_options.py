"""How derived DICOM objects are made, and the UIDs that they get."""

from __future__ import annotations

import hashlib
import re
import uuid
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tatcli.errors import UsageError

__all__ = ["ENHANCED_CHOICES", "GREATEST_NUMBER", "LEAST_NUMBER", "PRIVATE_CHOICES", "DicomOptions", "UidMaker"]

PRIVATE_CHOICES: Final = ("keep", "drop")
ENHANCED_CHOICES: Final = ("keep", "classic")
LEAST_NUMBER: Final = -(2**31)
GREATEST_NUMBER: Final = 2**31 - 1
"""Of an integer string (VR IS, PS3.5 6.2)."""
_UUID_ROOT: Final = "2.25"
"""The arc of UIDs made of UUIDs (PS3.5 B.2), which nobody has to register."""
_LONGEST_UID: Final = 64
_DIGITS: Final = 24
"""Of the part that is added to a root of one's own: enough never to collide."""


@dataclass(frozen=True, kw_only=True)
class DicomOptions:
    """Options of DICOM output.

    Attributes:
        uid_root: under which new UIDs are made; None: 2.25, the arc of UUIDs.
        reproducible: UIDs follow from the source's UIDs and what was done, and no time of creation is written, so that
            the same run gives the same files.
        private: ``keep`` the vendor's private attributes, or ``drop`` them.
        enhanced: enhanced multi-frame objects ``keep`` their form, or become ``classic`` single-frame ones.
        anonymise: de-identify by the basic application confidentiality profile (PS3.15 E.1).
        suffix: is added to SeriesDescription.
        series_number: of the new series; None: the source's plus 1000 (less 1000 where DICOM has no room for it).
        software: what else made the objects, for SoftwareVersions: the weights and their hash.
    """

    uid_root: str | None = None
    reproducible: bool = False
    private: str = "keep"
    enhanced: str = "keep"
    anonymise: bool = False
    suffix: str = " restored"
    series_number: int | None = None
    software: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for option, value, choices in (
            ("--private", self.private, PRIVATE_CHOICES),
            ("--enhanced", self.enhanced, ENHANCED_CHOICES),
        ):
            if value not in choices:
                msg = f"{option} {value!r}: expected one of {', '.join(choices)}"
                raise UsageError(msg)
        root = self.uid_root
        longest = _LONGEST_UID - _DIGITS - 1
        if root is not None and (not re.fullmatch(r"[0-2](\.(0|[1-9]\d*))+", root) or len(root) > longest):
            msg = (
                f"--uid-root {root!r}: expected numbers joined by dots, at most {longest} characters, such as 1.2.826.0"
            )
            raise UsageError(msg)
        number = self.series_number
        if number is not None and not LEAST_NUMBER <= number <= GREATEST_NUMBER:
            msg = f"--series-number {number}: expected {LEAST_NUMBER} to {GREATEST_NUMBER}, which DICOM can hold"
            raise UsageError(msg)
        if self.anonymise and self.reproducible:
            msg = "--anonymise: expected without --reproducible, got both: such UIDs lead back to the patient's"
            raise UsageError(msg + "; leave one of them out")

    def check_kind(self, kind: str, output: Path) -> None:
        """Refuse to de-identify what these options don't write: other formats keep their header's text as it is.

        Args:
            kind: the output's format.
            output: where to.

        Raises:
            UsageError: a format other than DICOM, with ``anonymise``.
        """
        if self.anonymise and kind != "dicom":
            msg = f"{output}: expected DICOM output with --anonymise, which de-identifies nothing else, got {kind}"
            raise UsageError(msg + "; write DICOM, or leave it out")


class UidMaker:
    """New UIDs, random or following from what identifies an object.

    Args:
        options: root, and whether reproducible.
        history: what was done to the source.
    """

    def __init__(self, options: DicomOptions, history: tuple[str, ...]) -> None:
        self._options = options
        self._history = (options.suffix, options.private, options.enhanced, *options.software, *history)
        self._made: Counter[tuple[str, ...]] = Counter()

    def new(self, *source: str) -> str:
        """A UID for what is made from the object that these words identify: each time another one."""
        if self._options.reproducible:
            before = self._made[source]
            self._made[source] += 1
            words = (*self._history, *source, *([str(before)] if before else []))
            digest = hashlib.sha256("\0".join(words).encode()).digest()
        else:
            digest = uuid.uuid4().bytes
        number = int.from_bytes(digest[:16], "big")
        if self._options.uid_root is None:
            return f"{_UUID_ROOT}.{uuid.UUID(int=number, version=4).int}"
        return f"{self._options.uid_root}.{number % 10**_DIGITS}"
