"""``tat prepare --check``: whether a set still has the bytes that were written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tatcli.errors import UsageError, VolumeReadError, reason_of, some_of
from tatcli.training.prepared_set import TYPES, Entry, file_of, is_prepared, prepared_entries
from tatcli.training.set_parts import sum_of_part

__all__ = ["SetCheck", "check_set"]


@dataclass(frozen=True)
class SetCheck:
    """What was compared.

    Attributes:
        scans: that are as they were written.
        unknown: that were prepared before check sums were kept.
    """

    scans: int
    unknown: int


def check_set(root: Path, *, on_progress: Callable[[str, int, int], None] = lambda *_: None) -> SetCheck:
    """Read a whole set, and compare it with the check sums of its index.

    Raises:
        UsageError: no set, or one that isn't whole.
        VolumeReadError: other bytes than were written, or fewer.
    """
    if not is_prepared(root):
        msg = f"{root}: expected a set of tat prepare to check, found none"
        raise UsageError(msg)
    entries = [entry for entry in prepared_entries(root) if entry.rejected is None]
    known = [entry for entry in entries if "crc32" in entry.facts]
    damaged = []
    for done, entry in enumerate(known):
        on_progress("check", done, len(known))
        if not _is_intact(root, entry):
            damaged.append(f"{entry.task} {entry.split} {entry.subject}/{entry.name}")
    on_progress("check", len(known), len(known))
    if damaged:
        msg = f"{root}: expected the bytes that were written, got others in {len(damaged)} of {len(known)} scans "
        raise VolumeReadError(msg + f"({some_of(damaged)}); check the disk, and prepare them in another folder")
    return SetCheck(len(known), len(entries) - len(known))


def _is_intact(root: Path, entry: Entry) -> bool:
    for kind, shape in entry.shapes.items():
        path = root / file_of(entry.task, entry.split, kind)
        try:
            found = sum_of_part(path, TYPES[kind], start=entry.starts[kind], shape=shape)
        except OSError as error:
            msg = f"{path}: expected a file of the set, got {reason_of(error)}; check the disk"
            raise VolumeReadError(msg) from error
        if found != entry.facts["crc32"][kind]:
            return False
    return True
