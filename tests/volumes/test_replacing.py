"""Outputs where the system is another than Linux: what Windows refuses, simulated."""

import errno
import fcntl
import os
import sys
from pathlib import Path

import pytest

from tatcli.errors import OutputError
from tatcli.volumes import replacing
from tatcli.volumes.replacing import checked_folder, checked_output, renamed, replaced, replaced_folder, sync


@pytest.fixture
def windows_flush(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """FlushFileBuffers takes what was opened to write only, and so no folders."""
    flush, flushed = os.fsync, []

    def flush_here(descriptor):
        if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, "Bad file descriptor")
        flush(descriptor)
        flushed.append(descriptor)

    monkeypatch.setattr(os, "fsync", flush_here)
    return flushed


@pytest.fixture
def windows_rename(monkeypatch: pytest.MonkeyPatch) -> None:
    """MoveFileEx replaces a file, never a folder."""
    rename = os.replace

    def rename_here(path, target):
        if Path(target).is_dir():
            raise PermissionError(errno.EACCES, "Access is denied", str(path))
        rename(path, target)

    monkeypatch.setattr(os, "replace", rename_here)
    monkeypatch.setattr(os, "rename", rename_here)


def test_a_file_is_flushed_where_only_writers_may(windows_flush: list[int], tmp_path: Path) -> None:
    with replaced(tmp_path / "scan.nii", extension=".nii") as temporary:
        temporary.write_bytes(b"voxels")
    assert (tmp_path / "scan.nii").read_bytes() == b"voxels"
    assert len(windows_flush) == 1  # it was flushed, not let be
    sync(tmp_path / "scan.nii")
    sync(tmp_path)


def test_an_empty_folder_gives_way_where_none_is_renamed_over(
    windows_flush: list[int], windows_rename: None, tmp_path: Path
) -> None:
    place = tmp_path / "series"
    for number in (b"1", b"2"):  # an empty one, then an older series
        place.mkdir(exist_ok=True)
        with replaced_folder(place) as folder:
            (folder / "00001.dcm").write_bytes(number)
        assert (place / "00001.dcm").read_bytes() == number
        assert [path.name for path in tmp_path.iterdir()] == ["series"]


@pytest.mark.parametrize("litter", [".DS_Store", "Thumbs.db", "desktop.ini"])
def test_what_the_system_puts_into_a_folder_that_is_looked_at_is_no_loss(litter: str, tmp_path: Path) -> None:
    place = tmp_path / "series"
    place.mkdir()
    (place / litter).touch()
    checked_folder(place, source=None, overwrite=False)  # as empty as one can be that was opened
    (place / "00001.dcm").write_bytes(b"1")
    with pytest.raises(OutputError, match="got one with 1 entries"):
        checked_folder(place, source=None, overwrite=False)
    checked_folder(place, source=None, overwrite=True)
    with replaced_folder(place) as folder:
        (folder / "00001.dcm").write_bytes(b"2")
    assert [path.name for path in place.iterdir()] == ["00001.dcm"]
    (place / ".notes").touch()
    with pytest.raises(OutputError, match="nothing but"):
        checked_folder(place, source=None, overwrite=True)


def test_a_file_that_a_virus_scanner_holds_is_renamed_later(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    rename, refusals, waits = os.replace, [1, 1, 1], []

    def rename_here(path, target):
        if refusals:
            refusals.pop()
            raise PermissionError(errno.EACCES, "Access is denied", str(path))
        rename(path, target)

    (tmp_path / "made").write_bytes(b"new")
    (tmp_path / "scan").write_bytes(b"old")
    monkeypatch.setattr(os, "replace", rename_here)
    monkeypatch.setattr(replacing.time, "sleep", waits.append)
    with pytest.raises(PermissionError):  # elsewhere a refusal is meant
        renamed(tmp_path / "made", tmp_path / "scan")
    monkeypatch.setattr(sys, "platform", "win32")
    renamed(tmp_path / "made", tmp_path / "scan")
    assert (tmp_path / "scan").read_bytes() == b"new"
    assert waits == [0.05, 0.1]
    refusals.extend([1] * 99)
    with pytest.raises(OutputError, match="Access is denied"), replaced(tmp_path / "scan", extension="") as temporary:
        temporary.write_bytes(b"newer")
    assert sum(waits[2:]) < 2  # it isn't asked for ever
    assert (tmp_path / "scan").read_bytes() == b"new"


def test_a_pipe_or_device_is_never_replaced(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for overwrite in (False, True):
        with pytest.raises(OutputError, match=r"pipe: expected a file name as output, got a device or pipe; choose"):
            checked_output(pipe, source=None, overwrite=overwrite)
    with pytest.raises(OutputError, match="/dev/null: expected a file name as output, got a device or pipe"):
        checked_output(Path("/dev/null"), source=None, overwrite=True)
