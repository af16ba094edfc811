"""Other shapes, matrices and contrasts of MR slices: means, resolutions and ranges are what they should be."""

from __future__ import annotations

import numpy as np
import pytest

from tatcli.training.variety import _through_curve, bent, resampled, varied, with_contrast


def smooth_slice(rows: int, columns: int) -> np.ndarray:
    """Band-limited: three periods along rows, two along columns."""
    y, x = np.arange(rows)[:, None] / rows, np.arange(columns) / columns
    return (500 + 200 * np.cos(2 * np.pi * 3 * y) + 100 * np.sin(2 * np.pi * 2 * x)).astype(np.float32)


@pytest.mark.parametrize("shape", [(40, 50), (41, 51), (64, 81), (20, 90), (48, 48)])
@pytest.mark.parametrize("source", [(48, 64), (47, 63)])
def test_a_band_limited_slice_is_sampled_anew(source: tuple[int, int], shape: tuple[int, int]) -> None:
    """Fourier resampling is exact where all frequencies fit: each sample keeps its place in the field of view."""
    np.testing.assert_allclose(resampled(smooth_slice(*source), shape), smooth_slice(*shape), atol=0.05)


def test_the_same_matrix_changes_nothing() -> None:
    slice_ = np.random.default_rng(0).uniform(0, 1000, (33, 40)).astype(np.float32)
    np.testing.assert_allclose(resampled(slice_, (33, 40)), slice_, atol=1e-2)


@pytest.mark.parametrize("axis", [0, 1])
def test_the_finest_pattern_of_an_even_matrix_keeps_its_size(axis: int) -> None:
    """Alternating 11, 9: the border's line of k-space, which a larger matrix holds twice."""
    slice_ = np.full((16, 16), 10.0, dtype=np.float32)
    slice_ += np.expand_dims(np.tile(np.float32([1.0, -1.0]), 8), 1 - axis)
    larger = resampled(slice_, (32, 32))
    np.testing.assert_allclose(larger[::2, ::2], slice_, atol=1e-4)


def test_the_mean_is_kept() -> None:
    slice_ = np.random.default_rng(0).uniform(400, 1000, (60, 70)).astype(np.float32)
    assert resampled(slice_, (40, 90)).mean() == pytest.approx(slice_.mean(), rel=1e-3)


def test_contrasts_keep_air_and_range() -> None:
    slice_ = np.linspace(0, 800, 6400, dtype=np.float32).reshape(80, 80)
    kinds = set()
    for seed in range(40):
        seen = with_contrast(slice_, 800.0, np.random.default_rng(seed))
        assert seen[0, 0] == pytest.approx(0.0, abs=1e-3)
        assert 0 <= seen.min() <= seen.max() <= 800 * (1 + 1e-6)
        rising = bool((np.diff(seen.ravel()) >= -1e-3).all())
        kinds.add("same" if np.array_equal(seen, slice_) else "rising" if rising else "any")
    assert kinds == {"same", "rising", "any"}


def test_a_tone_curve_is_interpolated() -> None:
    slice_ = np.random.default_rng(0).uniform(-100, 1000, (30, 40)).astype(np.float32)
    curve = np.sqrt(np.linspace(0, 1, 256)) * 800
    expected = np.interp(slice_, np.linspace(0, 800, 256), curve)
    np.testing.assert_allclose(_through_curve(slice_, curve, 800.0), expected, atol=2e-2)


def test_sizes_vary_but_hold_a_crop() -> None:
    slice_ = smooth_slice(100, 140)
    sizes = [varied(slice_, 800.0, 96, np.random.default_rng(seed)).shape for seed in range(60)]
    assert min(rows for rows, _ in sizes) == 96
    assert max(rows for rows, _ in sizes) > 120
    assert min(columns for _, columns in sizes) >= 96
    assert varied(smooth_slice(40, 30), 800.0, 96, np.random.default_rng(0)).shape[0] >= 40


STILL = np.zeros((2, 5, 5))


def test_an_unbent_slice_stays() -> None:
    slice_ = np.random.default_rng(0).uniform(0, 1000, (33, 40)).astype(np.float32)
    np.testing.assert_allclose(bent(slice_, 0.0, STILL), slice_, atol=0.1)


@pytest.mark.parametrize(("angle", "quarters"), [(np.pi / 2, 1), (np.pi, 2), (-np.pi / 2, 3)])
def test_quarter_turns_only_move_pixels(angle: float, quarters: int) -> None:
    slice_ = np.random.default_rng(0).uniform(0, 1000, (40, 40)).astype(np.float32)
    np.testing.assert_allclose(bent(slice_, angle, STILL), np.rot90(slice_, quarters), atol=0.5)


def test_bends_move_what_they_say() -> None:
    """A tenth of the width, a quarter of the height: the field of view moves, its contents the other way."""
    y, x = np.arange(60)[:, None], np.arange(80)
    blob = (900 * np.exp(-((y - 30) ** 2 + (x - 40) ** 2) / 50)).astype(np.float32)
    bends = np.stack([np.full((5, 5), 0.1), np.full((5, 5), 0.25)])
    seen = bent(blob, 0.0, bends)
    np.testing.assert_allclose(seen[:40, :70], blob[15:55, 8:78], atol=0.5)


def test_only_some_slices_are_bent() -> None:
    """A constant slice with a marked corner: a turn takes the mark away from where zooms leave it."""
    slice_ = np.full((100, 100), 100, dtype=np.float32)
    slice_[:30, :30] = 800.0
    corners = []
    for seed in range(80):
        seen = varied(slice_, 800.0, 96, np.random.default_rng(seed))
        corners.append(seen[8:20, 8:20].mean() > 2 * seen[-20:-8, -20:-8].mean())
    assert 20 <= sum(corners) <= 60
