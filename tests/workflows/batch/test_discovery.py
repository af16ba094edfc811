"""Which scans words stand for, and where their outputs go."""

from __future__ import annotations

import ntpath
import os
import sys
import zipfile
from dataclasses import replace
from pathlib import PurePosixPath, PureWindowsPath

import pytest

from tatcli.errors import UsageError, VolumeReadError
from tatcli.workflows.batch import discovery, naming
from tatcli.workflows.batch.config import Selection, Shard
from tatcli.workflows.batch.discovery import Rules, find_scans, read_list
from tatcli.workflows.batch.planning import in_shard, plan
from tatcli.workflows.batch.single import is_one_scan
from tatcli.workflows.batch.staging import lock_path

DICOM = b"\0" * 128 + b"DICM"


@pytest.fixture
def tree(tmp_path):
    """A folder of all sorts; empty files will do, but for those that are known by their first bytes."""

    def make(*files):
        for name in files:
            path = tmp_path / "in" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(DICOM if "dicom" in name else b"")
        return tmp_path / "in"

    return make


def places(found):
    return [str(scan.place) for scan in found]


def test_folders_are_searched_for_images_and_dicom_files_count_by_the_folder(tree, tmp_path):
    root = tree(
        "a.nii.gz", "b/c.mha", "b/c.raw", "b/notes.txt", "b/d.npy", ".hidden/e.nii", "b/.f.nii.gz",
        "s1/dicom-1", "s1/dicom-2", "s1/below/dicom-3", "s1/seg.nrrd", "s2/dicom.dcm",
    )  # fmt: skip
    with zipfile.ZipFile(root / "packed.zip", "w") as archive:
        archive.writestr("x", DICOM)
    found = find_scans([str(root)], Rules())
    assert places(found) == ["a.nii.gz", "packed.zip", "b/c.mha", "s1", "s1/seg.nrrd", "s2"]
    assert [scan.kind for scan in found] == ["nifti", "dicom", "metaimage", "dicom", "nrrd", "dicom"]


def test_headers_count_and_what_they_name_does_not(tree):
    root = tree("a.hdr", "a.img", "b.nhdr", "b.raw", "envi.hdr", "envi.img", "old.hdr", "old.img")
    (root / "a.hdr").write_bytes((348).to_bytes(4, "little"))
    (root / "old.hdr").write_bytes((348).to_bytes(4, "big"))
    (root / "envi.hdr").write_text("ENVI\nsamples = 5\n")
    assert places(find_scans([str(root)], Rules())) == ["a.hdr", "b.nhdr", "old.hdr"]


def test_outputs_of_headers_hold_their_voxels(tree, batch):
    root = tree("a.hdr", "b.nhdr")
    (root / "a.hdr").write_bytes((540).to_bytes(4, "little"))
    works = plan(batch(root), read_stdin=str).works
    assert [work.output.name for work in works] == ["a.nii.gz", "b.nrrd"]


def test_include_and_exclude_take_names_and_paths(tree):
    root = tree("a.nii.gz", "t1/a.nii.gz", "t1/b.nii.gz", "old/c.nii.gz", "old/deep/d.nii.gz")
    find = lambda **rules: places(find_scans([str(root)], Rules(**rules)))  # noqa: E731
    assert find(include=("a*",)) == ["a.nii.gz", "t1/a.nii.gz"]
    assert find(include=("t1/*",)) == ["t1/a.nii.gz", "t1/b.nii.gz"]
    assert find(exclude=("old", "b*")) == ["a.nii.gz", "t1/a.nii.gz"]
    assert find(include=("*.nii.gz",), exclude=("old/deep/",)) == [
        "a.nii.gz", "old/c.nii.gz", "t1/a.nii.gz", "t1/b.nii.gz",
    ]  # fmt: skip


def test_several_inputs_share_the_tree_that_they_have_in_common(tree):
    root = tree("x/a.nii.gz", "y/a.nii.gz", "y/z/b.nii.gz")
    assert places(find_scans([f"{root}/x/a.nii.gz", f"{root}/y"], Rules())) == [
        "x/a.nii.gz", "y/a.nii.gz", "y/z/b.nii.gz",
    ]  # fmt: skip
    assert places(find_scans([f"{root}/y/**/*.nii.gz"], Rules())) == ["a.nii.gz", "z/b.nii.gz"]
    # given twice, a scan counts once
    assert len(find_scans([f"{root}/x", f"{root}/x/a.nii.gz"], Rules())) == 1
    with pytest.raises(VolumeReadError, match="expected scans that match this pattern, got none"):
        find_scans([f"{root}/*.mha"], Rules())


def test_the_tree_of_a_pattern_begins_where_it_is_used(tree, monkeypatch):
    root = tree("study [old]/a.nii.gz", "study [old]/b/c.nii.gz")
    monkeypatch.chdir(root / "study [old]")
    assert places(find_scans(["*.nii.gz"], Rules())) == ["a.nii.gz"]
    assert places(find_scans(["**/*.nii.gz"], Rules())) == ["a.nii.gz", "b/c.nii.gz"]
    assert places(find_scans(["b/*"], Rules())) == ["c.nii.gz"]


def test_outputs_of_a_batch_are_not_inputs_of_the_next(tree, batch):
    root = tree("a.nii.gz", "a_restored.nii.gz", "a_restored.nii.gz.tat.json", "out/b.nii.gz")
    assert places(find_scans([str(root)], Rules(outside=frozenset({root / "out"})))) == ["a.nii.gz"]
    with pytest.raises(
        VolumeReadError, match=r"expected scans, got none; .*; outputs of tat, with a \.tat\.json, are none"
    ):
        plan(batch(root / "a_restored.nii.gz"), read_stdin=str)


def test_linked_folders_are_searched_once_and_no_loop_is_followed(tree, tmp_path):
    root = tree("a.nii.gz", ".store/p1/b.nii.gz", "p/c.nii.gz")
    for name in ("far/p2/d.nii.gz", "out/a.nii.gz"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    links = {
        "p1": root / ".store/p1", "p2": tmp_path / "far/p2", "p3": tmp_path / "far/p2", "again": root / "p",
        "loop": root, "up": tmp_path, "restored": tmp_path / "out", "p/back": root, "gone": tmp_path / "nowhere",
    }  # fmt: skip
    for name, target in links.items():
        (root / name).symlink_to(target, target_is_directory=True)
    (tmp_path / "far/p2/loop").symlink_to(tmp_path / "far", target_is_directory=True)
    rules = Rules(outside=frozenset({tmp_path / "out"}))
    assert places(find_scans([str(root)], rules)) == ["a.nii.gz", "p/c.nii.gz", "p1/b.nii.gz", "p2/d.nii.gz"]
    (tmp_path / "in2").symlink_to(root, target_is_directory=True)
    assert places(find_scans([str(tmp_path / "in2")], rules))[:2] == ["a.nii.gz", "p/c.nii.gz"]
    assert not is_one_scan([str(root / "p1")], output=None, series=None)


@pytest.mark.parametrize("names", [("a_ct", "b_all"), ("b_ct", "a_all")])
def test_a_link_to_a_part_hides_nothing_of_the_whole(tree, tmp_path, names):
    root = tree("z.nii.gz")
    for name in ("ct/a.nii.gz", "ct2/b.nii.gz", "c.nii.gz"):
        (tmp_path / "p1" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "p1" / name).touch()
    (root / names[0]).symlink_to(tmp_path / "p1" / "ct", target_is_directory=True)
    (root / names[1]).symlink_to(tmp_path / "p1", target_is_directory=True)
    found = find_scans([str(root)], Rules())
    assert sorted(scan.path.name for scan in found) == ["a.nii.gz", "b.nii.gz", "c.nii.gz", "z.nii.gz"]


def test_a_part_of_a_dicom_folder_is_not_excluded_unheard(tree):
    root = tree("s1/dicom-1", "s1/old/dicom-2", "s1/notes/a.txt", "s2/dicom-3", "old/dicom-4")
    assert places(find_scans([str(root)], Rules(exclude=("notes", "s2")))) == ["old", "s1"]
    with pytest.raises(
        UsageError, match=r"--exclude: expected no part of a folder of DICOM files, got .*s1/old, whose"
    ):
        find_scans([str(root)], Rules(exclude=("old",)))


def test_a_name_that_leaves_no_room_for_a_sidecar_is_found(tree):
    name = "x" * 246 + ".nii"
    assert places(find_scans([str(tree("a.nii.gz", name))], Rules())) == ["a.nii.gz", name]


@pytest.mark.skipif(os.name == "nt", reason="names are not bytes there")
def test_names_that_are_not_utf8_are_found_listed_and_locked(tree, batch, tmp_path):
    name = os.fsdecode(b"Andr\xe9.nii.gz")
    root = tree(name)
    (tmp_path / "scans.txt").write_bytes(os.fsencode(str(root)) + b"/Andr\xe9.nii.gz\n")
    for words, lists in (((root,), ()), (("-",), ()), ((), (str(tmp_path / "scans.txt"),))):
        config = batch(*words, lists=lists) if words else replace(batch(), selection=Selection(lists=lists))
        (work,) = plan(config, read_stdin=lambda: f"{root}/{name}\n").works
        assert (work.place, work.output) == (name, tmp_path / "out" / name)
        assert sum(in_shard(work.place, Shard(index, 2)) for index in (1, 2)) == 1
        assert lock_path(work).parent == tmp_path / "out/.tat-work"


def test_a_list_with_other_separators_than_lines_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"one path a line in UTF-8, got NUL characters \(UTF-16, or find -print0"):
        read_list("/x/a.nii\0/x/b.nii\0", tmp_path)


def test_empty_words_are_not_the_current_folder(tree, batch, tmp_path):
    root = tree("a.nii.gz")
    for words in (("",), (str(root), " ")):
        with pytest.raises(UsageError, match="expected a path, got an empty word"):
            batch(*words)
        with pytest.raises(UsageError, match="expected a path, got an empty word"):
            is_one_scan(words, output=None, series=None)
    (root / "table.csv").write_text("path,task\na.nii.gz,ct\n  ,ct\n", encoding="utf-8")
    with pytest.raises(UsageError, match=r"table\.csv, line 3: expected a path"):
        plan(batch(root / "table.csv"), read_stdin=str)


def test_lists_may_begin_with_a_byte_order_mark(tree, batch):
    root = tree("a.nii.gz", "b.nii.gz")
    (root / "scans.txt").write_text("\ufeffa.nii.gz\r\n\r\nb.nii.gz\r\n", encoding="utf-8")
    works = plan(batch("-", lists=(str(root / "scans.txt"),)), read_stdin=str).works
    assert [work.place for work in works] == ["a.nii.gz", "b.nii.gz"]
    assert read_list("\ufeff/x/b.nii\n", root) == ["/x/b.nii"]


def test_a_list_has_one_path_a_line(tmp_path):
    assert read_list("# scans\na.nii\n\n  /x/b.nii \n", tmp_path) == [str(tmp_path / "a.nii"), "/x/b.nii"]


def test_outputs_mirror_the_inputs(tree, batch, tmp_path):
    tree("a.nii.gz", "b/c.mhd", "s1/dicom-1", "s2/v1.2/dicom-1")
    out = tmp_path / "out"

    def outputs(**options):
        return [str(work.output.relative_to(out)) for work in plan(batch(**options), read_stdin=str).works]

    assert outputs() == ["a.nii.gz", "b/c.mhd", "s1", "s2/v1.2"]
    assert outputs(format="nifti") == ["a.nii.gz", "b/c.nii.gz", "s1.nii.gz", "s2/v1.2.nii.gz"]
    assert outputs(pattern="{task}/{folder}/{name}_x{ext}") == [
        "ct-denoise/a_x.nii.gz",
        "ct-denoise/b/c_x.mhd",
        "ct-denoise/s1_x",
        "ct-denoise/s2/v1.2_x",
    ]
    assert outputs(pattern="{folder}/{name}-v1.2") == ["a-v1.2.nii.gz", "b/c-v1.2.mhd", "s1-v1.2", "s2/v1.2-v1.2"]
    works = plan(batch(), read_stdin=str).works
    assert {work.area for work in works} == {out / ".tat-work"}
    assert [work.config.format for work in works] == ["nifti", "mha", "dicom", "dicom"]


def test_without_a_folder_outputs_lie_beside_the_inputs(tree, batch, tmp_path):
    root = tree("a.nii.gz", "s1/dicom-1")
    config = batch()
    config = type(config)(scan=type(config.scan)(input=config.scan.input, task="ct"), selection=config.selection)
    works = plan(config, read_stdin=str).works
    assert [work.output for work in works] == [root / "a_restored.nii.gz", root / "s1_restored"]
    assert [work.area for work in works] == [root / ".tat-work"] * 2


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"pattern": "same{ext}"}, "expected {name}"),
        ({"pattern": "{name}_{patient}"}, "expected {name}, and of others only"),
        ({"pattern": "../{name}{ext}"}, "expected a path within the output folder"),
        ({"pattern": "{name}.nii.gz"}, "expected one scan for each output, got a.nii.gz and b/a.mha"),
        ({"include": ("none",)}, "expected scans, got none"),
        ({"format": "png"}, "--format 'png'"),
        ({"task": "sharpen"}, "unknown task 'sharpen'"),
    ],
)
def test_what_makes_no_batch_is_refused_before_anything_is_done(tree, batch, options, match):
    tree("a.nii.gz", "b/a.mha")
    with pytest.raises((UsageError, VolumeReadError), match=match):
        plan(batch(**options), read_stdin=str)


@pytest.mark.parametrize(
    ("option", "name"), [("events", "in/a.nii.gz"), ("summary", "in/b.raw"), ("failures", "out/b.raw")]
)
def test_what_a_batch_tells_replaces_no_scan(tree, batch, tmp_path, option, name):
    tree("a.nii.gz", "b.mhd", "b.raw")
    config = replace(batch(), **{option: tmp_path / name})
    with pytest.raises(UsageError, match=f"{name}: expected a file of its own, got a scan's"):
        plan(config, read_stdin=str)


@pytest.mark.parametrize("system", ["darwin", "win32"])
def test_outputs_that_differ_in_case_alone_are_one_where_the_system_takes_them_so(tree, batch, monkeypatch, system):
    tree("a/ct.nii.gz", "b/CT.nii.gz")
    config = batch(pattern="{name}{ext}")
    assert len(plan(config, read_stdin=str).works) == 2
    monkeypatch.setattr(sys, "platform", system)
    with pytest.raises(UsageError, match=r"expected one scan for each output, got a/ct\.nii\.gz and b/CT\.nii\.gz"):
        plan(config, read_stdin=str)


def test_an_input_in_another_case_is_the_same_file_on_a_mac(tree, batch, tmp_path, monkeypatch):
    tree("a.nii.gz")
    config = batch(output=tmp_path / "IN")
    plan(config, read_stdin=str)
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(UsageError, match="expected outputs apart from the inputs"):
        plan(config, read_stdin=str)


def test_inputs_on_several_drives_are_refused_in_a_line(monkeypatch):
    monkeypatch.setattr(os.path, "commonpath", ntpath.commonpath)
    monkeypatch.setattr(discovery, "Path", PureWindowsPath)
    common = discovery._in_common
    assert common([PureWindowsPath("C:/scans/a"), PureWindowsPath("c:/scans/b")]) == PureWindowsPath("C:/scans")
    with pytest.raises(UsageError, match="expected scans on one drive, got C:, D:; restore those of each drive"):
        common([PureWindowsPath("D:/scans"), PureWindowsPath("C:/scans")])


@pytest.mark.parametrize("pattern", ["..\\{name}{ext}", "C:\\{name}{ext}", "D:{name}{ext}", "\\{name}{ext}", "/{name}"])
def test_a_windows_pattern_leads_out_of_no_folder(tree, batch, monkeypatch, pattern):
    tree("a.nii.gz")
    monkeypatch.setattr(naming, "PurePath", PureWindowsPath)
    with pytest.raises(UsageError, match="expected a path within the output folder"):
        plan(batch(pattern=pattern), read_stdin=str)


def test_outputs_never_are_the_inputs(tree, batch):
    root = tree("a.nii.gz", "b.nii.gz")
    with pytest.raises(UsageError, match="expected outputs apart from the inputs"):
        plan(batch(f"{root}/a.nii.gz", f"{root}/b.nii.gz", output=root), read_stdin=str)


def test_stdin_and_lists_name_scans(tree, batch, tmp_path, monkeypatch):
    root = tree("a.nii.gz", "b/c.nii.gz", "b/d.nii.gz")
    (root / "scans.txt").write_text("b/c.nii.gz\n", encoding="utf-8")
    monkeypatch.chdir(root)
    works = plan(batch("-", lists=("scans.txt",)), read_stdin=lambda: "a.nii.gz\nb/missing.nii.gz\n").works
    # what isn't there fails by itself, later
    assert [work.place for work in works] == ["a.nii.gz", "b/missing.nii.gz", "b/c.nii.gz"]


def test_shards_are_a_partition_that_depends_on_the_places_alone(tree, batch):
    tree(*(f"{index}.nii.gz" for index in range(40)))
    shards = [{work.place for work in plan(batch(shard=Shard(index, 3)), read_stdin=str).works} for index in (1, 2, 3)]
    assert sorted(set.union(*shards)) == sorted(f"{index}.nii.gz" for index in range(40))
    assert sum(map(len, shards)) == 40
    assert min(map(len, shards)) >= 5
    assert in_shard("7.nii.gz", Shard(2, 3)) == ("7.nii.gz" in shards[1])
    # by the first 64 bits of SHA-256: 0x3b... of "a" modulo 2, as any sha256sum tells
    assert in_shard("a", Shard(int("ca978112ca1bbdca", 16) % 2 + 1, 2))
    for text in ("0/3", "4/3", "1", "a/b", "1/0"):
        with pytest.raises(UsageError, match="expected I/N"):
            Shard.parse(text)


def test_one_scan_is_told_from_many(tree, tmp_path, monkeypatch):
    root = tree("one.nii.gz", "images/a.nii.gz", "images/b.nii.gz", "table.csv", "mixed/a.nii.gz")
    tree("top/dicom-1", "top/below/dicom-2", "mixed/s/dicom-1", "study/pat1/dicom-1", "disc/DICOMDIR", "disc/s/dicom-1")
    (root / "empty").mkdir()
    (root / "set").mkdir()
    (root / "set" / "dataset_description.json").touch()

    def one(*names, output=None, series=None):
        return is_one_scan([str(root / name) for name in names], output=output, series=series)

    assert one("one.nii.gz")
    assert one("missing.nii.gz")
    assert one("top")
    assert one("empty")
    assert one("images", series="3")
    assert one("images", output=PurePosixPath("x.nii.gz"))
    assert not one("images", output=PurePosixPath("folder"))
    assert one("disc")
    assert one("study/pat1")
    assert one("study", series="3")
    assert not one("study")  # one patient now, more tomorrow
    assert not one("mixed")
    assert not one("table.csv")
    assert not one("set")
    assert not one("*.nii.gz")
    assert not one("one.nii.gz", "top")
    assert not is_one_scan(["-"], output=None, series=None)


def test_an_unreadable_folder_is_an_error(tree):
    if os.geteuid() == 0:
        pytest.skip("root reads everything")
    root = tree("a/b.nii.gz")
    (root / "a").chmod(0)
    with pytest.raises(VolumeReadError, match="expected a readable folder"):
        find_scans([str(root)], Rules())
