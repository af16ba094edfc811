"""Stopping where the run can go on: signals are heard between two steps, never within one."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, NoReturn, Self

__all__ = ["StopRequest"]


class StopRequest:
    """While the block runs, SIGINT and SIGTERM are only noted; the second one ends the process at once.

    In any thread but the main one, where Python hears no signals, nothing changes.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    @property
    def made(self) -> bool:
        """Whether a signal came."""
        return self.number is not None

    def obey(self) -> NoReturn:
        """End as the signal would have ended the process.

        Raises:
            KeyboardInterrupt: SIGINT came.
            SystemExit: SIGTERM came, here or in another process; 143, as in a shell.
        """
        if self.number == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + signal.SIGTERM)

    def _note(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - the signature of a signal handler
        if self.made:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.number = number
