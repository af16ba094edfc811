"""Child processes of batches that outlive their batch, for the next one: PyTorch takes seconds to load in each."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partialmethod
from typing import Any, Final

import pytest

from tatcli.workflows.batch.isolated import Isolated

MOST: Final = 4
"""Children that wait for another batch."""


class KeptProcesses:
    """Idle children by what they were started with; the one that waited longest gives its place to the next."""

    def __init__(self) -> None:
        self._idle: list[tuple[Any, Any]] = []
        self._start, self._close = Isolated.start, Isolated.close

    def use(self, patch: pytest.MonkeyPatch) -> None:
        """Batches take children from here and leave them here, until the patch is undone."""
        for name, method in (("start", self._started), ("close", self._closed)):
            patch.setattr(Isolated, name, partialmethod(_of_keeper, method))

    def end(self) -> None:
        """End those that wait."""
        while self._idle:
            self._idle.pop()[1].kill(because=None)

    def _started(self, isolated: Any) -> Any:
        with isolated._starting:
            if not isolated._closed and isolated._process is None:
                started_with = _started_with(isolated)
                for entry in self._idle:
                    if entry[0] == started_with:
                        self._idle.remove(entry)
                        isolated._process = entry[1]
                        break
        return self._start(isolated)  # another one, if it is gone

    def _closed(self, isolated: Any) -> None:
        process = isolated._process
        if process is None or not process.alive or process._waiting:  # something is under way: it ends with the batch
            self._close(isolated)
            return
        isolated._closed, isolated._process = True, None
        self._idle.append((_started_with(isolated), process))
        if len(self._idle) > MOST:
            self._idle.pop(0)[1].kill(because=None)


def _of_keeper(isolated: Any, method: Callable[[Any], Any]) -> Any:
    return method(isolated)


def _started_with(isolated: Any) -> Any:
    environment = {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
    return isolated._role, isolated._settings, environment
