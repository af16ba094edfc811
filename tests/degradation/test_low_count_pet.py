"""The noise that fewer counts add: mean kept, variance as the dose says, never below zero."""

import numpy as np
import pytest

from tatcli.degradation.low_count_pet import ScannedSlice, _binned, low_count_slices, low_count_volume
from tatcli.degradation.pet_count_level import count_level, estimate_variation
from tatcli.degradation.pet_scanner import PetReconstruction, PetScanner, random_reconstruction
from tatcli.errors import UsageError

SPACING = (4.0, 4.0)
FAST = PetReconstruction(iterations=2)


def distance_from(row, column, size=64):
    y, x = np.ogrid[:size, :size]
    return np.hypot(y - (size - 1) / 2 - row, x - (size - 1) / 2 - column)


@pytest.fixture(scope="module")
def patient():
    """Tissue of SUV 1 with a hot lesion of 8 and a cold hole, in air."""
    image = np.where(distance_from(0, 0) < 26, 1.0, 0.0)
    image[distance_from(-8, 8) < 4] = 8.0
    image[distance_from(8, -10) < 5] = 0.05
    return image.astype(np.float32)


@pytest.fixture(scope="module")
def uniform():
    return np.where(distance_from(0, 0) < 26, 1.0, 0.0).astype(np.float32)


@pytest.fixture(scope="module")
def counts(uniform):
    """Of a reference whose uniform tissue varies by 10 %."""
    return count_level(uniform[None], spacing_mm=SPACING, variation=0.10, reconstruction=FAST)


def degrade(slice_, counts, drf, seed=0, reconstruction=FAST, spacing=SPACING):
    return low_count_slices(
        slice_, spacing_mm=spacing, drf=drf, counts=counts, seed=seed, reconstruction=reconstruction
    )


def test_the_mean_of_50_seeds_stays_in_hot_regions(patient, counts):
    scans = np.concatenate([degrade(patient, counts, [12.0] * 5, seed=seed) for seed in range(10)])
    hot, tissue = patient == 8.0, distance_from(0, 0) < 22
    assert scans[:, hot].mean() / patient[hot].mean() == pytest.approx(1.0, abs=0.02)
    assert scans[:, tissue].mean() / patient[tissue].mean() == pytest.approx(1.0, abs=0.02)
    cold = distance_from(8, -10) < 4
    assert scans[:, cold].mean() < 0.1  # no clipping bias


def test_nothing_is_negative(patient, counts):
    assert degrade(patient, counts, [4.0, 40.0]).min() >= 0.0


@pytest.mark.parametrize("drf", [2.0, 4.0])
def test_a_uniform_region_gets_r_times_the_references_variance(uniform, counts, drf):
    inside = distance_from(0, 0) < 24  # attenuation makes the centre noisier than the rim: the whole body is calibrated
    added = degrade(uniform, counts, [drf] * 12)[:, inside] - 1.0
    assert added.var() == pytest.approx((drf - 1.0) * 0.10**2, rel=0.1)


def test_variance_grows_in_proportion(uniform, counts):
    inside = distance_from(0, 0) < 18
    low, high = (degrade(uniform, counts, [drf] * 12, seed=1)[:, inside].var() for drf in (3.0, 9.0))
    assert high / low == pytest.approx(8.0 / 2.0, rel=0.15)


def test_estimated_counts_match_the_references_own_noise(uniform, counts):
    """A reference of 10 % noise, made by the simulator itself: after factor 4 the estimate has doubled."""
    reference = degrade(uniform, counts, [2.0] * 4, seed=3)
    estimated = count_level(reference, spacing_mm=SPACING, reconstruction=FAST)
    assert estimated == pytest.approx(counts, rel=0.2)
    low = np.concatenate([degrade(slice_, estimated, [4.0], seed=9) for slice_ in reference])
    assert estimate_variation(low, SPACING) / estimate_variation(reference, SPACING) == pytest.approx(2.0, rel=0.12)


def test_noise_follows_the_signal_and_is_correlated(patient, counts):
    noise = degrade(patient, counts, [4.0] * 20) - patient
    hot, tissue = distance_from(-8, 8) < 3, (distance_from(0, 0) < 22) & (patient == 1.0)
    assert noise[:, hot].std() > 1.5 * noise[:, tissue].std()
    assert noise[:, patient == 0].std() < 0.1 * noise[:, tissue].std()
    centre = noise[:, 20:44, 20:44]
    assert np.mean(centre[:, :, 1:] * centre[:, :, :-1]) / centre.var() > 0.2


def test_a_smoother_reconstruction_needs_fewer_counts_for_the_same_noise(uniform):
    sharp, smooth = (
        count_level(
            uniform[None], spacing_mm=SPACING, variation=0.1, reconstruction=PetReconstruction(post_filter_mm=fwhm)
        )
        for fwhm in (3.0, 8.0)
    )
    assert smooth < 0.6 * sharp


class TestVolume:
    """Noise that correlates along the slices, else as in slices by themselves."""

    def added(self, uniform, counts, drf=4.0, slices=24, step=3.3, **recipe):
        stack = np.broadcast_to(uniform, (slices, *uniform.shape))
        options = {"spacing_mm": (step, *SPACING), "seeds": range(slices), "counts": counts, "drf": drf}
        reconstruction = PetReconstruction(iterations=2, **recipe)
        return low_count_volume(stack, reconstruction=reconstruction, **options)[:, distance_from(0, 0) < 24] - 1.0

    def test_neighbours_correlate_as_the_filter_says(self, uniform, counts):
        """White noise after a Gaussian: exp(-d^2 / 4 sigma^2) at distance d."""
        noise = self.added(uniform, 20 * counts)  # (with few counts OSEM is not linear)
        found = [np.mean(noise[lag:] * noise[:-lag]) / noise.var() for lag in (1, 2, 4)]
        sigma = 5.5 / 2.3548 / 3.3
        np.testing.assert_allclose(found, np.exp(-np.square([1, 2, 4]) / (4 * sigma**2)), atol=0.03)

    @pytest.mark.parametrize("drf", [4.0, 40.0])
    def test_variance_and_mean_are_those_of_slices_by_themselves(self, uniform, counts, drf):
        noise = self.added(uniform, counts, drf=drf)
        assert noise.var() == pytest.approx((drf - 1.0) * 0.10**2, rel=0.12)
        assert noise.mean() == pytest.approx(0.0, abs=0.02)

    def test_variance_is_the_slices_own_where_activity_changes_along_them(self, uniform, counts):
        """A slice four times as hot as its neighbours: neither lends the other its noise."""
        stack = np.stack([uniform * scale for scale in (1.0, 1.0, 1.0, 4.0, 1.0, 1.0, 1.0)])
        inside = distance_from(0, 0) < 20
        options = {"drf": 4.0, "counts": 20 * counts, "reconstruction": PetReconstruction(iterations=2)}
        noise = [
            low_count_volume(stack, spacing_mm=(3.3, *SPACING), seeds=range(7 * i, 7 * i + 7), **options) - stack
            for i in range(16)
        ]
        found = np.stack(noise)[:, :, inside].var(axis=(0, 2))
        recipe = options["reconstruction"]
        cold, hot = (
            np.var(degrade(slice_, 20 * counts, [4.0] * 16, reconstruction=recipe)[:, inside] - slice_[inside])
            for slice_ in stack[2:4]
        )
        np.testing.assert_allclose(found[2:5], [cold, hot, cold], rtol=0.1)

    def test_the_ends_are_no_noisier(self, uniform, counts):
        noise = self.added(uniform, counts, slices=3, step=1.5)[[0, 2]]
        assert noise.var() == pytest.approx(3.0 * 0.10**2, rel=0.25)
        alone = self.added(uniform, counts, slices=1)
        assert alone.var() == pytest.approx(3.0 * 0.10**2, rel=0.25)

    def test_without_a_filter_slices_stand_alone(self, patient, counts):
        stack = np.stack([patient, patient[::-1]])
        recipe = PetReconstruction(iterations=2, axial_filter_mm=0.0)
        options = {"drf": 4.0, "counts": counts, "seeds": (5, 6), "reconstruction": recipe}
        found = low_count_volume(stack, spacing_mm=(3.3, *SPACING), **options)
        expected = [degrade(slice_, counts, [4.0], seed=seed)[0] for slice_, seed in zip(stack, (5, 6), strict=True)]
        np.testing.assert_allclose(found, expected, atol=1e-5)

    def test_contrasts_along_the_slices_stay(self, patient, counts):
        """A hot slice between cold ones keeps its mean, and they theirs; nothing is negative; factor 1 adds nothing."""
        stack = np.stack([patient * scale for scale in (0.2, 0.2, 3.0, 0.2, 0.0)])
        options = {"spacing_mm": (3.3, *SPACING), "counts": counts, "reconstruction": FAST}
        scans = [low_count_volume(stack, drf=12.0, seeds=range(5 * i, 5 * i + 5), **options) for i in range(24)]
        body = distance_from(0, 0) < 22
        means = np.mean(scans, axis=0)[:, body].mean(axis=1) / stack[:, body].mean(axis=1).clip(1e-6)
        np.testing.assert_allclose(means[:4], 1.0, atol=0.03)
        assert min(scan.min() for scan in scans) >= 0
        assert not np.any([scan[4] for scan in scans])
        np.testing.assert_array_equal(low_count_volume(stack, drf=1.0, seeds=range(5), **options), stack)


def test_seeds_reproduce(patient, counts):
    first, again, other = (degrade(patient, counts, [8.0], seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.1


def test_factor_one_adds_nothing(patient, counts):
    np.testing.assert_array_equal(degrade(patient, counts, [1.0])[0], patient)


def test_small_crops_and_fine_grids(uniform):
    crop = uniform[20:50, 18:47]
    assert degrade(crop, 1.0, [4.0], spacing=(5.5, 5.5)).shape == (1, 30, 29)
    fine = np.kron(uniform, np.ones((3, 3), dtype=np.float32))[:-1]
    scans = degrade(fine, 1.0, [4.0] * 4, spacing=(1.3, 1.3))
    assert scans.shape == (4, 191, 192)
    assert scans.min() >= 0
    inside = np.kron(distance_from(0, 0) < 22, np.ones((3, 3), dtype=bool))[:-1]
    assert scans[:, inside].mean() == pytest.approx(1.0, abs=0.03)


def test_oblong_pixels_have_the_same_noise_in_millimetres(uniform, counts):
    """Rows of 2 mm and columns of 4 mm: over 4 mm the noise correlates alike in both directions, and as in squares."""

    def correlations(slice_, spacing):
        noise = degrade(slice_, counts, [4.0] * 6, spacing=spacing) - slice_
        rows = round(4.0 / spacing[0])
        middle = noise[:, 20 * rows : 44 * rows, 20:44]
        power = np.square(middle).mean()
        down = (middle[:, :-rows] * middle[:, rows:]).mean() / power
        return down, (middle[:, :, :-1] * middle[:, :, 1:]).mean() / power

    square = correlations(uniform, SPACING)
    oblong = correlations(np.repeat(uniform, 2, axis=0), (2.0, 4.0))
    assert oblong == pytest.approx(square, abs=0.08)
    assert oblong[0] == pytest.approx(oblong[1], abs=0.1)


def test_fine_pixels_are_binned_in_each_direction():
    """Up to 3.4 mm: three rows of 1 mm, two columns of 1.6 mm; the last blocks are filled with the last pixels."""
    scan = ScannedSlice(np.ones((32, 31), dtype=np.float32), (1.0, 1.6), FAST)
    assert scan._scanner.shape == (11, 16)
    assert scan._spacing == pytest.approx((3.0, 3.2))
    image = np.arange(10, dtype=np.float32).reshape(5, 2)
    assert _binned(image, (2, 1)).tolist() == [[1, 2], [5, 6], [8, 9]]
    assert _binned(image.T, (1, 3)).ravel().tolist() == pytest.approx([2, 22 / 3, 3, 25 / 3])  # (6 + 8 + 8) / 3


def test_odd_values_stay(patient, counts):
    odd = patient.copy()
    odd[32, 32], odd[33, 33], odd[34, 34] = np.nan, np.inf, -0.2
    low = degrade(odd, counts, [4.0])[0]
    assert np.isnan(low[32, 32])
    assert low[33, 33] == np.inf
    assert low[34, 34] == np.float32(-0.2)
    np.testing.assert_array_equal(degrade(np.zeros_like(patient), counts, [4.0])[0], 0.0)


def test_no_tissue_no_estimate():
    assert np.isnan(estimate_variation(np.zeros((2, 32, 32), dtype=np.float32), SPACING))
    assert np.isnan(count_level(np.zeros((2, 32, 32), dtype=np.float32), spacing_mm=SPACING))


def test_osem_recovers_noiseless_projections(patient):
    scanner = PetScanner(patient.shape, SPACING, 8)
    survival = np.full_like(scanner.project(patient), 0.5)
    measured = survival * scanner.project(patient) + 2.0
    image = scanner.osem(measured[None], survival, 2.0, 20)[0]
    plateau = (distance_from(0, 0) < 20) & (distance_from(-8, 8) > 8) & (distance_from(8, -10) > 8)
    assert np.abs(image - patient)[plateau].mean() < 0.04
    assert image[distance_from(-8, 8) < 2].mean() == pytest.approx(8.0, rel=0.05)
    assert scanner.project(patient).max() == pytest.approx(52 * 4.0 + 7 * 8 * 4.0, rel=0.1)


def test_random_reconstructions_are_clinical():
    rng = np.random.default_rng(0)
    drawn = [random_reconstruction(rng) for _ in range(100)]
    assert {recipe.iterations for recipe in drawn} == {2, 3, 4}
    assert 3.0 <= min(recipe.post_filter_mm for recipe in drawn) < 3.5
    assert 7.5 < max(recipe.post_filter_mm for recipe in drawn) <= 8.0
    assert 3.0 <= min(recipe.axial_filter_mm for recipe in drawn) < 3.5
    with pytest.raises(UsageError, match="iterations"):
        PetReconstruction(iterations=0)
