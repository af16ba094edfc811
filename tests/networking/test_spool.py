"""The spool: what is in it survives, once."""

import json
import os
from pathlib import Path

import pytest

from tatcli.errors import UsageError
from tatcli.networking.addresses import Destination, Listener
from tatcli.networking.spool import Spool


def test_what_is_stored_is_there_after_a_restart(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    spool.store("1.2.3", "1.2.3.1", b"one")
    spool.store("1.2.3", "1.2.3.2", b"two")
    (folder,) = Spool(tmp_path / "spool").series()
    contents = sorted(file.read_bytes() for file in folder.objects())
    assert contents == [b"one", b"two"]
    assert not [path for path in (tmp_path / "spool").rglob("*") if "1.2.3" in path.name]
    assert (tmp_path / "spool").stat().st_mode & 0o077 == 0


def test_half_done_work_is_undone(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    spool.store("1", "1.1", b"one")
    (folder,) = spool.series()
    (folder.path / ".tat-0123").mkdir()
    (folder.path / ".tat-89ab.json").write_text("{")
    (folder.received / ".tat-4567.dcm").write_bytes(b"on")
    (again,) = Spool(tmp_path / "spool").series()
    assert [path.name for path in again.path.iterdir()] == ["received"]
    assert [path.name for path in again.received.iterdir()] == [path.name for path in again.objects()]


def test_restored_means_of_all_inputs(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    spool.store("1", "1.1", b"one")
    (folder,) = spool.series()
    with pytest.raises(IsADirectoryError), folder.restoring(folder.inputs()) as staging:
        staging.write_bytes(b"x")
    assert not folder.restored.exists()
    with folder.restoring(folder.inputs()) as staging:
        (staging / "00001.dcm").write_bytes(b"x")
    assert folder.is_restored()
    (file,) = folder.unsent("A@host:1")
    folder.confirm(file, "A@host:1")
    assert folder.unsent("A@host:1") == []
    assert folder.unsent("B@host:1") == [file]
    spool.store("1", "1.2", b"late")
    assert not folder.is_restored()
    folder.refuse("why", folder.inputs(), terms="rules")
    assert folder.is_refused("rules")
    assert not folder.is_refused("other rules")
    assert json.loads((folder.path / "refused.json").read_text())["reason"] == "why"


def test_an_object_that_comes_again_is_kept_once_and_a_corrected_one_replaces_it(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    spool.store("1", "1.1", b"DOE^JON")
    (folder,) = spool.series()
    with folder.restoring(folder.inputs()) as staging:
        (staging / "00001.dcm").write_bytes(b"x")
    spool.store("1", "1.1", b"DOE^JON")
    assert folder.is_restored()
    spool.store("1", "1.1", b"DOE^JAN")
    assert [file.read_bytes() for file in folder.objects()] == [b"DOE^JAN"]
    assert not folder.is_restored()


def test_a_crash_while_a_series_is_deleted_leaves_no_part_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool(tmp_path / "spool")
    spool.store("1", "1.1", b"one")
    spool.store("1", "1.2", b"two")
    (folder,) = spool.series()
    with monkeypatch.context() as crash:
        crash.setattr("shutil.rmtree", lambda path, **_: next(path.rglob("*.dcm")).unlink())
        spool.forget(folder, folder.last_change())
    assert spool.series() == []
    assert Spool(tmp_path / "spool").series() == []
    assert list((tmp_path / "spool").iterdir()) == []


def test_a_series_is_not_deleted_while_more_of_it_comes(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    spool.store("1", "1.1", b"one")
    (folder,) = spool.series()
    before = folder.last_change()
    os.utime(folder.received, ns=(before, before + 1))  # as when another object had come
    spool.forget(folder, before)
    (folder.received / ".tat-0123.dcm").touch()
    spool.forget(folder, folder.last_change())
    assert spool.series() == [folder]
    (folder.received / ".tat-0123.dcm").unlink()
    spool.forget(folder, folder.last_change())
    assert spool.series() == []


@pytest.mark.parametrize(
    "text",
    [
        *("", "A", "A@host", "@host:1", "A@:1", "A@host:0", "A@host:1²", "A@[]:1", "A" * 17 + "@host:1"),
        *("A@ho st:1", "A@..:1", f"A@{'a' * 64}:1"),
    ],
)
def test_destinations_that_are_none(text: str) -> None:
    with pytest.raises(UsageError, match="AETITLE@HOST:PORT"):
        Destination.parse(text)


@pytest.mark.parametrize("title", ["", "  ", "A" * 17, "Ä", "A\\B", "A\nB"])
def test_titles_that_are_none(title: str) -> None:
    with pytest.raises(UsageError, match=r"--aet .*: expected an AE title"):
        Listener(title=title)
    with pytest.raises(UsageError, match=r"--allow .*: expected an AE title"):
        Listener(allowed=("PACS", title))
    with pytest.raises(UsageError, match="AETITLE@HOST:PORT"):
        Destination.parse(f"{title}@host:104")


def test_other_machines_need_permission() -> None:
    assert str(Destination.parse("PACS@10.0.0.1:104")) == "PACS@10.0.0.1:104"
    assert Destination.parse("PACS@[::1]:104").host == "::1"
    assert str(Destination.parse("PACS@[::1]:104")) == "PACS@[::1]:104"
    with pytest.raises(UsageError, match="--allow"):
        Listener(host="0.0.0.0")
    assert Listener(host="0.0.0.0", allowed=("CT1",)).allowed == ("CT1",)


def test_series_are_the_users_own_in_a_folder_that_others_can_look_into(tmp_path: Path) -> None:
    (tmp_path / "spool").mkdir(mode=0o755)
    spool = Spool(tmp_path / "spool")
    spool.store("1", "1.1", b"one")
    (folder,) = spool.series()
    assert folder.path.stat().st_mode & 0o077 == 0
