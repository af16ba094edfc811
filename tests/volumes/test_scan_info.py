import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tatcli.errors import GeometryError, VolumeReadError
from tatcli.intensity import Units
from tatcli.volumes import Geometry, Volume, describe, list_series, write_volume

ARRAY = np.arange(60, dtype=np.float32).reshape(3, 4, 5)


@pytest.fixture
def volume() -> Volume:
    affine = np.diag([0.5, 0.75, 3.0, 1.0])
    affine[:3, 3] = [1, 2, 3]
    return Volume(ARRAY, Geometry(affine, (3, 4, 5)))


@pytest.mark.parametrize(("extension", "kind"), [(".nii.gz", "nifti"), (".nrrd", "nrrd"), (".mhd", "metaimage")])
def test_files(extension: str, kind: str, volume: Volume, tmp_path: Path) -> None:
    path = write_volume(volume, tmp_path / f"scan{extension}")
    info = describe(path, values=True)
    assert (info.format, info.modality, info.units, info.dtype) == (kind, None, "unknown", "float32")
    assert (info.shape, info.frames, info.orientation) == ((3, 4, 5), 1, "SPL")
    assert info.spacing == (3.0, 0.75, 0.5)
    assert info.affine == ((0.5, 0, 0, 1), (0, 0.75, 0, 2), (0, 0, 3, 3), (0, 0, 0, 1))
    assert (info.value_range, info.nonfinite) == ((0.0, 59.0), 0)
    assert [fit.fits for fit in info.tasks] == [None, None, None]
    assert "must be HU" in info.tasks[0].reason
    json.dumps(asdict(info))
    named = describe(path, units=Units.HU)
    assert [fit.fits for fit in named.tasks] == [True, False, False]
    assert named.value_range is None


def test_values_that_are_no_numbers(volume: Volume, tmp_path: Path) -> None:
    array = np.full_like(ARRAY, np.nan)
    path = write_volume(volume.with_array(array, step="test"), tmp_path / "nan.nii")
    info = describe(path, values=True)
    assert (info.value_range, info.nonfinite) == (None, 60)


def test_arrays(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", ARRAY.astype(np.int16))
    info = describe(tmp_path / "a.npy")
    assert (info.format, info.shape, info.dtype) == ("npy", (3, 4, 5), "int16")
    assert len(info.warnings) == 1


def test_uneven_slices_are_described_where_they_are_taken(series: Callable[..., Any]) -> None:
    maker = series(common={"RescaleType": "HU"})
    for plane, height in zip(ARRAY.astype(np.int16), (0.0, 3.0, 10.0), strict=True):
        maker.add(plane, (0, 0, height))
    with pytest.raises(GeometryError, match="evenly spaced"):
        describe(maker.folder)
    info = describe(maker.folder, values=True, uneven=True)
    assert info.spacing == (5.0, 0.7, 0.5)
    assert info.value_range == (-1024.0, -965.0)
    assert info.series[0].problem == ""
    assert [fit.fits for fit in info.tasks] == [True, False, False]
    assert [warning.endswith("every slice keeps its own position") for warning in info.warnings] == [True]


def test_a_dicom_series(series: Callable[..., Any]) -> None:
    maker = series(common={"RescaleType": "HU"})
    maker.add_stack(ARRAY.astype(np.int16))
    info = describe(maker.folder, values=True)
    assert (info.format, info.modality, info.units, info.dtype) == ("dicom", "CT", "HU", "int16")
    assert (info.slope, info.intercept, info.value_range) == (1.0, -1024.0, (-1024.0, -965.0))
    assert [fit.fits for fit in info.tasks] == [True, False, False]
    assert info.tasks[1].reason == "takes PT, the scan is CT"
    assert [(one.uid, one.images, one.problem) for one in info.series] == [(maker.uid, 3, "")]
    json.dumps(asdict(info))
    single = describe(next(maker.folder.iterdir()))
    assert (single.shape, single.series[0].uid) == ((1, 4, 5), maker.uid)


def test_several_series_are_no_error_but_a_list(series: Callable[..., Any]) -> None:
    good = series()
    good.add_stack(ARRAY.astype(np.int16))
    gap = series(count=50, common={"SeriesNumber": 5})
    for height in (0, 2, 4, 10):
        gap.add(ARRAY[0].astype(np.int16), (0, 0, height))
    info = describe(good.folder)
    assert info.shape is None
    assert info.tasks == ()
    assert [one.number for one in info.series] == ["3", "5"]
    assert info.series[0].problem == ""
    assert "2 missing slices" in info.series[1].problem
    assert describe(good.folder, series="3").shape == (3, 4, 5)
    with pytest.raises(GeometryError, match="missing slices"):
        describe(good.folder, series="5")


def test_a_ct_whose_units_are_not_known(series: Callable[..., Any]) -> None:
    maker = series(common={"RescaleType": "US"})
    maker.add_stack(ARRAY.astype(np.int16))
    info = describe(maker.folder)
    assert (info.units, [fit.fits for fit in info.tasks]) == ("unknown", [None, False, False])
    assert "RescaleType US" in info.warnings[0]


def test_other_files(tmp_path: Path) -> None:
    (tmp_path / "image.png").write_bytes(b"\x89PNG....")
    with pytest.raises(VolumeReadError, match=r"image\.png: expected \.nii, \.nii\.gz"):
        describe(tmp_path / "image.png")
    (tmp_path / "empty.nii").write_bytes(b"")
    with pytest.raises(VolumeReadError, match="empty file"):
        describe(tmp_path / "empty.nii")


def test_paths_and_units_may_be_text(series: Callable[..., Any], volume: Volume, tmp_path: Path) -> None:
    path = write_volume(volume, tmp_path / "scan.nii.gz")
    assert describe(str(path), units="hu").units == "HU"
    maker = series()
    maker.add_stack(ARRAY.astype(np.int16))
    assert [found.images for found in list_series(str(maker.folder))] == [3]
