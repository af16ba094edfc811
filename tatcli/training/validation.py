"""Validation during training: a few slices of every validation scan, the same ones each time, by the paper's protocol.

PSNR is 10 log10(range^2 / MSE) in the evaluation window, the range being max - min of the clipped HQ slice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from tatcli.metrics import psnr
from tatcli.tasks import Task
from tatcli.training.config import TrainConfig
from tatcli.training.losses import autocast
from tatcli.training.references import Reference

__all__ = ["Sample", "ValidationScore", "validate"]


@dataclass(frozen=True)
class ValidationScore:
    """Mean over slices, dB."""

    psnr_lq: float
    psnr_restored: float
    slices: int

    @property
    def gain(self) -> float:
        """What restoring is worth."""
        return self.psnr_restored - self.psnr_lq


@dataclass(frozen=True, eq=False)
class Sample:
    """A restored validation slice, to look at.

    Attributes:
        scan: its name.
        task: its task.
        index: of the slice among those that were prepared.
        lq, restored, hq: (rows, columns), the task's units.
    """

    scan: str
    task: Task
    index: int
    lq: NDArray[np.float32]
    restored: NDArray[np.float32]
    hq: NDArray[np.float32]


def validate(
    network: nn.Module,
    references: Mapping[str, Sequence[Reference]],
    config: TrainConfig,
    *,
    on_sample: Callable[[Sample], None] = lambda _: None,
) -> dict[str, ValidationScore]:
    """PSNR of the degraded and of the restored slices of each task, at the default strength.

    Args:
        network: that restores.
        references: of each task.
        config: of the run.
        on_sample: called with the middle one of the slices of each task's first ``config.samples`` scans.
    """
    return {task: _validate_task(network, scans, config, on_sample) for task, scans in references.items()}


@torch.inference_mode()
def _validate_task(
    network: nn.Module, scans: Sequence[Reference], config: TrainConfig, on_sample: Callable[[Sample], None]
) -> ValidationScore:
    rows = []
    for number, scan in enumerate(scans):
        inner = np.linspace(0, len(scan.hq) - 1, config.validation_slices + 2)[1:-1]
        indices = np.unique(np.round(inner).astype(int))
        for index in indices:
            rng = np.random.default_rng(np.random.SeedSequence([config.seed, 2, int(index)]))
            lq, hq = scan.low_quality(int(index), rng), scan.hq[index]
            shown = scan.task.evaluation_window or scan.window
            reference = shown.clip(hq)
            if reference.max() == reference.min():
                continue
            window = scan.window
            x = torch.from_numpy(window.normalise(window.clip(lq)).astype(np.float32))[None, None].to(config.device)
            with autocast(x.device, config.precision):
                y = network(x)
            restored = lq + window.denormalise(y[0, 0].float().cpu().numpy()) - window.clip(lq)
            if number < config.samples and index == indices[len(indices) // 2]:
                on_sample(Sample(scan.label, scan.task, int(index), lq, np.asarray(restored, dtype=np.float32), hq))
            data_range = float(reference.max() - reference.min())
            rows.append([psnr(shown.clip(image), reference, data_range=data_range) for image in (lq, restored)])
    means = np.mean(rows, axis=0) if rows else (float("nan"), float("nan"))
    return ValidationScore(float(means[0]), float(means[1]), len(rows))
