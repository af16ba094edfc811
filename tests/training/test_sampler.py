"""Samples of made-up references, of which every pixel is known: what is drawn, and how it is shown."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from tatcli.tasks import TASKS
from tatcli.training.config import TrainConfig
from tatcli.training.references import Reference
from tatcli.training.sampler import Batch, Sampler

Make = Callable[..., TrainConfig]


def pair(task: str, hq: np.ndarray, lq: np.ndarray) -> Reference:
    """A reference of one slice with a fixed LQ partner: (rows, columns) each."""
    rule = TASKS[task].intensity
    fields = lq[None, None].astype(np.float16)
    return Reference("a", TASKS[task], rule.window_for(hq), hq[None].astype(np.float32), fields, None, 1.0)


def batch_of(reference: Reference, config: TrainConfig, step: int = 0) -> Batch:
    return Sampler({reference.task.name: [reference]}, config).batch(step)


def test_samples_have_random_numbers_of_their_own(make_config: Make) -> None:
    """Of one scan no two of a step's crops are the same, nor those of other steps or seeds."""
    hq = np.arange(60 * 60).reshape(60, 60) / 2.0
    scan = pair("ct-denoise", hq, hq)
    crops = []
    for seed, step in ((0, 0), (0, 1), (1, 0)):
        config = make_config(tasks=("ct",), batch=(8,), patch=(8,), augment=False, seed=seed)
        crops.append([float(crop[0, 0, 0]) for crop in batch_of(scan, config, step).hq])
        assert len(set(crops[-1])) >= 7
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert len({*crops[one], *crops[other]}) >= 13


def test_all_eight_views_of_crops_and_teachers(make_config: Make) -> None:
    """A crop is its whole slice here, whose corners tell how it was turned."""
    hq = np.zeros((8, 8))
    hq[0, 0], hq[0, -1], hq[-1, 0] = 100, 200, 300
    config = make_config(tasks=("ct",), batch=(64,), patch=(8,))
    batch = batch_of(pair("ct-denoise", hq, hq), config)
    corners = batch.hq[:, 0, [0, 0, -1, -1], [0, -1, 0, -1]]
    assert len(torch.unique(corners, dim=0)) == 8
    assert torch.equal(batch.lq, batch.hq)
    assert set(batch.views) == set(range(8))
    plain = batch_of(pair("ct-denoise", hq, hq), make_config(tasks=("ct",), batch=(4,), patch=(8,), augment=False))
    assert len(torch.unique(plain.hq, dim=0)) == 1


def test_ranges_vary_for_mri_alone_and_alike_in_a_pair(make_config: Make) -> None:
    """By exp(+-0.25); HU and SUV mean the same in every scan."""
    hq = np.random.default_rng(0).uniform(100, 900, (8, 8))
    batch = batch_of(pair("mri-sr", hq, hq / 2), make_config(tasks=("mri",), batch=(32,), patch=(8,)))
    np.testing.assert_allclose(batch.lq, batch.hq / 2, rtol=1e-2)  # (the range clips the brightest)
    scales = batch.hq.amax(dim=(1, 2, 3)) / float(hq.max() / pair("mri-sr", hq, hq).window.upper)
    assert np.exp(-0.25) <= float(scales.min()) < 0.85
    assert 1.18 < float(scales.max()) <= np.exp(0.25) + 1e-6
    fixed = batch_of(pair("ct-denoise", hq, hq), make_config(tasks=("ct",), batch=(8,), patch=(8,)))
    assert fixed.hq.amax(dim=(1, 2, 3)).tolist() == pytest.approx([(hq.max() + 1024) / 4096] * 8, rel=1e-6)


def test_crops_by_error_look_at_what_is_scored(make_config: Make) -> None:
    """Two equal errors of a CT, in soft tissue and in lung: nearly all crops by error show the first."""
    hq = np.full((30, 60), 50.0)
    hq[:, 30:] = -800
    lq = hq.copy()
    lq[14, 14] += 40
    lq[14, 44] += 40
    config = make_config(tasks=("ct",), batch=(200,), patch=(8,), crops="error", augment=False)
    batch = batch_of(pair("ct-denoise", hq, lq), config)
    off = (batch.lq - batch.hq).abs() > 0.005
    soft = (off & (batch.hq > 0.2)).flatten(1).any(dim=1).float().mean()
    lung = (off & (batch.hq < 0.2)).flatten(1).any(dim=1).float().mean()
    assert float(soft) > 0.65  # 0.8 / 1.1, and some of the uniform fifth
    assert float(lung) < 0.2
