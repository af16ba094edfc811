import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tatcli.degradation import simulate
from tatcli.errors import GeometryError, UnitsError, UsageError, VolumeReadError
from tatcli.intensity import Units
from tatcli.volumes import Geometry, Volume, read_volume, write_volume

GRID = Geometry.from_spacing((5.0, 0.8, 0.7), (2, 3, 4))


def test_a_bare_array_gets_a_grid_of_its_spacing() -> None:
    assert GRID.affine.tolist() == np.diag([0.7, 0.8, 5.0, 1.0]).tolist()
    assert (GRID.shape, GRID.spacing, GRID.orientation) == ((2, 3, 4), (5.0, 0.8, 0.7), "SPL")


@pytest.mark.parametrize("spacing", [(0.8, 0.7), (5.0, 0.0, 0.7), (5.0, 0.8, -0.7), (5.0, np.nan, 0.7)])
def test_a_spacing_is_three_lengths(spacing: Any) -> None:
    with pytest.raises(GeometryError, match="steps in mm above zero"):
        Geometry.from_spacing(spacing, (2, 3, 4))


def test_a_grid_of_an_image_asks_for_slices() -> None:
    with pytest.raises(GeometryError, match=r"expected \(slices, rows, columns\) of at least one voxel, got \(3, 4\)"):
        Geometry.from_spacing((5.0, 0.8, 0.7), (3, 4))  # type: ignore[arg-type]


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))])
def test_copies_and_pickles_are_as_read_only_as_their_original(again: Callable[[Volume], Volume]) -> None:
    volume = again(Volume(np.arange(24).reshape(2, 3, 4), GRID, Units.HU))
    assert volume.array.ravel().tolist() == list(range(24))
    assert volume.units is Units.HU
    for array in (volume.array, volume.geometry.affine):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


def test_units_may_be_text() -> None:
    assert Volume(np.zeros((2, 3, 4)), GRID, "suvBW").units is Units.SUVBW  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"units 'hounsfield': expected one of HU, SUVbw, BQML, a\.u\."):
        Volume(np.zeros((2, 3, 4)), GRID, "hounsfield")  # type: ignore[arg-type]


def test_units_of_a_file_may_be_text(tmp_path: Path) -> None:
    scan = write_volume(Volume(np.zeros((2, 3, 4)), GRID), tmp_path / "scan.nii.gz")
    assert read_volume(scan, units="hu").units is Units.HU
    with pytest.raises(UsageError, match="units 'hounsfield'"):
        read_volume(scan, units="hounsfield")


def test_units_of_dicom_may_be_text(series: Callable[..., Any]) -> None:
    ct = series()
    ct.add_stack(np.arange(24, dtype=np.int16).reshape(2, 3, 4))
    assert read_volume(ct.folder, units="HU").units is Units.HU


def test_the_current_folder_has_a_name(series: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    ct = series(common={"RescaleType": "HU"})
    ct.add_stack(np.arange(24, dtype=np.int16).reshape(2, 3, 4))
    monkeypatch.chdir(ct.folder)
    with pytest.raises(UnitsError, match=r"^\.: expected units SUVbw, got HU"):
        read_volume(".", units="SUVbw")


def test_complex_values_are_refused() -> None:
    with pytest.raises(VolumeReadError, match="expected real values, got complex64; take their magnitude"):
        Volume(np.zeros((2, 3, 4), np.complex64), GRID)  # type: ignore[arg-type]


def test_what_is_no_grid_or_no_volume_is_named(tmp_path: Path) -> None:
    array = np.zeros((2, 3, 4), np.float32)
    with pytest.raises(UsageError, match="expected a Geometry, got ndarray"):
        Volume(array, np.eye(4))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="expected a Volume, got ndarray"):
        simulate(array, "ct")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="expected a Volume, got str"):
        write_volume("scan.nii.gz", tmp_path / "out.nii.gz")  # type: ignore[arg-type]


def test_a_volume_shows_itself_in_a_line_without_the_patient(series: Callable[..., Any]) -> None:
    assert (
        repr(Volume(np.zeros((2, 3, 4)), GRID, Units.HU))
        == "<Volume (2, 3, 4), HU, 5 x 0.8 x 0.7 mm, SPL, from memory>"
    )
    ct = series()
    ct.add_stack(np.arange(24, dtype=np.int16).reshape(2, 3, 4), PatientName="Doe^Jane")
    volume = read_volume(ct.folder)
    assert repr(volume).endswith(f"from {ct.folder}>")
    assert "Doe" not in repr(volume) + repr(volume.provenance)
