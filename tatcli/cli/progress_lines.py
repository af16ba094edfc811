"""How far a long command is, for a job's log: without a terminal there is no bar, and silence for hours."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

__all__ = ["ProgressLines", "in_hours"]

_FIRST: Final = 60.0
"""Seconds without a word; what is done by then needs none."""
_MOST: Final = 600.0
"""Seconds between lines, at most: they grow rarer as the command goes on."""
_SHARE: Final = 0.25
"""Seconds between lines, of those since the start."""


class ProgressLines:
    """Lines like ``train: 1200 of 30000 steps, about 3.2 h left``, the first one after a minute.

    Args:
        say: writes a line.
        clock: seconds that only grow.
    """

    def __init__(self, say: Callable[[str], None], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._say, self._clock = say, clock
        self._start = clock()
        self._next = self._start + _FIRST
        self._stage: str | None = None
        self._begun = (0.0, 0)

    def report(self, stage: str, done: int, total: int, what: str = "") -> None:
        """Say it, where it is time to.

        Args:
            stage: what is being done.
            done: of it.
            total: in all.
            what: words that follow the numbers.
        """
        now = self._clock()
        if stage != self._stage:
            self._stage, self._begun = stage, (now, done)
        if now < self._next:
            return
        since, first = self._begun
        known = first < done < total
        left = f", about {in_hours((now - since) / (done - first) * (total - done))} left" if known else ""
        self._say(f"{stage}: {done} of {total}{what}{left}")
        self._next = now + min(_MOST, max(_FIRST, (now - self._start) * _SHARE))


def in_hours(seconds: float) -> str:
    """A time in the unit that reads best."""
    minutes, hours = round(seconds / 60), round(seconds / 3600, 1)
    return f"{seconds:.1f} s" if seconds < 100 else f"{minutes} min" if minutes < 120 else f"{hours} h"
