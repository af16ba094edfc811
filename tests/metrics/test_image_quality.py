"""PSNR, SSIM, RMSE and MAE: known values, parity with the published benchmark's code, no hidden epsilons."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tatcli.metrics import mae, psnr, rmse, ssim
from tatcli.metrics.image_quality import psnr_from_mse

RNG = np.random.default_rng(0)
IMAGE = RNG.uniform(0.0, 400.0, (23, 17))


def test_known_values() -> None:
    reference = np.zeros((4, 4))
    restored = np.full((4, 4), 3.0)
    restored[0] = -3.0
    assert rmse(restored, reference) == 3.0
    assert mae(restored, reference) == 3.0
    assert psnr(restored, reference, data_range=30.0) == pytest.approx(20.0)
    errors = np.array([0.0, -1.0, 5.0])
    assert mae(errors, np.zeros(3)) == 2.0
    assert rmse(errors, np.zeros(3)) == pytest.approx(math.sqrt(26.0 / 3.0))


def test_identical_images_have_infinite_psnr_and_an_ssim_of_one() -> None:
    assert psnr(IMAGE, IMAGE, data_range=400.0) == math.inf
    assert ssim(IMAGE, IMAGE, data_range=400.0) == pytest.approx(1.0, abs=1e-12)
    assert rmse(IMAGE, IMAGE) == mae(IMAGE, IMAGE) == 0.0


def test_the_smallest_difference_is_finite() -> None:
    """An epsilon in the denominator would cap this at a plausible number."""
    other = IMAGE.copy()
    other[3, 4] += 1e-7
    assert psnr(other, IMAGE, data_range=400.0) == pytest.approx(
        10 * math.log10(400.0**2 * IMAGE.size / 1e-14), abs=0.01
    )


def test_integers_and_float32_are_computed_in_float64() -> None:
    reference = np.zeros((8, 8), dtype=np.int16)
    restored = np.full((8, 8), 30000, dtype=np.int16)  # its square overflows int16 and int32 sums
    assert rmse(restored, reference) == 30000.0


def test_ssim_pads_with_zeros() -> None:
    """A constant offset lowers SSIM by the luminance term; at the border the padding changes it."""
    reference, restored = np.full((40, 40), 100.0), np.full((40, 40), 110.0)
    c1, c2 = (0.01 * 200) ** 2, (0.03 * 200) ** 2
    interior = (2 * 100 * 110 + c1) / (100**2 + 110**2 + c1)
    # with weights w inside the image the local moments are those of a partly zero image
    weights = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    weights /= weights.sum()
    inside = np.convolve(np.ones(40), weights, mode="same")
    w = inside[:, None] * inside
    x, y = 110.0, 100.0
    luminance = (2 * w**2 * x * y + c1) / (w**2 * (x**2 + y**2) + c1)
    structure = (2 * (w - w**2) * x * y + c2) / ((w - w**2) * (x**2 + y**2) + c2)
    expected = float((luminance * structure).mean())
    assert ssim(restored, reference, data_range=200.0) == pytest.approx(expected, abs=1e-12)
    assert expected != pytest.approx(interior, abs=1e-4)


@pytest.mark.real_data
@pytest.mark.parametrize("modality", ["CT", "PET", "MRI"])
def test_parity_with_the_published_code(shared, modality) -> None:
    expected = json.loads((shared / "parity" / "metrics.json").read_text())[modality]
    with np.load(shared / "parity" / "metrics.npz") as arrays:
        restored, reference = (arrays[f"{modality}_{which}_trunc"].squeeze() for which in ("restored", "hq"))
    data_range = float(reference.max()) - float(reference.min())
    assert data_range == pytest.approx(expected["data_range"], rel=1e-6)
    assert psnr(restored, reference, data_range=data_range) == pytest.approx(expected["psnr"], abs=1e-4)
    assert ssim(restored, reference, data_range=data_range) == pytest.approx(expected["ssim"], abs=1e-4)
    assert rmse(restored, reference) == pytest.approx(expected["rmse"], rel=1e-6)


@settings(deadline=None, max_examples=30)
@given(scale=st.floats(1e-3, 1e4), seed=st.integers(0, 1000))
def test_scores_follow_the_units(scale: float, seed: int) -> None:
    """Other units change errors by their factor, PSNR and SSIM not at all."""
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(0, 1, (2, 12, 15))
    assert rmse(scale * x, scale * y) == pytest.approx(scale * rmse(x, y))
    assert mae(scale * x, scale * y) == pytest.approx(scale * mae(x, y))
    assert mae(x, y) <= rmse(x, y)
    assert psnr(scale * x, scale * y, data_range=scale) == pytest.approx(psnr(x, y, data_range=1.0))
    assert ssim(scale * x, scale * y, data_range=scale) == pytest.approx(ssim(x, y, data_range=1.0))
    assert -1.0 <= ssim(x, y, data_range=1.0) == pytest.approx(ssim(y, x, data_range=1.0))


@pytest.mark.parametrize("data_range", [0.0, -1.0, math.inf, math.nan])
def test_a_data_range_must_be_positive(data_range: float) -> None:
    with pytest.raises(ValueError, match="positive data range"):
        psnr_from_mse(1.0, data_range=data_range)
    with pytest.raises(ValueError, match="positive data range"):
        ssim(IMAGE, IMAGE, data_range=data_range)


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match=r"\(23, 17\), got \(17, 23\)"):
        rmse(IMAGE.T, IMAGE)
    with pytest.raises(ValueError, match="two images"):
        ssim(IMAGE[None], IMAGE[None], data_range=1.0)


@pytest.mark.parametrize("shape", [(9, 9), (4, 30), (31, 17)])
def test_patch_means_are_a_uniform_filter(shape: tuple[int, int]) -> None:
    import scipy.ndimage

    from tatcli.metrics.noise_level import _patch_means

    values = np.random.default_rng(0).normal(0, 30, shape)
    np.testing.assert_allclose(_patch_means(values), scipy.ndimage.uniform_filter(values, 9), atol=1e-10)
