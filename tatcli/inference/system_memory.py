"""What the system says about memory. Free of torch."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tatcli.control_groups import groups_of, kept

__all__ = ["default_limit", "free_memory", "peak_resident", "resident"]

_USABLE: Final = 0.8
"""Most of what is free: the rest is for the disk cache, and for what others ask for meanwhile."""
_PROC: Final = Path("/proc")
_NAMES: Final = {
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_cache", "total_shmem"),
    2: ("memory.max", "memory.current", "file", "shmem"),
}
"""What the versions of the control groups call limit, use, and of the use the cache, and what of that is in memory
alone (``/dev/shm``, a job's own ``/tmp``)."""


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
    for version, folder in groups_of("memory"):
        limit_file, used_file, cache, in_memory = _NAMES[version]
        limit, used = kept(folder / limit_file), kept(folder / used_file)
        if limit.isdigit() and used.isdigit():
            fields = dict(line.split() for line in kept(folder / "memory.stat").splitlines())
            yield max(0, int(limit) - int(used) + int(fields.get(cache, 0)) - int(fields.get(in_memory, 0)))


def _kibibytes(path: Path, field: str) -> int | None:
    """A field in kB of a file under /proc, in bytes."""
    return next((int(line.split()[1]) * 1024 for line in kept(path).splitlines() if line.startswith(field)), None)
