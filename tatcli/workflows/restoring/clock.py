"""Wall time of a run's stages."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

__all__ = ["Clock"]


class Clock:
    """Starts with the run.

    Attributes:
        started: UTC, ISO 8601.
        seconds: of each stage that is over, to the millisecond.
    """

    def __init__(self) -> None:
        self.started = datetime.now(UTC).isoformat(timespec="seconds")
        self.seconds: dict[str, float] = {}
        self._start = time.perf_counter()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Take the time of the block."""
        start = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - start, 3)

    def finish(self) -> None:
        """Take the time of the whole run."""
        self.seconds["total"] = round(time.perf_counter() - self._start, 3)
