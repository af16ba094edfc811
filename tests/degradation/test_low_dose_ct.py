"""The noise that low dose adds: its strength, spectrum, place and independence."""

import numpy as np
import pytest

from tatcli.degradation.axial_filter import correlating_weights, gaussian_weights, within_reach
from tatcli.degradation.ct_kernel import KERNELS, KernelSpec, find_kernel, random_kernel
from tatcli.degradation.low_dose_ct import (
    WATER_ATTENUATION,
    Acquisition,
    _relative_counts,
    ct_noise_realisations,
    low_dose_volume,
    random_acquisition,
    reconstructed,
    soft_tissue,
)
from tatcli.degradation.projector import parallel_beam
from tatcli.degradation.ray_noise import ray_noise
from tatcli.errors import UsageError

SPACING = (1.0, 1.0)
SIZE = 256
RADIUS = 100.0


def distance_from(row=0.0, column=0.0):
    y, x = np.ogrid[:SIZE, :SIZE]
    centre = (SIZE - 1) / 2
    return np.hypot(y - centre - row, x - centre - column)


@pytest.fixture(scope="module")
def water():
    """A water cylinder in air."""
    return np.where(distance_from() < RADIUS, 0.0, -1000.0).astype(np.float32)


def fields(slice_hu, kernels, seed=0, **options):
    return ct_noise_realisations(slice_hu, spacing_mm=SPACING, kernels=kernels, seed=seed, **options)


def low_dose_slice(slice_hu, *, seed, spacing_mm=SPACING, **options):
    return low_dose_volume(slice_hu[None], spacing_mm=spacing_mm, seeds=[seed], **options)[0]


def radial_spectrum(patches, frequencies):
    """Noise power of square patches (n, size, size) in rings around the given frequencies, cycles/mm at 1 mm pixels."""
    size = patches.shape[-1]
    power = np.square(np.abs(np.fft.fft2(patches))).mean(axis=0) / size**2
    radius = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.fftfreq(size))
    return np.array([power[np.abs(radius - f) < 0.02].mean() for f in frequencies])


@pytest.mark.parametrize("dose", [0.5, 0.25, 0.1])
def test_total_variance_is_the_references_over_the_dose(water, dose):
    kernel = KERNELS["standard"]
    own = 10.0 * fields(water, [kernel] * 4, seed=1)
    inside = distance_from() < 90
    low = low_dose_volume(water + own, spacing_mm=SPACING, dose=dose, noise=10.0, kernel=kernel, seeds=range(4))
    assert low[:, inside].var() / own[:, inside].var() == pytest.approx(1.0 / dose, rel=0.04)


@pytest.mark.parametrize(("correlation", "second"), [(0.3, 0.01), (0.55, 0.1)])
def test_neighbouring_slices_share_noise_and_keep_their_variance(water, correlation, second):
    """At the ends of the scan too; two slices apart, what a Gaussian along the slices makes of it."""
    inside = distance_from() < 90
    options = {"spacing_mm": SPACING, "dose": 0.25, "noise": 10.0, "kernel": KERNELS["standard"]}
    stack = np.stack([water] * 7)
    noise = low_dose_volume(stack, seeds=range(7), correlation=correlation, **options)[:, inside]
    np.testing.assert_allclose(noise.std(axis=1), np.sqrt(3) * 10.0, rtol=0.04)
    table = np.corrcoef(noise)
    assert np.diagonal(table, 1).mean() == pytest.approx(correlation, abs=0.02)
    assert np.diagonal(table, 2).mean() == pytest.approx(second, abs=0.03)


def test_without_correlation_every_slice_is_its_own(water):
    stack = np.stack([water, water - 10, water])
    options = {"spacing_mm": SPACING, "dose": 0.5, "noise": 10.0, "kernel": KERNELS["smooth"]}
    low = low_dose_volume(stack, seeds=[3, 4, 5], correlation=0.0, **options)
    for slice_, seed, found in zip(stack, (3, 4, 5), low, strict=True):
        np.testing.assert_array_equal(found, low_dose_slice(slice_, seed=seed, **options))


def test_a_slice_of_padding_stays_between_noisy_ones(water):
    stack = np.stack([water, np.full_like(water, -2000.0), water])
    options = {"spacing_mm": SPACING, "dose": 0.25, "noise": 10.0, "kernel": KERNELS["smooth"]}
    low = low_dose_volume(stack, seeds=range(3), correlation=0.5, **options)
    assert (low[1] == -2000.0).all()
    assert (low[0] != water).any()


def test_unit_fields_have_unit_deviation_in_soft_tissue_and_no_mean(water):
    noise = fields(water, list(KERNELS.values()))
    region = soft_tissue(water)
    np.testing.assert_allclose(noise[:, region].std(axis=1), 1.0, rtol=0.03)
    np.testing.assert_allclose(noise[:, region].mean(axis=1), 0.0, atol=0.03)


@pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)
def test_spectrum_follows_the_kernel(water, kernel):
    noise = fields(water, [kernel] * 8, seed=2)
    start = (SIZE - 128) // 2
    frequencies = np.arange(0.04, 0.48, 0.04)
    measured = radial_spectrum(noise[:, start : start + 128, start : start + 128], frequencies)
    expected = kernel.noise_power(frequencies)
    ratio = measured / measured.mean() / (expected / expected.mean())
    strong = expected > 0.1 * expected.max()
    np.testing.assert_allclose(ratio[strong], 1.0, atol=0.15)


def test_kernels_are_ordered_and_keep_low_frequencies():
    frequencies = np.linspace(0.0, 1.0, 501)
    powers = [kernel.noise_power(frequencies) for kernel in KERNELS.values()]
    peaks = [frequencies[np.argmax(power)] for power in powers]
    halves = [frequencies[power > 0.5 * power.max()].max() for power in powers]
    assert peaks[0] < peaks[1] < peaks[2]
    assert halves[0] < halves[1] < halves[2]
    assert all(power[0] > 0.2 * power.max() for power in powers)


def test_filter_gives_its_noise_power():
    kernel, f = KERNELS["sharp"], np.array([0.05, 0.15, 0.4])
    relative = kernel.response(f) ** 2 / f
    np.testing.assert_allclose(relative / relative[1], kernel.noise_power(f) / kernel.noise_power(f[1:2]))
    assert kernel.response(np.array([0.15]))[0] == pytest.approx(0.15)


def test_a_kernels_noise_power_by_hand():
    """At 0 the remainder, at the rise halfway to the plateau of 1; at the cutoff half of it, at twice that 2^-16."""
    kernel = KernelSpec(cutoff=0.4, order=4.0, rise=0.004, remainder=0.6)
    power = kernel.noise_power(np.array([0.0, 0.004, 0.4, 0.8]))
    np.testing.assert_allclose(power, [0.6, 0.8, 0.5, 2.0**-16], rtol=1e-4)


@pytest.mark.parametrize("width", [0.0, 0.05, 0.1])
def test_a_filter_next_to_none_is_none(width):
    assert gaussian_weights(width).tolist() == [1.0]


@pytest.mark.parametrize(("width", "reach"), [(0.3, 2), (0.5, 2), (0.51, 3), (1.0, 4), (2.2, 9)])
def test_gaussian_weights_reach_four_deviations(width, reach):
    weights = gaussian_weights(width)
    assert weights.size == 2 * reach + 1
    assert weights.sum() == pytest.approx(1.0)
    np.testing.assert_allclose(weights / weights[reach], np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * width**2)))


@pytest.mark.parametrize(
    ("asked", "found"), [(0.04, 0.0), (0.06, 0.06), (0.3, 0.3), (0.9, 0.9), (0.95, 0.95), (1.0, 0.95)]
)
def test_filtered_white_noise_correlates_as_asked(asked, found):
    weights = correlating_weights(asked)
    shifted = np.correlate(weights, weights, mode="full")  # the autocorrelation, 0 at its middle
    assert shifted[len(weights)] / shifted[len(weights) - 1] == pytest.approx(found) if found else weights.size == 1


@pytest.mark.parametrize(
    ("index", "count", "around", "shares"),
    [
        (5, 10, range(3, 8), [1, 2, 3, 4, 5]),
        (0, 10, range(3), [3, 4, 5]),
        (9, 10, range(7, 10), [1, 2, 3]),
        (1, 2, range(2), [2, 3]),
        (0, 1, range(1), [3]),
    ],
)
def test_fewer_slices_are_within_reach_at_the_ends(index, count, around, shares):
    found, weights = within_reach(np.arange(1.0, 6.0), index, count)
    assert (found, weights.tolist()) == (around, shares)


def test_photons_of_rays_through_water_by_hand():
    """exp(-mu * chord) of a cylinder; of the bow tie exp(-b mu (2 r - chord)) of a water cylinder of radius r."""
    beam = parallel_beam((SIZE, SIZE), (1.25, 1.25), views=60)
    air = np.full((SIZE, SIZE), -1000.0, dtype=np.float32)
    water = np.where(distance_from() < RADIUS, 0.0, -1000.0).astype(np.float32)
    offset = (np.arange(beam.bins) - beam.bins // 2) * beam.pitch

    def chord(radius):
        return 2 * np.sqrt(np.maximum(radius**2 - offset**2, 0.0))

    flat = _relative_counts(water, beam, Acquisition(modulation=0.0, bowtie=0.0))
    inner = np.abs(offset) < 100  # farther out, a pixel's width in the radius is a large part of the chord
    np.testing.assert_allclose(
        flat[:, inner], np.exp(-0.0192 * np.tile(chord(1.25 * RADIUS), (60, 1)))[:, inner], rtol=0.05
    )
    tie = _relative_counts(air, beam, Acquisition(modulation=0.0, bowtie=0.5, bowtie_diameter=240.0))
    np.testing.assert_allclose(tie, np.tile(np.exp(-0.5 * 0.0192 * (240.0 - chord(120.0))), (60, 1)), rtol=0.01)
    assert WATER_ATTENUATION == 0.0192  # per mm, at about 70 keV


def test_rays_have_the_noise_of_their_photons_and_of_the_detector(water, monkeypatch):
    """Variance 1 / n of n photons, and (s / n)^2 of an electronic noise of s photons, the same for all rays."""
    seen = []

    def recorded(quantum, electronic, generator):
        seen.append((quantum, electronic))
        return np.zeros_like(quantum)

    monkeypatch.setattr("tatcli.degradation.low_dose_ct.ray_noise", recorded)
    kernel = [KERNELS["standard"]]
    fields(water, kernel, acquisition=Acquisition(electronic=7.0))
    ((quantum, electronic),) = seen
    np.testing.assert_allclose(electronic, 49.0 * quantum**2, rtol=1e-4)
    beam = parallel_beam((SIZE, SIZE), SPACING, views=Acquisition().views)
    photons_in_air = 1.0 / quantum / _relative_counts(water, beam, Acquisition())
    np.testing.assert_allclose(photons_in_air, photons_in_air.mean(), rtol=1e-4)
    seen.clear()
    for level in (10.0, 20.0):  # a fourth of the photons for twice the noise
        fields(water, kernel, noise_hu=level, acquisition=Acquisition(electronic=0.0))
    np.testing.assert_allclose(seen[1][0], 4.0 * seen[0][0], rtol=1e-4)


def test_the_tube_current_evens_out_the_views():
    """An ellipse of water: full modulation lets as many photons through its longer as through its shorter axis."""
    y, x = np.ogrid[:SIZE, :SIZE]
    ellipse = np.hypot((y - 127.5) / 60.0, (x - 127.5) / 110.0) < 1
    image = np.where(ellipse, 0.0, -1000.0).astype(np.float32)
    beam = parallel_beam((SIZE, SIZE), SPACING, views=60)
    fewest = [
        _relative_counts(image, beam, Acquisition(modulation=modulation, bowtie=0.0)).min(axis=1)
        for modulation in (0.0, 0.5, 1.0)
    ]
    assert np.log(fewest[0].max() / fewest[0].min()) == pytest.approx(0.0192 * (220 - 120), rel=0.05)
    assert np.log(fewest[1].max() / fewest[1].min()) == pytest.approx(0.0192 * (220 - 120) / 2, rel=0.05)
    np.testing.assert_allclose(fewest[2], fewest[2].mean(), rtol=1e-4)


def test_random_kernels_lie_between_smooth_and_sharp():
    rng = np.random.default_rng(0)
    kernels = [random_kernel(rng) for _ in range(200)]
    cutoffs = np.array([kernel.cutoff for kernel in kernels])
    remainders = np.array([kernel.remainder for kernel in kernels])
    assert 0.28 <= cutoffs.min() < 0.3
    assert 0.6 < cutoffs.max() <= 0.62
    assert 0.14 < remainders.min() < 0.3
    assert 1.3 < remainders.max() < 2.0


@pytest.mark.parametrize("bad", [{"cutoff": 0.0}, {"remainder": -0.1}])
def test_a_kernel_of_nonsense_is_refused(bad):
    with pytest.raises(UsageError, match="positive"):
        KernelSpec(**bad)


def test_an_unknown_kernel_lists_the_known():
    with pytest.raises(UsageError, match="auto, smooth, standard, sharp"):
        find_kernel("B30f")


def test_noise_is_correlated(water):
    noise = fields(water, [KERNELS["smooth"]])[0]
    centre = noise[80:176, 80:176]
    assert np.mean(centre[:, :-1] * centre[:, 1:]) / np.mean(centre**2) > 0.3


@pytest.mark.parametrize("photons", [150.0, 60.0, 20.0, 10.0, 5.0, 3.0, 1.0, 0.1])
def test_the_noise_of_a_ray_has_no_mean_however_few_photons(photons):
    quantum = np.full(200_000, 1.0 / photons, dtype=np.float32)
    noise = ray_noise(quantum, 25.0 * quantum**2, np.random.default_rng(7))
    assert abs(noise.mean()) < 4.5 * noise.std() / np.sqrt(noise.size)


@pytest.mark.parametrize(("photons", "electrons"), [(400.0, 20.0), (300.0, 0.0), (90.0, 3.0), (60.0, 2.0)])
def test_the_noise_of_a_ray_has_the_variance_of_its_photons_and_electrons(photons, electrons):
    """1 / n + (s / n)^2; of few photons some per cent more, as the logarithm bends them."""
    quantum = np.full(200_000, 1.0 / photons, dtype=np.float32)
    noise = ray_noise(quantum, electrons**2 * quantum**2, np.random.default_rng(7))
    expected = 1.0 / photons + (electrons / photons) ** 2
    assert 0.98 * expected < noise.var() < (1.02 + 3.0 * expected * (expected > 0.01)) * expected


def test_the_noise_of_few_photons_is_skewed():
    """As the logarithm of Poisson counts: by 2 / sqrt(n) to the dark side."""
    quantum = np.full(200_000, 1.0 / 30.0, dtype=np.float32)
    noise = ray_noise(quantum, 0.0 * quantum, np.random.default_rng(7))
    assert np.mean((noise / noise.std()) ** 3) == pytest.approx(2.0 / np.sqrt(30.0), abs=0.15)


def test_noise_is_streaky_between_dense_rods(water):
    """Rays through both rods lose most photons: between them the noise grows, and along them it is correlated."""
    phantom = water.copy()
    for column in (-60.0, 60.0):
        phantom[distance_from(column=column) < 15] = 1500.0
    constant = Acquisition(modulation=0.0, bowtie=0.0)
    noise = fields(phantom, [KERNELS["standard"]] * 6, acquisition=constant)
    between = noise[:, 120:136, 100:156]
    above = noise[:, 60:76, 100:156]
    assert between.std() > 1.3 * above.std()
    along = np.mean(between[:, :, :-3] * between[:, :, 3:])
    across = np.mean(between[:, :-3] * between[:, 3:])
    assert along > across + 0.1 * between.var()


def test_any_acquisition_is_calibrated(water):
    rng = np.random.default_rng(1)
    for _ in range(3):
        noise = fields(water, [KERNELS["standard"]], acquisition=random_acquisition(rng))
        assert noise[:, soft_tissue(water)].std() == pytest.approx(1.0, rel=0.05)


def test_seeds_reproduce_and_realisations_are_independent(water):
    pair = [KERNELS["standard"]] * 2
    first, again, other = (fields(water, pair, seed=seed) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first, again)
    inside = distance_from() < 90
    assert abs(np.corrcoef(first[0][inside], first[1][inside])[0, 1]) < 0.03
    assert abs(np.corrcoef(first[0][inside], other[0][inside])[0, 1]) < 0.03


def test_the_mean_of_many_scans_is_the_reference_edges_included(water):
    kernel = KERNELS["smooth"]
    phantom = np.where(distance_from() < 40, 100.0, water).astype(np.float32)
    scans = [low_dose_slice(phantom, dose=0.25, noise=5.0, kernel=kernel, seed=seed) for seed in range(30)]
    difference = (np.mean(scans, axis=0) - phantom)[distance_from() < 90]
    spread = np.std(scans, axis=0)[distance_from() < 90].mean() / np.sqrt(30)
    assert np.abs(difference).max() < 5.5 * spread
    assert difference.std() == pytest.approx(spread, rel=0.1)


def test_padding_stays_and_air_is_not_below_the_scanners_floor(water):
    padded = np.where(distance_from() < 126, water, -2000.0).astype(np.float32)
    low = low_dose_slice(padded, dose=0.05, noise=30.0, kernel=KERNELS["sharp"], seed=0)
    np.testing.assert_array_equal(low[padded == -2000], -2000)
    assert low[padded > -2000].min() == -1024.0
    # a circle that is padded with the floor itself
    floor = np.where(distance_from() < 126, water, -1024.0).astype(np.float32)
    np.testing.assert_array_equal(reconstructed(floor), distance_from() < 126)


def test_full_dose_changes_nothing(water):
    low = low_dose_slice(water, dose=1.0, noise=10.0, kernel=KERNELS["smooth"], seed=0)
    np.testing.assert_array_equal(low, water)


def test_nan_stays_and_metal_is_survived(water):
    phantom = water.copy()
    phantom[distance_from(row=20) < 20] = 20000.0
    phantom[128, 128] = np.nan
    low = low_dose_slice(phantom, dose=0.05, noise=30.0, kernel=KERNELS["standard"], seed=0)
    np.testing.assert_array_equal(np.isnan(low), np.isnan(phantom))
    assert np.abs(low - phantom)[distance_from() < 90][~np.isnan(low[distance_from() < 90])].max() < 20000


def test_a_slice_of_padding_gets_no_noise():
    padding = np.full((32, 32), -2000.0, dtype=np.float32)
    assert not ct_noise_realisations(padding, spacing_mm=(2.0, 2.0), kernels=[KERNELS["smooth"]], seed=0).any()


def test_a_slice_without_soft_tissue_is_noisy_too():
    lung = np.full((64, 64), -800.0, dtype=np.float32)
    noise = ct_noise_realisations(lung, spacing_mm=(3.0, 3.0), kernels=[KERNELS["smooth"]], seed=0)
    assert noise.std() == pytest.approx(1.0, rel=0.15)


def test_every_slice_is_calibrated_to_its_own_noise(water):
    """Also where neighbours, of other levels, share noise with it."""
    inside = distance_from() < 90
    options = {"spacing_mm": SPACING, "dose": 0.25, "kernel": KERNELS["standard"], "seeds": range(5)}
    stack, own = np.stack([water] * 5), np.array([5.0, 5.0, 10.0, 20.0, 20.0])
    for correlation in (0.0, 0.4):
        added = low_dose_volume(stack, noise=own, correlation=correlation, **options)[:, inside]
        np.testing.assert_allclose(added.std(axis=1), np.sqrt(3) * own, rtol=0.04)
