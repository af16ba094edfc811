"""The run's events for other programs: one JSON object a line, as they happen."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from tatcli.errors import OutputError

__all__ = ["Emit", "event_log"]

Emit = Callable[[Mapping[str, Any]], None]


@contextmanager
def event_log(path: Path | None, *, problem: Callable[[str], None]) -> Iterator[Emit]:
    """A function that appends an event, with its time, to a file; ``-`` is standard output.

    The batch is worth more than its log: when writing fails (the disk is full), that is told once, and events are lost
    until there is room again.

    Args:
        path: the file; None: nowhere.
        problem: hears of it, also where standard output's reader went away.

    Raises:
        OutputError: the file can't be opened.
    """
    if path is None:
        yield lambda _: None
        return
    try:
        stream = sys.stdout if str(path) == "-" else path.open("a", encoding="utf-8")
    except OSError as error:
        msg = f"--events {path}: expected a file to write to, got {error.strerror or error}"
        raise OutputError(msg) from error
    told = False

    def emit(event: Mapping[str, Any]) -> None:
        nonlocal told
        try:
            _write(stream, event)
        except OSError as error:
            if not told:
                problem(f"--events {path}: events are lost, {error.strerror or error}")
            told = True

    try:
        yield emit
    finally:
        if stream is not sys.stdout:
            with suppress(OSError):  # what could not be written was told
                stream.close()
        elif told:  # what is left in it would fail again when the process ends
            sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - as long as the process lives


def _write(stream: IO[str], event: Mapping[str, Any]) -> None:
    line = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), **event}
    stream.write(json.dumps(line) + "\n")
    stream.flush()
