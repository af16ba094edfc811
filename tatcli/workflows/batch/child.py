"""What runs in a process of its own: it does as it is told through its standard input, and ends when that ends."""

from __future__ import annotations

import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn

from tatcli.workflows.batch.channel import Channel
from tatcli.workflows.batch.roles import Role, role_of
from tatcli.workflows.batch.work import Failure

__all__ = ["main"]


def main() -> NoReturn:
    """Serve requests (number, request) with messages (number, kind, content), the last of kind ``done`` or ``failed``.

    Before the first request comes (role, settings), which is answered by (0, ``ready``, what the role says of itself).
    """
    channel = _own_channel()
    try:
        name, settings = channel.receive()
        try:
            role = role_of(name, settings)
        except Exception as error:  # noqa: BLE001 - the parent decides what becomes of it
            channel.send((0, "failed", Failure.of(error, "load")))
            _end()
        channel.send((0, "ready", role.info))
        with ThreadPoolExecutor(role.slots, thread_name_prefix="tat-work") as pool:
            while True:
                number, request = channel.receive()
                pool.submit(_answer, channel, role, number, request)
    except (EOFError, OSError):
        _end()  # at once: nobody waits for what is under way


def _answer(channel: Channel, role: Role, number: int, request: Any) -> None:
    stage = role.stage

    def say(kind: str, content: Any) -> None:
        nonlocal stage
        if kind == "state":
            stage = {"reading": "read", "writing": "write"}.get(content, "restore")
        channel.send((number, kind, content))

    try:
        reply = "done", role.answer(request, say)
    except BaseException as error:  # noqa: BLE001 - goes to the parent
        reply = "failed", Failure.of(error, stage)
    try:
        channel.send((number, *reply))
    except OSError:
        _end()


def _own_channel() -> Channel:
    """Standard input and output, kept from libraries that print."""
    for name in ("SIGINT", "SIGHUP"):  # Ctrl-C and a closed terminal reach all its processes; the parent ends us
        if (number := getattr(signal, name, None)) is not None:
            signal.signal(number, signal.SIG_IGN)
    incoming, outgoing = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return Channel(os.fdopen(incoming, "rb"), os.fdopen(outgoing, "wb"))


def _end() -> NoReturn:
    os._exit(0)
