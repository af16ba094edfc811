"""A child process as its parent sees it: asked, listened to, killed when it hangs, replaced when it is gone."""

from __future__ import annotations

import itertools
import os
import queue
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Final

import tatcli
from tatcli.errors import TatError
from tatcli.workflows.batch.channel import Channel
from tatcli.workflows.batch.work import Failure

__all__ = ["Gone", "Isolated", "Refused", "as_errors"]

_START: Final = 600.0
"""Seconds for a child to be ready: PyTorch from a slow network drive takes minutes."""
_MAIN: Final = "from tatcli.workflows.batch.child import main; main()"
_NOT_INHERITED: Final = "MALLOC_TRIM_THRESHOLD_"
"""Dask has its workers give free memory back at once. In a child the maps of every layer would then come from the
system anew, page by page: a third of the time of a pass."""
_LAST_WORDS: Final = "; its last words: "
Hear = Callable[[str, Any], None]


class Refused(Exception):
    """The child answered that it can't."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.reason)
        self.failure = failure


class Gone(Exception):
    """The child ended, or was killed because it hung, before it answered.

    Attributes:
        manner: how, without the child's last words, which may quote a header.
        guilty: whether this request is the one that it died of; False where others were under way.
    """

    def __init__(self, reason: str, *, guilty: bool) -> None:
        super().__init__(reason)
        self.manner = reason.partition(_LAST_WORDS)[0]
        self.guilty = guilty


@contextmanager
def as_errors(process: str, ended: type[TatError]) -> Iterator[None]:
    """What a child refuses in the block as the error that ends the run; its own end as one of this kind."""
    try:
        yield
    except Refused as refused:
        raise refused.failure.as_error() from None
    except Gone as gone:
        msg = f"{process} {gone}"
        raise ended(msg) from None


class Isolated:
    """Starts its child when it is first asked something, and again after it is gone.

    Args:
        role: what the child does.
        settings: how.
    """

    def __init__(self, role: str, settings: Any) -> None:
        self._role, self._settings = role, settings
        self._starting = threading.Lock()
        self._process: _Process | None = None
        self._closed = False

    def call(self, request: Any, *, timeout: float | None = None, hear: Hear = lambda *_: None) -> Any:
        """Ask, and wait for the answer.

        Args:
            request: what is asked.
            timeout: seconds without a sign of life after which the child is killed; waiting for others doesn't count.
            hear: gets (kind, content) of what the child says meanwhile.

        Raises:
            Refused: the answer is a failure.
            Gone: there is none.
        """
        process = self.start()
        number, answers = process.ask(request)
        patience = timeout
        try:
            while True:
                try:
                    kind, content = answers.get(timeout=patience)
                except queue.Empty:
                    process.kill(because=number)
                    msg = f"gave no sign of life for {timeout:g} s and was stopped"
                    raise Gone(msg, guilty=True) from None
                if kind == "done":
                    return content
                if kind == "failed":
                    raise Refused(content)
                if kind == "gone":
                    raise Gone(content[0], guilty=content[1])
                if kind == "state":
                    patience = None if content == "waiting" else timeout
                hear(kind, content)
        finally:
            process.forget(number)

    def start(self) -> _Process:
        """The running child.

        Raises:
            Refused: it can't do its work here.
            Gone: it ended while it started.
        """
        with self._starting:
            if self._closed:
                msg = "was ended"
                raise Gone(msg, guilty=False)
            if self._process is None or not self._process.alive:
                self._process = _Process(self._role, self._settings)
                self._process.wait_until_ready()
            return self._process

    def restart(self) -> None:
        """End the child; the next request starts another."""
        with self._starting:
            if self._process is not None:
                self._process.kill(because=None)
                self._process = None

    def close(self) -> None:
        """End the child, whatever it does."""
        self._closed = True
        if self._process is not None:
            self._process.kill(because=None)


class _Process:
    """One child from start to end."""

    def __init__(self, role: str, settings: Any) -> None:
        root = str(Path(tatcli.__file__).resolve().parents[1])
        paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
        inherited = {name: value for name, value in os.environ.items() if name != _NOT_INHERITED}
        self._popen = subprocess.Popen(  # noqa: S603  this very Python
            [sys.executable, "-P", "-c", _MAIN, f"tat-{role}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**inherited, "PYTHONPATH": os.pathsep.join(paths)},
        )
        streams = self._popen.stdin, self._popen.stdout, self._popen.stderr
        assert streams[0] is not None and streams[1] is not None and streams[2] is not None  # noqa: S101, PT018
        self.info: Any = None
        self.alive, self.pid = True, self._popen.pid
        self._channel = Channel(streams[1], streams[0])
        self._streams: tuple[IO[bytes], ...] = (streams[0], streams[1], streams[2])
        self._numbers = itertools.count(1)
        self._guard = threading.Lock()
        self._waiting: dict[int, queue.SimpleQueue[tuple[str, Any]]] = {0: queue.SimpleQueue()}
        self._guilty: int | None = None
        self._last_words: deque[bytes] = deque(maxlen=20)
        self._errors = threading.Thread(target=self._keep_last_words, name=f"tat-{role}-errors", daemon=True)
        self._errors.start()
        threading.Thread(target=self._listen, name=f"tat-{role}", daemon=True).start()
        with suppress(OSError):  # it shows when waiting
            self._channel.send((role, settings))

    def wait_until_ready(self) -> None:
        try:
            kind, content = self._waiting[0].get(timeout=_START)
        except queue.Empty:
            self.kill(because=None)
            msg = f"did not start within {_START:g} s"
            raise Gone(msg, guilty=True) from None
        self.forget(0)
        if kind == "ready":
            self.info = content
        elif kind == "failed":
            self.kill(because=None)
            raise Refused(content)
        else:
            raise Gone(content[0], guilty=True)

    def ask(self, request: Any) -> tuple[int, queue.SimpleQueue[tuple[str, Any]]]:
        answers: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        with self._guard:
            number = next(self._numbers)
            self._waiting[number] = answers
        try:
            self._channel.send((number, request))
        except (OSError, ValueError):  # it is gone: the listener may have told those that waited before
            if not self.alive:
                answers.put(("gone", (self._end_in_words(), False)))
        return number, answers

    def forget(self, number: int) -> None:
        with self._guard:
            self._waiting.pop(number, None)

    def kill(self, *, because: int | None) -> None:
        """End it now, because of one of the requests, which the others aren't to blame for."""
        self._guilty = -1 if because is None else because
        with suppress(OSError):
            self._popen.kill()
        self._popen.wait()
        self.alive = False

    def _listen(self) -> None:
        try:
            while True:
                number, kind, content = self._channel.receive()
                with self._guard:
                    answers = self._waiting.get(number)
                if answers is not None:
                    answers.put((kind, content))
        except (EOFError, OSError, ValueError):
            pass
        self._popen.wait()
        self._errors.join(timeout=1.0)
        words = self._end_in_words()
        with self._guard:
            self.alive = False
            only = len(self._waiting) == 1
            for number, answers in self._waiting.items():
                guilty = only if self._guilty is None else self._guilty == number
                answers.put(("gone", (words, guilty)))
        for stream in self._streams:
            with suppress(OSError):
                stream.close()

    def _keep_last_words(self) -> None:
        with suppress(OSError, ValueError):
            self._last_words.extend(self._streams[2])

    def _end_in_words(self) -> str:
        code = self._popen.returncode
        last = b" ".join(self._last_words).decode(errors="replace").split()
        words = f"{_LAST_WORDS}{' '.join(last)[-300:]}" if last else ""
        if code is not None and code < 0:
            with suppress(ValueError):
                name = signal.Signals(-code).name
                hint = ", as when memory runs out" if name == "SIGKILL" else ""
                return f"was killed by {name}{hint}{words}"
        return f"ended with exit code {code}{words}"
