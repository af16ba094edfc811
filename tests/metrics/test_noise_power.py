"""Noise power spectra of noise whose spectrum is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.fft

from tatcli.metrics.noise_power import Patches, noise_spectrum, uniform_patches

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
    assert found.deviation == pytest.approx(10.0, rel=0.01)
    assert found.mean_frequency == pytest.approx(found.frequency.mean(), rel=0.02)
    assert found.frequency[-1] <= 0.5 / 0.7
    assert found.frequency[0] == pytest.approx(2 / (24 * 0.7), rel=0.1)


def test_the_peak_of_band_passed_noise() -> None:
    centre = 0.31
    field = noise(lambda f: np.exp(-0.5 * ((f - centre) / 0.05) ** 2))
    found = noise_spectrum(field, everywhere(field.shape), spacing=SPACING)
    assert found.peak_frequency == pytest.approx(centre, abs=0.02)
    assert found.mean_frequency == pytest.approx(centre, abs=0.02)


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


def test_nothing_has_no_frequency() -> None:
    found = noise_spectrum(np.zeros((1, 24, 24)), Patches(((0, 0, 0),)), spacing=SPACING)
    assert math.isnan(found.mean_frequency)
    assert math.isnan(found.peak_frequency)
    assert found.deviation == 0.0
