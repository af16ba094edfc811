"""Restored validation slices, as pictures and as values, in a run's folder."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np

from tatcli.reporting.figures import Panel, before_after, display_for, write_png
from tatcli.training.validation import Sample
from tatcli.volumes.replacing import replaced

__all__ = ["SAMPLES", "save_sample"]

SAMPLES: Final = "samples"
HEIGHT: Final = 384


def save_sample(sample: Sample, folder: Path, step: int, *, values: bool) -> Path:
    """Write a slice before, restored and its reference as PNG; returns the file.

    Args:
        sample: the slice.
        folder: of the run; the picture goes into ``samples/<task>-<scan>-<index>/<step>.png``.
        step: of the training.
        values: write an NPZ with ``lq``, ``restored`` and ``hq``, float32 in the task's units, beside it.
    """
    scan = sample.scan.replace("/", "-")
    place = folder / SAMPLES / f"{sample.task.name}-{scan}-{sample.index}"
    place.mkdir(parents=True, exist_ok=True)
    panels = [
        Panel(title, image)
        for title, image in (
            ("input", sample.lq),
            (f"restored, step {step}", sample.restored),
            ("reference", sample.hq),
        )
    ]
    path = place / f"{step:07d}.png"
    write_png(before_after(panels, display_for(sample.task, sample.hq), height=HEIGHT), path, overwrite=True)
    if values:
        with replaced(path.with_suffix(".npz"), extension=".npz") as temporary:
            np.savez_compressed(temporary, lq=sample.lq, restored=sample.restored, hq=sample.hq)
    return path
