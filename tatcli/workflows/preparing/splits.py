"""Which subjects are trained on, and which are kept: all scans of one subject go the same way, always."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

from tatcli.errors import UsageError
from tatcli.training.prepared_set import is_prepared, read_index
from tatcli.workflows.preparing.config import PrepareConfig
from tatcli.workflows.preparing.survey import Found

__all__ = ["assign_splits", "splits_in"]


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
    closest = [_closest(subjects, whole, places) for subjects in members.values() if config.validation]
    return whole | {subject: "val" for subject in closest if subject is not None}


def _closest(subjects: set[str], splits: dict[str, str], places: dict[str, float]) -> str | None:
    """Whom to validate a task on that has nobody: the hashed subject nearest to that split, if another is left."""
    training = [subject for subject in subjects if splits[subject] == "train"]
    hashed = [subject for subject in training if subject in places]
    if any(splits[subject] == "val" for subject in subjects) or len(training) < 2 or not hashed:
        return None
    return min(hashed, key=places.__getitem__)


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
    entries = read_index(root) if is_prepared(root) else ()
    return {entry.subject: entry.split for entry in entries if entry.rejected is None}
