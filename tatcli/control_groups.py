"""The control groups of Linux, by which containers and clusters limit what a job may take. Free of torch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

__all__ = ["groups_of", "kept"]

_MINE: Final = Path("/proc/self/cgroup")
_ROOT: Final = Path("/sys/fs/cgroup")


def groups_of(controller: str) -> Iterator[tuple[int, Path]]:
    """(version of the control groups, folder) of each group that this process is in, the innermost one first.

    Args:
        controller: ``memory``, ``cpu``; groups of version 2 have all.
    """
    for line in kept(_MINE).splitlines():
        _, controllers, group = line.split(":", 2)  # cgroups(7)
        if controllers and controller not in controllers.split(","):
            continue
        root = _ROOT / controller if controllers else _ROOT
        # In a container the innermost groups may have the names that they have outside, where it doesn't see them.
        folder = root / group.strip("/")
        for level in (folder, *folder.parents):
            if not level.is_relative_to(root):
                break
            yield (1 if controllers else 2), level


def kept(path: Path) -> str:
    """A file of the system's, stripped; empty where there is none."""
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""
