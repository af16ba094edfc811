"""One process at a time in a folder: on every system, and with the right reason."""

import errno
import fcntl
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tatcli.errors import OutputError
from tatcli.workflows.lock import locked


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """A system with msvcrt and without fcntl."""
    flock, flags = fcntl.flock, fcntl.LOCK_EX | fcntl.LOCK_NB

    def locking(descriptor: int, mode: int, count: int) -> None:
        assert (mode, count) == (2, 1)
        try:
            flock(descriptor, flags)
        except BlockingIOError:
            raise PermissionError(errno.EACCES, "Permission denied") from None

    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setitem(sys.modules, "fcntl", None)
    monkeypatch.setitem(sys.modules, "msvcrt", SimpleNamespace(locking=locking, LK_NBLCK=2))


def test_a_second_one_is_kept_out_on_windows_too(windows: None, tmp_path: Path) -> None:
    with (
        locked(tmp_path, "tat prepare"),
        pytest.raises(OutputError, match="another tat prepare at work in it"),
        locked(tmp_path, "tat prepare"),
    ):
        pass
    with locked(tmp_path, "tat prepare"):
        pass


def test_a_drive_without_locks_is_not_said_to_be_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with (
        pytest.raises(OutputError, match="a folder that can be locked, got Operation not supported"),
        locked(tmp_path, "tat prepare"),
    ):
        pass
    with locked(tmp_path, "tat train", required=False) as alone:
        assert not alone
