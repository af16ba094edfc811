"""Noise power spectra of noise whose spectrum is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.fft

from tatcli.metrics.noise_power import NoiseSpectrum, Patches, noise_spectrum, uniform_patches

SPACING = (0.7, 0.7)


def noise(weight=None, *, shape=(6, 240, 240), sigma=10.0, seed=0) -> np.ndarray:
    """Noise of amplitude ``weight(frequency in cycles/mm)``; white without."""
    white = np.random.default_rng(seed).normal(0.0, sigma, shape)
    if weight is None:
        return white
    frequency = np.hypot(np.fft.fftfreq(shape[1], SPACING[0])[:, None], np.fft.fftfreq(shape[2], SPACING[1]))
    return scipy.fft.ifft2(scipy.fft.fft2(white) * weight(frequency)).real


def everywhere(shape) -> Patches:
    corners = [
        (s, r, c) for s in range(shape[0]) for r in range(0, shape[1] - 23, 24) for c in range(0, shape[2] - 23, 24)
    ]
    return Patches(tuple(corners))


def test_white_noise_is_flat_with_its_variance_as_level() -> None:
    field = noise() + np.linspace(0.0, 200.0, 240)  # a trend is not noise
    found = noise_spectrum(field, everywhere(field.shape), spacing=SPACING)
    assert found.patches == 600
    level = 100.0 * SPACING[0] * SPACING[1]
    np.testing.assert_allclose(found.power, level, rtol=0.05)
    assert found.deviation == pytest.approx(10.0, rel=0.004)  # the trend's six coefficients take 1 % of the variance
    assert found.mean_frequency == pytest.approx(found.frequency.mean(), rel=0.02)
    assert found.frequency[-1] <= 0.5 / 0.7
    assert found.frequency[0] == pytest.approx(2 / (24 * 0.7), rel=0.1)


@pytest.mark.parametrize("spacing", [(0.5, 1.0), (1.2, 0.6)])
def test_white_noise_is_flat_in_oblong_pixels(spacing) -> None:
    """What the removed trend takes along the finer side isn't mixed into the rings that are kept."""
    field = noise()
    found = noise_spectrum(field, everywhere(field.shape), spacing=spacing)
    np.testing.assert_allclose(found.power, 100.0 * spacing[0] * spacing[1], rtol=0.07)


@pytest.mark.parametrize("pixel", [0.7, 0.9375, 1.0])
def test_pixel_sizes_that_a_header_rounds_have_the_same_spectrum(pixel) -> None:
    field = noise() + 50.0 * (-1.0) ** np.arange(240)  # at the finest frequency of the rows
    places = everywhere(field.shape)
    square, rounded = (noise_spectrum(field, places, spacing=(pixel, side)) for side in (pixel, pixel * (1 + 1e-6)))
    np.testing.assert_allclose(rounded.frequency, square.frequency, rtol=1e-5)
    np.testing.assert_allclose(rounded.power, square.power, rtol=1e-5)
    assert square.peak_frequency == pytest.approx(0.5 / pixel, rel=0.05)


def test_the_peak_of_band_passed_noise() -> None:
    centre = 0.31
    field = noise(lambda f: np.exp(-0.5 * ((f - centre) / 0.05) ** 2))
    found = noise_spectrum(field, everywhere(field.shape), spacing=SPACING)
    assert found.peak_frequency == pytest.approx(centre, abs=0.02)
    assert found.mean_frequency == pytest.approx(centre, abs=0.02)


@pytest.mark.parametrize(
    ("power", "peak"),
    [
        ([1.0, 4.0, 3.0, 0.0], 0.25),  # the parabola's top is a quarter of a step of 0.2 above
        ([3.0, 4.0, 1.0, 0.0], 0.175),  # and a quarter of one of 0.1 below
        ([1.0, 4.0, 1.0, 0.0], 0.2),
        ([0.0, 1.0, 4.0, 3.0], 0.425),
        ([5.0, 4.0, 3.0, 0.0], 0.1),  # at the ends there is no parabola
        ([1.0, 2.0, 3.0, 5.0], 0.5),
    ],
)
def test_the_peak_lies_between_the_bins(power, peak) -> None:
    found = NoiseSpectrum(np.array([0.1, 0.2, 0.4, 0.5]), np.array(power), deviation=1.0, patches=1)
    assert found.peak_frequency == pytest.approx(peak)
    assert found.mean_frequency == pytest.approx(np.dot([0.1, 0.2, 0.4, 0.5], power) / sum(power))


def test_oblong_pixels_have_frequencies_in_millimetres() -> None:
    """Noise of one direction alone, 0.25 cycles/mm along columns of 0.5 mm, that is 1/8 a pixel, 3 in a patch of 24."""
    wave = np.cos(2.0 * np.pi * 0.25 * 0.5 * np.arange(48))[:, None] * np.ones(48)
    found = noise_spectrum(wave[None], everywhere((1, 48, 48)), spacing=(0.5, 1.0))
    assert found.frequency[found.power.argmax()] == pytest.approx(0.25, abs=0.5 / 24)
    across = noise_spectrum(wave.T[None], everywhere((1, 48, 48)), spacing=(0.5, 1.0))
    assert across.frequency[across.power.argmax()] == pytest.approx(0.125, abs=0.5 / 24)


def test_the_mean_frequency_of_gaussian_noise() -> None:
    """NPS exp(-4 pi^2 s^2 f^2): mean frequency over (f1, infinity) in closed form."""
    s = 1.0
    field = noise(lambda f: np.exp(-2.0 * (math.pi * s * f) ** 2))
    found = noise_spectrum(field, everywhere(field.shape), spacing=SPACING)
    a, first = 4.0 * (math.pi * s) ** 2, found.frequency[0] - 0.5 / (24 * 0.7)
    expected = math.exp(-a * first**2) / (2 * a) / (0.5 * math.sqrt(math.pi / a) * math.erfc(math.sqrt(a) * first))
    assert found.mean_frequency == pytest.approx(expected, abs=0.015)
    white = noise_spectrum(noise(), everywhere(field.shape), spacing=SPACING)
    assert white.mean_frequency - found.mean_frequency > 0.2


def test_patches_are_where_the_reference_is_uniform() -> None:
    reference = np.zeros((2, 96, 96))
    reference[:, :, 48:] = 300.0 * np.random.default_rng(0).normal(0, 1, (2, 12, 6)).repeat(8, 1).repeat(8, 2)
    found = uniform_patches(reference, np.ones(reference.shape, dtype=bool))
    assert found is not None
    assert len(found.corners) >= 8
    assert all(column + 24 <= 48 for _, _, column in found.corners)
    assert uniform_patches(reference, np.zeros(reference.shape, dtype=bool)) is None
    assert uniform_patches(reference[:, :20], np.ones((2, 20, 96), dtype=bool)) is None


def test_infinite_voxels_count_as_zeros() -> None:
    noise = np.random.default_rng(2).normal(0.0, 5.0, (2, 96, 96))
    holed, filled = noise.copy(), noise.copy()
    for index, value in (((0, 40, 40), np.inf), ((1, 20, 50), -np.inf)):
        holed[index], filled[index] = value, 0.0
    inside = np.ones(noise.shape, dtype=bool)
    assert uniform_patches(holed, inside) == uniform_patches(filled, inside) is not None


def test_nothing_has_no_frequency() -> None:
    found = noise_spectrum(np.zeros((1, 24, 24)), Patches(((0, 0, 0),)), spacing=SPACING)
    assert math.isnan(found.mean_frequency)
    assert math.isnan(found.peak_frequency)
    assert found.deviation == 0.0
