"""``tat restore`` of many scans, as a user sees it."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

CT = ("--task", "ct-denoise", "--device", "cpu")
pytestmark = pytest.mark.usefixtures("kept_processes")


@pytest.fixture
def folder(nifti, ct_array, tmp_path):
    """Two scans and a text file that calls itself one."""
    (tmp_path / "in/deep").mkdir(parents=True)
    nifti(ct_array, "in/a.nii.gz")
    nifti(np.ascontiguousarray(ct_array[::-1]), "in/deep/b.nii.gz")
    (tmp_path / "in/deep/c.nii.gz").write_text("not an image", encoding="utf-8")
    return tmp_path / "in"


def test_a_batch_restores_what_it_can_lists_the_rest_and_exits_with_6(tat, folder, tmp_path):
    out, events = tmp_path / "out", tmp_path / "events.jsonl"
    result = tat("restore", folder, *CT, "-o", out, "--events", events, "--report", tmp_path / "report.json")
    assert result.exit_code == 6, result.output
    assert result.stdout == ""
    first, second, third = result.stderr.splitlines()
    assert first.startswith("2 of 3 scans restored in ")
    assert first.endswith(" slices/s")
    assert second.startswith("warning: deep/c.nii.gz: c.nii.gz: expected ")
    assert third == f"error: 1 of 3 scans failed; listed in {out / 'failures.csv'}"
    with (out / "failures.csv").open(encoding="utf-8") as stream:
        (row,) = csv.DictReader(stream)
    assert (row["path"], row["stage"], row["exit_code"]) == (str(folder / "deep/c.nii.gz"), "read", "3")
    told = [json.loads(line) for line in events.read_text(encoding="utf-8").splitlines()]
    kinds = [event["event"] for event in told if event["event"] != "begin"]
    assert (kinds[0], sorted(kinds[1:-1]), kinds[-1]) == ("start", ["done", "done", "failed"], "end")
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert (report["done"], report["failed"], report["slices"]) == (2, 1, 6)
    # what failed is gone from the inputs: the list goes, too, and nothing is restored again
    (folder / "deep/c.nii.gz").unlink()
    result = tat("restore", folder, *CT, "-o", out)
    assert result.exit_code == 0, result.output
    assert result.stderr.endswith(", 2 were finished before\n")
    assert not (out / "failures.csv").exists()


def test_a_dry_run_prints_a_table_and_writes_nothing(tat, folder, tmp_path, monkeypatch):
    words = ("restore", folder, *CT, "-o", tmp_path / "out", "--dry-run", "--exclude", "a*")
    result = tat(*words)
    assert result.exit_code == 0, result.output
    lines = [line.split() for line in result.stdout.splitlines() if "nii.gz" in line]
    assert [line[:3] for line in lines] == [
        ["deep/b.nii.gz", "restore", "3x32x40"],
        ["deep/c.nii.gz", "fails:", "expected"],  # the name is in the row already
    ]
    assert result.stderr.startswith("1 of 2 scans to restore, about ")
    monkeypatch.chdir(tmp_path)
    (line,) = (line.split() for line in tat(*words).stdout.splitlines() if "b.nii.gz" in line)
    assert line[-1] == str(Path("out/deep/b.nii.gz"))  # as it is named from here
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_dry_run_of_one_scan_names_the_output_that_it_gets(tat, nifti, ct_array, tmp_path):
    scan = nifti(ct_array, "a.nii.gz")
    for words, output in (
        ((), tmp_path / "a_restored.nii.gz"),
        (("-o", tmp_path / "out.nii.gz"), tmp_path / "out.nii.gz"),
        (("-o", tmp_path / "new"), tmp_path / "new/a.nii.gz"),
    ):
        result = tat("restore", scan, *CT, *words, "--dry-run")
        assert result.exit_code == 0, result.output
        assert str(output) in "".join(result.stdout.split())
        result = tat("restore", scan, *CT, *words, "-q")
        assert result.exit_code == 0, result.output
        assert output.is_file()


def test_a_dry_run_asks_which_series_as_the_run_does_and_include_takes_all(tat, dicom, tmp_path):
    folder = dicom("study", number=4)
    dicom("study", number=5)
    words = ("restore", folder, "-o", tmp_path / "out")
    answers = [tat(*words, *more) for more in ((), ("--dry-run",))]
    for answer in answers:
        assert answer.exit_code == 2, answer.output
        assert "study: expected one series, got 2; choose with --series UID or NUMBER from: number 4" in answer.stderr
    assert answers[0].stderr == answers[1].stderr
    found = tat(*words, "--include", "*", "--dry-run")
    assert found.exit_code == 0, found.output
    assert found.stderr.startswith("2 of 2 scans to restore, about ")


def test_options_of_a_batch_leave_a_single_scan_its_output(tat, nifti, dicom, ct_array, tmp_path):
    scan, series = nifti(ct_array, "a.nii.gz"), dicom("series")
    for source, output in ((scan, tmp_path / "out.nii.gz"), (series, tmp_path / "derived")):
        result = tat("restore", source, *CT, "-o", output, "--retries", "0")
        assert result.exit_code == 0, result.output
        assert output.with_name(output.name + ".tat.json").is_file()
    assert (tmp_path / "out.nii.gz").is_file()
    assert sorted(path.suffix for path in (tmp_path / "derived").iterdir()) == [".dcm"] * len(list(series.iterdir()))


def test_many_scans_need_a_folder(tat, folder, tmp_path):
    result = tat("restore", folder / "a.nii.gz", folder / "deep", *CT, "-o", tmp_path / "out.nii.gz")
    assert result.exit_code == 2
    assert "out.nii.gz: expected a folder for the outputs of several scans, got a file" in result.stderr


def test_a_foreign_list_of_failures_is_kept(tat, folder, tmp_path):
    mine = tmp_path / "out/failures.csv"
    mine.parent.mkdir()
    mine.write_text("who,why\n", encoding="utf-8")
    for words in ((), ("--dry-run",)):
        result = tat("restore", folder, *CT, "-o", tmp_path / "out", *words)
        assert result.exit_code == 2
        assert f"{mine}: expected the list of failures of an earlier run, got something else" in result.stderr
    assert [path.name for path in mine.parent.iterdir()] == ["failures.csv"]
    result = tat("restore", folder, *CT, "-o", tmp_path / "out", "--failures", tmp_path / "theirs.csv")
    assert result.exit_code == 6
    assert mine.read_text(encoding="utf-8") == "who,why\n"
    assert "not an image" not in (tmp_path / "theirs.csv").read_text(encoding="utf-8")
    assert len((tmp_path / "theirs.csv").read_text(encoding="utf-8").splitlines()) == 2


def test_a_report_replaces_an_earlier_one_and_nothing_else(tat, folder, tmp_path):
    words = ("restore", folder, *CT, "-o", tmp_path / "out", "--exclude", "c*")
    notes = tmp_path / "notes.json"
    notes.write_text('{"mine": 1}', encoding="utf-8")
    for more in ((), ("--dry-run",)):
        result = tat(*words, "--report", notes, *more)
        assert result.exit_code == 2
        assert "expected a new file, or the report of an earlier batch, got something else" in result.stderr
    assert notes.read_text(encoding="utf-8") == '{"mine": 1}'
    assert not (tmp_path / "out").exists()
    report = tmp_path / "new/report.json"
    for done, finished in ((2, 0), (0, 2)):
        assert tat(*words, "--report", report).exit_code == 0
        told = json.loads(report.read_text(encoding="utf-8"))
        assert (told["done"], told["finished"]) == (done, finished)
    assert tat(*words, "--report", notes, "--overwrite").exit_code == 0
    assert json.loads(notes.read_text(encoding="utf-8"))["scans"] == 2
    assert json.loads(tat(*words, "--report", "-", "-q").stdout)["finished"] == 2


def test_what_a_batch_tells_goes_to_files_of_their_own(refused, folder, tmp_path):
    words = ("restore", folder, *CT, "-o", tmp_path / "out", "--report", tmp_path / "told")
    refused(*words, "--events", tmp_path / "told", code=2, match="told: expected a file of its own, got --report's")
    scan = folder / "a.nii.gz"
    refused(*words, "--events", scan, code=2, match="expected a file of its own, got a scan's")
    words = ("restore", folder, *CT, "-o", tmp_path / "out", "--report", "-", "--events", "-")
    refused(*words, code=2, match="got stdout for both")


def test_a_list_on_stdin_with_bars(tat, folder, tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from tatcli.cli.app import app

    words = ["restore", "-", *CT, "-o", str(tmp_path / "out"), "--output-pattern", "{name}_r{ext}", "-v"]
    result = CliRunner().invoke(app, words, input=f"{folder}/a.nii.gz\n", catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert (tmp_path / "out/a_r.nii.gz").exists()
    assert f"{tmp_path / 'out/a_r.nii.gz'}: ct-denoise in " in result.stderr


def test_bars_count_scans_and_slices(terminal):
    from tatcli.cli.batch import _watching

    screen = terminal()
    with _watching(quiet=False, verbose=True) as watch:
        watch({"event": "start", "scans": 3, "of": 3})
        for event in ("finished", "done", "failed"):
            watch({"event": "progress", "scan": "x/a.nii.gz", "slice": 5, "of": 9})
            watch({"event": event, "scan": "x/a.nii.gz", "output": "out", "task": "ct", "took": 1.0, "reason": "cut"})
        watch({"event": "warning", "message": "no room"})
    text = screen.getvalue()
    assert "x/a.nii.gz: failed: cut" in text
    assert "warning: no room" in text
    assert "5/9" in text
    assert "/3" in text


def test_of_scans_computed_at_once_one_is_shown_until_it_is_through():
    from tatcli.cli.batch import _Bars

    with _Bars() as bars:
        shown = []
        for scan, done in (("a", 1), ("b", 1), ("a", 2), ("b", 2), ("b", 3), ("c", 1), ("b", 4)):
            bars.show({"event": "progress", "scan": scan, "slice": done, "of": 2 if scan == "a" else 4})
            shown.append((bars._one.desc, bars._one.n, bars._one.total))
        bars.show({"event": "retry", "scan": "c"})
        bars.show({"event": "progress", "scan": "d", "slice": 3, "of": 9})
        shown.append((bars._one.desc, bars._one.n, bars._one.total))
    a, b = ("a: ", 1, 2), ("b: ", 2, 4)
    assert shown == [a, a, ("a: ", 2, 2), b, ("b: ", 3, 4), ("b: ", 3, 4), ("b: ", 4, 4), ("d: ", 3, 9)]


@pytest.mark.parametrize(
    ("words", "code", "match"),
    [
        (("--shard", "4/3"), 2, "--shard '4/3': expected I/N"),
        (("--shard", "²/3"), 2, "--shard '²/3': expected I/N"),
        (("--retries", "-1"), 2, "--retries -1: expected 0 or more"),
        (("--timeout", "inf"), 2, "--timeout inf: expected 0 (never) or up to 1000000 seconds"),
        (("--timeout", "nan"), 2, "--timeout nan: expected 0 (never)"),
        (("--output-pattern", "x"), 2, "expected {name}"),
        (("--output-pattern", "{name:d}{ext}"), 2, "--output-pattern '{name:d}{ext}': Unknown format code 'd'"),
        (("--output-pattern", "{name!x}{ext}"), 2, "--output-pattern '{name!x}{ext}': "),
        (("--cluster", "local:none"), 2, "--cluster 'local:none': expected the address"),
        (("--preview", "x.png"), 2, "--preview: expected with one scan only"),
        (("--preview", "x.png", "--dry-run"), 2, "got a batch, or an option of one such as --dry-run"),
        (("--include", "*.mha"), 3, "expected scans, got none"),
        (("--list", "none.txt"), 2, "--list none.txt: expected a text file with one path a line, got nothing there"),
    ],
)
def test_options_that_make_no_batch_are_refused(refused, folder, tmp_path, words, code, match):
    refused("restore", folder, *CT, "-o", tmp_path / "out", *words, code=code, match=match)
