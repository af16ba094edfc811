"""All of the physical scores of one volume."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage

from tatcli.metrics import PHYSICAL_QUANTITIES, reference_facts, score_physically
from tatcli.metrics.residual_structure import residual_structure
from tatcli.tasks import TASKS

CT, PET = TASKS["ct-denoise"], TASKS["pet-synthesis"]


def scan() -> np.ndarray:
    y, x = np.mgrid[-1:1:128j, -1:1:128j]
    image = np.where(x**2 + y**2 < 0.8, 50.0, -1000.0)
    image[(x - 0.4) ** 2 + y**2 < 0.05] = 150.0
    clean = np.stack([scipy.ndimage.gaussian_filter(image, 1.0)] * 4)
    return clean + np.random.default_rng(0).normal(0.0, 8.0, clean.shape)


def test_a_blurred_and_shifted_ct() -> None:
    reference = scan()
    lq = reference + np.random.default_rng(1).normal(0.0, 12.0, reference.shape)
    restored = np.stack([scipy.ndimage.gaussian_filter(slice_, 1.5) for slice_ in lq]) + 3.0
    facts = reference_facts(reference, CT, spacing=(3.0, 0.7, 0.7))
    found = score_physically(restored, reference, facts, lq=lq)
    before = score_physically(lq, reference, facts, lq=lq)
    assert before.bias == pytest.approx(0.0, abs=0.3)
    assert before.noise_ratio == pytest.approx(np.hypot(8.0, 12.0) / 8.0, rel=0.05)
    assert before.noise_mean_shift == pytest.approx(0.0, abs=0.02)
    assert before.edge_ratio == pytest.approx(1.0, abs=0.05)
    assert found.noise_mean_shift < -0.2
    assert found.edge_ratio > 1.5
    assert found.residual_structure > before.residual_structure + 0.3
    assert found.residual_structure == residual_structure(lq - restored, reference, facts.body)
    unknown = score_physically(restored, reference, facts).residual_structure
    assert unknown == residual_structure(reference - restored, reference, facts.body) > found.residual_structure
    assert found.suv_max_error is None
    assert found.regions == ()
    told = found.to_dict()
    assert set(PHYSICAL_QUANTITIES) < set(told)
    assert len(told["noise_spectrum"]["frequency"]) == len(told["noise_spectrum"]["power"]) > 5


def test_voxels_that_are_infinite_in_all_images_tell_nothing() -> None:
    reference = scan()
    lq = reference + np.random.default_rng(1).normal(0.0, 12.0, reference.shape)
    for image in (reference, lq):
        image[0, 5, 5] = np.inf
    restored = np.where(np.isfinite(lq), 0.5 * (lq + reference), lq)
    found = score_physically(restored, reference, reference_facts(reference, CT, spacing=(3.0, 0.7, 0.7)), lq=lq)
    assert found.noise_ratio == pytest.approx(np.hypot(8.0, 6.0) / 8.0, rel=0.05)
    assert found.residual_structure == pytest.approx(0.0, abs=0.05)


def test_uptake_of_a_whole_pet_only() -> None:
    suv = np.full((12, 40, 40), 1.0)
    suv[4:8, 10:20, 10:20] = 8.0
    whole = reference_facts(suv, PET, spacing=(4.0, 4.0, 4.0))
    found = score_physically(suv * 0.5, suv, whole)
    assert (found.suv_max_error, found.suv_peak_error, found.suv_mean_error) == pytest.approx((50.0, 50.0, 50.0))
    part = reference_facts(suv, PET, spacing=(4.0, 4.0, 4.0), whole=False)
    assert score_physically(suv, suv, part).suv_max_error is None
    masked = reference_facts(suv, PET, spacing=(4.0, 4.0, 4.0), mask=suv < 4.0)
    assert score_physically(suv, suv, masked).regions == ()


def test_uptake_errors_are_means_of_their_sizes_over_the_regions() -> None:
    suv = np.full((12, 60, 40), 1.0)
    for row, level in ((5, 8.0), (25, 6.0), (45, 5.0)):
        suv[4:8, row : row + 10, 10:20] = level
    facts = reference_facts(suv, PET, spacing=(4.0, 4.0, 4.0))
    restored = suv.copy()
    restored[:, :20] *= 0.5
    restored[:, 20:40] *= 1.2
    found = score_physically(restored, suv, facts)  # 50, 20 and 0 %
    assert (found.suv_max_error, found.suv_peak_error, found.suv_mean_error) == pytest.approx((70 / 3,) * 3)
    assert [region.percent[0] for region in found.regions] == pytest.approx([-50.0, 20.0, 0.0])
    spike = suv.copy()
    spike[6, 10, 15] = 16.0  # of 400 voxels of 8; 64 mm^3 of a sphere of 1 ml; the other regions are as they were
    found = score_physically(spike, suv, facts)
    assert found.suv_max_error == pytest.approx(100.0 / 3)
    assert found.suv_peak_error == pytest.approx(6.4 / 3, rel=0.02)
    assert found.suv_mean_error == pytest.approx(0.25 / 3)


def test_what_cant_be_told_is_none() -> None:
    flat = np.full((2, 16, 16), -1000.0)
    found = score_physically(flat, flat, reference_facts(flat, CT, spacing=(1.0, 1.0, 1.0)))
    assert set(found.quantities().values()) == {None}
    assert found.to_dict()["noise_spectrum"] is None
