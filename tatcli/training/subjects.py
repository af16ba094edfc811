"""Whom a scan is of, and how likely it is drawn."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tatcli.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["bids_subject", "check_found", "named_by", "shares", "subject_in", "subject_of", "subject_of_place"]

PATIENT: Final = "patient-"
"""What the hash of a DICOM PatientID follows."""
_BIDS: Final = re.compile(r"(?:^|/)(sub-[0-9A-Za-z]+)")


def named_by(pattern: str | None, text: str) -> str | None:
    """What a pattern says in a text: the first group that took part in the match, or all of it; None: it isn't there.

    (Of alternatives with a group each, all groups but one take no part.)
    """
    found = re.search(pattern, text) if pattern else None
    if found is None:
        return None
    return next((group for group in found.groups() if group is not None), found.group())


def check_found(pattern: str | None, texts: Iterable[str], *, option: str = "--subjects") -> None:
    """Refuse a pattern that tells no subject at all: every scan's folders would, unnoticed.

    Raises:
        UsageError: it is in none of the texts, of which there are some.
    """
    first = None
    for text in texts if pattern else ():
        if named_by(pattern, text) is not None:
            return
        first = first or text
    if first is not None:
        msg = f"{option} '{pattern}': expected a pattern that some scan's path has, got one in none, such as {first}"
        raise UsageError(msg + "; correct it, or leave it out")


def subject_of(name: str, pattern: str | None, *, otherwise: str = "") -> str:
    """The subject that a scan is of, by its name (or path): as the pattern says, else ``otherwise``, else the name."""
    found = named_by(pattern, name)
    return (otherwise or name) if found is None else found


def subject_in(root: Path, name: str, pattern: str | None, *, otherwise: str = "") -> str:
    """The subject, where there are several datasets: ``sub-01`` of one is another person than ``sub-01`` of the next.

    What the pattern says, and a DICOM PatientID (hashed by ``tat prepare``), tells a subject in all of them.
    """
    subject = subject_of(name, pattern, otherwise=otherwise)
    everywhere = named_by(pattern, name) is not None or subject.startswith(PATIENT)
    return subject if everywhere else f"{root.resolve()}/{subject}"


def bids_subject(place: str) -> str | None:
    """BIDS' ``sub-`` of a path's first folder that has it, or of the scan's name; None: neither has."""
    found = _BIDS.search(place)
    return None if found is None else found.group(1)


def subject_of_place(place: str) -> str:
    """The subject that a path names: BIDS' ``sub-`` of a folder or the scan, else the topmost folder, else none."""
    folder, slash, _ = place.partition("/")
    return bids_subject(place) or (folder if slash else "")


def shares(sizes: Sequence[float], subjects: Sequence[str] | None) -> NDArray[np.float64]:
    """How likely each scan is drawn, in all 1.

    Args:
        sizes: voxels of each scan.
        subjects: whom each is of: subjects are then equally likely, and of one subject's scans every voxel (a subject
            with many scans, or long ones, isn't seen more often); None: every voxel of all is equally likely.
    """
    import numpy as np  # (here: commands that only name scans start without it)

    voxels = np.array(sizes, dtype=np.float64)
    if subjects is None:
        return np.asarray(voxels / voxels.sum())
    _, whose = np.unique(np.array(subjects), return_inverse=True)
    each = np.bincount(whose, weights=voxels)
    return np.asarray(voxels / each[whose] / len(each))
