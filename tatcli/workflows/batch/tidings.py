"""What workers of a cluster tell of the scans that they are at, as events of dask's own; a lost one does no harm."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Self

__all__ = ["TOPIC", "Tidings", "teller"]

TOPIC: Final = "tat"
"""One for all batches: a scheduler keeps the last events of every topic for as long as it runs."""
_PAUSE: Final = 1.0
"""Seconds between two tidings of a scan's progress."""


@dataclass(frozen=True)
class Tidings:
    """What a scan is at.

    Attributes:
        key: of the task that restores it.
        kind: ``state``, ``progress``.
        content: a word; (slices done, slices).
    """

    key: str
    kind: str
    content: Any

    def as_event(self) -> dict[str, Any]:
        """As dask carries it."""
        return {"key": self.key, "kind": self.kind, "content": self.content}

    @classmethod
    def of(cls, event: Any) -> Self | None:
        """What an event says; None: it isn't one of ours."""
        match event:
            case {"key": str(key), "kind": "state", "content": str(state)}:
                return cls(key, "state", state)
            case {"key": str(key), "kind": "progress", "content": [int(done), int(total)]}:
                return cls(key, "progress", (done, total))
        return None


def teller(*, now: Callable[[], float] = time.monotonic) -> Callable[[str, Any], None]:
    """Within a task: sends (kind, content) of its scan to the clients, progress once a second and at its end."""
    last: list[float] = []

    def tell(kind: str, content: Any) -> None:
        if kind == "progress":
            done, total = content
            if last and now() - last[0] < _PAUSE and done < total:
                return
            last[:] = [now()]
        with suppress(Exception):  # the scheduler is away, or the worker about to end: the scan goes on
            from distributed import get_worker

            worker = get_worker()
            worker.log_event(TOPIC, Tidings(worker.get_current_task(), kind, content).as_event())

    return tell
