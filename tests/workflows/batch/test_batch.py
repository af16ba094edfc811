"""Whole batches in real child processes: what is done, done again, and survived."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from tatcli.errors import DeviceError, WeightsError
from tatcli.inference.options import RestoreOptions
from tatcli.workflows.batch.config import Shard
from tatcli.workflows.batch.isolated import Gone
from tatcli.workflows.batch.lane import Lane
from tatcli.workflows.batch.locks import Lock, Owner
from tatcli.workflows.batch.planning import plan
from tatcli.workflows.batch.rehearsal import rehearse
from tatcli.workflows.batch.run import run_batch
from tatcli.workflows.batch.sidecar import Sidecar, sidecar_of
from tatcli.workflows.batch.staging import lock_path

pytestmark = [pytest.mark.usefixtures("kept_processes"), pytest.mark.waits]


def hashes(folder):
    """name -> SHA-256 of all outputs."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*.nii.gz"))
    }


def run(config):
    events = []
    report = run_batch(config, watch=events.append, read_stdin=str)
    return report, events


def of_kind(events, kind):
    return sorted(event["scan"] for event in events if event["event"] == kind)


def test_a_batch_gives_what_single_runs_give_and_is_finished_then(scan, batch, tmp_path, tiny_weights, listing):
    for index in range(3):
        scan(f"in/{'ab'[index % 2]}/{index}.nii.gz", seed=index)
    report, events = run(batch(events=tmp_path / "events.jsonl"))
    assert (report.scans, report.done, report.finished, report.failed, report.slices) == (3, 3, 0, 0, 6)
    assert listing(tmp_path / "out") == ["a/0.nii.gz", "a/2.nii.gz", "b/1.nii.gz"]
    # as by itself, in a process whose settings no other test has changed
    single = tmp_path / "single.nii.gz"
    source = tmp_path / "in/b/1.nii.gz"
    command = ["restore", source, "--task", "ct", "-o", single, "--device", "cpu", "--quiet"]
    subprocess.run([sys.executable, "-c", "from tatcli.cli.app import main; main()", *command], check=True, timeout=120)
    np.testing.assert_array_equal(nib.load(tmp_path / "out/b/1.nii.gz").dataobj, nib.load(single).dataobj)
    # the sidecar says of what
    sidecar = Sidecar.read(sidecar_of(tmp_path / "out/b/1.nii.gz"))
    assert sidecar.input.sha256 == hashlib.sha256(source.read_bytes()).hexdigest()
    assert sidecar.output.sha256 == hashlib.sha256((tmp_path / "out/b/1.nii.gz").read_bytes()).hexdigest()
    weights = hashlib.sha256((tiny_weights / "tat-small.safetensors").read_bytes()).hexdigest()
    assert sidecar.request["weights"] == weights
    assert sidecar.report["output"]["path"] == str(tmp_path / "out/b/1.nii.gz")
    # one network for all
    assert len({event["device"] for event in events if event["event"] == "done"}) == 1
    lines = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["event"] for line in lines].count("done") == 3
    assert (lines[0]["event"], lines[-1]["event"]) == ("start", "end")

    before = hashes(tmp_path / "out")
    times = {name: (tmp_path / "out" / name).stat().st_mtime_ns for name in before}
    again, events = run(batch())
    assert (again.done, again.finished) == (0, 3)
    assert {name: (tmp_path / "out" / name).stat().st_mtime_ns for name in before} == times


def test_what_changed_is_redone_and_nothing_else(scan, batch, tmp_path):
    names = ("touched", "changed", "same", "tampered", "partial")
    for index, name in enumerate(names):
        scan(f"in/{name}.nii.gz", seed=index)
    run(batch())
    before = hashes(tmp_path / "out")
    os.utime(tmp_path / "in/touched.nii.gz")
    scan("in/changed.nii.gz", seed=99)
    (tmp_path / "out/tampered.nii.gz").write_bytes(b"half")
    (tmp_path / "out/partial.nii.gz").unlink()
    _, events = run(batch())
    assert of_kind(events, "done") == ["changed.nii.gz", "partial.nii.gz", "tampered.nii.gz"]
    assert of_kind(events, "finished") == ["same.nii.gz", "touched.nii.gz"]
    after = hashes(tmp_path / "out")
    assert {name for name in before if before[name] != after[name]} == {"changed.nii.gz"}
    # other options, and --force
    patches = replace(batch(), scan=replace(batch().scan, options=RestoreOptions(mode="patch", tile=32, overlap=4)))
    report, _ = run(patches)
    assert report.done == 5
    report, _ = run(replace(patches, endurance=replace(patches.endurance, force=True)))
    assert report.done == 5


def test_a_foreign_file_is_never_replaced(scan, batch, tmp_path):
    scan("in/a.nii.gz")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/a.nii.gz").write_bytes(b"the user's own")
    report, _ = run(batch())
    assert report.failed == 1
    assert "which tat didn't finish" in report.failures[0][1]
    assert (tmp_path / "out/a.nii.gz").read_bytes() == b"the user's own"
    report, _ = run(batch(overwrite=True))
    assert report.done == 1


@pytest.mark.slow
def test_what_scans_do_to_processes_ends_neither_the_batch_nor_other_scans(scan, batch, tmp_path, faults, listing):
    good = [f"good{index}.nii.gz" for index in range(4)]
    for index, name in enumerate([*good, "crash.nii.gz", "killed.nii.gz"]):
        scan(f"in/{name}", seed=index)
    truncated = scan("in/truncated.nii.gz", seed=20)
    truncated.write_bytes(truncated.read_bytes()[:900])
    (tmp_path / "in/text.nii.gz").write_text("not an image", encoding="utf-8")
    (tmp_path / "in/gone.nii.gz").symlink_to(tmp_path / "nowhere")
    report, _ = run(batch(retries=1))
    assert listing(tmp_path / "out") == ["failures.csv", *good]
    assert not (tmp_path / "out/.tat-work").exists()
    assert (report.done, report.failed) == (4, 5)
    table = failures_of(tmp_path / "out")
    assert "the process that read it was killed by SIGSEGV" in table["crash"]["reason"]
    assert "the process that restored it was killed by SIGKILL" in table["killed"]["reason"]
    assert "No such file" in table["gone"]["reason"]
    assert {name: row["attempts"] for name, row in table.items()} == {
        "crash": "2", "killed": "2", "truncated": "1", "text": "1", "gone": "1",
    }  # fmt: skip
    assert {row["exit_code"] for row in (table["truncated"], table["text"])} == {"3"}


@pytest.mark.slow
def test_a_process_that_hangs_is_ended_after_the_timeout(scan, batch, tmp_path, faults, listing):
    for index, name in enumerate(("good", "hang", "stuck")):
        scan(f"in/{name}.nii.gz", seed=index)
    report, _ = run(batch(timeout=12.0, retries=0))
    assert listing(tmp_path / "out") == ["failures.csv", "good.nii.gz"]
    assert (report.done, report.failed) == (1, 2)
    table = failures_of(tmp_path / "out")
    assert "the process that read it gave no sign of life for 12 s" in table["hang"]["reason"]
    assert "the process that restored it gave no sign of life for 12 s" in table["stuck"]["reason"]


def failures_of(folder):
    """The list's rows by the scans' names."""
    with (folder / "failures.csv").open(encoding="utf-8") as stream:
        return {Path(row["path"]).name.removesuffix(".nii.gz"): row for row in csv.DictReader(stream)}


def test_fail_fast_ends_at_the_first_failure(scan, batch, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.nii.gz").write_text("not an image", encoding="utf-8")
    for index in range(12):
        scan(f"in/b{index:02d}.nii.gz", seed=index)
    report, _ = run(batch(fail_fast=True))
    assert report.ended_early
    assert (report.failed, report.failures[0][0]) == (1, "a.nii.gz")
    assert report.done < 12


def test_shards_together_give_what_one_run_gives(scan, batch, tmp_path):
    for index in range(5):
        scan(f"in/{index}.nii.gz", seed=index)
    run(batch(output=tmp_path / "whole", devices=("cpu", "cpu")))
    for index in (1, 2):
        run(batch(output=tmp_path / "parts", shard=Shard(index, 2)))
    assert len(hashes(tmp_path / "whole")) == 5
    assert hashes(tmp_path / "parts") == hashes(tmp_path / "whole")


def test_a_scan_that_another_run_is_at_is_left_to_it(scan, batch, tmp_path):
    scan("in/a.nii.gz")
    scan("in/b.nii.gz", seed=1)
    config = batch()
    work = plan(config, read_stdin=str).works[0]
    holder = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    path = lock_path(work)
    path.parent.mkdir(parents=True)
    born = Path(f"/proc/{holder.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[19]
    owner = replace(Owner.me(), pid=holder.pid, born=born)
    path.write_text(json.dumps({"token": "theirs", **vars(owner)}), encoding="utf-8")

    events = []
    seen_busy = threading.Event()

    def watch(event):
        events.append(event)
        if event["event"] == "busy":
            seen_busy.set()
            holder.kill()  # which leaves its lock behind
            holder.communicate()

    report = run_batch(config, watch=watch, read_stdin=str)
    assert seen_busy.is_set()
    assert of_kind(events, "busy")[0] == "a.nii.gz"
    assert next(event for event in events if event["event"] == "busy")["owner"] == str(owner)
    assert report.done == 2
    assert not path.exists()


def test_weights_and_devices_that_are_not_there_end_the_batch_at_once(scan, batch):
    scan("in/a.nii.gz")
    with pytest.raises(WeightsError, match="expected a name"):
        run(batch(weights="tat-huge"))
    with pytest.raises(DeviceError, match="expected a CUDA device, found 0"):
        run(batch(devices=("cuda:7",)))


@pytest.mark.gpu
def test_every_gpu_restores_as_a_cpu_does(scan, batch, tmp_path):
    devices = tuple(f"cuda:{number}" for number in range(torch.cuda.device_count()))
    for index in range(8 * len(devices)):
        scan(f"in/{index}.nii.gz", seed=index)
    here, _ = run(batch(output=tmp_path / "cpu", devices=("cpu",), precision="fp32"))
    there, _ = run(batch(output=tmp_path / "gpu", devices=devices, precision="fp32"))
    assert here.done == there.done == 8 * len(devices)
    for index in range(8 * len(devices)):
        one, other = (nib.load(tmp_path / folder / f"{index}.nii.gz").get_fdata() for folder in ("cpu", "gpu"))
        np.testing.assert_allclose(one, other, atol=1.0)  # whole HU
        assert (one != other).mean() < 0.01


def test_a_rehearsal_says_what_would_be_done_and_writes_nothing(scan, batch, tmp_path):
    scan("in/a.nii.gz")
    (tmp_path / "in/b.nii.gz").write_text("not an image", encoding="utf-8")
    found = rehearse(batch(), read_stdin=str)
    assert [(step.work.place, step.what) for step in found.steps] == [("a.nii.gz", "restore"), ("b.nii.gz", "fails")]
    assert found.steps[0].grid.shape == (1, 2, 32, 40)
    assert found.steps[0].grid.slices == 2
    assert found.seconds == pytest.approx(found.steps[0].cost.seconds)
    assert found.memory > 2**26
    assert not (tmp_path / "out").exists()


def test_a_rehearsal_whose_network_dies_ends_as_the_batch_would(scan, batch, monkeypatch):
    scan("in/a.nii.gz")

    def die(self):
        msg = "was killed by SIGKILL, as when memory runs out"
        raise Gone(msg, guilty=True)

    monkeypatch.setattr(Lane, "warm_up", die)
    for attempt in (lambda: rehearse(batch(), read_stdin=str), lambda: run(batch())):
        with pytest.raises(DeviceError, match="the process that loads the network was killed by SIGKILL"):
            attempt()


@pytest.mark.slow
def test_a_run_that_is_killed_goes_on_where_it_was(scan, batch, tmp_path, listing):
    for index in range(6):
        scan(f"in/{index}.nii.gz", seed=index)
    code = (
        "import sys\nfrom tatcli.cli.app import main\n"
        f"sys.argv = ['tat', 'restore', {str(tmp_path / 'in')!r}, '-o', {str(tmp_path / 'out')!r}, '--task', 'ct',"
        " '--device', 'cpu']\nmain()"
    )
    killed = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("out/*.nii.gz")) and time.monotonic() < deadline:  # moved there behind its sidecar
        time.sleep(0.01)
    os.killpg(killed.pid, signal.SIGKILL)  # its worker too, which would finish the scan in hand
    killed.wait()
    left = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("out/*.nii.gz")}
    report, events = run(batch())
    assert report.done + report.finished == 6
    assert report.finished >= 1
    for name in of_kind(events, "finished"):
        assert (tmp_path / "out" / name).stat().st_mtime_ns == left[name]
    assert listing(tmp_path / "out") == [f"{index}.nii.gz" for index in range(6)]
    assert not (tmp_path / "out/.tat-work").exists()
    run(batch(output=tmp_path / "clean"))
    assert hashes(tmp_path / "out") == hashes(tmp_path / "clean")


def test_a_run_that_is_interrupted_leaves_nothing_of_its_own(scan, batch, tmp_path):
    for index in range(4):
        scan(f"in/{index}.nii.gz", seed=index)

    def watch(event):
        if event["event"] == "state" and event["state"] == "reading":  # locked, and being written
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_batch(batch(), watch=watch, read_stdin=str)
    assert not (tmp_path / "out/.tat-work").exists()


def test_locks_are_given_back(scan, batch, tmp_path):
    work = scan("in/a.nii.gz")
    run(batch())
    assert Lock.take(lock_path(plan(batch(), read_stdin=str).works[0])) is not None
    assert work.exists()
