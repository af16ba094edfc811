"""SUVmax, SUVpeak, SUVmean of regions whose values are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.integrate import quad

from tatcli.metrics.uptake import PEAK_RADIUS_MM, hot_regions, peak_sphere, uptake_errors

SPACING = (3.0, 2.0, 2.0)


def grid(shape=(31, 41, 41)):
    z, y, x = (np.arange(n) - n // 2 for n in shape)
    return z[:, None, None] * SPACING[0], y[None, :, None] * SPACING[1], x[None, None, :] * SPACING[2]


def ball(radius: float, value: float = 8.0, centre=(0.0, 0.0, 0.0)) -> np.ndarray:
    z, y, x = grid()
    distance = (z - centre[0]) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2
    return np.where(distance <= radius**2, value, 0.5)


def test_the_sphere_holds_one_millilitre() -> None:
    assert 4.0 / 3.0 * math.pi * PEAK_RADIUS_MM**3 == pytest.approx(1000.0)
    for spacing in (SPACING, (5.0, 4.0, 4.0), (1.0, 1.0, 1.0)):
        weights = peak_sphere(spacing)
        assert weights.sum() == pytest.approx(1.0)
        assert 1.0 / weights.max() * np.prod(spacing) == pytest.approx(1000.0, rel=0.02)  # the centre is wholly inside
        np.testing.assert_allclose(weights, weights[::-1, ::-1, ::-1])


def test_the_peak_of_a_gaussian_lesion() -> None:
    """Mean of exp(-r^2 / 2 s^2) over a sphere of 6.204 mm, by quadrature."""
    s = 8.0
    z, y, x = grid()
    lesion = 10.0 * np.exp(-(z**2 + y**2 + x**2) / (2 * s**2))
    regions = hot_regions(lesion, spacing=SPACING)
    (found,) = uptake_errors(lesion, lesion, regions, spacing=SPACING)
    mean = 3.0 / PEAK_RADIUS_MM**3 * quad(lambda r: 10.0 * r**2 * math.exp(-(r**2) / (2 * s**2)), 0, PEAK_RADIUS_MM)[0]
    assert found.reference[0] == 10.0
    assert found.reference[1] == pytest.approx(mean, rel=0.015)  # voxels of 3 x 2 x 2 mm
    assert found.reference[2] == pytest.approx(lesion[lesion >= 4.0].mean())
    assert found.percent == (0.0, 0.0, 0.0)


def test_errors_in_percent() -> None:
    truth = ball(15.0)
    regions = hot_regions(truth, spacing=SPACING)
    restored = 0.9 * truth
    restored[15, 20, 20] = 16.0
    (found,) = uptake_errors(restored, truth, regions, spacing=SPACING)
    maximum, peak, mean = found.percent
    assert maximum == pytest.approx(100.0)
    share = peak_sphere(SPACING).max()
    assert peak == pytest.approx(100.0 * ((7.2 + share * (16.0 - 7.2)) / 8.0 - 1.0))
    inside = int(regions[0].mask.sum())
    assert mean == pytest.approx(100.0 * ((7.2 + (16.0 - 7.2) / inside) / 8.0 - 1.0))
    assert found.to_dict()["suv_max_error_percent"] == pytest.approx(100.0)


def test_regions_by_heat_and_size() -> None:
    volume = np.maximum(ball(12.0, 6.0, (0, -20, -20)), ball(10.0, 9.0, (0, 20, 20)))
    volume[2, 2, 2] = 50.0  # one voxel is no region
    regions = hot_regions(volume, spacing=SPACING)
    assert [region.index for region in regions] == [1, 2]
    assert [volume[region.box][region.mask].max() for region in regions] == [9.0, 6.0]
    assert regions[1].volume_ml == pytest.approx(4.0 / 3.0 * math.pi * 1.2**3, rel=0.1)
    assert hot_regions(np.full((5, 5, 5), 3.9), spacing=SPACING) == []


def test_a_region_at_the_border() -> None:
    """A uniform region that touches the volume's border has its own value as peak."""
    volume = np.zeros((10, 12, 12))
    volume[:5, :8, :8] = 7.0
    (found,) = uptake_errors(volume, volume, hot_regions(volume, spacing=SPACING), spacing=SPACING)
    assert found.reference == (7.0, pytest.approx(7.0), 7.0)
