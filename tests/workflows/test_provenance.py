"""What a dataset's MANIFEST.tsv tells, whoever wrote it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tatcli.workflows.preparing.candidates import find_candidates
from tatcli.workflows.provenance import told_by_manifest

ROW = {"source": "Universit\u00e4t", "terms": "CC0", "sha256": ""}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1"])
def test_text_in_any_encoding(tmp_path: Path, encoding: str) -> None:
    table = "file\tsource\tterms\nCT/a.nii\tUniversit\u00e4t\tCC0\n\tnobody's\tx\nb.nii\n"
    (tmp_path / "MANIFEST.tsv").write_bytes(table.encode(encoding))
    assert told_by_manifest(tmp_path) == {"CT/a.nii": ROW, "b.nii": dict.fromkeys(ROW, "")}


@pytest.mark.parametrize("table", [b"", b"path\tsource\na.nii\tx\n", b"\x00\xff\xfe", b"file\n" + b"x" * 200_000])
def test_what_is_no_such_table_tells_nothing(tmp_path: Path, table: bytes) -> None:
    (tmp_path / "MANIFEST.tsv").write_bytes(table)
    assert told_by_manifest(tmp_path) == {}
    assert find_candidates(tmp_path) == []


def test_none_tells_nothing(tmp_path: Path) -> None:
    assert told_by_manifest(tmp_path) == {}
    (tmp_path / "MANIFEST.tsv").mkdir()
    assert told_by_manifest(tmp_path) == {}


def test_prepare_takes_it(tmp_path: Path) -> None:
    (tmp_path / "a.nii").touch()
    (tmp_path / "MANIFEST.tsv").write_bytes("file\tsource\tterms\na.nii\tUniversit\u00e4t\n".encode("latin-1"))
    (found,) = find_candidates(tmp_path)
    assert (found.source, found.terms) == ("Universit\u00e4t", "")
