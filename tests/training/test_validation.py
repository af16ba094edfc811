"""Scores during training, of slices whose errors are known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from tatcli.tasks import TASKS
from tatcli.training.config import TrainConfig
from tatcli.training.references import Reference
from tatcli.training.validation import Sample, validate


class TakesTwoOff(torch.nn.Module):
    """Two HU, on the network's scale."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x - 2 / 4096


def test_evenly_spaced_slices_by_hand(make_config: Callable[..., TrainConfig]) -> None:
    """Slice i is off by i + 1 HU, of a range of 100; of nine slices the third, fifth and seventh are scored."""
    hq = np.zeros((9, 6, 6), dtype=np.float32)
    hq[:, :3] = 100
    lq = hq + np.arange(1, 10)[:, None, None]
    task = TASKS["ct-denoise"]
    window = task.intensity.window_for(hq)
    scan = Reference("a", task, window, hq, lq[:, None].astype(np.float16), None, 1.0)
    shown: list[Sample] = []
    config = make_config(tasks=("ct",), validation_slices=3)
    score = validate(TakesTwoOff(), {task.name: [scan]}, config, on_sample=shown.append)[task.name]
    assert score.slices == 3
    assert score.psnr_lq == pytest.approx(np.mean([20 * np.log10(100 / error) for error in (3, 5, 7)]), abs=1e-3)
    assert score.psnr_restored == pytest.approx(np.mean([20 * np.log10(100 / error) for error in (1, 3, 5)]), abs=1e-2)
    assert score.gain == score.psnr_restored - score.psnr_lq
    assert [sample.index for sample in shown] == [4]
