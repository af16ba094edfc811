"""What a batch tells other programs: its events, and the list of what failed."""

from __future__ import annotations

import errno
import io
import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tatcli.errors import OutputError, VolumeReadError
from tatcli.workflows.batch.events import event_log
from tatcli.workflows.batch.failures import check_failures, write_failures
from tatcli.workflows.batch.planning import plan
from tatcli.workflows.batch.work import Failure, Outcome

FULL = Path("/dev/full")


class Unwilling(io.StringIO):
    """Standard output whose reader went away, or whose disk is full, for a while."""

    def __init__(self, number):
        super().__init__()
        self.error = OSError(number, os.strerror(number))

    def flush(self):
        if self.error is not None:
            raise self.error


def test_events_are_lines_of_json(tmp_path):
    for _ in range(2):  # appended
        with event_log(tmp_path / "events.jsonl", problem=pytest.fail) as emit:
            emit({"event": "begin", "scan": "a\nü\udce9"})
    lines = (tmp_path / "events.jsonl").read_text(encoding="ascii").splitlines()
    assert [json.loads(line)["scan"] for line in lines] == ["a\nü\udce9"] * 2


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EPIPE])
def test_events_that_stdout_does_not_take_are_lost_and_that_is_told_once(monkeypatch, number):
    stdout = Unwilling(number)
    monkeypatch.setattr(sys, "stdout", stdout)
    told = []
    with event_log(Path("-"), problem=told.append) as emit:
        emit({"event": "start"})
        emit({"event": "end"})
    assert told == [f"--events -: events are lost, {os.strerror(number)}"]
    sys.stdout.flush()  # as the process does at its end
    assert sys.stdout is not stdout
    sys.stdout.close()


@pytest.mark.skipif(not FULL.exists(), reason="needs a device that is always full")
def test_a_full_disk_under_the_events_is_told_once():
    told = []
    with event_log(FULL, problem=told.append) as emit:
        emit({"event": "start"})
        emit({"event": "end"})
    assert told == [f"--events {FULL}: events are lost, {os.strerror(errno.ENOSPC)}"]


@pytest.mark.skipif(os.name == "nt", reason="names are not bytes there")
def test_failures_have_the_names_that_are_on_the_disk(scan, batch, tmp_path):
    scan("in/a.nii.gz")
    (work,) = plan(batch(), read_stdin=str).works
    named = replace(work, config=replace(work.config, input=Path(os.fsdecode(b"/in/Andr\xe9, G.nii.gz"))))
    failure = Failure.of(VolumeReadError("x: cut off"), "read")
    write_failures(tmp_path / "failures.csv", [Outcome(work=named, status="failed", failure=failure)])
    line = (tmp_path / "failures.csv").read_bytes().splitlines()[1]
    assert line == b'"/in/Andr\xe9, G.nii.gz",,' + os.fsencode(work.output) + b",read,x: cut off,3,1"
    write_failures(tmp_path / "failures.csv", [])
    assert not (tmp_path / "failures.csv").exists()


def test_a_list_that_cannot_be_written_or_read_is_refused_before_the_work(batch, tmp_path, monkeypatch):
    config = replace(batch(), failures=tmp_path / "file/failures.csv")
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"failures\.csv: expected an existing folder .*, got a file"):
        check_failures(config, tmp_path / "out")
    theirs = tmp_path / "out/failures.csv"
    theirs.parent.mkdir()
    theirs.write_text("secret", encoding="utf-8")
    monkeypatch.setattr(Path, "open", raiser(PermissionError(errno.EACCES, "Permission denied")))
    with pytest.raises(OutputError, match="expected the list of failures of an earlier run, got something else"):
        check_failures(batch(), tmp_path / "out")
    write_failures(theirs, [])
    assert theirs.exists()


def raiser(error):
    """A function that raises it."""

    def fail(*_, **__):
        raise error

    return fail
