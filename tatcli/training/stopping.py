"""Stopping where the run can go on: signals are heard between two steps, never within one."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Final, NoReturn, Self

__all__ = ["StopRequest"]

_HANGUP: Final = getattr(signal, "SIGHUP", None)
"""(Windows has none.)"""


class StopRequest:
    """While the block runs, SIGINT, SIGTERM and SIGHUP are only noted; the second one ends the process at once.

    SIGHUP, of a terminal that was closed, stays ignored where it is (as nohup does). Shell and system both send it, so
    that a second one says nothing.
    In any thread but the main one, where Python hears no signals, nothing changes.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM, _HANGUP):
                if number is not None and not (number == _HANGUP and signal.getsignal(number) is signal.SIG_IGN):
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
            SystemExit: another one came, or one in another process; 128 + its number (or SIGTERM's), as in a shell.
        """
        if self.number == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + (self.number or signal.SIGTERM))

    def _note(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - the signature of a signal handler
        if self.made and number != _HANGUP:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.number = self.number or number
