"""Scans of one patient under several names: found out before subjects go to their splits, as far as files can tell."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from tatcli.workflows.preparing.survey import Found

__all__ = ["doubtful", "join_subjects"]


def join_subjects(found: Sequence[Found], before: Mapping[str, str]) -> list[Found]:
    """Give scans that must be of one patient one subject.

    A file beside DICOM of a single PatientID, in its own folder or in one of those above it up to the topmost of its
    own, is of that patient. Two subjects that have a scan in common, byte for byte, are one, if a mere folder's or
    file's name tells them apart. Files of equal names that lie directly in several of the given folders are told apart
    by these.

    Args:
        found: what was found, with subjects as headers and paths tell them.
        before: subject -> split of those that are in the set.

    Returns:
        The same, with their subjects.
    """
    scans = _beside_dicom(_by_root(found))
    same = _same_bytes(scans, before)
    return [replace(scan, subject=same.get(scan.subject, scan.subject)) for scan in scans]


def doubtful(found: Iterable[Found], splits: Mapping[str, str]) -> list[str]:
    """What looks like a patient in two splits: scans that are the same, byte for byte, of subjects that went apart."""
    told = []
    for copies in _copies(found).values():
        first = copies[0]
        other = next((scan for scan in copies if splits[scan.subject] != splits[first.subject]), None)
        if other is not None:
            places = (f"{scan.shown} ({splits[scan.subject]})" for scan in (first, other))
            told.append(f"{' and '.join(places)} are the same, byte for byte: one patient in two splits?")
    return told


def _by_root(found: Sequence[Found]) -> list[Found]:
    """Where patients' own folders are what was given."""
    flat: dict[str, set[Path]] = defaultdict(set)
    for scan in found:
        if not scan.named and not scan.candidate.parts:
            flat[scan.subject].add(scan.candidate.root)
    several = {root for roots in flat.values() if len(roots) > 1 for root in roots}
    places = {root: root.resolve() for root in several}
    counts = Counter(place.name for place in places.values())
    names = {root: at.name if counts[at.name] == 1 else f"{at.parent.name}/{at.name}" for root, at in places.items()}
    return [
        replace(scan, subject=names[scan.candidate.root])
        if not scan.named and not scan.candidate.parts and scan.candidate.root in names
        else scan
        for scan in found
    ]


def _beside_dicom(found: Sequence[Found]) -> list[Found]:
    patients: dict[Path, set[str]] = defaultdict(set)
    for scan in found:
        if scan.candidate.dicom and scan.named:
            for folder in _own_folders(scan):
                patients[folder].add(scan.subject)
    return [scan if scan.named else replace(scan, subject=_only_patient(scan, patients)) for scan in found]


def _only_patient(scan: Found, patients: Mapping[Path, set[str]]) -> str:
    """Of the nearest folder in which DICOM names patients, if it names one."""
    nearest = next((patients[folder] for folder in _own_folders(scan) if folder in patients), set())
    return next(iter(nearest)) if len(nearest) == 1 else scan.subject


def _own_folders(scan: Found) -> list[Path]:
    """The folders of a scan from the inside out, up to the topmost of its own: what is above tells tasks and splits."""
    candidate = scan.candidate
    if not candidate.parts:
        return []
    inner = candidate.path.relative_to(candidate.root).parts
    top = inner.index(candidate.parts[0]) + 1
    deepest = len(inner) if candidate.dicom else len(inner) - 1
    return [candidate.root.joinpath(*inner[:depth]) for depth in range(deepest, top - 1, -1)]


def _copies(found: Iterable[Found]) -> dict[str, list[Found]]:
    """Hash -> the scans that have it."""
    copies: dict[str, list[Found]] = defaultdict(list)
    for scan in found:
        if not scan.problem:
            copies[scan.sha256].append(scan)
    return copies


def _same_bytes(scans: Sequence[Found], before: Mapping[str, str]) -> dict[str, str]:
    """Subject -> the subject that it is one with; of more than two it may be a template that each has got."""
    told = {scan.subject: scan.candidate.split for scan in scans if scan.candidate.split is not None}
    told = {**before, **told}
    same: dict[str, str] = {}
    for copies in _copies(scans).values():
        pair = list(dict.fromkeys(_end(scan.subject, same) for scan in copies))
        if len(pair) != 2 or all(scan.named for scan in copies):
            continue
        one, other = pair
        if one in told and other in told and told[one] != told[other]:
            continue
        kept, gone = (other, one) if other in told and one not in told else (one, other)
        same[gone] = kept
    return {subject: _end(subject, same) for subject in same}


def _end(subject: str, same: Mapping[str, str]) -> str:
    while subject in same:
        subject = same[subject]
    return subject
