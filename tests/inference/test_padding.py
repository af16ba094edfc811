"""Padding against its definition, window by window."""

from __future__ import annotations

import numpy as np
import pytest

from tatcli.inference.padding import padded


def by_definition(slice_: np.ndarray, lowest: float) -> np.ndarray:
    """Pixels at or below ``lowest`` in 7x7 squares of one value, in the slice going on up and down, or sideways."""
    covered = np.zeros(slice_.shape, dtype=bool)
    for down, across in ((6, 0), (0, 6)):
        wide = np.pad(slice_, [(down, down), (across, across)], mode="edge")
        found = np.zeros(wide.shape, dtype=bool)
        for row in range(wide.shape[0] - 6):
            for column in range(wide.shape[1] - 6):
                square = wide[row : row + 7, column : column + 7]
                if (square == square[0, 0]).all():
                    found[row : row + 7, column : column + 7] = True
        covered |= found[down : down + slice_.shape[0], across : across + slice_.shape[1]]
    return covered & (slice_ <= lowest)


@pytest.mark.parametrize("shape", [(30, 41), (7, 20), (20, 7), (5, 30), (30, 5), (4, 4)])
def test_squares_of_one_value_are_padding(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    for _ in range(12):
        slice_ = rng.integers(-1030, -1010, shape).astype(np.float32)
        for value in (-1024.0, -1500.0, -900.0, -1024.0):
            row, column = (int(rng.integers(-3, length)) for length in shape)
            height, width = rng.integers(4, 13, 2)
            slice_[max(row, 0) : row + height, max(column, 0) : column + width] = value
        np.testing.assert_array_equal(padded(slice_, -1024.0), by_definition(slice_, -1024.0))


@pytest.mark.parametrize(
    ("height", "width", "column", "count"),
    [
        (7, 7, 10, 49),  # amid the slice
        (7, 6, 10, 0),
        (6, 7, 10, 0),
        (7, 1, 0, 7),  # at the side, beyond which it goes on
        (6, 3, 0, 0),
        (9, 7, 10, 63),
    ],
)
def test_how_large_a_square_is(height: int, width: int, column: int, count: int) -> None:
    slice_ = np.random.default_rng(1).normal(0.0, 9.0, (24, 24)).astype(np.float32)
    slice_[8 : 8 + height, column : column + width] = -1024.0
    assert np.count_nonzero(padded(slice_, -1024.0)) == count
    assert not padded(slice_, -1024.5).any()  # above the lowest value it is an image's
