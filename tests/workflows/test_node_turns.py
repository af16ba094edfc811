"""What the node does at every turn, without a network."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from tatcli.networking.peers import Destination
from tatcli.networking.spool import SeriesFolder, Spool
from tatcli.workflows import node
from tatcli.workflows.node import NodeConfig, _Worker

SINK = Destination("SINK", "host", 104)


@pytest.fixture
def spool(tmp_path) -> Spool:
    """With a series that was restored and is still to be sent."""
    spool = Spool(tmp_path / "spool")
    spool.store("1", "1.1", b"one")
    (folder,) = spool.series()
    with folder.restoring(folder.inputs()) as staging:
        (staging / "00001.dcm").write_bytes(b"x")
    return spool


def worker(spool: Spool, said: list[str], **options) -> _Worker:
    config = NodeConfig(spool=spool.root, destinations=(SINK,), **({"settle": 0.0} | options))
    return _Worker(config, spool, None, said.append)


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
