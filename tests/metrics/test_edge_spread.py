"""Edge widths of discs blurred by known amounts."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage
import scipy.special

from tatcli.metrics.edge_spread import edge_spread_ratio, edge_widths

ALL = np.ones((1, 128, 128), dtype=bool)
RISE = 2.0 * 1.2815515655  # 10-90 % of an error function, in sigmas


def disc(sigma: float, *, noise: float = 0.0, aspect: float = 1.0) -> np.ndarray:
    """(1, 128, 128): a disc of radius 40 with an error-function border of this sigma (pixels along rows)."""
    y, x = np.mgrid[-64:64, -64:64] + 0.5
    radius = np.hypot(y, x * aspect)
    image = 100.0 * scipy.ndimage.gaussian_filter((radius < 40).astype(float), (sigma, sigma / aspect))
    # a binary disc is itself as wide as a pixel (variance 1/12): its part is small beside sigma^2
    return (image + np.random.default_rng(0).normal(0, noise, image.shape))[None]


@pytest.mark.parametrize("sigma", [1.5, 2.0])
def test_the_width_of_a_known_edge(sigma) -> None:
    (width,) = edge_widths([disc(sigma)], disc(sigma), ALL, spacing=(0.8, 0.8))
    assert width == pytest.approx(RISE * np.hypot(sigma, 0.29) * 0.8, rel=0.04)


def test_the_ratio_of_a_blurred_and_a_sharpened_edge() -> None:
    expected = np.hypot(2.0, 0.29) / np.hypot(1.2, 0.29)
    assert edge_spread_ratio(disc(2.0), disc(1.2), ALL, spacing=(1.0, 1.0)) == pytest.approx(expected, rel=0.03)
    assert edge_spread_ratio(disc(1.2), disc(2.0), ALL, spacing=(1.0, 1.0)) == pytest.approx(1.0 / expected, rel=0.03)
    assert edge_spread_ratio(disc(1.5), disc(1.5), ALL, spacing=(1.0, 1.0)) == 1.0


def test_noise_hardly_matters() -> None:
    noisy = disc(1.5, noise=10.0)
    assert edge_spread_ratio(noisy, disc(1.5), ALL, spacing=(1.0, 1.0)) == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("contrast", [100.0, -100.0])
def test_vessels_and_rims_are_no_edges(contrast) -> None:
    """Rings, bright or dark, whose profiles end as they begin, must not decide the width of the disc's border."""
    y, x = np.mgrid[-64:64, -64:64] + 0.5
    rings = np.zeros((3, 128, 128))
    for radius, row, column in ((10, -10, 0), (6, 12, 10), (5, 10, -13)):
        rings += contrast * np.exp(-0.5 * (np.hypot(y - row, x - column) - radius) ** 2)
    noise = scipy.ndimage.gaussian_filter(np.random.default_rng(1).normal(0, 6, rings.shape), (0, 1, 1))
    truth = disc(1.5) + rings + noise
    blurred = scipy.ndimage.gaussian_filter(truth, (0, 1.5, 1.5))
    sharp, wide = edge_widths([truth, blurred], truth, np.repeat(ALL, 3, axis=0), spacing=(1.0, 1.0))
    assert sharp == pytest.approx(RISE * 1.5, rel=0.15)
    assert wide == pytest.approx(RISE * 1.5 * np.sqrt(2.0), rel=0.1)


def test_the_references_noise_hardly_makes_others_look_blurred() -> None:
    """A fifth of the border's step, and as coarse as PET's."""
    noise = scipy.ndimage.gaussian_filter(np.random.default_rng(1).normal(0, 1, ALL.shape), (0, 1, 1))
    truth = disc(1.5)
    reference = truth + 20.0 * noise / noise.std()
    assert 1.0 < edge_spread_ratio(truth, reference, ALL, spacing=(1.0, 1.0)) < 1.6


@pytest.mark.parametrize("pixels", [-3.0, 1.5, 2.5])
def test_a_displaced_edge_keeps_its_width(pixels) -> None:
    """Its 10 and 90 % may lie on one side of where the reference has its middle."""
    y, x = np.mgrid[-64:64, -64:64] + 0.5
    smaller = 50.0 * (1.0 + scipy.special.erf((40.0 - pixels - np.hypot(y, x)) / np.sqrt(2.0)))[None]
    (width,) = edge_widths([smaller], disc(1.0), ALL, spacing=(0.8, 0.8))
    assert width == pytest.approx(RISE * 0.8, rel=0.04)


@pytest.mark.parametrize(("seed", "times"), [(1, 2.0), (3, 2.0), (3, 4.0)])
def test_no_width_is_better_than_one_of_noise(seed, times) -> None:
    """Coarse noise of several times the border's step, of one slice: its own ups and downs would be the width."""
    noise = scipy.ndimage.gaussian_filter(np.random.default_rng(seed).normal(0, 1, ALL.shape), (0, 1, 1))
    noisy = disc(1.5) + times * 100.0 * noise / noise.std()
    assert edge_spread_ratio(noisy, disc(1.5), ALL, spacing=(1.0, 1.0)) is None


def test_contrast_and_offset_dont_matter() -> None:
    assert edge_spread_ratio(3.0 * disc(1.5) - 7.0, disc(1.5), ALL, spacing=(1.0, 1.0)) == pytest.approx(1.0, abs=1e-6)


def test_oblong_pixels_count_in_millimetres() -> None:
    (width,) = edge_widths([disc(2.0, aspect=2.0)], disc(2.0, aspect=2.0), ALL, spacing=(0.5, 1.0))
    assert width == pytest.approx(RISE * 2.0 * 0.5, rel=0.08)


@pytest.mark.parametrize("angle", [0.0, 0.5, 1.2])
@pytest.mark.parametrize("spacing", [(0.5, 1.0), (1.0, 0.4)])
def test_edges_as_wide_as_the_larger_pixels(spacing, angle) -> None:
    """Their profiles are seen to their ends, in whatever direction they run."""
    y, x = (np.mgrid[-64:64, -64:64] + 0.5) * np.array(spacing)[:, None, None]
    edge = scipy.special.ndtr((x * np.cos(angle) + y * np.sin(angle)) / 1.5)[None]
    (width,) = edge_widths([edge], edge, ALL, spacing=spacing)
    assert width == pytest.approx(RISE * 1.5, rel=0.005)


def test_no_edges() -> None:
    flat = np.zeros((1, 64, 64))
    assert edge_spread_ratio(flat, flat, np.ones(flat.shape, dtype=bool), spacing=(1.0, 1.0)) is None
    assert edge_spread_ratio(disc(1.5), disc(1.5), ~ALL, spacing=(1.0, 1.0)) is None
    assert edge_spread_ratio(np.zeros((1, 128, 128)), disc(1.5), ALL, spacing=(1.0, 1.0)) is None
