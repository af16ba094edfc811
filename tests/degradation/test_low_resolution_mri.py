"""Which k-space lines are kept, and that nothing else is."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tatcli.degradation.low_resolution_mri import (
    kept_lines,
    low_resolution,
    truncate_k_space,
    zero_fill,
    zero_fill_volume,
)
from tatcli.errors import UsageError
from tatcli.volumes.geometry import Geometry
from tatcli.volumes.volume import Volume


@pytest.fixture
def slices():
    return np.random.default_rng(0).uniform(0, 1000, (2, 33, 48)).astype(np.float32)


@pytest.mark.parametrize(
    ("count", "factor", "lines"),
    [
        (8, 4.0, [0, -1]),
        (8, 2.0, [0, 1, -1, -2]),
        (9, 3.0, [0, 1, -1]),
        (9, 2.0, [0, 1, 2, -1, -2]),  # 4.5 rounds up
        (5, 1.0, [0, 1, 2, -1, -2]),
        (6, 1.5, [0, 1, -1, -2]),
        (7, 100.0, [0]),
    ],
)
def test_kept_lines(count, factor, lines):
    np.testing.assert_array_equal(np.flatnonzero(kept_lines(count, factor)), sorted(k % count for k in lines))


@given(st.integers(1, 300), st.floats(1.0, 16.0))
@settings(max_examples=60, deadline=None)
def test_kept_lines_are_central(count, factor):
    kept = np.fft.fftfreq(count, 1 / count).round()[kept_lines(count, factor)]
    assert 0 in kept
    assert abs(kept.sum()) <= len(kept) / 2  # symmetric but for one line
    assert abs(len(kept) - max(1.0, count / factor)) <= 0.5


@pytest.mark.parametrize("factor", [4.0, 2.7, 1.5])
def test_k_space_is_zero_outside_and_untouched_inside(slices, factor):
    k_space = np.fft.fft2(truncate_k_space(slices, factor).astype(np.complex128))
    kept = kept_lines(33, factor)[:, None] & kept_lines(48, factor)
    scale = np.abs(np.fft.fft2(slices)).max()
    assert np.abs(k_space[:, ~kept]).max() < 1e-6 * scale
    assert np.abs(k_space - np.fft.fft2(slices))[:, kept].max() < 1e-6 * scale


def test_factor_four_keeps_a_sixteenth():
    assert (kept_lines(256, 4)[:, None] & kept_lines(256, 4)).mean() == 0.0625


@pytest.mark.parametrize("factor", [1.0, 1.005])
def test_a_factor_that_keeps_every_line_is_the_identity(slices, factor):
    slices[0, 3, 4:7] = -30.0, np.nan, np.inf  # filters ring below zero
    np.testing.assert_array_equal(low_resolution(slices, factor), slices)


@pytest.mark.parametrize("factor", [1.0, 3.3, 4.0])
def test_constants_are_kept(factor):
    np.testing.assert_allclose(low_resolution(np.full((31, 44), 700.0), factor), 700.0, rtol=1e-6)


def test_detail_goes_and_the_magnitude_is_real_and_positive():
    column = np.arange(64)
    coarse = 500 + 100 * np.cos(2 * np.pi * 3 * column / 64)
    fine = 200 * np.cos(2 * np.pi * 20 * column / 64)
    image = np.tile((coarse + fine).astype(np.float32), (64, 1))
    np.testing.assert_allclose(low_resolution(image, 4.0), np.tile(coarse, (64, 1)), rtol=1e-5)
    assert low_resolution(-image, 4.0).min() > 0


def test_nan_stays_where_it_is(slices):
    slices[0, 5, 6] = np.nan
    low = low_resolution(slices, 2.0)
    np.testing.assert_array_equal(np.isnan(low), np.isnan(slices))


@pytest.mark.parametrize("factor", [2, 3])
def test_zero_filling_interpolates_between_pixel_centres(factor):
    """A band-limited image is known everywhere: fine pixel j lies at (j + 1/2) / factor - 1/2 of the coarse grid."""

    def image(rows, columns):
        return 300 + 50 * np.cos(2 * np.pi * (2 * rows / 21 + 0.1))[:, None] + 40 * np.sin(2 * np.pi * 3 * columns / 32)

    coarse = image(np.arange(21), np.arange(32)).astype(np.float32)
    fine_rows, fine_columns = ((np.arange(n * factor) + 0.5) / factor - 0.5 for n in (21, 32))
    np.testing.assert_allclose(zero_fill(coarse, factor), image(fine_rows, fine_columns), rtol=1e-5)


def test_zero_filling_by_one_changes_nothing(slices):
    np.testing.assert_array_equal(zero_fill(slices, 1), slices)


def test_zero_filling_keeps_the_sign_of_what_was_stored_with_one() -> None:
    coarse = np.full((24, 24), 300.0, dtype=np.float32)
    coarse[8:16, 8:16] = -400.0
    fine = zero_fill(coarse, 2)
    assert fine[20:28, 20:28].mean() == pytest.approx(-400.0, rel=0.05)
    assert fine[:4, :4].mean() == pytest.approx(300.0, rel=0.05)
    assert zero_fill(np.abs(coarse), 2).min() >= 0.0  # a magnitude image's undershoots at edges are none
    volume = Volume(np.stack([coarse, np.abs(coarse)]), Geometry.from_spacing((4.0, 1.0, 1.0), (2, 24, 24)))
    both = zero_fill_volume(volume, 2, 0).array
    np.testing.assert_array_equal(both[0], fine)
    np.testing.assert_array_equal(both[1], zero_fill(np.abs(coarse), 2, signed=True))


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("frames", [1, 3])
def test_a_zero_filled_volume_covers_the_same_field_of_view(axis, frames):
    turn = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([0.9, 1.1, 4.0])
    affine[:3, 3] = [10.0, -20.0, 30.0]
    shape = (4, 6, 8)
    array = np.full((frames, *shape) if frames > 1 else shape, 7.0, dtype=np.float32)
    volume = Volume(array, Geometry(affine, shape))
    fine = zero_fill_volume(volume, 2, axis)
    expected = tuple(n if index == axis else 2 * n for index, n in enumerate(shape))
    assert fine.geometry.shape == expected
    np.testing.assert_allclose(fine.array, 7.0, rtol=1e-5)
    # corners of the field of view: half a voxel beyond the first and the last centre, (column, row, slice)
    for grid, other in ((volume.geometry, fine.geometry),):
        for corner in (0, 1):
            points = [
                g.affine @ np.array([*((n - 0.5 if corner else -0.5) for n in reversed(g.shape)), 1.0])
                for g in (grid, other)
            ]
            np.testing.assert_allclose(points[0], points[1], atol=1e-9)
    assert fine.provenance.steps == ("k-space zero-filled to 2 x matrix in plane",)


def test_zero_filling_takes_whole_factors():
    volume = Volume(np.ones((1, 4, 4), dtype=np.float32), Geometry(np.eye(4), (1, 4, 4)))
    with pytest.raises(UsageError, match="whole factor"):
        zero_fill_volume(volume, 1.5, 0)
    assert zero_fill_volume(volume, 1, 0) is volume
