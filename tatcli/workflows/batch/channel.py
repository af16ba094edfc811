"""Messages between a process and its child: pickles with their length in front, through pipes."""

from __future__ import annotations

import pickle
import struct
import threading
from typing import IO, Any, Final

__all__ = ["Channel"]

_LENGTH: Final = struct.Struct("<Q")


class Channel:
    """Sends and receives objects; sending is safe from several threads.

    Both ends are ours and of one version, so pickles are no risk here: who can write into the pipe owns the process.
    """

    def __init__(self, incoming: IO[bytes], outgoing: IO[bytes]) -> None:
        self._incoming, self._outgoing = incoming, outgoing
        self._sending = threading.Lock()

    def send(self, message: Any) -> None:
        """Send an object.

        Raises:
            OSError: the other end is gone.
        """
        data = pickle.dumps(message)
        with self._sending:
            self._outgoing.write(_LENGTH.pack(len(data)) + data)
            self._outgoing.flush()

    def receive(self) -> Any:
        """The next object.

        Raises:
            EOFError: the other end is gone.
        """
        (length,) = _LENGTH.unpack(self._exactly(_LENGTH.size))
        return pickle.loads(self._exactly(length))  # noqa: S301  from our own child or parent

    def _exactly(self, count: int) -> bytes:
        data = self._incoming.read(count)
        if len(data) < count:
            raise EOFError
        return data
