"""What the node does at every turn, without a network."""

from __future__ import annotations

import errno
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tatcli.errors import DeviceError, OutputError, TatError, UsageError, VolumeReadError
from tatcli.networking.addresses import Destination
from tatcli.networking.spool import SeriesFolder, Spool
from tatcli.volumes import dicom_series
from tatcli.volumes.dicom_series import SeriesInfo
from tatcli.workflows import node
from tatcli.workflows.lock import locked
from tatcli.workflows.node import NodeConfig, Rule, _Worker, run_node

SINK = Destination("SINK", "host", 104)
SERIES = SeriesInfo(uid="1", number="1", description="", modality="CT", images=1)


@pytest.fixture
def spool(tmp_path) -> Spool:
    """With a series that was restored and is still to be sent."""
    spool = Spool(tmp_path / "spool")
    spool.store("1", "1.1", b"one")
    (folder,) = spool.series()
    with folder.restoring(folder.inputs()) as staging:
        (staging / "00001.dcm").write_bytes(b"x")
    return spool


@pytest.fixture
def received(tmp_path, monkeypatch) -> Spool:
    """With one object of a series that is still to be restored."""
    monkeypatch.setattr(dicom_series, "list_series", lambda _: [SERIES])
    monkeypatch.setattr(node, "_is_ours", lambda _: False)
    spool = Spool(tmp_path / "received")
    spool.store("1", "1.1", b"one")
    return spool


def worker(spool: Spool, said: list[str], restore=None, **options) -> _Worker:
    config = NodeConfig(spool=spool.root, **({"destinations": (SINK,), "settle": 0.0} | options))
    return _Worker(config, spool, restore, said.append)


def out_of_memory(_):
    msg = "cpu: out of memory"
    raise DeviceError(msg)


def test_a_series_that_is_done_with_is_not_looked_into_again(spool, monkeypatch):
    looked = []
    inputs = SeriesFolder.inputs
    monkeypatch.setattr(SeriesFolder, "inputs", lambda self: looked.append(self) or inputs(self))
    monkeypatch.setattr(node, "send", lambda files, *_, **__: iter(files))
    said: list[str] = []
    one = worker(spool, said)
    one.turn()
    assert [line.partition(": ")[2] for line in said] == ["1 objects sent to SINK@host:104"]
    looked.clear()
    one.turn()
    assert not looked
    spool.store("1", "1.2", b"late")
    one.turn()
    assert looked
    assert "2 objects, not restored" in said[1]


def test_a_series_that_is_done_with_goes_when_its_time_has_come(spool, monkeypatch):
    monkeypatch.setattr(node, "send", lambda files, *_, **__: iter(files))
    one = worker(spool, [], keep=1.0)
    one.turn()
    (folder,) = spool.series()
    os.utime(folder.received, (1e9, 1e9))
    one.turn()
    one.turn()
    assert not spool.series()


def test_a_full_disk_does_not_end_the_node(spool, monkeypatch):
    def full(self: SeriesFolder, file: Path, destination: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(file))

    monkeypatch.setattr(node, "send", lambda files, *_, **__: iter(files))
    monkeypatch.setattr(SeriesFolder, "confirm", full)
    said: list[str] = []
    worker(spool, said).turn()
    (line,) = said
    assert "0 of 1 sent: No space left on device; again in 5 s" in line


@pytest.mark.parametrize(
    "problem",
    [OutputError("00000: expected to write it, got no space"), KeyError("one"), DeviceError("cpu: out of memory")],
)
def test_a_series_that_may_be_restored_later_is_tried_again_and_kept_however_old_it_is(received, problem):
    def fail(_):
        raise problem

    said: list[str] = []
    (folder,) = received.series()
    os.utime(folder.received, (1e9, 1e9))
    one = worker(received, said, fail, keep=1.0)
    one.turn()
    one.turn()
    (line,) = said
    assert line.endswith("; again in 5 s")
    assert received.series() == [folder]
    assert (len(folder.inputs()), (folder.path / "refused.json").exists()) == (1, False)


def test_what_never_fits_in_memory_is_given_up_in_the_end(received, monkeypatch):
    monkeypatch.setattr(_Worker, "_is_due", lambda *_: True)
    said: list[str] = []
    one = worker(received, said, out_of_memory, destinations=())
    for _ in range(9):
        one.turn()
    waits = [line.rpartition("again in ")[2] for line in said[:-1]]
    assert waits == ["5 s", "10 s", "20 s", "40 s", "80 s", "160 s", "320 s"]
    assert said[-1].endswith("1 objects, not restored: cpu: out of memory")
    assert (received.series()[0].path / "refused.json").exists()


def test_what_lacked_memory_before_it_was_restored_is_tried_as_often_when_more_of_it_came(received, monkeypatch):
    attempts = []

    def restore(config):
        attempts.append(config)
        if len(attempts) != 4:
            out_of_memory(config)
        config.output.mkdir()
        (config.output / "1.dcm").write_bytes(b"x")

    monkeypatch.setattr(_Worker, "_is_due", lambda *_: True)
    said: list[str] = []
    one = worker(received, said, restore, destinations=())
    for _ in range(4):
        one.turn()
    received.store("1", "1.2", b"late")
    one.turn()
    waits = [line.rpartition("again in ")[2] for line in said if "again in" in line]
    assert waits == ["5 s", "10 s", "20 s", "5 s"]


def test_a_part_of_a_series_that_is_not_restored_is_told_of(received, monkeypatch):
    def restore(config):
        if config.series.endswith("TE20"):
            msg = "received: expected two slices, got one"
            raise VolumeReadError(msg)
        config.output.mkdir()
        (config.output / "1.dcm").write_bytes(b"x")

    monkeypatch.setattr(
        dicom_series, "list_series", lambda _: [replace(SERIES, modality="MR", part=part) for part in ("TE10", "TE20")]
    )
    monkeypatch.setattr(node, "send", lambda files, *_, **__: iter(files))
    said: list[str] = []
    worker(received, said, restore, destinations=()).turn()
    (line,) = said
    assert line.endswith("1 objects received, 1 restored; not restored: received: expected two slices, got one")


def test_a_spool_that_is_another_nodes_is_left_alone(spool):
    (folder,) = spool.series()
    half_written = folder.received / ".tat-half.dcm"
    half_written.touch()
    with locked(spool.root, "tat node"), pytest.raises(OutputError, match="got another tat node at work in it"):
        run_node(NodeConfig(spool=spool.root), restorer=object(), until=lambda: True)
    assert half_written.exists()


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_a_spool_that_is_no_folder_is_said_in_a_line(tmp_path, place):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"^--spool .*: expected a folder that can be written to, got "):
        run_node(NodeConfig(spool=tmp_path / place), restorer=object(), until=lambda: True)


def test_a_series_must_be_complete_some_day(tmp_path):
    with pytest.raises(UsageError, match="--settle inf: expected seconds, 0 or more"):
        NodeConfig(spool=tmp_path, settle=float("inf"))


def test_new_rules_look_again_at_what_none_took(received):
    def restore(config):
        config.output.mkdir()
        (config.output / "1.dcm").write_bytes(b"x")

    said: list[str] = []
    of_heads = (Rule.parse("CT:head=ct"),)
    for rules in (of_heads, of_heads, (Rule.parse("CT=ct"),)):
        worker(received, said, restore, destinations=(), rules=rules).turn()
    assert [line.partition(": ")[2] for line in said] == [
        "1 objects, not restored: no rule takes it",
        "1 objects received, 1 restored",
    ]


def test_brackets_in_a_rule_are_those_of_the_description():
    info = replace(SERIES, description="Body 5.0 [HD_FoV]")
    assert Rule.parse("CT:*[hd_fov]=ct").takes(info)
    assert not Rule.parse("CT:*[hd_fov]=ct").takes(replace(SERIES, description="Body 5.0 d"))
    assert Rule.parse("CT:body ?.? [hd*=ct").takes(info)


def test_a_series_at_which_a_destination_breaks_off_does_not_keep_the_others_waiting(tmp_path, monkeypatch):
    spool = Spool(tmp_path / "spool")
    for number in ("1", "2", "3"):
        spool.store(number, f"{number}.1", b"one")
    folders = spool.series()
    for folder in folders:
        with folder.restoring(folder.inputs()) as staging:
            (staging / "00001.dcm").write_bytes(folder.name.encode())
    bad = folders[0]

    def send(files, *_, **__):
        for file in files:
            if file.read_bytes() == bad.name.encode():
                msg = "SINK: expected 00001.dcm to be stored, got no answer"
                raise TatError(msg)
            yield file

    monkeypatch.setattr(node, "send", send)
    said: list[str] = []
    one = worker(spool, said)
    one.turn()
    assert len(said) == 1  # it may be away: nothing else is tried for a while
    one._not_before.clear()
    one.turn()
    assert [folder.unsent(str(SINK)) == [] for folder in folders] == [False, True, True]


def test_a_series_that_was_deleted_by_hand_ends_nothing(spool, monkeypatch):
    monkeypatch.setattr(node, "send", lambda files, *_, **__: iter(files))
    (first,) = spool.series()
    spool.store("2", "2.1", b"two")
    (second,) = [folder for folder in spool.series() if folder != first]
    with second.restoring(second.inputs()) as staging:
        (staging / "00001.dcm").write_bytes(b"x")
    said: list[str] = []
    one = worker(spool, said)
    monkeypatch.setattr(spool, "series", lambda: [first, second])
    shutil.rmtree(first.path)
    one.turn()
    (line,) = said
    assert line.startswith(f"series {second.name}: 1 objects sent")


def test_a_disk_that_refuses_is_no_bug(received, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device", "00000")

    monkeypatch.setattr(Path, "mkdir", full)
    said: list[str] = []
    worker(received, said).turn()
    assert [line.partition(": ")[2] for line in said] == ["not restored: No space left on device; again in 5 s"]
