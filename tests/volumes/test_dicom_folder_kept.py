"""A folder of many series: its headers are read once for all of them, and again when a file has changed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tatcli.volumes import dicom_series, members
from tatcli.volumes.dicom_series import read_folder


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files whose headers were read."""
    files: list[Path] = []
    once = dicom_series.read_dataset
    monkeypatch.setattr(dicom_series, "read_dataset", lambda path: files.append(path) or once(path))
    return files


def test_headers_are_read_again_when_something_changed(
    series: Callable[..., Any], read: list[Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    maker = series()
    maker.add_stack(np.zeros((4, 6, 8), np.int16))
    folder = maker.folder
    count = len(list(folder.iterdir()))
    for _ in range(2):  # files that are this new may change again without a new time
        read_folder(folder)
    assert len(read) == 2 * count
    monkeypatch.setattr(members, "_SETTLED", 0)
    read.clear()
    found = [read_folder(folder).series for _ in range(3)]
    assert len(read) == count
    assert found[0] == found[1] == found[2]
    file = min(folder.iterdir())
    before = file.stat()
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))  # as some programs give it its old time back
    read_folder(folder)
    assert len(read) == 2 * count
    file.unlink()
    assert len(read_folder(folder).series[0].images) == count - 1
    shutil.copytree(folder, tmp_path / "other")
    assert read_folder(tmp_path / "other").path == tmp_path / "other"
