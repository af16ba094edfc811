"""Validation during training: a few slices of every validation scan, the same ones each time, by the paper's protocol.

PSNR is 10 log10(range^2 / MSE) in the evaluation window, the range being max - min of the clipped HQ slice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from tatcli.metrics import psnr
from tatcli.model.tat import Tat
from tatcli.training.config import TrainConfig
from tatcli.training.references import Reference

__all__ = ["ValidationScore", "validate"]


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


def validate(
    network: Tat, references: Mapping[str, Sequence[Reference]], config: TrainConfig
) -> dict[str, ValidationScore]:
    """PSNR of the degraded and of the restored slices of each task, at the default strength."""
    return {task: _validate_task(network, scans, config) for task, scans in references.items()}


@torch.inference_mode()
def _validate_task(network: Tat, scans: Sequence[Reference], config: TrainConfig) -> ValidationScore:
    rows = []
    for scan in scans:
        inner = np.linspace(0, len(scan.hq) - 1, config.validation_slices + 2)[1:-1]
        for index in np.unique(np.round(inner).astype(int)):
            rng = np.random.default_rng(np.random.SeedSequence([config.seed, 2, int(index)]))
            lq, hq = scan.low_quality(int(index), rng), scan.hq[index]
            shown = scan.task.evaluation_window or scan.window
            reference = shown.clip(hq)
            if reference.max() == reference.min():
                continue
            window = scan.window
            x = torch.from_numpy(window.normalise(window.clip(lq)).astype(np.float32))[None, None].to(config.device)
            with torch.autocast(x.device.type, torch.bfloat16, enabled=config.precision == "bf16"):
                y = network(x)
            restored = lq + window.denormalise(y[0, 0].float().cpu().numpy()) - window.clip(lq)
            data_range = float(reference.max() - reference.min())
            rows.append([psnr(shown.clip(image), reference, data_range=data_range) for image in (lq, restored)])
    means = np.mean(rows, axis=0) if rows else (float("nan"), float("nan"))
    return ValidationScore(float(means[0]), float(means[1]), len(rows))
