"""Which subjects are trained on, and which are kept: all scans of one subject go the same way, always."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

from tatcli.errors import UsageError
from tatcli.training.prepared_set import Entry, is_prepared, read_index
from tatcli.workflows.preparing.config import PrepareConfig
from tatcli.workflows.preparing.survey import Found

__all__ = ["assign_splits", "files_in", "splits_in"]


def assign_splits(
    scans: Iterable[Found], config: PrepareConfig, *, before: Mapping[str, str] = MappingProxyType({})
) -> dict[str, str]:
    """The split of each subject: what its folders say, else where it is in the set, else by a hash of its name.

    A new subject's place follows from its name and the shares alone, with one exception: where chance leaves a task
    with nobody to validate on, the new subject that came closest is taken. It stays there whoever comes later.

    Args:
        scans: what was found.
        config: the shares.
        before: subject -> split of those that are in the set.

    Raises:
        UsageError: folders put one subject into two splits.
    """
    told: dict[str, str] = {}
    free: set[str] = set()
    members: dict[str, set[str]] = {}
    for scan in scans:
        split = scan.candidate.split
        members.setdefault(scan.task or "", set()).add(scan.subject)
        if split is None:
            free.add(scan.subject)
        elif told.setdefault(scan.subject, split) != split:
            msg = (
                f"{scan.candidate.shown}: expected every scan of a subject in one split, got {scan.subject} in "
                f"{told[scan.subject]} and {split}; move it, or tell subjects apart with --subject"
            )
            raise UsageError(msg)
    kept = {subject: before[subject] for subject in free - told.keys() if subject in before}
    places = {subject: _place(subject) for subject in sorted(free - told.keys() - kept.keys())}
    cut = (config.validation, config.validation + config.test)
    splits = {subject: _split(place, cut) for subject, place in places.items()}
    whole = told | kept | splits
    for task in sorted(members) if config.validation else ():
        subject = _closest(task, members, whole, places)
        if subject is not None:
            whole[subject] = "val"
    return whole


def _closest(
    task: str, members: Mapping[str, set[str]], splits: Mapping[str, str], places: Mapping[str, float]
) -> str | None:
    """Whom to validate a task on that has nobody: the hashed subject nearest to that split, if not needed."""
    training = {each: {one for one in subjects if splits[one] == "train"} for each, subjects in members.items()}
    if any(splits[subject] == "val" for subject in members[task]):
        return None
    last = {subject for subjects in training.values() if len(subjects) == 1 for subject in subjects}
    free = [subject for subject in training[task] - last if subject in places]
    return min(free, key=places.__getitem__, default=None)


def _place(subject: str) -> float:
    """Uniform in [0, 1), and the same on every machine."""
    return int.from_bytes(hashlib.sha256(f"split:{subject}".encode(errors="surrogateescape")).digest()[:6]) / 2**48


def _split(place: float, cut: tuple[float, float]) -> str:
    return "val" if place < cut[0] else "test" if place < cut[1] else "train"


def splits_in(root: Path) -> dict[str, str]:
    """Subject -> split of the references in a set, whole or not; of a folder that is none: nobody's.

    Raises:
        VolumeReadError: an index that can't be read.
    """
    return {entry.subject: entry.split for entry in _references_in(root)}


def files_in(root: Path, *, there: Collection[str]) -> dict[str, str]:
    """Hash -> file of a set's references that are still there: a copy that comes later doesn't take its place.

    Raises:
        VolumeReadError: an index that can't be read.
    """
    told = (entry.source for entry in _references_in(root))
    return {str(one.get("sha256")): str(one.get("file")) for one in told if one.get("file") in there}


def _references_in(root: Path) -> list[Entry]:
    return [entry for entry in read_index(root) if entry.rejected is None] if is_prepared(root) else []
