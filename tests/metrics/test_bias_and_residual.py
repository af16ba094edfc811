"""Bias, the body, and structure in residuals."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage

from tatcli.metrics.bias import bias
from tatcli.metrics.body import body_mask, body_threshold
from tatcli.metrics.residual_structure import residual_structure
from tatcli.tasks import TASKS

CT, PET, MRI = (TASKS[name] for name in ("ct-denoise", "pet-synthesis", "mri-sr"))


def patient() -> tuple[np.ndarray, np.ndarray]:
    """A CT with lung, table and a lost pixel; and where the body is."""
    y, x = np.mgrid[-1:1:96j, -1:1:96j]
    body = x**2 + y**2 < 0.5
    image = np.where(body, 40.0, -1000.0)
    image[(x - 0.3) ** 2 + y**2 < 0.04] = -850.0
    image[90:92, 20:76] = 200.0  # a table
    image[3, 3] = 100.0
    return np.stack([image, image]), np.stack([body, body])


def test_the_body_has_its_lung_but_no_table() -> None:
    image, body = patient()
    found = body_mask(image, CT)
    assert (found & ~body).sum() == 0
    assert (body & ~found).sum() <= 0.01 * body.sum()  # the opening takes corners
    assert not body_mask(np.full((2, 8, 8), -1000.0), CT).any()


def test_what_air_is_in_each_modality() -> None:
    values = np.linspace(0.0, 1000.0, 1001)
    assert body_threshold(values, CT) == -500.0
    assert body_threshold(values, PET) == 0.1
    assert body_threshold(values, MRI) == pytest.approx(99.5, abs=0.2)
    assert body_threshold(-values, MRI) == np.inf
    suv = np.zeros((1, 40, 40))
    suv[0, 5:30, 5:15] = 1.0
    suv[0, 5:30, 20:30] = 1.0  # two legs are both the body
    found = body_mask(suv, PET)
    assert not found[suv == 0].any()
    assert found.sum() == (suv > 0).sum() - 8  # the opening takes the corners


def test_parts_below_a_twentieth_of_the_largest_are_not_the_body() -> None:
    """Squares of 20, 5 and 4 pixels, which have 396, 21 and 12 after the opening; a twentieth is 19.8."""
    suv = np.zeros((1, 40, 60))
    suv[0, 5:25, 5:25] = suv[0, 5:10, 40:45] = suv[0, 20:24, 40:44] = 1.0
    suv[0, 30:38, 5:25] = np.nan  # unknown is not the body, however large
    found = body_mask(suv, PET)
    assert (found[0, :, :30].sum(), found[0, :15, 30:].sum(), found.sum()) == (396, 21, 417)


def test_bias_is_the_mean_difference_inside() -> None:
    image, body = patient()
    restored = image + np.where(body, 5.0, 300.0)
    restored[0, 48, 48] = np.nan
    assert bias(restored, image, body) == pytest.approx(5.0)
    assert bias(image - 2.0, image, body) == pytest.approx(-2.0)
    assert bias(image, image, np.zeros_like(body)) is None
    with pytest.raises(ValueError, match="three equal shapes"):
        bias(image, image[:1], body)


def test_structure_of_residuals() -> None:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[-1:1:128j, -1:1:128j]
    reference = sum(
        np.where((x - cx) ** 2 + (y - cy) ** 2 < r**2, 100.0, 0.0)
        for cx, cy, r in rng.uniform((-0.7, -0.7, 0.05), (0.7, 0.7, 0.25), (12, 3))
    )[None]
    everywhere = np.ones(reference.shape, dtype=bool)
    noise = rng.normal(0.0, 10.0, reference.shape)
    blurred = scipy.ndimage.gaussian_filter(reference[0], 1.5)[None]
    only_noise = residual_structure(noise, reference, everywhere)
    smoothing = residual_structure(reference - blurred, reference, everywhere)
    both = residual_structure(noise + reference - blurred, reference, everywhere)
    assert only_noise == pytest.approx(0.0, abs=0.05)
    assert smoothing > 0.95
    assert only_noise + 0.2 < both < smoothing
    assert residual_structure(-7.0 * (reference - blurred), reference, everywhere) == pytest.approx(smoothing)
    assert residual_structure(np.zeros_like(reference), reference, everywhere) is None
    assert residual_structure(noise, reference, ~everywhere) is None


def test_the_correlation_is_pearsons() -> None:
    """Of a residual that is the edge strength itself, up to the smoothing that both get: computed by hand."""
    reference = np.random.default_rng(1).normal(0, 1, (1, 32, 32))
    residual = np.random.default_rng(2).normal(0, 1, (1, 32, 32)) ** 2
    mask = np.zeros(reference.shape, dtype=bool)
    mask[0, 4:20, 6:30] = True
    size = scipy.ndimage.gaussian_filter(residual[0], 1.5)[mask[0]]
    edge = scipy.ndimage.gaussian_gradient_magnitude(reference[0], 1.5)[mask[0]]
    by_hand = ((size - size.mean()) * (edge - edge.mean())).mean() / (size.std() * edge.std())
    assert residual_structure(residual, reference, mask) == pytest.approx(by_hand)
    residual[0, 31, :], reference[0, 31, 3] = np.inf, np.nan  # far from the mask: more than 4 sigmas
    assert residual_structure(residual, reference, mask) == pytest.approx(by_hand, abs=1e-6)
    mask[0, 31, 3] = True
    assert residual_structure(residual, reference, mask) == pytest.approx(by_hand, abs=1e-6)
