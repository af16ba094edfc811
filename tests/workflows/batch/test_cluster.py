"""Batches on real schedulers and workers of dask.distributed, some of which are killed."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tatcli.errors import UsageError
from tatcli.workflows.batch.cluster import ClusterPool
from tatcli.workflows.batch.config import local_workers
from tatcli.workflows.batch.planning import plan
from tatcli.workflows.batch.pool import lane_settings
from tatcli.workflows.batch.run import run_batch
from tatcli.workflows.batch.tidings import TOPIC, Tidings, teller

ROOT = Path(__file__).resolve().parents[3]
PATIENCE = 400.0


def test_local_workers_are_counted():
    assert local_workers("local:3") == 3
    for text in ("tcp://10.0.0.1:8786", "head:8786", "tls://[::1]:8786"):
        assert local_workers(text) is None
    bad = (
        "local:",
        "local:0",
        "local:1025",
        "local:two",
        "local:²",
        "head",
        "head:",
        "head:0",
        "head:65536",
        "head:two",
        "tcp://",
        "tcp://head",
        "http://head:1",
    )
    for text in bad:
        with pytest.raises(UsageError, match=r"expected the address of a scheduler \(tcp://HOST:PORT\), or local:N"):
            local_workers(text)


def test_what_a_cluster_cannot_take_is_said_before_anything_is_done(batch):
    with pytest.raises(UsageError, match=r"--cluster 'head': expected the address of a scheduler"):
        replace(batch(), cluster="head")
    with pytest.raises(UsageError, match="--device cpu,cuda: expected one device with --cluster"):
        replace(batch(), cluster="local:2", devices=("cpu", "cuda"))


def test_without_dask_the_message_says_how_to_get_it(scan, batch, monkeypatch):
    scan("in/a.nii.gz")
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(UsageError, match=r"pip install 'tatcli\[cluster\]'"):
        run_batch(batch(cluster="local:2"), read_stdin=str)


class FakeWorker:
    """Keeps what a task tells."""

    def __init__(self):
        self.told = []

    def get_current_task(self):
        return "restore-1"

    def log_event(self, topic, event):
        assert topic == TOPIC
        self.told.append(Tidings.of(json.loads(json.dumps(event))))


def test_a_worker_tells_every_state_but_progress_once_a_second_and_its_end(monkeypatch):
    distributed = pytest.importorskip("distributed")
    worker, clock = FakeWorker(), [100.0]
    monkeypatch.setattr(distributed, "get_worker", lambda: worker)
    tell = teller(now=lambda: clock[0])
    tell("state", "looking")
    tell("state", "computing")
    for done in range(1, 41):  # a slice each 0.1 s
        clock[0] = round(100 + done / 10, 1)
        tell("progress", (done, 40))
    assert worker.told[:2] == [Tidings("restore-1", "state", "looking"), Tidings("restore-1", "state", "computing")]
    assert [one.content for one in worker.told[2:]] == [(1, 40), (11, 40), (21, 40), (31, 40), (40, 40)]


class FakeClient:
    """Keeps the keys that it is given; has no workers."""

    def __init__(self):
        self.keys = []

    def submit(self, _, *__, key, **___):
        self.keys.append(key)
        return self

    def add_done_callback(self, _):
        pass


def test_keys_are_text_whatever_the_names_of_files_are(scan, batch):
    """Of others the scheduler ended the connection, which was made again for ever."""
    scan("in/a.nii.gz")
    (work,) = plan(batch(), read_stdin=str).works
    pool = ClusterPool("local:1", lane_settings(batch())[0], {}, say=str)
    pool._client = FakeClient()
    for place in ("a/b.nii.gz", "Andr\udce9.nii.gz"):
        pool.submit(replace(work, place=place))
    assert [key.rpartition("-")[2].encode() for key in pool._client.keys] == [b"a/b.nii.gz", b"Andr\\udce9.nii.gz"]


def test_telling_never_breaks_a_scan(monkeypatch):
    distributed = pytest.importorskip("distributed")
    teller()("state", "looking")  # not on a worker
    worker = FakeWorker()
    monkeypatch.setattr(distributed, "get_worker", lambda: worker)
    monkeypatch.setattr(worker, "log_event", lambda *_: 1 / 0)
    teller()("progress", (1, 2))


def test_tidings_of_others_or_late_or_senseless_are_ignored(scan, batch):
    scan("in/a.nii.gz")
    (settings,) = lane_settings(batch())
    pool = ClusterPool("tcp://127.0.0.1:9", settings, {}, say=print)
    pool._flying["mine"] = ("a scan", None)
    senseless = [3, {}, {"key": "mine"}, {"key": "mine", "kind": "progress", "content": "half"}]
    others = [{"key": "other", "kind": "state", "content": "reading"}]
    mine = [{"key": "mine", "kind": "progress", "content": [1, 2]}]
    for event in senseless + others + mine:
        pool._hear((0.0, event))
    assert pool.next(0.0) is None
    message = pool.next(0.0)
    assert (message.kind, message.work, message.content) == ("progress", "a scan", (1, 2))
    assert pool.next(0.0) is None


def hashes(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*.nii.gz")}


def events(path):
    if not path.exists():
        return []
    return [
        json.loads(line) for line in path.read_text(encoding="utf-8").splitlines(keepends=True) if line.endswith("\n")
    ]


def wait_for(condition, process=None):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        assert process is None or process.poll() is None, process.stderr.read()
        time.sleep(0.05)


@pytest.fixture
def start():
    """Start a Python process; all are ended with the test."""
    running = []

    def run(*words, **options):
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
        process = subprocess.Popen([sys.executable, *map(str, words)], env=environment, text=True, **options)
        running.append(process)
        return process

    yield run
    for process in running:
        process.kill()
        process.communicate()


@pytest.fixture
def restoring(start, tmp_path):
    """Start ``tat restore in -o out`` with these options."""

    def run(*options, out="out"):
        words = ("-c", "from tatcli.cli.app import main; main()", "restore", tmp_path / "in", "-o", tmp_path / out)
        log = ("--events", tmp_path / f"{out}.jsonl", "--task", "ct", "--device", "cpu")
        return start(*words, *log, *options, stderr=subprocess.PIPE)

    return run


@pytest.fixture
def cluster(start, tmp_path):
    """Start a scheduler; its address, and functions that start it (anew) and a worker."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"tcp://127.0.0.1:{port}"
    quiet = {"stderr": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}

    def scheduler():
        words = ("--host", "127.0.0.1", "--port", port, "--no-dashboard", "--no-show")
        return start("-m", "distributed.cli.dask_scheduler", *words, **quiet)

    def worker():
        words = (address, "--nthreads", "2", "--no-nanny", "--no-dashboard", "--local-directory", tmp_path / "dask")
        return start("-m", "distributed.cli.dask_worker", *words, **quiet)

    return address, scheduler, worker


@pytest.mark.slow
def test_two_batches_on_one_scheduler_each_see_their_own_scans_on_their_way(scan, start, batch, cluster, tmp_path):
    pytest.importorskip("distributed")
    address, scheduler, worker = cluster
    for index in range(3):
        scan(f"in/{index}.nii.gz", seed=index)
    scheduler()
    worker()
    code = (
        "import json, pickle, sys; from tatcli.workflows.batch.run import run_batch; "
        "run_batch(pickle.load(open(sys.argv[1], 'rb')), watch=lambda event: print(json.dumps(event)))"
    )
    runs = []
    for name, timeout in (("one", 120.0), ("other", 110.0)):  # each needs a lane of its own
        config = tmp_path / f"{name}.pickle"
        config.write_bytes(pickle.dumps(batch(output=tmp_path / name, cluster=address, timeout=timeout)))
        runs.append((name, start("-c", code, config, stdout=subprocess.PIPE, stderr=subprocess.PIPE)))
    for name, run in runs:
        told, problems = run.communicate(timeout=PATIENCE)
        assert run.returncode == 0, problems
        seen = [json.loads(line) for line in told.splitlines()]
        assert sorted(hashes(tmp_path / name)) == ["0.nii.gz", "1.nii.gz", "2.nii.gz"]
        for index in range(3):
            mine = [event for event in seen if event.get("scan") == f"{index}.nii.gz"]
            kinds = [event["event"] for event in mine]
            assert kinds[0] == "begin"
            assert kinds[-1] == "done"
            assert kinds.count("done") == 1
            assert mine[-1]["output"] == str(tmp_path / name / f"{index}.nii.gz")
            states = [event["state"] for event in mine if event["event"] == "state"]
            assert states[-4:] == ["reading", "waiting", "computing", "writing"]
            progress = [event for event in mine if event["event"] == "progress"]
            assert (progress[-1]["slice"], progress[-1]["of"]) == (2, 2)


@pytest.mark.slow
def test_local_workers_give_the_same_files_and_survive_a_poison_scan(scan, restoring, tmp_path, faults):
    pytest.importorskip("distributed")
    for index in range(5):
        scan(f"in/{index}.nii.gz", seed=index)
    scan("in/killed.nii.gz", seed=7)
    single = restoring(out="single")
    single.communicate(timeout=PATIENCE)
    cluster = restoring("--cluster", "local:2", "-v")
    _, told = cluster.communicate(timeout=PATIENCE)
    assert (single.returncode, cluster.returncode) == (6, 6), told
    assert len(hashes(tmp_path / "out")) == 5
    assert hashes(tmp_path / "out") == hashes(tmp_path / "single")
    assert "cluster of 2 workers" in told
    begun = {event["scan"] for event in events(tmp_path / "out.jsonl") if event["event"] == "begin"}
    assert begun == {event["scan"] for event in events(tmp_path / "single.jsonl") if event["event"] == "begin"}
    assert len(begun) == 6
    with (tmp_path / "out/failures.csv").open(encoding="utf-8") as stream:
        (row,) = csv.DictReader(stream)
    assert Path(row["path"]).name == "killed.nii.gz"
    assert "the process that restored it was killed by SIGKILL" in row["reason"]
    assert not (tmp_path / "out/.tat-work").exists()


@pytest.mark.waits
@pytest.mark.slow
def test_workers_and_the_scheduler_may_die_and_come_back(scan, cluster, restoring, batch, tmp_path):
    pytest.importorskip("distributed")
    address, scheduler, worker = cluster
    for index in range(14):
        scan(f"in/{index}.nii.gz", seed=index)
    log = tmp_path / "out.jsonl"
    first, workers = scheduler(), [worker(), worker()]
    run = restoring("--cluster", address, "--retries", "2")

    def done():
        return sum(event["event"] == "done" for event in events(log))

    wait_for(lambda: done() >= 1, run)
    workers[0].send_signal(signal.SIGKILL)
    before = done()
    wait_for(lambda: done() > before, run)
    first.send_signal(signal.SIGKILL)
    workers[1].send_signal(signal.SIGKILL)
    wait_for(lambda: any("lost the scheduler" in event.get("message", "") for event in events(log)), run)
    scheduler()
    worker()
    _, told = run.communicate(timeout=PATIENCE)
    assert run.returncode == 0, told
    ended = events(log)[-1]
    assert ended["failed"] == 0
    assert ended["done"] + ended["finished"] == 14
    run_batch(batch(output=tmp_path / "single"), read_stdin=str)
    assert len(hashes(tmp_path / "single")) == 14
    assert hashes(tmp_path / "out") == hashes(tmp_path / "single")
    assert not (tmp_path / "out/.tat-work").exists()


@pytest.mark.slow
@pytest.mark.slow
def test_local_workers_take_scans_for_a_gpu(scan, restoring):
    """They say that they have one, which such scans wait for; here there is none, and each scan hears so."""
    pytest.importorskip("distributed")
    scan("in/a.nii.gz")
    run = restoring("--cluster", "local:1", "--device", "cuda", "--retries", "0")
    _, told = run.communicate(timeout=PATIENCE)
    assert run.returncode != 0
    assert "--device cuda: expected a CUDA device, found 0" in told


def test_no_scheduler_is_an_error_in_one_line(scan, batch, monkeypatch):
    pytest.importorskip("distributed")
    scan("in/a.nii.gz")
    monkeypatch.setattr("tatcli.workflows.batch.cluster._CONNECT", 0.1)
    with pytest.raises(UsageError, match="expected a dask scheduler, got no answer"):
        run_batch(batch(cluster="tcp://127.0.0.1:9"), read_stdin=str)
