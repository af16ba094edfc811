"""What the system says about its processor. Free of torch."""

from __future__ import annotations

from pathlib import Path
from typing import Final

__all__ = ["MOST_THREADS", "processor_field"]

MOST_THREADS: Final = 1024
"""That may be asked for: where the system gives no more, OpenMP ends the process."""

_DESCRIPTION: Final = Path("/proc/cpuinfo")


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
