"""What the system says about memory. Free of torch."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

__all__ = ["default_limit", "free_memory", "peak_resident", "resident"]

_USABLE: Final = 0.8
"""Most of what is free: the rest is for the disk cache, and for what others ask for meanwhile."""
_PROC: Final = Path("/proc")
_CGROUPS: Final = Path("/sys/fs/cgroup")


def default_limit() -> int | None:
    """What a process may grow to where nobody says: most of what is free, and what it has; None: not known."""
    free = free_memory()
    return None if free is None else int(_USABLE * free) + (resident() or 0)


def free_memory() -> int | None:
    """Bytes that new work can have without swapping, within the limits of this process's control groups.

    Where the system doesn't tell (macOS), half of all memory; None where not even that is known (Windows).
    """
    available = _kibibytes(_PROC / "meminfo", "MemAvailable:")
    if available is None:
        try:
            return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
        except (AttributeError, OSError, ValueError):
            return None
    return min([available, *_left_in_groups()])


def resident() -> int | None:
    """Resident memory of this process now, bytes; None where unknown."""
    return _kibibytes(_PROC / "self" / "status", "VmRSS:")


def peak_resident() -> int | None:
    """The most that resident memory of this process ever was, bytes; None where unknown."""
    # On Linux ru_maxrss won't do: a process takes it over from the one that started it.
    peak = _kibibytes(_PROC / "self" / "status", "VmHWM:")
    if peak is not None:
        return peak
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _left_in_groups() -> Iterator[int]:
    """What this process's control groups leave; files in their cache can be had, too, but for those in memory alone."""
    for line in _text(_PROC / "self" / "cgroup").splitlines():
        _, controllers, group = line.split(":", 2)
        if not controllers:
            yield from _left(_CGROUPS, group, ("memory.max", "memory.current", "file", "shmem"))
        elif "memory" in controllers.split(","):
            files = "memory.limit_in_bytes", "memory.usage_in_bytes"
            yield from _left(_CGROUPS / "memory", group, (*files, "total_cache", "total_shmem"))


def _left(root: Path, group: str, names: tuple[str, str, str, str]) -> Iterator[int]:
    """What a group and those around it leave.

    Args:
        root: the outermost one; the names of the others may be those outside a container, which aren't seen in it.
        group: of this process.
        names: what version 1 or 2 of the control groups calls limit, use, and of the use cache and what is in memory
            alone (``/dev/shm``, a job's own ``/tmp``).
    """
    folder = root / group.strip("/")
    for level in (folder, *folder.parents):
        if not level.is_relative_to(root):
            return
        limit, used = (_text(level / name).strip() for name in names[:2])
        if limit.isdigit() and used.isdigit():
            fields = dict(line.split() for line in _text(level / "memory.stat").splitlines())
            cache, in_memory = (int(fields.get(name, 0)) for name in names[2:])
            yield max(0, int(limit) - int(used) + cache - in_memory)


def _kibibytes(path: Path, field: str) -> int | None:
    """A field in kB of a file under /proc, in bytes."""
    return next((int(line.split()[1]) * 1024 for line in _text(path).splitlines() if line.startswith(field)), None)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
