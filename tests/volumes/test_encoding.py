from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from tatcli.errors import OutputError
from tatcli.volumes import Geometry, Provenance, Volume
from tatcli.volumes.encoding import Encoding, cross_format_type, decode, encoded_slices, fits_float32, integer_type_for

GRID = Geometry(np.eye(4), (2, 3, 4))
INTEGERS = ["uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64"]


def volume(stored: np.ndarray, slope: float = 1.0, intercept: float = 0.0) -> Volume:
    provenance = Provenance(stored=stored, dtype=stored.dtype, slope=slope, intercept=intercept)
    return Volume(decode(stored, slope=slope, intercept=intercept), GRID, provenance=provenance)


def encoded(scan: Volume, dtype: str, slope: float = 1.0, intercept: float = 0.0) -> np.ndarray:
    return np.stack(list(encoded_slices(scan, Encoding(np.dtype(dtype), slope, intercept))))


@given(
    stored=st.sampled_from([*INTEGERS, "float32", "float64"]).flatmap(
        lambda dtype: npst.arrays(dtype, (2, 3, 4), elements=npst.from_dtype(np.dtype(dtype)))
    ),
    slope=st.sampled_from([1.0, -2.0, 0.25, 2.36166056166056, 1e-3]),
    intercept=st.sampled_from([0.0, -1024.0, 0.1]),
)
def test_unchanged_voxels_come_back_bit_for_bit(stored: np.ndarray, slope: float, intercept: float) -> None:
    back = encoded(volume(stored, slope, intercept), stored.dtype.name, slope, intercept)
    assert back.dtype == stored.dtype
    assert back.tobytes() == stored.tobytes()


@pytest.mark.parametrize("name", INTEGERS)
def test_changed_voxels_round_and_saturate(name: str) -> None:
    info = np.iinfo(name)
    scan = volume(np.full((2, 3, 4), 7, dtype=name), 2.0, 1.0)
    array = scan.array.copy()
    array[0, 0] = [np.inf, -np.inf, 1e30, -1e30]
    array[0, 1, :3] = [26.4, 25.6, 26.0]  # 12.7, 12.3, 12.5 in steps of the slope
    codes = encoded(scan.with_array(array, step="test"), name, 2.0, 1.0)
    assert codes[0, 0].tolist() == [info.max, info.min, info.max, info.min]
    assert codes[0, 1, :3].tolist() == [13, 12, 12]
    assert (codes[1] == 7).all()


def test_one_changed_voxel_leaves_its_neighbours_alone() -> None:
    stored = np.arange(24, dtype=np.int64).reshape(2, 3, 4) + 2**40 + 1  # beyond float32
    scan = volume(stored)
    array = scan.array.copy()
    array[1, 2, 3] = 5.0
    codes = encoded(scan.with_array(array, step="test"), "int64")
    expected = stored.copy()
    expected[1, 2, 3] = 5
    np.testing.assert_array_equal(codes, expected)


def test_nan_stays_in_floats_and_is_refused_in_integers() -> None:
    array = np.zeros((2, 3, 4), np.float32)
    array[0, 0, 0] = np.nan
    scan = Volume(array, GRID)
    assert np.isnan(encoded(scan, "float64")[0, 0, 0])
    with pytest.raises(OutputError, match="1 NaN"):
        encoded(scan, "int16")


@pytest.mark.parametrize(
    ("dtype", "largest", "fits"),
    [
        ("int16", 32767, True),
        ("int32", 2**24, True),
        ("int32", 2**24 + 1, False),
        ("int32", -(2**24), True),
        ("int32", -(2**24) - 1, False),
        ("float64", 1, False),
    ],
)
def test_the_native_array_is_kept_only_where_it_must_be(dtype: str, largest: int, fits: bool) -> None:
    assert fits_float32(np.array([0, largest], dtype=dtype)) is fits


@pytest.mark.parametrize(
    ("dtype", "slope", "intercept", "highest", "expected"),
    [
        ("int16", 1.0, 0.0, 100, "int16"),
        ("uint16", 1.0, -1024.0, 3071, "int16"),  # CT
        ("uint16", 1.0, -1024.0, 40000, "int32"),
        ("uint16", 2.0, -4096.0, 4094, "int16"),
        ("uint16", 0.5, 0.0, 100, "float32"),
        ("int16", 1e6, 0.0, 3e10, "float32"),
        ("longdouble", 1.0, 0.0, 100, "float64"),
        ("float64", 1.0, 0.0, 100, "float64"),
        ("float64", 2.0, 0.0, 100, "float32"),
        (None, 1.0, 0.0, 100, "float32"),
    ],
)
def test_type_for_another_format(
    dtype: str | None, slope: float, intercept: float, highest: float, expected: str
) -> None:
    kind = None if dtype is None else np.dtype(dtype)
    scan = Volume(np.full((2, 3, 4), highest, np.float32), GRID)
    scan = replace(scan, provenance=Provenance(dtype=kind, slope=slope, intercept=intercept))
    assert cross_format_type(scan) == np.dtype(expected)


@pytest.mark.parametrize(
    ("lower", "upper", "expected"),
    [
        (-32768, 32767, "int16"),
        (-32769, 0, "int32"),
        (0, 32768, "int32"),
        (-40000, 40000, "int32"),
        (-(2**31), 2**31 - 1, "int32"),
        (0, 2**31, "float32"),
        (-(2.0**32), 0, "float32"),
    ],
)
def test_integers_that_hold_a_range(lower: float, upper: float, expected: str) -> None:
    assert integer_type_for(lower, upper) == np.dtype(expected)
