"""Scans restored in a process of their own, which outlives whatever they do to it: for a node that runs for years."""

from __future__ import annotations

import shutil
from types import TracebackType
from typing import Final, Self

from tatcli.errors import DeviceError, OutputError, TatError
from tatcli.workflows.batch.config import DEFAULT_TIMEOUT
from tatcli.workflows.batch.isolated import Gone, Isolated, Refused, as_errors
from tatcli.workflows.batch.roles import EngineSettings
from tatcli.workflows.restore import RestoreConfig

__all__ = ["Apart", "BugError"]

_TRIES: Final = 2


class BugError(Exception):
    """A bug in tat met a scan; its text has nothing of the scan's."""


class Apart:
    """A network in a child process, which is replaced when a scan crashes or hangs it.

    Args:
        weights: a name or path; None: the default ones.
        device: where the network is.
        timeout: seconds without a sign of life after which a scan is given up.
    """

    def __init__(self, weights: str | None, device: str, *, timeout: float = DEFAULT_TIMEOUT) -> None:
        self._engine = Isolated("engine", EngineSettings(weights=weights, device=device, slots=1))
        self._timeout = timeout

    def __enter__(self) -> Self:
        """With the network loaded.

        Raises:
            WeightsError, DeviceError: it can't be.
        """
        with as_errors("the process that loads the network", DeviceError):
            self._engine.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._engine.close()

    def __call__(self, config: RestoreConfig) -> None:
        """Restore a scan.

        Args:
            config: with an output, in a folder that nobody else writes to meanwhile.

        Raises:
            OutputError: the output can't be written.
            TatError: the scan can't be restored; it ended, or hung, the process twice.
            BugError: another attempt may go well.
        """
        assert config.output is not None  # noqa: S101
        there = set(config.output.parent.iterdir())
        for left in reversed(range(_TRIES)):
            try:
                self._engine.call(config, timeout=self._timeout)
            except Refused as refused:
                failure = refused.failure
                if failure.exit_code == 1:  # the process may be in any state now
                    self._engine.restart()
                    raise BugError(failure.reason) from None
                if failure.exit_code == 2 and failure.passing:
                    raise OutputError(failure.reason) from None
                raise failure.as_error() from None
            except Gone as gone:
                for path in set(config.output.parent.iterdir()) - there:  # what it was writing
                    shutil.rmtree(path, ignore_errors=True)
                if not left:
                    msg = f"the process that restored it {gone.manner}"
                    raise TatError(msg) from None
            else:
                return
