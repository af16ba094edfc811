"""Which subjects are trained on, and which are kept: all scans of one subject go the same way, always."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from tatcli.errors import UsageError
from tatcli.workflows.preparing.config import PrepareConfig
from tatcli.workflows.preparing.survey import Found

__all__ = ["assign_splits"]


def assign_splits(scans: Iterable[Found], config: PrepareConfig) -> dict[str, str]:
    """The split of each subject: what its folders say, else by a hash of its name.

    A subject's place follows from its name and the shares alone, so scans that come later never move those that are
    there; with one exception: where chance leaves a split empty that should have a share, it gets the subject that came
    closest, and gives it back when another comes closer. Such a subject moves from validation to training, never the
    other way.

    Raises:
        UsageError: folders put one subject into two splits.
    """
    told: dict[str, str] = {}
    free: set[str] = set()
    for scan in scans:
        split = scan.candidate.split
        if split is None:
            free.add(scan.subject)
        elif told.setdefault(scan.subject, split) != split:
            msg = (
                f"{scan.candidate.shown}: expected every scan of a subject in one split, got {scan.subject} in "
                f"{told[scan.subject]} and {split}; move it, or tell subjects apart with --subject"
            )
            raise UsageError(msg)
    places = {subject: _place(subject) for subject in sorted(free - told.keys())}
    cut = (config.validation, config.validation + config.test)
    splits = {subject: _split(place, cut) for subject, place in places.items()}
    taken = set(told.values())
    training = [subject for subject, split in splits.items() if split == "train"]
    if config.validation and "val" not in taken | set(splits.values()) and len(training) > 1:
        splits[min(training, key=places.__getitem__)] = "val"
    return told | splits


def _place(subject: str) -> float:
    """Uniform in [0, 1), and the same on every machine."""
    return int.from_bytes(hashlib.sha256(f"split:{subject}".encode()).digest()[:6]) / 2**48


def _split(place: float, cut: tuple[float, float]) -> str:
    return "val" if place < cut[0] else "test" if place < cut[1] else "train"
