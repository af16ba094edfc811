"""Locks: one holder, and none that is gone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time

import pytest

from tatcli.errors import OutputError
from tatcli.workflows.batch import locks, staging
from tatcli.workflows.batch.locks import SILENCE, Lock, Owner, is_stale, owner_of
from tatcli.workflows.batch.staging import clear, publish, staging_folder, sweep


def foreign(path, **changes):
    """A lock as another process would have written it."""
    fields = {"token": "theirs", **vars(Owner.me()), **changes}
    path.write_text(json.dumps(fields), encoding="utf-8")
    return path


def test_a_lock_has_one_holder(tmp_path):
    path = tmp_path / "x.lock"
    lock = Lock.take(path)
    assert lock is not None
    assert lock.is_mine()
    assert owner_of(path) == Owner.me()
    assert Lock.take(path) is None
    assert not is_stale(path)
    lock.release()
    assert not path.exists()
    assert Lock.take(path) is not None


def test_only_one_of_many_processes_gets_it(tmp_path):
    code = (
        "import sys, time, pathlib\nfrom tatcli.workflows.batch.locks import Lock\n"
        "got = Lock.take(pathlib.Path(sys.argv[1]))\nprint(got is not None, flush=True)\nsys.stdin.read()"
    )
    path = tmp_path / "x.lock"
    running = [subprocess.Popen([sys.executable, "-c", code, path], stdin=-1, stdout=-1, text=True) for _ in range(4)]
    answers = [process.stdout.readline().strip() for process in running]
    assert sorted(answers) == ["False", "False", "False", "True"]
    holder = running[answers.index("True")]
    assert owner_of(path).pid == holder.pid
    assert Lock.take(path) is None
    holder.kill()
    holder.stdout.read()  # it has ended, though nobody has waited for it
    deadline = time.monotonic() + 60
    while not is_stale(path) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert is_stale(path)  # it could not release it, and needn't
    assert Lock.take(path).is_mine()
    for process in running:
        process.kill()
        process.communicate()


def test_a_process_of_the_same_number_is_another(tmp_path):
    path = foreign(tmp_path / "x.lock")
    assert not is_stale(path)
    assert is_stale(foreign(path, born="17"))
    assert is_stale(foreign(path, pid=2**22 + 1))


def test_where_processes_have_no_birthday_silence_decides(tmp_path, monkeypatch):
    """On macOS a number that is used again, after a restart say, would else hold a scan for ever."""
    old = time.time() - SILENCE - 1
    path = foreign(tmp_path / "x.lock")
    os.utime(path, (old, old))
    assert not is_stale(path)  # a machine that slept
    monkeypatch.setattr(locks, "_birth", lambda _: "")
    foreign(path)
    assert not is_stale(path)
    os.utime(path, (old, old))
    assert is_stale(path)
    assert is_stale(foreign(path, pid=2**22 + 1))


def test_another_machines_lock_is_stale_when_it_gave_no_sign_of_life(tmp_path):
    path = foreign(tmp_path / "x.lock", machine="elsewhere", pid=1)
    assert not is_stale(path)
    assert Lock.take(path) is None
    old = time.time() - SILENCE - 1
    os.utime(path, (old, old))
    assert is_stale(path)
    assert Lock.take(path).is_mine()


def test_a_lock_that_was_cut_short_is_stale_after_a_moment(tmp_path):
    path = tmp_path / "x.lock"
    path.touch()
    assert Lock.take(path) is None
    os.utime(path, (time.time() - 60,) * 2)
    assert Lock.take(path).is_mine()


def test_a_lock_that_was_taken_over_is_not_released_by_its_old_holder(tmp_path):
    path = tmp_path / "x.lock"
    lock = Lock.take(path)
    foreign(path)
    assert not lock.is_mine()
    lock.release()
    assert owner_of(path) is not None


def test_what_the_new_holder_makes_is_not_cleared_by_the_old_one(tmp_path):
    area = tmp_path / ".tat-work"
    area.mkdir()
    old = Lock.take(area / "aa.lock")
    foreign(area / "aa.lock")
    (area / "aa.theirs").mkdir()
    (area / "aa.theirs" / "half.nii.gz").touch()
    with staging_folder(old):  # it doesn't know yet
        pass
    assert (area / "aa.theirs" / "half.nii.gz").exists()


def test_what_dead_runs_left_is_swept_and_what_live_ones_make_is_not(tmp_path):
    area = tmp_path / ".tat-work"
    area.mkdir()
    foreign(area / "aa.lock", pid=2**22 + 1)
    for name in ("aa.one", "bb.two"):  # of the dead lock's holder; of one whose lock is gone
        (area / name).mkdir()
        (area / name / "half.nii.gz").touch()
    live = Lock.take(area / "cc.lock")
    with staging_folder(live) as folder:
        (folder / "made.nii.gz").touch()
        sweep(area)
        assert sorted(entry.name for entry in area.iterdir()) == sorted(["cc.lock", folder.name])
        assert (folder / "made.nii.gz").exists()
    live.release()
    sweep(area)
    assert not area.exists()


def test_publishing_moves_the_sidecar_first_and_replaces_what_is_there(tmp_path):
    lock = Lock.take(tmp_path / ".tat-work" / "x.lock")
    output = tmp_path / "deep" / "series"
    for content in ("old", "new"):
        with staging_folder(lock) as folder:
            (folder / "series").mkdir()
            (folder / "series" / "00001.dcm").write_text(content, encoding="utf-8")
            (folder / "series.tat.json").write_text(content, encoding="utf-8")
            publish(folder, output)
    assert (output / "00001.dcm").read_text(encoding="utf-8") == "new"
    assert (tmp_path / "deep/series.tat.json").read_text(encoding="utf-8") == "new"
    clear(lock.path)
    lock.release()
    assert not list((tmp_path / ".tat-work").iterdir())


def test_a_folder_that_can_not_be_made_is_an_output_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="expected a writable folder"):
        Lock.take(tmp_path / "file" / "x.lock")


def test_a_work_folder_that_another_run_removes_meanwhile_is_no_error(tmp_path, monkeypatch):
    area = tmp_path / "out/.tat-work"
    area.mkdir(parents=True)
    (area / "x.lock").touch()

    def looked(path):
        shutil.rmtree(path.parent, ignore_errors=True)  # the last of the others goes just now
        return False

    monkeypatch.setattr(staging, "is_stale", looked)
    sweep(area)
    assert not area.exists()
    sweep(area)
