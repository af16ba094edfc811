"""Training batches: equal numbers of every task, random crops of random scans, all drawn from (seed, step)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tatcli.intensity import Window
from tatcli.training.config import TrainConfig
from tatcli.training.references import Crop, Reference
from tatcli.training.variety import varied

__all__ = ["Batch", "Sampler"]

FOREGROUND: Final = 0.015
"""A pixel above this part of the network range shows the patient: -963 HU, SUV 0.3, 1.5 % of an MR scan's range."""
LEAST_FOREGROUND: Final = 0.2
TRIES: Final = 6
"""Crops with less foreground are drawn again, this often at most: air teaches little."""
AHEAD: Final = 3
"""Batches prepared while the network computes."""


@dataclass(frozen=True, eq=False)
class Batch:
    """Crops in the network's range, shuffled over tasks: each (batch, 1, patch, patch).

    ``mask`` is 0 in padding (scans smaller than the crop); ``tasks`` names each sample's task, ``scans`` its scan.
    """

    lq: Tensor
    hq: Tensor
    mask: Tensor
    tasks: tuple[str, ...]
    scans: tuple[str, ...]


class Sampler:
    """Draws batches. The same (seed, step) gives the same batch, so a resumed run sees what it would have seen."""

    def __init__(self, references: Mapping[str, Sequence[Reference]], config: TrainConfig) -> None:
        self.references = references
        self.config = config
        # Every voxel of a task is as likely as any other: a whole body tells more than a crop of a leg.
        self.shares = {}
        for task, scans in references.items():
            voxels = np.array([scan.hq.size for scan in scans], dtype=np.float64)
            self.shares[task] = voxels / voxels.sum()

    def batch(self, step: int) -> Batch:
        """The batch of this step."""
        patch, count = self.config.phase(step)
        rng = np.random.default_rng(np.random.SeedSequence([self.config.seed, 1, step]))
        samples = []
        for task, scans in self.references.items():
            for _ in range(count * self.config.multiple(task)):
                scan = scans[rng.choice(len(scans), p=self.shares[task])]
                samples.append((*self._sample(scan, patch, rng), task, scan.name))
        order = rng.permutation(len(samples))
        lq, hq, mask, tasks, names = zip(*(samples[i] for i in order), strict=True)
        stacked = [torch.from_numpy(np.stack(part)[:, None]) for part in (lq, hq, mask)]
        return Batch(stacked[0], stacked[1], stacked[2], tasks, names)

    def batches(self, start: int, stop: int) -> Iterator[Batch]:
        """The batches of steps start..stop-1, prepared ahead in a thread."""
        with ThreadPoolExecutor(max_workers=1) as pool:
            pending = [pool.submit(self.batch, step) for step in range(start, min(start + AHEAD, stop))]
            for step in range(start, stop):
                batch = pending.pop(0).result()
                if step + AHEAD < stop:
                    pending.append(pool.submit(self.batch, step + AHEAD))
                yield batch

    def _sample(
        self, scan: Reference, patch: int, rng: np.random.Generator
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """(LQ, HQ, mask) crops of one random slice."""
        window = scan.window
        # MR intensities are arbitrary: the network must not lean on the exact upper bound of the range.
        scale = np.float32(np.exp(rng.uniform(-0.25, 0.25))) if scan.task.modality == "MR" else np.float32(1)
        if scan.fields is None and self.config.augment:  # MRI, degraded on the fly
            hq = varied(scan.hq[rng.integers(len(scan.hq))], window.upper, patch, rng)
            _, place = _place(hq[None], window, patch, rng)
            pair = (scan.degraded(hq, rng)[place], hq[place])
        else:
            index, place = _place(scan.hq, window, patch, rng)
            pair = (scan.low_quality(index, rng, place), scan.hq[index][place])
        crops = [window.normalise(window.clip(values.astype(np.float32))) * scale for values in pair]
        crops.append(np.ones_like(crops[0]))
        padding = [(0, patch - length) for length in crops[0].shape]
        padded = [np.pad(crop, padding) for crop in crops]
        if self.config.augment:
            turns, flip = int(rng.integers(4)), bool(rng.integers(2))
            padded = [np.rot90(crop[:, ::-1] if flip else crop, turns) for crop in padded]
        lq, hq, mask = (np.ascontiguousarray(crop, dtype=np.float32) for crop in padded)
        return lq, hq, mask


def _place(hq: NDArray[np.float32], window: Window, patch: int, rng: np.random.Generator) -> tuple[int, Crop]:
    """A random slice and crop that shows enough of the patient."""
    count, height, width = hq.shape
    threshold = window.lower + FOREGROUND * window.width
    for _ in range(TRIES):
        index = int(rng.integers(count))
        top, left = (int(rng.integers(max(length - patch, 0) + 1)) for length in (height, width))
        place = (slice(top, top + patch), slice(left, left + patch))
        if (hq[index][place] > threshold).mean() >= LEAST_FOREGROUND:
            break
    return index, place
