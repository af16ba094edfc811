"""Measured k-space: which lines, and that they come back exactly."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.fft

from tatcli.degradation.low_resolution_mri import kept_lines, low_resolution
from tatcli.errors import UsageError
from tatcli.inference.data_consistency import estimate_known_lines, known_lines, with_measured_lines
from tatcli.intensity import Units
from tatcli.metrics import rmse
from tatcli.tasks import TASKS
from tatcli.volumes.geometry import Geometry
from tatcli.volumes.volume import Volume

MRI = TASKS["mri-sr"]


def head(shape=(4, 120, 96), seed=0) -> np.ndarray:
    """Ellipses with texture and noise, so that the spectrum is full."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-1 : 1 : shape[1] * 1j, -1 : 1 : shape[2] * 1j]
    volume = np.zeros(shape)
    for slice_ in volume:
        slice_[x**2 + y**2 < 0.7] = 500.0
        for _ in range(12):
            cx, cy, r = rng.uniform(-0.5, 0.5), rng.uniform(-0.5, 0.5), rng.uniform(0.03, 0.2)
            slice_[(x - cx) ** 2 + (y - cy) ** 2 < r**2] = rng.uniform(200, 900)
    return (volume + rng.normal(100, 20, shape)).astype(np.float32)


def scan(array: np.ndarray, affine=None) -> Volume:
    return Volume(
        array, Geometry(np.diag([1.0, 1.0, 4.0, 1.0]) if affine is None else affine, array.shape[-3:]), Units.ARBITRARY
    )


@pytest.mark.parametrize("factor", [1.5, 2.0, 3.0, 4.0])
def test_the_border_is_found(factor) -> None:
    lq = low_resolution(head(), factor)
    found = estimate_known_lines(lq)
    assert found is not None
    for half, count in ((found.rows, 120), (found.columns, 96)):
        kept = int(kept_lines(count, factor).sum())
        true = (kept - 1) // 2
        assert half[0] == -half[1]
        assert true - 2 <= half[1] <= true
    assert min(found.drop) >= 0.8
    assert found.factors == pytest.approx((factor, factor), rel=0.08)


def test_a_full_spectrum_has_no_border() -> None:
    assert estimate_known_lines(head()) is None
    one_way = scipy.fft.ifft(scipy.fft.fft(head(), axis=1) * kept_lines(120, 4.0)[None, :, None], axis=1).real
    assert estimate_known_lines(one_way.astype(np.float32)) is None


def test_lines_of_a_factor() -> None:
    found = known_lines((120, 97), 4.0)
    assert (found.rows, found.columns) == ((-15, 14), (-12, 11))
    np.testing.assert_array_equal(found.mask(), kept_lines(120, 4.0)[:, None] & kept_lines(97, 4.0))
    assert found.factors == (4.0, 97 / 24)
    with pytest.raises(UsageError, match=r"expected at least 1, got 0.5"):
        known_lines((120, 96), 0.5)


@pytest.mark.parametrize("factor", [None, 4.0])
def test_known_lines_come_back_and_the_others_stay(factor) -> None:
    """Where the band-limited image is positive everywhere its magnitude has the measured lines themselves."""
    lq = low_resolution(head() + 300.0, 4.0)
    restored = scan(lq + np.random.default_rng(1).normal(0, 30, lq.shape).astype(np.float32))
    out, known = with_measured_lines(restored, scan(lq), MRI, axis=0, factor=factor)
    mask = known.mask()
    both = mask & np.roll(mask[::-1, ::-1], 1, axis=(0, 1))  # a real image's lines come in pairs
    spectrum, wanted, before = (scipy.fft.fft2(a.astype(np.float64)) for a in (out.array, lq, restored.array))
    np.testing.assert_allclose(spectrum[:, both], wanted[:, both], atol=2e-3 * np.abs(wanted).max())
    np.testing.assert_allclose(spectrum[:, both], wanted[:, both], atol=0.05 * np.abs(before - wanted)[:, both].max())
    neither = ~(mask | np.roll(mask[::-1, ::-1], 1, axis=(0, 1)))
    np.testing.assert_allclose(spectrum[:, neither], before[:, neither], atol=1e-6 * np.abs(wanted).max())
    assert "measured k-space put back" in out.provenance.steps[-1]


def test_the_lost_sign_is_restored() -> None:
    """A truth with silent air rings below zero there: it stays as it is, and errors of its known lines go."""
    hq = head()
    hq[hq < 180.0] = 0.0
    lq = low_resolution(hq, 4.0)
    out, known = with_measured_lines(scan(hq), scan(lq), MRI, axis=0, factor=4.0)
    np.testing.assert_allclose(out.array, hq, atol=0.01)
    error = 8.0 * np.cos(2 * np.pi * 5 * np.arange(96) / 96)[None, None].astype(np.float32)
    out, _ = with_measured_lines(scan(hq + error), scan(lq), MRI, axis=0, factor=4.0)
    assert rmse(out.array, hq) < 0.25 * rmse(hq + error, hq)
    naive = hq + scipy.fft.ifft2(scipy.fft.fft2(lq - hq) * known.mask()).real  # the magnitude's own lines
    assert rmse(naive, hq) > 2.0 * rmse(out.array, hq)


def test_it_helps_a_network_that_bends_what_was_measured() -> None:
    hq = head()
    lq = low_resolution(hq, 2.0)
    bent = 0.9 * hq + 30.0
    out, _ = with_measured_lines(scan(bent), scan(lq), MRI, axis=0)
    assert rmse(out.array, hq) < 0.5 * rmse(bent, hq)


def test_other_axes_frames_and_holes() -> None:
    lq = low_resolution(head() + 300.0, 4.0)
    affine = np.diag([4.0, 1.0, 1.0, 1.0])
    turned = np.moveaxis(lq, 0, 2).copy()
    frames = np.stack([turned, 2 * turned])
    restored = frames + 5.0
    restored[1, 0, 0, 0] = np.nan
    measured = frames.copy()
    measured[1, 0, 0, 0] = np.nan
    out, known = with_measured_lines(
        Volume(restored, Geometry(affine, turned.shape), Units.ARBITRARY),
        Volume(measured, Geometry(affine, turned.shape), Units.ARBITRARY),
        MRI,
        axis=2,
    )
    assert known.shape == (120, 96)
    np.testing.assert_allclose(out.array[0], turned, atol=0.01)  # the offset was in DC alone
    assert np.isnan(out.array[1, 0, 0, 0])
    assert np.isnan(out.array).sum() == 1


def test_what_is_refused() -> None:
    hq = scan(head())
    with pytest.raises(UsageError, match="expected only with mri-sr, got ct-denoise"):
        with_measured_lines(hq, hq, TASKS["ct-denoise"], axis=0)
    with pytest.raises(UsageError, match="got a full spectrum; say --kspace-factor"):
        with_measured_lines(hq, hq, MRI, axis=0)
