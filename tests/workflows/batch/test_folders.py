"""Folders whose outputs share a folder, or that became several scans: nothing is lost, nothing stale is left."""

from __future__ import annotations

import shutil
from collections import deque
from dataclasses import replace

import numpy as np
import pytest

from tatcli.errors import OutputError
from tatcli.volumes import read_volume
from tatcli.workflows.batch.config import Shard
from tatcli.workflows.batch.planning import plan
from tatcli.workflows.batch.pool import Message
from tatcli.workflows.batch.run import _Run
from tatcli.workflows.batch.sidecar import sidecar_of, stamp_of
from tatcli.workflows.batch.staging import publish
from tatcli.workflows.batch.work import Failure, Outcome


class Here:
    """A pool that does the work in this process."""

    room = 1

    def __init__(self, restored, weights):
        self._restored, self.weights = restored, weights
        self._outcomes = deque()

    def submit(self, work):
        try:
            vetted = self._restored(work)
        except OutputError as error:
            self._outcomes.append(Outcome(work=work, status="failed", failure=Failure.of(error, "plan")))
            return
        status = "finished" if vetted.finished else "several" if vetted.parts else "done"
        self._outcomes.append(Outcome(work=work, status=status, parts=vetted.parts))

    def next(self, _):
        outcome = self._outcomes.popleft()
        return Message("outcome", outcome.work, outcome)


@pytest.fixture
def done(restored):
    """Run a batch in this process; status -> places of its scans."""

    def run(config):
        events = []
        batch = _Run(config, plan(config, read_stdin=str), lambda event, **_: events.append(event))
        batch.through(Here(restored, restored.weights))
        kinds = ("done", "finished", "failed", "replaced")
        return {kind: places for kind in kinds if (places := [e["scan"] for e in events if e["event"] == kind])}

    return run


def files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


BOTH = [
    "pat1/3_thin_slices.tat.json", "pat1/3_thin_slices/00001.dcm", "pat1/3_thin_slices/00002.dcm",
    "pat1/x.nii.gz", "pat1/x.nii.gz.tat.json",
]  # fmt: skip


@pytest.mark.parametrize("shards", [None, (1, 2), (2, 1)])
def test_dicom_and_nifti_of_one_folder_have_outputs_apart(series, scan, batch, done, tmp_path, shards):
    series("pat1", 3)
    scan("in/pat1/x.nii.gz")
    configs = [batch()] if shards is None else [batch(shard=Shard(index, 2)) for index in shards]
    for config in configs:
        done(config)
    assert files(tmp_path / "out") == BOTH
    np.testing.assert_array_equal(
        read_volume(tmp_path / "out/pat1/3_thin_slices").array.shape, read_volume(tmp_path / "in/pat1").array.shape
    )
    again = [done(config) for config in configs]
    assert sorted(place for one in again for place in one.pop("finished")) == ["pat1/3_thin_slices", "pat1/x.nii.gz"]
    assert not any(again)


def test_archives_and_names_that_are_taken_too(series, scan, batch, done, tmp_path):
    series("pat1", 3)
    shutil.make_archive(str(tmp_path / "in/pat1"), "zip", tmp_path / "in/pat1")
    shutil.rmtree(tmp_path / "in/pat1")
    scan("in/pat1/3_thin_slices.nii.gz")
    assert done(batch())["done"] == ["pat1.zip/3_thin_slices_1.2.3_c47f5b", "pat1/3_thin_slices.nii.gz"]
    assert files(tmp_path / "out")[:4] == [
        "pat1/3_thin_slices.nii.gz", "pat1/3_thin_slices.nii.gz.tat.json", "pat1/3_thin_slices_1.2.3_c47f5b.tat.json",
        "pat1/3_thin_slices_1.2.3_c47f5b/00001.dcm",
    ]  # fmt: skip


def test_one_series_of_several_that_was_asked_for_shares_no_folder(series, scan, batch, done, tmp_path):
    series("pat1", 3)
    series("pat1", 4)
    scan("in/pat1/x.nii.gz")
    (tmp_path / "in/t.csv").write_text("path,series\npat1,3\npat1/x.nii.gz,\n", encoding="utf-8")
    assert done(batch(tmp_path / "in/t.csv")) == {"failed": ["pat1"], "done": ["pat1/x.nii.gz"]}


def test_a_folder_s_former_output_goes_when_all_that_replaces_it_is_there(series, scan, batch, done, tmp_path):
    """A series was restored alone; then an image came beside it, then a second series."""
    series("pat1", 3)
    assert done(batch()) == {"done": ["pat1"]}
    assert files(tmp_path / "out") == ["pat1.tat.json", "pat1/00001.dcm", "pat1/00002.dcm"]
    scan("in/pat1/x.nii.gz")
    (tmp_path / "out/pat1/3_thin_slices").write_text("in the way", encoding="utf-8")
    assert done(batch()) == {"failed": ["pat1/3_thin_slices"], "done": ["pat1/x.nii.gz"]}
    assert "pat1/00001.dcm" in files(tmp_path / "out")  # it is all there is, still
    (tmp_path / "out/pat1/3_thin_slices").unlink()
    (tmp_path / "out/pat1/notes.txt").write_text("the user's own", encoding="utf-8")
    assert done(batch()) == {
        "done": ["pat1/3_thin_slices"], "finished": ["pat1/x.nii.gz"], "replaced": ["pat1"],
    }  # fmt: skip
    assert files(tmp_path / "out") == sorted([*BOTH, "pat1/notes.txt"])
    series("pat1", 4)
    assert done(batch())["done"] == ["pat1/4_thin_slices"]


def test_so_it_does_in_another_format(series, batch, done, tmp_path):
    series("pat1", 3)
    assert done(batch(format="nifti")) == {"done": ["pat1"]}
    series("pat1", 4)
    assert done(batch(format="nifti")) == {
        "done": ["pat1/3_thin_slices", "pat1/4_thin_slices"], "replaced": ["pat1"],
    }  # fmt: skip
    assert [name for name in files(tmp_path / "out") if "json" not in name] == [
        "pat1/3_thin_slices.nii.gz", "pat1/4_thin_slices.nii.gz",
    ]  # fmt: skip


@pytest.mark.parametrize("foreign", ["x.nii.gz", ".hidden", "00001.dcm.bak"])
def test_a_folder_with_anything_else_is_never_replaced(tmp_path, foreign):
    made, output = tmp_path / "work/pat1", tmp_path / "out/pat1"
    for folder in (made, output):
        folder.mkdir(parents=True)
        (folder / "00001.dcm").write_text(folder.parent.name, encoding="utf-8")
    sidecar_of(made).write_text("new", encoding="utf-8")
    (output / foreign).write_text("the user's own", encoding="utf-8")
    with pytest.raises(OutputError, match=f"expected an output with nothing but 00001.dcm .* got {foreign} in it"):
        publish(made.parent, output)
    assert (output / foreign).read_text(encoding="utf-8") == "the user's own"
    assert (output / "00001.dcm").read_text(encoding="utf-8") == "out"
    assert not sidecar_of(output).exists()
    (output / foreign).unlink()
    publish(made.parent, output)
    assert (output / "00001.dcm").read_text(encoding="utf-8") == "work"


def test_what_comes_into_a_folder_at_the_last_moment_is_put_back(tmp_path, monkeypatch):
    made, output = tmp_path / "work/pat1", tmp_path / "out/pat1"
    for folder in (made, output):
        folder.mkdir(parents=True)
        (folder / "00001.dcm").touch()
    sidecar_of(made).touch()
    monkeypatch.setattr(
        "tatcli.workflows.batch.staging.sync", lambda _: (output / "x.nii.gz").write_bytes(b"another scan's")
    )
    with pytest.raises(OutputError, match=r"x\.nii\.gz in it"):
        publish(made.parent, output)
    assert (output / "x.nii.gz").read_bytes() == b"another scan's"


def test_what_comes_into_a_folder_of_dicom_beside_it_is_no_change(batch, restored, scan, series, tmp_path):
    folder = series("", 1)
    config = batch()
    (work,) = plan(replace(config, scan=replace(config.scan, output=None)), read_stdin=str).works
    before = stamp_of(folder)

    def others_are_restored():
        scan("in/n_restored.nii.gz")
        (folder / "n_restored.nii.gz.tat.json").write_text("{}")
        (folder / "events.jsonl").write_text("{}")

    restored(work, between=others_are_restored)
    assert len(list((tmp_path / "in_restored").iterdir())) == 2
    assert restored(work).finished
    (folder / "1-0.dcm").rename(folder / "1-0.txt")  # DICOM by its content
    renamed = stamp_of(folder)
    (folder / "1-0.txt").touch()
    assert len({before, renamed, stamp_of(folder)}) == 3
