"""That the ablation's arms are of the same scans: what each was trained and scored on, as its result keeps it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tatcli.errors import UsageError

__all__ = ["Scans", "check_alike", "digest_of_scans"]


@dataclass(frozen=True)
class Scans:
    """What a training is of.

    Attributes:
        tasks: that it learned.
        trained: names and hashes of what it was trained on; None where an older result doesn't say.
        scored: task -> digest of what it was scored on; None likewise.
    """

    tasks: tuple[str, ...]
    trained: frozenset[str] | None
    scored: Mapping[str, str] | None


def check_alike(scans: Mapping[str, Scans], study: Path) -> None:
    """Refuse to compare trainings of different scans.

    Args:
        scans: of each training so far, by its name; the last one is compared with the others.
        study: their folder, for the message.

    Raises:
        UsageError: the last one was trained, or scored, on other scans than one before it.
    """
    *before, last = scans
    for name in before:
        one, other = scans[name], scans[last]
        if (
            one.trained is not None
            and other.trained is not None
            and not _are_alike(one, one.trained, other, other.trained)
        ):
            msg = f"{study}: expected trainings on the same scans, {name} and {last} had different ones"
            raise UsageError(msg + "; use another folder")
        if one.scored is not None and other.scored is not None:
            changed = [task for task in one.scored if other.scored.get(task, one.scored[task]) != one.scored[task]]
            if changed:
                msg = f"{study}: expected scores of the same scans, {name} and {last} have them of different ones"
                raise UsageError(msg + f" ({', '.join(changed)}); use another folder")


def _are_alike(one: Scans, trained: frozenset[str], other: Scans, others: frozenset[str]) -> bool:
    """Networks of single tasks have a part of the scans each."""
    if one.tasks == other.tasks:
        return trained == others
    if set(other.tasks) <= set(one.tasks):
        return others <= trained
    return trained <= others if set(one.tasks) <= set(other.tasks) else True


def digest_of_scans(root: Path, task: str, split: str) -> str:
    """Of the files of a dataset's split, and of their partners."""
    from tatcli.tasks import TASKS
    from tatcli.training.pairs import find_pairs
    from tatcli.volumes.members import members_of

    pairs, _ = find_pairs(root, TASKS[task], split)
    digest = hashlib.sha256()
    for path in (path for pair in pairs for path in (pair.reference, pair.lq) if path is not None):
        for file in members_of(path):
            with file.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()
