"""What a dataset's own ``MANIFEST.tsv`` tells of its files: their source, terms and hash. Nothing depends on it."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Final

__all__ = ["told_by_manifest"]

_MANIFEST: Final = "MANIFEST.tsv"
_COLUMNS: Final = ("source", "terms", "sha256")


def told_by_manifest(root: Path) -> dict[str, dict[str, str]]:
    """Source, terms and sha256 ('' where untold) of the files of a folder, by their path in it.

    It is text that people write: in UTF-8 or, failing that, Latin-1. A table without a column ``file``, or one that
    can't be read, tells nothing, as none does: it is no reason to lose a training.
    """
    try:
        data = (root / _MANIFEST).read_bytes()
    except OSError:
        return {}
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    try:
        rows = list(csv.DictReader(text.splitlines(), delimiter="\t"))
    except csv.Error:
        return {}
    return {row["file"]: {key: row.get(key) or "" for key in _COLUMNS} for row in rows if row.get("file")}
