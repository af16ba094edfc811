"""The simulators against the laws that they stand for, each in one number."""

from __future__ import annotations

import numpy as np
import pytest

from tatcli.degradation import low_resolution_mri
from tatcli.degradation.ct_kernel import KERNELS
from tatcli.degradation.low_count_pet import low_count_slices
from tatcli.degradation.low_dose_ct import low_dose_volume
from tatcli.degradation.low_resolution_mri import kept_lines, low_resolution, truncate_k_space
from tatcli.degradation.pet_count_level import count_level
from tatcli.degradation.pet_scanner import PetReconstruction

SIZE = 128
CT_SPACING, PET_SPACING = (1.0, 1.0), (4.5, 4.5)
RECONSTRUCTION = PetReconstruction(iterations=2)


def disc(size: int, radius: float) -> np.ndarray:
    y, x = np.ogrid[:size, :size]
    return np.hypot(y - (size - 1) / 2, x - (size - 1) / 2) < radius


@pytest.fixture(scope="module")
def water() -> np.ndarray:
    return np.where(disc(SIZE, 52), 0.0, -1000.0).astype(np.float32)


@pytest.fixture(scope="module")
def uptake() -> np.ndarray:
    return np.where(disc(56, 22), 1.0, 0.0).astype(np.float32)


def added_ct(water: np.ndarray, dose: float, kernel: str, count: int) -> np.ndarray:
    """Noise that a dose adds to a reference of 10 HU: (count, rows, columns)."""
    options = {"spacing_mm": CT_SPACING, "dose": dose, "noise": 10.0, "kernel": KERNELS[kernel]}
    return low_dose_volume(np.stack([water] * count), seeds=range(count), **options) - water


def test_ct_noise_variance_goes_with_the_inverse_dose(water: np.ndarray) -> None:
    """Var = noise^2 (1/d - 1): one line through the origin for all doses."""
    inside = disc(SIZE, 46)
    doses = np.array([0.6, 0.25, 0.1, 0.05])
    variances = [added_ct(water, float(dose), "standard", 4)[:, inside].var() for dose in doses]
    np.testing.assert_allclose(variances / (1.0 / doses - 1.0), 10.0**2, rtol=0.06)


@pytest.mark.parametrize("kernel", ["smooth", "standard"])
def test_ct_noise_is_correlated_as_its_kernel_says(water: np.ndarray, kernel: str) -> None:
    """Wiener-Khinchin: the autocorrelation is the Fourier transform of the filter's noise power; the mean is zero."""
    noise = added_ct(water, 0.25, kernel, 8)[:, 32:96, 32:96]
    standard_error = noise.std() / np.sqrt(8 * 64**2 / 40)  # about one independent value in 40 correlated ones
    assert abs(noise.mean()) < 4 * standard_error
    frequency = np.fft.fftfreq(SIZE, CT_SPACING[0])
    power = KERNELS[kernel].noise_power(np.hypot(frequency[:, None], frequency))
    expected = np.fft.ifft2(power).real
    lags = np.arange(1, 4)
    found = [np.mean(noise[:, :, lag:] * noise[:, :, :-lag]) / noise.var() for lag in lags]
    np.testing.assert_allclose(found, expected[0, lags] / expected[0, 0], atol=0.08)
    assert abs(found[0]) > 0.1  # white noise would have none


def test_pet_noise_variance_goes_with_the_inverse_counts(uptake: np.ndarray) -> None:
    counts = count_level(uptake[None], spacing_mm=PET_SPACING, variation=0.1, reconstruction=RECONSTRUCTION)
    inside = disc(56, 17)
    options = {"spacing_mm": PET_SPACING, "seed": 1, "reconstruction": RECONSTRUCTION}
    few, many = (
        low_count_slices(uptake, counts=level, drf=[4.0] * 16, **options)[:, inside].var()
        for level in (counts, 4 * counts)
    )
    assert few / many == pytest.approx(4.0, rel=0.12)


@pytest.mark.parametrize("drf", [4.0, 40.0])
def test_pet_keeps_its_mean_at_every_strength(uptake: np.ndarray, drf: float) -> None:
    image = uptake.copy()
    image[disc(56, 6)] = 6.0
    counts = count_level(uptake[None], spacing_mm=PET_SPACING, variation=0.08, reconstruction=RECONSTRUCTION)
    scans = low_count_slices(
        image, spacing_mm=PET_SPACING, drf=[drf] * 24, counts=counts, seed=2, reconstruction=RECONSTRUCTION
    )
    for region in (disc(56, 6), disc(56, 20) & ~disc(56, 9), disc(56, 22)):
        assert scans[:, region].mean() / image[region].mean() == pytest.approx(1.0, abs=0.02)


def test_mri_k_space_is_exactly_zero_outside_the_kept_square(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit for bit, in what is transformed back; the magnitude comes after."""
    slices = np.random.default_rng(0).uniform(0, 1000, (2, 33, 48)).astype(np.float32)
    seen = []
    inverse = low_resolution_mri.scipy.fft.ifft2

    def watched(k_space: np.ndarray, **options: object) -> np.ndarray:
        seen.append(k_space.copy())
        return inverse(k_space, **options)

    monkeypatch.setattr(low_resolution_mri.scipy.fft, "ifft2", watched)
    complex_image = truncate_k_space(slices, 4.0)
    kept = kept_lines(33, 4.0)[:, None] & kept_lines(48, 4.0)
    assert (seen[0][:, ~kept] == 0).all()
    assert (seen[0][:, kept] != 0).all()
    np.testing.assert_array_equal(low_resolution(slices, 4.0), np.abs(complex_image))


def test_mri_loses_the_energy_of_the_lines_that_are_cut() -> None:
    """Parseval: what is missing in the image is what was missing in k-space."""
    slice_ = np.random.default_rng(1).uniform(0, 1000, (40, 40)).astype(np.float32)
    kept = kept_lines(40, 2.0)[:, None] & kept_lines(40, 2.0)
    lost = np.square(np.abs(np.fft.fft2(slice_)[~kept])).sum() / slice_.size
    missing = np.square(np.abs(slice_ - truncate_k_space(slice_, 2.0).astype(np.complex128))).sum()
    assert missing == pytest.approx(lost, rel=1e-4)
