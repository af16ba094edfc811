"""The estimate of a CT reference's own noise."""

import numpy as np
import pytest
import scipy.ndimage

from tatcli.degradation.ct_kernel import KERNELS
from tatcli.degradation.low_dose_ct import ct_noise_realisations, low_dose_volume
from tatcli.degradation.reference_noise import (
    estimate_correlation,
    estimate_noise,
    match_kernel,
    noise_power_spectrum,
    noise_profile,
)
from tatcli.degradation.tissue_patches import TissuePatches

SPACING = (0.8, 0.8)


@pytest.fixture(scope="module")
def anatomy():
    """A body of fat and organs of soft tissue with sharp borders, in air: (rows, columns) HU."""
    y, x = np.mgrid[:320, :320] - 159.5
    image = np.where(np.hypot(y / 110, x / 145) < 1, -90.0, -1000.0)
    for row, column, radius, value in (
        (-20, -60, 62, 55.0),
        (30, 55, 50, 45.0),
        (-50, 60, 30, 110.0),
        (0, 0, 22, 700.0),
    ):
        image[np.hypot(y - row, x - column) < radius] = value
    image[np.hypot(y + 10, x + 75) < 9] = 120.0  # a vessel in the liver
    return image.astype(np.float32)


def volume(anatomy, kernel, sigma):
    noise = [ct_noise_realisations(anatomy, spacing_mm=SPACING, kernels=[kernel] * 5, seed=3)]
    return anatomy + sigma * np.concatenate(noise)


@pytest.mark.parametrize("sigma", [5.0, 20.0])
@pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)
def test_known_noise_is_found(anatomy, kernel, sigma):
    assert estimate_noise(volume(anatomy, kernel, sigma), SPACING) == pytest.approx(sigma, rel=0.12)


@pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)
def test_the_matched_kernel_has_the_references_spectrum(anatomy, kernel):
    matched = match_kernel(volume(anatomy, kernel, 10.0), SPACING)
    frequencies = np.linspace(0.1, 0.6, 26)
    expected, found = kernel.noise_power(frequencies), matched.noise_power(frequencies)
    strong = expected > 0.1 * expected.max()
    ratio = (found / found.sum())[strong] / (expected / expected.sum())[strong]
    np.testing.assert_allclose(ratio, 1.0, atol=0.25)


def test_the_spectrum_integrates_to_the_variance(anatomy):
    frequency, power = noise_power_spectrum(volume(anatomy, KERNELS["smooth"], 10.0), SPACING)
    variance = np.trapezoid(2 * np.pi * frequency * power, frequency)
    assert variance == pytest.approx(100.0, rel=0.25)  # of the quieter patches


def test_what_all_slices_show_is_no_noise(anatomy):
    """Texture of the tissue as strong as the noise is gone from neighbouring slices' second difference."""
    texture, *fields = ct_noise_realisations(anatomy, spacing_mm=SPACING, kernels=[KERNELS["smooth"]] * 6, seed=4)
    frequency, power = noise_power_spectrum(anatomy + 10.0 * texture + 10.0 * np.stack(fields), SPACING)
    variance = np.trapezoid(2 * np.pi * frequency * power, frequency)
    assert variance == pytest.approx(100.0, rel=0.25)


def test_texture_that_neighbours_show_is_no_shared_noise(anatomy):
    """Vessels and fat, broader than 4 mm, are below the frequencies that are compared."""
    white = np.random.default_rng(0).normal(size=anatomy.shape)
    texture = scipy.ndimage.gaussian_filter(white, 4.0 / 0.8)
    stack = volume(anatomy, KERNELS["standard"], 10.0) + (10.0 / texture.std() * texture).astype(np.float32)
    assert estimate_correlation(stack, SPACING) == pytest.approx(0.0, abs=0.03)


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5])
def test_what_neighbouring_slices_share_is_found(anatomy, share):
    """The mean of two independent fields in shifted slices: x_i + a x_(i+1) correlates by a / (1 + a^2)."""
    kernel = KERNELS["standard"]
    fields = ct_noise_realisations(anatomy, spacing_mm=SPACING, kernels=[kernel] * 9, seed=5)
    stack = anatomy + 10.0 * (fields[:-1] + share * fields[1:])
    assert estimate_correlation(stack, SPACING) == pytest.approx(share / (1 + share**2), abs=0.03)


def test_neighbours_without_tissue_or_neighbours_share_nothing(anatomy):
    air = np.full((3, 64, 64), -1000.0, dtype=np.float32)
    assert estimate_correlation(air, SPACING) == 0.0
    assert estimate_correlation(np.stack([anatomy, anatomy]), SPACING) in (
        0.0,
        1.0,
    )  # no noise: what is left is rounding
    assert estimate_correlation(volume(anatomy, KERNELS["smooth"], 10.0)[:1], SPACING) == 0.0
    assert estimate_correlation(np.zeros((2, 8, 8), dtype=np.float32), SPACING) == 0.0


def along(anatomy, sigmas):
    """A slice of that anatomy for each noise level, the noise of each its own."""
    kernels = [KERNELS["standard"]] * len(sigmas)
    fields = ct_noise_realisations(anatomy, spacing_mm=SPACING, kernels=kernels, seed=5)
    return anatomy + np.asarray(sigmas, dtype=np.float32)[:, None, None] * fields


def test_the_profile_follows_the_noise_from_slice_to_slice(anatomy):
    """From 20 to 6 HU over 12 cm, as from abdomen to thighs; its unit is what the whole volume's noise is."""
    sigmas = np.geomspace(20.0, 6.0, 25)
    stack = along(anatomy, sigmas)
    found = estimate_noise(stack, SPACING) * noise_profile(stack, SPACING, 5.0)
    np.testing.assert_allclose(found[2:-2], sigmas[2:-2], rtol=0.12)
    np.testing.assert_allclose(found, sigmas, rtol=0.2)  # (the ends see neighbours on one side)


def test_the_profile_of_a_steady_scan_is_flat(anatomy):
    for step in (5.0, 1.0):
        np.testing.assert_allclose(noise_profile(along(anatomy, [10.0] * 12), SPACING, step), 1.0, atol=0.06)


def test_slices_without_tissue_are_as_noisy_as_their_neighbours(anatomy):
    stack = along(anatomy, [20.0] * 8 + [10.0] * 40)
    whole = noise_profile(stack, SPACING, 5.0)
    stack[6:9] = -1000.0  # air
    stack[30:48] = np.nan
    found = noise_profile(stack, SPACING, 5.0)
    assert found[6] == pytest.approx(1.7, abs=0.1)  # nearer to the 20 HU before it than to the 10 HU after
    assert found[28] == pytest.approx(whole[28], abs=0.05)
    assert found[47] == 1.0  # 90 mm from any


def test_slices_without_noise_are_merely_quiet(anatomy):
    """The end of a scan was drawn: there is noise to simulate yet, and the rest isn't touched by it."""
    stack = along(anatomy, [10.0] * 40)
    stack[35:] = anatomy
    found = noise_profile(stack, SPACING, 5.0)
    assert found[39] == pytest.approx(0.2, abs=0.02)
    np.testing.assert_allclose(found[:28], 1.0, atol=0.15)


@pytest.mark.parametrize(
    ("shape", "spacing"), [((1, 96, 160), (0.8, 0.8)), ((6, 96, 160), (4.5, 4.5)), ((6, 8, 8), (0.8, 0.8))]
)
def test_one_slice_coarse_pixels_and_small_images_tell_no_profile(shape, spacing):
    stack = np.random.default_rng(0).normal(50, 10, shape) * np.linspace(1, 2, shape[0])[:, None, None]
    np.testing.assert_array_equal(noise_profile(stack, spacing, 5.0), np.ones(shape[0]))
    np.testing.assert_array_equal(noise_profile(np.full((4, 64, 64), -1000.0), spacing, 5.0), np.ones(4))


def test_holes_hide_only_what_they_cover(anatomy):
    """A column of NaN, as outside of a resampled volume's grid, and single ones in the liver."""
    stack = volume(anatomy, KERNELS["standard"], 10.0)
    whole = estimate_noise(stack, SPACING), estimate_correlation(stack, SPACING)
    stack[:, :, :20] = np.nan
    stack[:, 140, 90:110:10] = np.nan
    assert estimate_noise(stack, SPACING) == pytest.approx(whole[0], rel=0.05)
    assert estimate_correlation(stack, SPACING) == pytest.approx(whole[1], abs=0.03)
    assert match_kernel(stack, SPACING) is not None


def test_no_tissue_no_estimate():
    air = np.full((3, 64, 64), -1000.0, dtype=np.float32)
    assert np.isnan(estimate_noise(air, SPACING))
    assert match_kernel(air, SPACING) is None
    assert np.isnan(estimate_noise(np.zeros((2, 8, 8), dtype=np.float32), SPACING))
    assert np.isnan(estimate_noise(np.zeros((2, 64, 64), dtype=np.float32), SPACING))  # synthetic: no noise to measure


@pytest.mark.parametrize("spacing", [(4.5, 4.5), (5.0, 0.8), (30.0, 30.0)])
def test_coarse_pixels_tell_no_kernel(spacing):
    """On a PET's grid, or across slices of 5 mm: no frequencies are left that anatomy doesn't decide."""
    stack = np.random.default_rng(0).normal(50, 10, (6, 96, 160)).astype(np.float32)
    assert estimate_noise(stack, spacing) == pytest.approx(10.0, rel=0.1)
    assert match_kernel(stack, spacing) is None
    assert match_kernel(stack, (3.0, 3.0)) is not None


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["train/crlm-1004_abdomen_5mm", "val/crlm-1006_abdomen_5mm"])
def test_a_clinical_abdomen(shared, name):
    nibabel = pytest.importorskip("nibabel")
    image = nibabel.load(shared / f"data/ct/{name}.nii.gz")
    stack = np.asarray(image.dataobj, dtype=np.float32).T[::4]
    spacing = tuple(float(step) for step in image.header.get_zooms()[1::-1])
    assert 9.0 < estimate_noise(stack, spacing) < 12.0
    kernel = match_kernel(stack, spacing)
    assert 0.3 < kernel.cutoff < 0.5


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("train/acrin-flt-001_abdomen-pelvis", 0.0),  # 8.5 mm apart
        ("train/lidc-0314_chest_5mm", 0.03),
        ("train/crlm-1004_abdomen_5mm", 0.16),
        ("val/crlm-1006_abdomen_5mm", 0.29),
    ],
)
def test_slices_of_clinical_scans_share_noise(shared, name, expected):
    nibabel = pytest.importorskip("nibabel")
    image = nibabel.load(shared / f"data/ct/{name}.nii.gz")
    spacing = tuple(float(step) for step in image.header.get_zooms()[1::-1])
    found = estimate_correlation(np.asarray(image.dataobj, dtype=np.float32).T[:24], spacing)
    assert found == pytest.approx(expected, abs=0.05)


@pytest.mark.real_data
def test_every_slice_of_a_clinical_scan_gets_the_noise_of_its_dose(shared):
    """From 15 HU in the abdomen to 7 below: at a quarter of the dose each has four times its own variance."""
    nibabel = pytest.importorskip("nibabel")
    image = nibabel.load(shared / "data/ct/val/crlm-1006_abdomen_5mm.nii.gz")
    stack = np.asarray(image.dataobj, dtype=np.float32).T
    spacing = tuple(float(step) for step in image.header.get_zooms()[1::-1])
    noise = estimate_noise(stack, spacing) * noise_profile(stack, spacing, 5.0)
    assert noise[:10].mean() == pytest.approx(14.8, rel=0.05)
    assert noise[36:44].mean() == pytest.approx(7.2, rel=0.1)
    chosen = [4, 14, 25, 36, 44]
    options = {"spacing_mm": spacing, "dose": 0.25, "kernel": match_kernel(stack, spacing), "seeds": range(5)}
    added = low_dose_volume(stack[chosen], noise=noise[chosen], **options) - stack[chosen]
    tiling, found = TissuePatches(spacing, 16.0), []
    for reference, noisy in zip(stack[chosen].astype(np.float64), added.astype(np.float64), strict=True):
        tissue = tiling.tissue(reference)
        patches = [tiling.residuals(each, tissue).reshape(-1, *tiling.size) for each in (reference, noisy)]
        spectra = [np.fft.fft2(each * tiling.taper)[:, tiling.radius > 0.16] for each in patches]  # beyond anatomy
        own, new = (np.median(np.square(np.abs(each)).sum(axis=1)) for each in spectra)
        found.append(new / own)
    np.testing.assert_allclose(found, 3.0, rtol=0.4)  # with one noise for the whole scan: 1.4 to 6.7
    assert np.mean(found) == pytest.approx(3.0, rel=0.15)
