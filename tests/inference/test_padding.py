"""Padding against its definition, window by window."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from tatcli.inference.options import RestoreOptions
from tatcli.intensity import RobustRange
from tatcli.tasks import TASKS
from tatcli.volumes.padding import padded, without_padding


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


class Leaning(nn.Module):
    """Moves everything one column to the right, so that each pixel shows what its neighbour was taken for."""

    def forward(self, x):
        return torch.roll(x, 1, dims=3)


@pytest.mark.parametrize(("value", "task", "rest"), [(61976.0, "ct", -1024.0), (0.0, "ct", -1024.0), (9e4, "mri", 0.0)])
@pytest.mark.parametrize("axis", ["axial", "sagittal"])
def test_what_the_header_calls_padding_is_kept_and_seen_as_nothing(restorer_of, volume_of, value, task, rest, axis):
    lowest = -300.0 if task == "ct" else 100.0
    array = np.random.default_rng(2).uniform(lowest, 900.0, (9, 24, 30)).astype(np.float32)
    array[:, 5, 20] = value  # single voxels of the number are tissue
    plain = array.copy()
    array[:, :, :8], plain[:, :, :8] = value, rest
    options = RestoreOptions(axis=axis, data_consistency=False)
    expected = restorer_of(Leaning())(volume_of(plain), task, options=options).array.copy()
    assert (plain != expected)[:, :, 8:].any()
    expected[:, :, :8] = value
    found = restorer_of(Leaning())(volume_of(array, padding=((value, value),)), task, options=options)
    np.testing.assert_array_equal(found.array, expected)


def test_padding_on_a_finer_grid(restorer_of, volume_of):
    array = np.random.default_rng(3).uniform(100.0, 900.0, (3, 24, 30)).astype(np.float32)
    array[:, :8] = 63000.0
    options = RestoreOptions(scale=2, data_consistency=False)
    found = restorer_of(nn.Identity())(volume_of(array, padding=((62000.0, 64000.0),)), "mri", options=options).array
    assert (found[:, :16] == 63000.0).all()
    assert found[:, 16:].max() < 1500.0  # nothing rings


def test_padding_below_the_range_costs_nothing(volume_of, monkeypatch):
    """Nearly every CT names some: no slice is looked at for it, and for that of another slice's rescale."""
    monkeypatch.setattr(np, "zeros", None)
    volume = volume_of(np.ones((2, 9, 9), dtype=np.float32), padding=((-3024.0, -3024.0), (-2000.0, -1024.0)))
    assert without_padding(volume, TASKS["ct-denoise"].intensity) == (volume, None)


def test_other_scans_are_what_they_were(volume_of):
    array = np.zeros((2, 9, 9), dtype=np.float32)
    for volume in (volume_of(array), volume_of(array, padding=((-5.0, 0.0),))):
        shown, hidden = without_padding(volume, RobustRange(99.9))
        assert shown is volume
        assert hidden is None
