"""Locks that two runs on one folder respect: a file that names its owner, and is taken over when the owner is gone."""

from __future__ import annotations

import json
import os
import platform
import secrets
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from tatcli.errors import OutputError

__all__ = ["Lock", "Owner", "is_stale", "owner_of"]

BEAT: Final = 10.0
"""Seconds between two signs of life."""
SILENCE: Final = 120.0
"""Seconds without one after which the owner on another machine counts as gone; clocks of a cluster differ by less."""


@dataclass(frozen=True)
class Owner:
    """A process.

    Attributes:
        machine: where: the machine's start and the process's name space.
        host: its name, for people.
        pid: its number there.
        born: when it started, in the system's own words: numbers are used again.
    """

    machine: str
    host: str
    pid: int
    born: str

    @classmethod
    def me(cls) -> Self:
        """This process."""
        return cls(_machine(), platform.node(), os.getpid(), _birth(os.getpid()))

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"

    def is_gone(self) -> bool:
        """Whether it is known to have ended; False for processes of other machines, of which nothing is known."""
        if self.machine != _machine():
            return False
        try:
            os.kill(self.pid, 0) if os.name == "posix" else None
        except ProcessLookupError:
            return True
        except OSError:
            return False
        return _birth(self.pid) != self.born


class _Pulse:
    """Shows signs of life for all locks that this process holds."""

    def __init__(self) -> None:
        self._held: set[Path] = set()
        self._guard = threading.Lock()
        self._thread: threading.Thread | None = None

    def keep(self, path: Path) -> None:
        with self._guard:
            self._held.add(path)
            if self._thread is None:
                self._thread = threading.Thread(target=self._beat, name="tat-locks", daemon=True)
                self._thread.start()

    def forget(self, path: Path) -> None:
        with self._guard:
            self._held.discard(path)

    def _beat(self) -> None:
        while True:
            time.sleep(BEAT)
            with self._guard:
                held = list(self._held)
            for path in held:
                with suppress(OSError):
                    os.utime(path)


_PULSE: Final = _Pulse()


class Lock:
    """A file that says who is at something. Its owner shows signs of life until it is released.

    Args:
        path: of the file; its folder exists.
        token: tells this holder from any other.
    """

    def __init__(self, path: Path, token: str) -> None:
        self.path, self.token = path, token

    @classmethod
    def take(cls, path: Path) -> Lock | None:
        """The lock, or None where another has it.

        Raises:
            OutputError: the folder can't be written to.
        """
        for _ in range(3):
            lock = cls(path, secrets.token_hex(8))
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                msg = f"{path.parent}: expected a writable folder, got {error.strerror or error}; check permissions"
                raise OutputError(msg) from error
            try:
                descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
            except FileExistsError:
                if not is_stale(path) or not _break(path):
                    return None
                continue
            except FileNotFoundError:  # another run has just removed its empty folder
                continue
            except OSError as error:
                msg = f"{path.parent}: expected a writable folder, got {error.strerror or error}; check permissions"
                raise OutputError(msg) from error
            try:
                with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
                    json.dump({"token": lock.token, **vars(Owner.me())}, stream)
            except OSError as error:
                path.unlink(missing_ok=True)
                msg = f"{path}: expected to write a lock, got {error.strerror or error}; check space and permissions"
                raise OutputError(msg) from error
            _PULSE.keep(path)
            return lock
        return None

    def is_mine(self) -> bool:
        """Whether nobody took it over."""
        return _read(self.path).get("token") == self.token

    def release(self) -> None:
        """Give it up."""
        _PULSE.forget(self.path)
        if self.is_mine():
            with suppress(OSError):
                self.path.unlink(missing_ok=True)


def owner_of(path: Path) -> Owner | None:
    """Who holds a lock, where the file says so."""
    fields = _read(path)
    try:
        return Owner(fields["machine"], fields["host"], int(fields["pid"]), fields["born"])
    except (KeyError, TypeError, ValueError):
        return None


def is_stale(path: Path) -> bool:
    """Whether a lock's owner is gone, or has given no sign of life for long."""
    owner = owner_of(path)
    if owner is not None and owner.is_gone():
        return True
    try:
        silent = time.time() - path.stat().st_mtime
    except OSError:
        return False  # it was just released
    if owner is None:  # being written just now, or cut short when its disk was full
        return silent > BEAT
    # Of a process here it is known whether it runs; a machine that slept has not forgotten it. But where the system
    # doesn't tell when it started (macOS, Windows), another may have its number by now.
    return silent > SILENCE and (owner.machine != _machine() or not owner.born)


def _break(path: Path) -> bool:
    """Remove a stale lock; False where another process was quicker."""
    stale = _read(path).get("token")
    aside = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    try:
        path.rename(aside)  # only one of several processes succeeds
    except OSError:
        return False
    broken = _read(aside).get("token") == stale
    if not broken:  # it was taken anew in between: put it back
        with suppress(OSError):
            os.link(aside, path)
    aside.unlink(missing_ok=True)
    return broken


def _read(path: Path) -> dict[str, Any]:
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return fields if isinstance(fields, dict) else {}


def _machine() -> str:
    """A name that no other running system has: the kernel's random start number and the name space of processes."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"  # noqa: PTH115
    except OSError:
        return platform.node()


def _birth(pid: int) -> str:
    """When a process started; '' where the system doesn't tell, and for one that ended but wasn't waited for.

    proc(5): the third field is the state, the 22nd the start; the second has brackets.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return ""
    return fields[19] if len(fields) > 19 and fields[0] not in ("Z", "X") else ""
