"""Manifests and BIDS datasets."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from tatcli.errors import UsageError
from tatcli.workflows.batch.config import Shard
from tatcli.workflows.batch.failures import failures_path
from tatcli.workflows.batch.planning import plan


def table(tmp_path, text, name="scans.csv"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def test_a_manifest_says_what_differs(batch, tmp_path):
    text = (
        "Path,task,output,units,pet,options\n"
        "a/x.nii.gz,,,,,\n"
        "a/y.nii.gz,mri,fine/y.nrrd,,,scale=2; axis=coronal\n"
        "/data/z.mha,pet,,suvbw,,ensemble; ignore-modality\n"
    )
    first, second, third = plan(batch(table(tmp_path, text)), read_stdin=str).works
    out = tmp_path / "out"
    assert (first.config.input, first.output, first.config.task) == (
        tmp_path / "a/x.nii.gz", out / "a/x.nii.gz", "ct-denoise",
    )  # fmt: skip
    assert (second.config.task, second.output) == ("mri-sr", out / "fine/y.nrrd")
    assert (second.config.options.scale, second.config.options.axis, second.config.format) == (2, "coronal", "nrrd")
    assert (third.config.task, third.config.units, third.output) == ("pet-synthesis", "SUVbw", out / "z.mha")
    assert third.config.options.ignore_modality
    assert third.config.options.ensemble
    assert not second.config.options.ensemble
    assert not first.config.options.ignore_modality


def test_a_manifest_says_how_k_space_was_cut(batch, tmp_path):
    rows = "path,task,options\nx.nii,mri,kspace-factor=2.5\ny.nii,mri,no-data-consistency\nz.nii,mri,data-consistency\n"
    works = plan(batch(table(tmp_path, rows)), read_stdin=str).works
    found = [(work.config.options.kspace_factor, work.config.options.data_consistency) for work in works]
    assert found == [(2.5, None), (None, False), (None, True)]


@pytest.mark.parametrize("word", ["scans.csv", "./scans.csv", "deeper/../scans.csv", "deeper//scans.csv"])
def test_a_manifest_is_no_scan_however_it_is_spelled(batch, tmp_path, monkeypatch, word):
    (tmp_path / "deeper").mkdir()
    for folder in (tmp_path, tmp_path / "deeper"):
        table(folder, "path\nx.nii.gz\n")
    monkeypatch.chdir(tmp_path)
    config = batch()
    (work,) = plan(replace(config, selection=replace(config.selection, inputs=(word,))), read_stdin=str).works
    assert work.config.input.name == "x.nii.gz"


def test_a_table_with_tabs_is_a_manifest_too(batch, tmp_path):
    (work,) = plan(batch(table(tmp_path, "path\tseries\nx.nii.gz\t3\n", "scans.tsv")), read_stdin=str).works
    assert work.config.series == "3"


def test_the_only_column_of_a_tsv_has_names_with_commas(batch, tmp_path):
    (work,) = plan(batch(table(tmp_path, "path\nhead,neck.nii.gz\n", "scans.tsv")), read_stdin=str).works
    assert work.config.input.name == "head,neck.nii.gz"


def test_a_table_as_excel_writes_it_in_europe(batch, tmp_path):
    path = tmp_path / "scans.csv"
    text = 'path;task;options\n"a, b.nii.gz";ct;\ny.nii.gz;mri;"scale=2; axis=coronal"\n'
    path.write_bytes(text.replace("\n", "\r\n").encode("utf-8-sig"))
    first, second = plan(batch(path), read_stdin=str).works
    assert (first.config.input.name, first.config.task) == ("a, b.nii.gz", "ct-denoise")
    assert (second.config.options.scale, second.config.options.axis) == (2, "coronal")


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("file\nx.nii\n", "expected the columns path and any of task"),
        ("path,task\nx.nii,blur\n", "scans.csv, line 2: unknown task 'blur'"),
        ("path,units\nx.nii,furlongs\n", "line 2: units 'furlongs': expected one of HU"),
        ("path,options\nx.nii,speed=9\n", "line 2: options 'speed=9'"),
        ("path,options\nx.nii,scale=²\n", "line 2: options 'scale=²': expected a whole number after the ="),
        ("path,options\nx.nii,axis=\n", "line 2: options 'axis='"),
        ("path,options\nx.nii,ensemble=no\n", r"line 2: options 'ensemble=no': expected KEY=VALUE \(of a flag, KEY a"),
        ("path,options\nx.nii,kspace-factor=nan\n", "line 2: --kspace-factor: expected a number from 1, got nan"),
        ("path,options\nx.nii,kspace-factor=inf\n", "line 2: --kspace-factor: expected a number from 1, got inf"),
        ("path,options\nx.nii,kspace-factor=2 no-data-consistency\n", "line 2: --kspace-factor: expected without"),
        ("path,task\nx.nii,ct,more\n", "line 2: expected a path and 2 columns"),
        ("path,task\n,ct\n", "line 2: expected a path"),
    ],
)
def test_a_wrong_manifest_is_refused_with_its_line(batch, tmp_path, text, match):
    with pytest.raises(UsageError, match=match):
        plan(batch(table(tmp_path, text)), read_stdin=str)


def test_a_manifest_is_no_scan_however_its_path_is_written(batch, tmp_path, monkeypatch):
    table(tmp_path, "path\nx.nii.gz\n")
    monkeypatch.chdir(tmp_path)
    for word in ("scans.csv", "./scans.csv", ".//scans.csv"):
        works = plan(batch(word), read_stdin=str).works
        assert [work.place for work in works] == ["x.nii.gz"]


def test_a_manifest_that_is_not_there_is_said_to_be_so(batch, tmp_path):
    with pytest.raises(UsageError, match=r"none\.csv: expected a manifest \(CSV or TSV, UTF-8\), got nothing there"):
        plan(batch(tmp_path / "none.csv"), read_stdin=str)


def test_scans_beside_the_manifest_s_folder_are_told_apart_by_their_paths(batch, tmp_path):
    rows = "".join(f"/data/p{index}/ct.nii.gz,p{index}.nii.gz\n" for index in range(40))
    config = batch(table(tmp_path, f"path,output\n{rows}"))
    assert plan(config, read_stdin=str).works[7].place == "/data/p7/ct.nii.gz"
    shards = [replace(config, selection=replace(config.selection, shard=Shard(index, 2))) for index in (1, 2)]
    sizes = [len(plan(shard, read_stdin=str).works) for shard in shards]
    assert sum(sizes) == 40
    assert min(sizes) > 5


def test_two_rows_for_one_output_are_refused_unless_they_are_the_same(batch, tmp_path):
    same = "path,output,options\na.nii.gz,x.nii.gz,\na.nii.gz,deep/../x.nii.gz,\n"
    assert [work.output for work in plan(batch(table(tmp_path, same)), read_stdin=str).works] == [
        tmp_path / "out/x.nii.gz"
    ] * 2
    other = same + "a.nii.gz,x.nii.gz,axis=sagittal\n"
    with pytest.raises(UsageError, match=r"expected one scan for each output, got a\.nii\.gz and the same with"):
        plan(batch(table(tmp_path, other)), read_stdin=str)


@pytest.fixture
def dataset(tmp_path):
    root = tmp_path / "study"
    for name in (
        "sub-1/anat/sub-1_T1w.nii.gz", "sub-1/anat/sub-1_desc-x_mask.nii.gz",
        "sub-1/anat/sub-1_part-phase_T2starw.nii.gz", "sub-1/func/sub-1_task-rest_bold.nii.gz",
        "sub-2/ses-a/pet/sub-2_ses-a_pet.nii.gz", "sub-2/ses-a/anat/sub-2_ses-a_acq-fast_FLAIR.nii",
        "derivatives/other/sub-1/anat/sub-1_T1w.nii.gz", "sourcedata/sub-1/anat/sub-1_T1w.nii.gz",
    ):  # fmt: skip
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    (root / "dataset_description.json").write_text('{"Name": "Study", "BIDSVersion": "1.8.0"}', encoding="utf-8")
    (root / "T1w.json").write_text('{"MagneticFieldStrength": 3, "FlipAngle": 9}', encoding="utf-8")
    (root / "sub-1/anat/sub-1_T1w.json").write_text('{"FlipAngle": 12}', encoding="utf-8")
    return root


def test_a_bids_dataset_becomes_a_derivatives_dataset(batch, dataset, tmp_path):
    planned = plan(batch(dataset, task="auto", output=tmp_path / "derived"), read_stdin=str)
    outputs = {str(work.output.relative_to(tmp_path / "derived")): work for work in planned.works}
    assert {name: work.config.task for name, work in outputs.items()} == {
        "sub-1/anat/sub-1_desc-restored_T1w.nii.gz": "mri-sr",
        "sub-2/ses-a/anat/sub-2_ses-a_acq-fast_desc-restored_FLAIR.nii": "mri-sr",
        "sub-2/ses-a/pet/sub-2_ses-a_desc-restored_pet.nii.gz": "pet-synthesis",
    }
    note = outputs["sub-1/anat/sub-1_desc-restored_T1w.nii.gz"].note
    assert note == {
        "MagneticFieldStrength": 3, "FlipAngle": 12, "Description": "restored by tat",
        "Sources": ["bids:raw:sub-1/anat/sub-1_T1w.nii.gz"], "SkullStripped": False,
    }  # fmt: skip
    planned.prepare()
    described = json.loads((tmp_path / "derived/dataset_description.json").read_text(encoding="utf-8"))
    assert (described["Name"], described["DatasetType"]) == ("Study, restored", "derivative")
    assert described["GeneratedBy"][0]["Name"] == "tat"
    assert described["DatasetLinks"] == {"raw": dataset.as_uri()}
    assert "*.tat.json" in (tmp_path / "derived/.bidsignore").read_text(encoding="utf-8").splitlines()


def test_a_task_takes_its_own_images_only(batch, dataset):
    works = plan(batch(dataset, task="pet"), read_stdin=str).works
    assert [work.place for work in works] == ["sub-2/ses-a/pet/sub-2_ses-a_pet.nii.gz"]
    with pytest.raises(UsageError, match="expected images for ct-denoise"):
        plan(batch(dataset, task="ct"), read_stdin=str)


def test_derivatives_lie_in_the_dataset_unless_told_otherwise(batch, dataset):
    config = batch(dataset, task="mri")
    scan = type(config.scan)(input=config.scan.input, task="mri")
    works = plan(type(config)(scan=scan, selection=config.selection), read_stdin=str).works
    assert works[0].output == dataset / "derivatives/tat/sub-1/anat/sub-1_desc-restored_T1w.nii.gz"
    assert works[0].area == dataset / "derivatives/tat/.tat-work"
    planned = plan(type(config)(scan=scan, selection=config.selection), read_stdin=str)
    assert failures_path(config, planned.folder) == dataset / "derivatives/tat/failures.csv"


def test_linked_subjects_and_sessions_of_a_dataset_count(batch, dataset, tmp_path):
    for name in ("sub-3", "sub-4/ses-b"):
        (tmp_path / name / "anat").mkdir(parents=True)
        (tmp_path / name / "anat" / f"{name.replace('/', '_')}_T2w.nii.gz").touch()
        (dataset / name).parent.mkdir(exist_ok=True)
        (dataset / name).symlink_to(tmp_path / name, target_is_directory=True)
    places = [work.place for work in plan(batch(dataset, task="mri"), read_stdin=str).works]
    assert places[2:] == ["sub-3/anat/sub-3_T2w.nii.gz", "sub-4/ses-b/anat/sub-4_ses-b_T2w.nii.gz"]
