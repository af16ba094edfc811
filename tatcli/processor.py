"""What the system says about its processor. Free of torch."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tatcli.control_groups import groups_of, kept

__all__ = ["MOST_THREADS", "processor_field", "usable_cores"]

MOST_THREADS: Final = 1024
"""That may be asked for: where the system gives no more, OpenMP ends the process."""

_DESCRIPTION: Final = Path("/proc/cpuinfo")


def usable_cores() -> int:
    """Cores that this process may use: those that the system lets it run on, or as many as its time is worth.

    A cluster's job has its share of the cores; a container may run on all of them, but for so much time alone.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([cores, *map(math.ceil, _shares())]))


def _shares() -> Iterator[float]:
    """Cores' worth of time that this process's control groups have."""
    for version, folder in groups_of("cpu"):
        if version == 2:
            words = kept(folder / "cpu.max").split()
        else:
            words = [kept(folder / "cpu.cfs_quota_us"), kept(folder / "cpu.cfs_period_us")]
        if len(words) == 2 and all(map(str.isdigit, words)):  # without a limit: max, or -1
            yield int(words[0]) / int(words[1])


def processor_field(*names: str) -> str:
    """What Linux says of the first processor under one of these names; empty where it says nothing, or isn't Linux.

    Args:
        names: as in ``/proc/cpuinfo``: ``vendor_id``, ``model name``, ``flags`` ...
    """
    try:
        lines = _DESCRIPTION.read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    fields = (line.partition(":") for line in lines)
    return next((value.strip() for name, _, value in fields if name.strip() in names), "")
