"""The classical filters: what each does to known images, and what all have in common."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.fft
from hypothesis import given, settings
from hypothesis import strategies as st

from tatcli.baselines import (
    BASELINES,
    SliceContext,
    every_baseline,
    find_baseline,
    is_installed,
    noise_level,
    usual_baselines,
)
from tatcli.baselines import registry as registry_module
from tatcli.baselines.interpolation import coarse_image
from tatcli.degradation.low_resolution_mri import kept_lines, low_resolution
from tatcli.errors import UsageError
from tatcli.intensity import Window
from tatcli.metrics import psnr
from tatcli.tasks import TASKS

WINDOW = Window(-160.0, 240.0)
HERE = [baseline for baseline in BASELINES.values() if is_installed(baseline)]
DENOISERS = [baseline for baseline in HERE if "ct-denoise" in baseline.tasks]


def phantom() -> np.ndarray:
    y, x = np.mgrid[-1:1:48j, -1:1:56j]
    image = np.full(y.shape, -100.0)
    image[x**2 + y**2 < 0.8] = 40.0
    image[(x - 0.3) ** 2 + y**2 < 0.06] = 120.0
    return image


def noisy(sigma: float = 20.0, seed: int = 0) -> np.ndarray:
    return phantom() + np.random.default_rng(seed).normal(0.0, sigma, phantom().shape)


def context(image: np.ndarray, strength: float | None = 4.0) -> SliceContext:
    return SliceContext.of(image, window=WINDOW, strength=strength)


def best(baseline, lq: np.ndarray, hq: np.ndarray) -> float:
    return max(psnr(baseline(lq, p, context=context(lq)), hq, data_range=400.0) for p in baseline.grid)


@pytest.mark.parametrize("baseline", DENOISERS, ids=lambda baseline: baseline.name)
def test_denoisers_denoise(baseline) -> None:
    lq = noisy()
    gain = best(baseline, lq, phantom()) - psnr(lq, phantom(), data_range=400.0)
    assert gain > {"gaussian": 2.0, "median": 3.0, "wavelet": 3.0, "curvature-flow": 3.0}.get(baseline.name, 6.0)


@pytest.mark.parametrize("baseline", HERE, ids=lambda baseline: baseline.name)
def test_voxels_that_are_not_finite_stay(baseline) -> None:
    lq = noisy()
    lq[3, 4], lq[20, 20], lq[20, 21] = np.nan, np.inf, -np.inf
    out = baseline(lq, baseline.grid[:3][-1], context=context(lq))
    assert out.dtype == np.float32
    assert np.isnan(out[3, 4])
    assert (out[20, 20], out[20, 21]) == (np.inf, -np.inf)
    assert np.isfinite(out).sum() == out.size - 3


@pytest.mark.parametrize("baseline", HERE, ids=lambda baseline: baseline.name)
def test_a_constant_slice_stays(baseline) -> None:
    lq = np.full((16, 20), 37.0)
    np.testing.assert_allclose(baseline(lq, baseline.grid[-1], context=context(lq)), lq, rtol=1e-5)


@pytest.mark.parametrize("baseline", HERE, ids=lambda baseline: baseline.name)
def test_other_units_give_the_same_image(baseline) -> None:
    """Parameters carry over between scans of other intensities."""
    lq = noisy() + 160.0
    other = SliceContext.of(50.0 * lq, window=Window(0.0, 20000.0), strength=4.0)
    same = SliceContext.of(lq, window=Window(0.0, 400.0), strength=4.0)
    parameter = baseline.grid[:2][-1]
    ours, theirs = baseline(lq, parameter, context=same), baseline(50.0 * lq, parameter, context=other)
    np.testing.assert_allclose(theirs, 50.0 * ours, rtol=1e-4, atol=1.0)


def test_the_median_removes_an_impulse() -> None:
    image = np.tile(np.arange(12.0), (10, 1))
    struck = image.copy()
    struck[5, 6] = 1000.0
    out = BASELINES["median"](struck, 1.0, context=context(struck))
    np.testing.assert_allclose(out[5, 6], 6.0, atol=1.0)
    np.testing.assert_allclose(out[1:4, 1:-1], image[1:4, 1:-1])


def test_gaussian_smoothing_of_a_point() -> None:
    point = np.zeros((31, 31))
    point[15, 15] = 1.0
    out = BASELINES["gaussian"](point, 2.0, context=context(point))
    np.testing.assert_allclose(out[15, 15], 1.0 / (2 * np.pi * 4.0), rtol=1e-3)
    np.testing.assert_allclose(out.sum(), 1.0, rtol=1e-4)


def test_gaussian_smoothing_keeps_air_out_of_tissue() -> None:
    image = np.full((20, 20), -1000.0)
    image[:, 10:] = 40.0
    clipped, raw = (
        BASELINES["gaussian"](values, 1.0, context=context(image)) for values in (image.clip(-160.0), image)
    )
    np.testing.assert_allclose(raw[:, 10:], clipped[:, 10:], atol=1e-3)
    assert raw[0, 0] == -1000.0


def test_unsharp_masking_amplifies_details_in_proportion() -> None:
    lq = noisy()
    change = [BASELINES["unsharp"](lq, amount, context=context(lq)) - lq for amount in (0.1, 0.3)]
    np.testing.assert_allclose(change[1], 3.0 * change[0], atol=1e-3)
    assert change[0].std() > 1.0


def test_total_variation_with_k_space_consistency() -> None:
    """It gains over the zero-filled input, and what was measured stays."""
    rows = columns = 64
    y, x = np.mgrid[-1 : 1 : rows * 1j, -1 : 1 : columns * 1j]
    hq = np.where(x**2 + y**2 < 0.6, 150.0, 10.0) + np.where((abs(x) < 0.2) & (abs(y - 0.3) < 0.15), 70.0, 0.0)
    lq = low_resolution(hq, 4.0).astype(np.float64)
    method = BASELINES["tv-kspace"]
    seen = SliceContext.of(lq, window=Window(0.0, 220.0), strength=4.0)
    out = method(lq, 0.01, context=seen)
    assert psnr(out, hq, data_range=220.0) > psnr(lq, hq, data_range=220.0) + 1.5
    measured = kept_lines(rows, 4.0)[:, None] & kept_lines(columns, 4.0)
    before, after = (scipy.fft.fft2(image)[measured] for image in (lq, out))
    np.testing.assert_allclose(after, before, atol=1e-3 * np.abs(before).max())
    with pytest.raises(ValueError, match="k-space factor"):
        method(lq, 0.01, context=SliceContext.of(lq, window=Window(0.0, 220.0)))


def test_bicubic_interpolation_and_back_projection() -> None:
    """Of a smooth image bicubic interpolation is right; back-projection restores what was measured."""
    y, x = np.mgrid[:64, :64]
    smooth = 100.0 + 50.0 * np.cos(2 * np.pi * x / 64) * np.sin(2 * np.pi * y / 32)
    seen = SliceContext.of(smooth, window=Window(0.0, 200.0), strength=4.0)
    np.testing.assert_allclose(coarse_image(smooth, 4.0), smooth[::4, ::4], atol=1e-6)
    np.testing.assert_allclose(BASELINES["bicubic"](smooth, 3.0, context=seen), smooth, atol=1.5)
    hq = np.where((x - 30) ** 2 + (y - 34) ** 2 < 300, 150.0, 20.0) + np.where(abs(x - 30) < 5, 30.0, 0.0)
    lq = low_resolution(hq, 4.0).astype(np.float64)
    errors = [
        np.abs(low_resolution(BASELINES["back-projection"](lq, rounds, context=seen), 4.0) - lq).mean()
        for rounds in (1.0, 4.0, 16.0)
    ]
    assert errors[0] > errors[1] > errors[2]
    # the measured k-space comes back by half in each round
    assert errors[2] < 0.1 * errors[0]
    for name in ("bicubic", "back-projection"):
        with pytest.raises(ValueError, match=f"{name}: expected the k-space factor"):
            BASELINES[name](lq, 1.0, context=SliceContext.of(lq, window=Window(0.0, 200.0)))


def test_edges_survive_the_bilateral_filter_and_curvature_flow() -> None:
    """A step of ten noise levels stays where a Gaussian blurs it."""
    clean = np.where(np.arange(64)[None, :] < 32, 0.0, 100.0) + np.zeros((64, 64))
    lq = clean + np.random.default_rng(0).normal(0, 10.0, clean.shape)
    blurred = BASELINES["gaussian"](lq, 1.5, context=context(lq))
    for name, parameter in (("bilateral", 2.0), ("curvature-flow", 8.0)):
        out = BASELINES[name](lq, parameter, context=context(lq))
        assert out[:, 5:25].std() < 0.6 * lq[:, 5:25].std()
        steps = [float(np.diff(image[8:56].mean(axis=0))[31]) for image in (out, blurred)]
        assert steps[0] > 80.0
        assert steps[1] < 40.0


def test_noise_level_of_white_noise() -> None:
    flat = np.random.default_rng(1).normal(50.0, 12.0, (128, 128))
    assert noise_level(flat, WINDOW) == pytest.approx(12.0, rel=0.15)


def test_noise_level_looks_inside_the_window() -> None:
    """Silent air around a noisy body doesn't count."""
    image = np.full((128, 128), -1000.0)
    image[20:108, 20:108] = np.random.default_rng(1).normal(50.0, 12.0, (88, 88))
    assert noise_level(image, WINDOW) == pytest.approx(12.0, rel=0.2)
    assert noise_level(np.full((20, 20), -1000.0), WINDOW) == 0.0


def test_noise_level_is_exact_far_from_zero() -> None:
    """The variance of large numbers: a cancellation would show."""
    flat = np.random.default_rng(1).normal(0.0, 1e-3, (64, 64))
    far = noise_level(flat + 1e5, Window(0.0, 2e5))
    assert far == pytest.approx(noise_level(flat + 0.5, Window(0.0, 1.0)), rel=1e-3)


@settings(deadline=None, max_examples=20)
@given(scale=st.floats(1e-2, 1e3))
def test_noise_level_follows_the_units(scale: float) -> None:
    lq = noisy()
    scaled = noise_level(scale * lq, Window(-160.0 * scale, 240.0 * scale))
    assert scaled == pytest.approx(scale * noise_level(lq, WINDOW))


def test_no_noise_means_no_denoising() -> None:
    lq = noisy()
    out = BASELINES["tv"](lq, 1.0, context=SliceContext(0.0, WINDOW))
    np.testing.assert_array_equal(out, lq.astype(np.float32))


def test_the_registry() -> None:
    for name, baseline in BASELINES.items():
        assert name == baseline.name
        assert list(baseline.grid) == sorted(set(baseline.grid))
        assert baseline.grid[0] > 0
        assert set(baseline.tasks) <= set(TASKS)
    assert [b.name for b in usual_baselines(TASKS["ct-denoise"])] == ["gaussian", "median", "nlm", "tv"]
    assert [b.name for b in usual_baselines(TASKS["mri-sr"])] == ["unsharp", "tv-kspace"]
    assert [b.name for b in usual_baselines(TASKS["mri-sr"], strength_known=False)] == ["unsharp"]
    both = [{b.name for b in every_baseline(TASKS[task])} for task in ("ct-denoise", "mri-sr")]
    assert both[0] >= {"gaussian", "median", "nlm", "tv", "bilateral", "curvature-flow"}
    assert both[1] == {"bicubic", "back-projection", "unsharp", "tv-kspace"}
    assert find_baseline("NLM ") is BASELINES["nlm"]
    with pytest.raises(UsageError, match="unknown baseline 'nml': expected one of gaussian, "):
        find_baseline("nml")


def test_a_missing_package_is_named_with_its_licence(monkeypatch) -> None:
    monkeypatch.setattr(registry_module, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"non-commercial.*pip install 'tatcli\[bm3d\]'"):
        find_baseline("bm3d")
    with pytest.raises(
        UsageError, match=r"expected the package pywt, which isn't installed: pip install 'tatcli\[wavelet"
    ):
        find_baseline("wavelet")
    assert "wavelet" not in {b.name for b in every_baseline(TASKS["ct-denoise"])}
    assert find_baseline("tv").name == "tv"


def test_bm3d_is_called_in_noise_levels(monkeypatch) -> None:
    """The package isn't installed here; its double halves what it is given and notes it."""
    seen = []
    double = SimpleNamespace(bm3d=lambda image, sigma: seen.append((image, sigma)) or 0.5 * image)
    monkeypatch.setitem(sys.modules, "bm3d", double)
    lq = noisy()
    out = BASELINES["bm3d"](lq, 1.4, context=SliceContext(8.0, WINDOW))
    np.testing.assert_allclose(seen[0][0], lq / 8.0)
    assert seen[0][1] == 1.4
    np.testing.assert_allclose(out, lq / 2, rtol=1e-6)
