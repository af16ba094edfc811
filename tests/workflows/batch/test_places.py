"""Where outputs of a batch may go: into folders that don't exist yet, never over what isn't tat's."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from tatcli.errors import OutputError, VolumeReadError
from tatcli.volumes import read_volume, write_volume
from tatcli.workflows.batch.estimate import Look, look
from tatcli.workflows.batch.planning import plan


@pytest.mark.parametrize("output", ["in/restored", "in/deep/er/restored", "other"])
def test_the_outputs_folder_need_not_exist_wherever_it_lies(scan, batch, restored, tmp_path, output):
    scan("in/a.nii.gz")
    scan("in/deep/b.nii.gz", seed=1)
    works = plan(batch(output=tmp_path / output), read_stdin=str).works
    for work in works:
        assert look(Look(work, restored.weights)).grid.slices == 2  # the rehearsal agrees
        assert restored(work).slices == 2
        assert restored(work).finished
    assert [work.output.relative_to(tmp_path / output).as_posix() for work in works] == ["a.nii.gz", "deep/b.nii.gz"]


def test_a_new_folder_of_outputs_may_lie_beside_dicom_inputs_but_not_in_one(series, batch, restored, tmp_path):
    series("p1", 3)
    series("p2", 4)
    inputs = (tmp_path / "in/p1", tmp_path / "in/p2")
    for work in plan(batch(*inputs, output=tmp_path / "in/restored"), read_stdin=str).works:
        assert look(Look(work, restored.weights)).grid.slices == 2
        assert restored(work).slices == 2
    assert len(list((tmp_path / "in/restored").rglob("0000?.dcm"))) == 4
    work = plan(batch(*inputs, output=tmp_path / "in/p1/restored"), read_stdin=str).works[0]
    for attempt in (lambda: look(Look(work, restored.weights)), lambda: restored(work)):
        with pytest.raises(OutputError, match="expected an output folder apart from the input"):
            attempt()


def test_a_name_that_leaves_no_room_for_the_sidecar_s_is_refused_before_the_work(scan, batch, restored, tmp_path):
    scan("in/" + "a" * 239 + ".nii.gz")
    scan("in/" + "b" * 240 + ".nii.gz")
    fits, work = plan(batch(), read_stdin=str).works
    assert restored(fits).finished is False
    for attempt in (lambda: look(Look(work, restored.weights)), lambda: restored(work)):
        with pytest.raises(OutputError, match=r"\.tat\.json: expected a name .*, got one of 256 bytes"):
            attempt()


def test_a_link_to_itself_is_not_there(scan, batch, restored, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.nii.gz").symlink_to(tmp_path / "in/a.nii.gz")
    (work,) = plan(batch(), read_stdin=str).works
    for attempt in (lambda: look(Look(work, restored.weights)), lambda: restored(work)):
        with pytest.raises(VolumeReadError, match=r"a\.nii\.gz: expected an image file or a DICOM folder"):
            attempt()


def test_of_folders_that_are_to_be_made_the_last_that_exists_must_be_a_folder(scan, batch, restored, tmp_path):
    scan("in/deep/er/a.nii.gz")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/deep").write_text("a file", encoding="utf-8")
    (work,) = plan(batch(), read_stdin=str).works
    for attempt in (lambda: look(Look(work, restored.weights)), lambda: restored(work)):
        with pytest.raises(OutputError, match=f"expected an existing folder {tmp_path / 'out/deep'}, got a file"):
            attempt()


def test_voxels_of_a_metaimage_that_are_another_s_are_not_replaced(scan, batch, restored, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    write_volume(read_volume(scan("a.nii.gz")), tmp_path / "in/m.mhd")
    foreign = tmp_path / "out/m.raw"
    foreign.write_bytes(b"the user's own")
    (work,) = plan(batch(), read_stdin=str).works
    for attempt in (lambda: look(Look(work, restored.weights)), lambda: restored(work)):
        with pytest.raises(OutputError, match=r"m\.raw: expected a new output, got one without a sidecar"):
            attempt()
    assert foreign.read_bytes() == b"the user's own"
    restored(replace(work, config=replace(work.config, overwrite=True)))
    assert foreign.stat().st_size == 40 * 32 * 2 * 2
    restored(replace(work, force=True))  # with a sidecar it is tat's


def test_voxels_of_the_input_are_not_replaced_even_if_that_is_allowed(scan, batch, restored, tmp_path):
    (tmp_path / "in").mkdir()
    write_volume(read_volume(scan("a.nii.gz")), tmp_path / "in/m.mhd")
    (tmp_path / "in/m.raw").rename(tmp_path / "in/n.raw")
    header = (tmp_path / "in/m.mhd").read_text(encoding="ascii")
    (tmp_path / "in/m.mhd").write_text(header.replace("m.raw", "n.raw"), encoding="ascii")
    voxels = (tmp_path / "in/n.raw").read_bytes()
    (work,) = plan(batch(overwrite=True), read_stdin=str).works
    work = replace(work, config=replace(work.config, output=tmp_path / "in/n.mhd"))
    with pytest.raises(OutputError, match="expected an output different from the input"):
        restored(work)
    assert (tmp_path / "in/n.raw").read_bytes() == voxels


def test_what_a_dataset_keeps_beside_an_output_replaces_nothing_of_another_s(scan, batch, restored, tmp_path):
    scan("in/sub-1/anat/sub-1_T1w.nii.gz")
    dataset = {"Name": "made", "BIDSVersion": "1.10.0"}
    (tmp_path / "in/dataset_description.json").write_text(json.dumps(dataset), encoding="utf-8")
    (work,) = plan(batch(task="mri-sr"), read_stdin=str).works
    foreign = work.output.with_name("sub-1_desc-restored_T1w.json")
    foreign.parent.mkdir(parents=True)
    foreign.write_text("{}", encoding="utf-8")
    with pytest.raises(OutputError, match=r"restored_T1w\.json: expected a new file"):
        look(Look(work, restored.weights))


def test_a_rehearsal_says_that_an_output_without_a_sidecar_is_in_the_way(scan, batch, restored, tmp_path):
    scan("in/a.nii.gz")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/a.nii.gz").write_bytes(b"the user's own")
    (work,) = plan(batch(), read_stdin=str).works
    for attempt in (lambda: look(Look(work, restored.weights)), lambda: restored(work)):
        with pytest.raises(OutputError, match="which tat didn't finish"):
            attempt()
