"""The run report's numbers."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from tatcli.reporting.run_report import (
    change_statistics,
    file_record,
    input_record,
    intensity_statistics,
    to_json,
    versions,
)
from tatcli.volumes import Geometry, Volume
from tatcli.volumes.volume import Provenance


def volume_of(array):
    array = np.asarray(array, dtype=np.float32)
    return Volume(array, Geometry(np.eye(4), array.shape[-3:]))


def test_statistics_are_those_of_the_finite_voxels():
    array = np.random.default_rng(0).normal(-300, 500, (3, 20, 30))
    array[0, 0, :3] = np.nan, np.inf, -np.inf
    array[1] = np.nan
    found = intensity_statistics(volume_of(array))
    finite = array[np.isfinite(array)].astype(np.float32).astype(np.float64)
    assert (found.minimum, found.maximum) == (finite.min(), finite.max())
    assert found.mean == pytest.approx(finite.mean(), rel=1e-9)
    assert found.deviation == pytest.approx(finite.std(), rel=1e-9)
    assert found.nonfinite == 603
    nothing = intensity_statistics(volume_of(np.full((1, 2, 2), np.nan)))
    assert math.isnan(nothing.mean)
    assert nothing.nonfinite == 4


def test_the_change_is_after_minus_before():
    before, after = np.zeros((1, 2, 2)), np.array([[[3.0, -4.0], [0.0, np.nan]]])
    found = change_statistics(volume_of(before), volume_of(after))
    assert found.mean == pytest.approx(-1 / 3)
    assert found.rms == pytest.approx(math.sqrt(25 / 3))
    assert (found.largest, found.fraction) == (4.0, pytest.approx(2 / 3))
    assert change_statistics(volume_of(before), volume_of(np.zeros((1, 4, 4)))) is None


def test_hashes(tmp_path):
    (tmp_path / "a").write_bytes(b"aa")
    (tmp_path / "b").write_bytes(b"b")
    assert file_record(tmp_path / "a").sha256 == hashlib.sha256(b"aa").hexdigest()
    record = file_record(tmp_path, [tmp_path / "b", tmp_path / "a", tmp_path / "b"])
    digests = sorted(hashlib.sha256(content).digest() for content in (b"aa", b"b"))
    assert record.sha256 == hashlib.sha256(b"".join(digests)).hexdigest()
    assert (record.bytes, record.files) == (3, 2)
    assert input_record(volume_of(np.zeros((1, 2, 2)))) is None
    (tmp_path / "a.mhd").write_text("ElementDataFile = a\n")
    whole = replace(volume_of(np.zeros((1, 2, 2))), provenance=Provenance(path=tmp_path / "a.mhd"))
    assert input_record(whole) == file_record(tmp_path / "a.mhd", [tmp_path / "a.mhd", tmp_path / "a"])


@dataclass(frozen=True)
class Example:
    path: Path
    values: tuple[float, ...]


def test_json_has_no_nan():
    assert json.loads(to_json(Example(Path("x"), (1.0, math.nan, math.inf)))) == {
        "path": "x",
        "values": [1.0, None, None],
    }


def test_versions_name_what_touches_voxels():
    assert {"tat", "python", "platform", "torch", "numpy", "SimpleITK", "nibabel", "pydicom"} == set(versions())
    assert "unknown" not in versions().values()
