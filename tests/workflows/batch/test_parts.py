"""What children do, in this process: DICOM folders of several series, interrupted moves, inputs that change."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace

import numpy as np
import pydicom
import pytest

from tatcli.errors import DeviceError, OutputError, VolumeReadError
from tatcli.volumes import read_volume
from tatcli.workflows.batch.planning import plan
from tatcli.workflows.batch.sidecar import Sidecar, sidecar_of
from tatcli.workflows.batch.staging import lock_path
from tatcli.workflows.batch.vetting import is_finished
from tatcli.workflows.batch.work import Failure


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_a_folder_of_several_series_becomes_one_scan_for_each_that_a_task_takes(series, batch, restored, tmp_path):
    series("study", 3)
    series("study", 4)
    series("study", 5, modality="MR")
    (work,) = plan(batch(task="ct"), read_stdin=str).works
    parts = restored(work).parts
    assert [part.place for part in parts] == ["study/3_thin_slices", "study/4_thin_slices"]
    assert [part.output for part in parts] == [tmp_path / "out" / part.place for part in parts]
    assert [part.config.series for part in parts] == ["1.2.3", "1.2.4"]
    for part in parts:
        assert restored(part).slices == 2
    assert [path.name for path in sorted((tmp_path / "out/study").iterdir())] == [
        "3_thin_slices", "3_thin_slices.tat.json", "4_thin_slices", "4_thin_slices.tat.json",
    ]  # fmt: skip
    assert pydicom.dcmread(tmp_path / "out/study/4_thin_slices/00001.dcm").SeriesDescription == "thin slices restored"
    assert all(restored(part).finished for part in parts)


def test_series_of_one_name_are_told_apart_by_their_uids(series, batch, restored):
    series("study", 3, uid="1.2.77")
    series("study/more", 3, uid="1.2.88")
    (work,) = plan(batch(task="ct"), read_stdin=str).works
    places = [part.place for part in restored(work).parts]
    for place, uid in zip(places, ("1.2.77", "1.2.88"), strict=True):
        assert re.fullmatch(rf"study/3_thin_slices_{re.escape(uid)}_[0-9a-f]{{6}}", place)
    series("study/first", 1, uid="1.2.66")  # which sorts before them, and changes nothing for them
    assert [part.place for part in restored(work).parts] == ["study/1_thin_slices", *places]


def test_the_last_of_several_series_stays_where_it_was_restored(series, batch, restored):
    series("study", 3)
    series("study/more", 4)
    (work,) = plan(batch(task="ct"), read_stdin=str).works
    for part in restored(work).parts:
        restored(part)
    shutil.rmtree(work.config.input / "more")
    (work,) = plan(batch(task="ct"), read_stdin=str).works
    (part,) = restored(work).parts
    assert part.place == "study/3_thin_slices"
    assert restored(part).finished


def test_series_whose_names_differ_in_case_alone_get_names_that_every_system_tells_apart(series, batch, restored):
    series("study", 3, uid="1.2.77")
    for path in series("study/more", 3, uid="1.2.88").rglob("*.dcm"):
        dataset = pydicom.dcmread(path)
        dataset.SeriesDescription = "Thin Slices"
        dataset.save_as(path)
    (work,) = plan(batch(task="ct"), read_stdin=str).works
    assert [part.place.rpartition("_")[0] for part in restored(work).parts] == [
        "study/3_thin_slices_1.2.77", "study/3_Thin_Slices_1.2.88",
    ]  # fmt: skip


def test_no_series_for_the_task_is_an_error_that_lists_them(series, batch, restored):
    series("study", 3, modality="MR")
    series("study", 4, modality="MR")
    (work,) = plan(batch(task="ct"), read_stdin=str).works
    with pytest.raises(VolumeReadError, match="expected a series for ct-denoise, got number 3 'thin slices'"):
        restored(work)


def test_a_series_that_is_redone_has_the_same_uids_and_replaces_the_old_one(series, batch, restored, tmp_path):
    series("s", 3)
    (work,) = plan(batch(task="ct"), read_stdin=str).works
    restored(work)
    before = contents(tmp_path / "out/s")
    restored(replace(work, force=True))
    assert contents(tmp_path / "out/s") == before
    changed = replace(work, config=replace(work.config, dicom=replace(work.config.dicom, suffix=" (tat)")))
    restored(changed)
    assert contents(tmp_path / "out/s") != before
    np.testing.assert_array_equal(
        read_volume(tmp_path / "out/s").array.shape, read_volume(tmp_path / "in/s").array.shape
    )
    assert not list((tmp_path / "out").glob(".tat-work/*"))


def test_an_output_that_somebody_looked_at_is_redone_all_the_same(series, batch, restored, tmp_path):
    series("s", 3)
    (work,) = plan(batch(task="ct"), read_stdin=str).works
    assert restored(work).slices == 2
    (tmp_path / "out/s/.DS_Store").touch()
    assert restored(work).finished
    (work,) = plan(batch(task="ct", force=True), read_stdin=str).works
    assert restored(work).slices == 2
    assert sorted(path.name for path in (tmp_path / "out/s").iterdir()) == ["00001.dcm", "00002.dcm"]


def test_a_file_that_is_added_to_a_series_makes_it_to_be_redone(series, batch, restored, tmp_path):
    place = series("s", 3)
    (work,) = plan(batch(task="ct"), read_stdin=str).works
    last = (place / "3-1.dcm").read_bytes()
    (place / "3-1.dcm").unlink()
    restored(work)
    assert restored(work).finished
    (place / "3-1.dcm").write_bytes(last)
    assert restored(work).slices == 2
    assert len(list((tmp_path / "out/s").iterdir())) == 2


def test_a_link_that_leads_nowhere_is_no_part_of_a_series(series, batch, restored):
    (series("s", 3) / "README").symlink_to("nowhere")
    (work,) = plan(batch(task="ct"), read_stdin=str).works
    assert restored(work).slices == 2
    assert restored(work).finished


def test_a_crash_between_the_two_moves_leaves_work_to_do(scan, batch, restored, tmp_path):
    scan("in/a.nii.gz")
    (work,) = plan(batch(), read_stdin=str).works
    restored(work)
    good = work.output.read_bytes()
    # the sidecar of the new input is there, the output is the old one still: as published, the sidecar goes first
    scan("in/a.nii.gz", seed=5)
    sidecar = Sidecar.read(sidecar_of(work.output))
    restored(work)
    after = work.output.read_bytes()
    newer = Sidecar.read(sidecar_of(work.output))
    assert newer.input.sha256 != sidecar.input.sha256
    work.output.write_bytes(good)
    assert not is_finished(work, restored.weights)
    restored(work)
    assert work.output.read_bytes() == after


def test_an_input_that_changes_meanwhile_is_not_published(scan, batch, restored):
    scan("in/a.nii.gz")
    (work,) = plan(batch(), read_stdin=str).works
    with pytest.raises(OSError, match="the input changed while it was restored") as caught:
        restored(work, between=lambda: scan("in/a.nii.gz", seed=8))
    assert Failure.of(caught.value, "restore").passing
    assert not work.output.exists()
    assert not sidecar_of(work.output).exists()


def test_a_lock_that_was_taken_over_keeps_its_old_holder_from_publishing(scan, batch, restored):
    scan("in/a.nii.gz")
    (work,) = plan(batch(), read_stdin=str).works
    with pytest.raises(OSError, match="another run took its lock over"):
        restored(work, between=lambda: lock_path(work).write_text('{"token": "theirs"}', encoding="utf-8"))
    assert not work.output.exists()
    lock_path(work).unlink()


def test_voxels_of_a_metaimage_belong_to_it(scan, batch, restored, tmp_path):
    from tatcli.volumes import write_volume

    volume = read_volume(scan("a.nii.gz"))
    (tmp_path / "in").mkdir()
    write_volume(volume, tmp_path / "in/a.mhd")
    (work,) = plan(batch(), read_stdin=str).works
    restored(work)
    assert sorted(path.name for path in (tmp_path / "out").iterdir() if path.is_file()) == [
        "a.mhd", "a.mhd.tat.json", "a.raw",
    ]  # fmt: skip
    assert restored(work).finished
    voxels = bytearray((tmp_path / "in/a.raw").read_bytes())
    voxels[0] ^= 1
    (tmp_path / "in/a.raw").write_bytes(voxels)
    assert not is_finished(work, restored.weights)


def test_a_scan_is_redone_when_voxels_apart_from_their_header_changed(scan, batch, restored, tmp_path):
    import SimpleITK as sitk

    (tmp_path / "in").mkdir()
    sitk.WriteImage(sitk.ReadImage(str(scan("a.nii.gz"))), str(tmp_path / "in/a.mhd"))
    voxels = (tmp_path / "in/a.raw").read_bytes()
    (tmp_path / "in/a.mhd").unlink()
    (tmp_path / "in/a.nrrd").write_text(
        "NRRD0004\ntype: int16\ndimension: 3\nspace: left-posterior-superior\nsizes: 40 32 2\nendian: little\n"
        "space directions: (0.7,0,0) (0,0.7,0) (0,0,3)\nspace origin: (0,0,0)\nencoding: raw\ndata file: a.raw\n\n"
    )
    (work,) = plan(batch(), read_stdin=str).works
    restored(work)
    assert restored(work).finished
    before = (tmp_path / "out/a.nrrd").read_bytes()
    (tmp_path / "in/a.raw").write_bytes(voxels[2:] + voxels[:2])
    assert not restored(work).finished
    assert (tmp_path / "out/a.nrrd").read_bytes() != before
    assert restored(work).finished


def test_what_a_failure_is_decides_whether_it_is_tried_again():
    full = OutputError("x: No space left on device")
    full.__cause__ = OSError(28, "No space left on device")
    assert Failure.of(full, "write").passing
    assert not Failure.of(OutputError("x: exists"), "write").passing
    assert not Failure.of(VolumeReadError("x: truncated"), "read").passing
    assert Failure.of(DeviceError("out of memory"), "restore").passing
    assert Failure.of(MemoryError(), "read").passing
    bug = Failure.of(KeyError("x"), "restore")
    assert (bug.exit_code, bug.reason) == (1, "a bug in tat: KeyError: 'x'")
    assert "KeyError" in bug.details
    assert isinstance(Failure(stage="load", reason="none", exit_code=5).as_error(), DeviceError)
