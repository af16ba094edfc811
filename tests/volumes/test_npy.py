from pathlib import Path

import numpy as np
import pytest

from tatcli.errors import GeometryError, OutputError, VolumeReadError
from tatcli.intensity import Units
from tatcli.volumes import Geometry, Provenance, Volume, read_volume, write_volume


@pytest.mark.parametrize("dtype", ["float32", "float64", "longdouble", "int16", "uint8", ">i2", "float16", "bool"])
@pytest.mark.parametrize("shape", [(4, 5), (3, 4, 5)])
def test_round_trip(dtype: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    array = (np.random.default_rng(0).normal(0, 50, shape) + 100).astype(dtype)
    np.save(tmp_path / "in.npy", np.asfortranarray(array))
    volume = read_volume(tmp_path / "in.npy", units=Units.HU)
    np.testing.assert_array_equal(volume.array, array.astype(np.float32).reshape(-1, 4, 5))
    assert volume.units is Units.HU
    back = np.load(write_volume(volume, tmp_path / "out.npy"))
    np.testing.assert_array_equal(back, array)
    assert back.dtype == (np.uint8 if dtype == "bool" else array.dtype.newbyteorder("="))
    for name in ("out.nii", "out.nrrd", "out.mha"):
        other = read_volume(write_volume(volume, tmp_path / name))
        np.testing.assert_array_equal(other.array, volume.array)


@pytest.mark.parametrize("array", [np.zeros(5), np.zeros((2, 2, 2, 2)), np.zeros((0, 4))])
def test_other_shapes(array: np.ndarray, tmp_path: Path) -> None:
    np.save(tmp_path / "in.npy", array)
    with pytest.raises(GeometryError, match=r"in\.npy: expected a 2-D or 3-D array"):
        read_volume(tmp_path / "in.npy")


def test_pickles_are_never_opened(tmp_path: Path) -> None:
    np.save(tmp_path / "in.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(VolumeReadError, match=r"in\.npy"):
        read_volume(tmp_path / "in.npy")


@pytest.mark.parametrize("array", [np.zeros((3, 4), complex), np.zeros((3, 4), [("r", "u1"), ("g", "u1")])])
def test_other_types(array: np.ndarray, tmp_path: Path) -> None:
    np.save(tmp_path / "in.npy", array)
    with pytest.raises(VolumeReadError, match="real numbers"):
        read_volume(tmp_path / "in.npy")


def test_truncated(tmp_path: Path) -> None:
    np.save(tmp_path / "in.npy", np.zeros((30, 40)))
    data = (tmp_path / "in.npy").read_bytes()
    for kept in (3, 50, len(data) - 1):
        (tmp_path / "cut.npy").write_bytes(data[:kept])
        with pytest.raises(VolumeReadError, match=r"cut\.npy"):
            read_volume(tmp_path / "cut.npy")


@pytest.mark.parametrize("shape", ["(1000000, 1000000, 1000000)", "(3, 4", "'''"])
def test_headers_that_lie(shape: str, tmp_path: Path) -> None:
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}".encode()
    (tmp_path / "in.npy").write_bytes(b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + bytes(8))
    with pytest.raises(VolumeReadError, match=r"^in\.npy: expected a plain \.npy array, got .*; save it again$"):
        read_volume(tmp_path / "in.npy")


def test_a_scan_with_a_grid_isnt_written_without_it(tmp_path: Path) -> None:
    scan = Volume(
        np.zeros((2, 3, 4), np.float32), Geometry(np.eye(4), (2, 3, 4)), provenance=Provenance(format="nifti")
    )
    with pytest.raises(OutputError, match=r"name the output \.nii\.gz"):
        write_volume(scan, tmp_path / "out.npy")
    assert list(tmp_path.iterdir()) == []
