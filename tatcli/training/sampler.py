"""Training batches: equal numbers of every task (or its multiple), random crops of random scans, by (seed, step).

Each sample has its own random numbers, so that several processes, or several passes of one, draw between them what one
process would in one pass.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tatcli.training.config import TrainConfig
from tatcli.training.crops import by_error, by_foreground
from tatcli.training.distributed import World
from tatcli.training.references import Reference
from tatcli.training.subjects import shares, subject_in
from tatcli.training.variety import varied

__all__ = ["Batch", "Sampler"]

AHEAD: Final = 3
"""Batches that each thread prepares while the network computes."""


@dataclass(frozen=True, eq=False)
class Batch:
    """Crops in the network's range, shuffled over tasks: each (batch, 1, patch, patch).

    ``mask`` is 0 in padding (scans smaller than the crop); ``tasks`` names each sample's task, ``scans`` its scan;
    ``views`` is the one of its eight flips and quarter turns that a teacher is shown.
    """

    lq: Tensor
    hq: Tensor
    mask: Tensor
    tasks: tuple[str, ...]
    scans: tuple[str, ...]
    views: tuple[int, ...]

    def split(self, parts: int) -> list[Batch]:
        """As many batches of equal size."""
        size = len(self.tasks) // parts
        cuts = [slice(start, start + size) for start in range(0, parts * size, size)]
        return [
            Batch(self.lq[cut], self.hq[cut], self.mask[cut], self.tasks[cut], self.scans[cut], self.views[cut])
            for cut in cuts
        ]


class Sampler:
    """Draws batches. The same (seed, step) gives the same batch, so a resumed run sees what it would have seen.

    Args:
        references: scans of each task.
        config: of the run.
        world: the processes that share each step's samples.
    """

    def __init__(
        self, references: Mapping[str, Sequence[Reference]], config: TrainConfig, *, world: World | None = None
    ) -> None:
        self.references = references
        self.config = config
        self.world = world or World()
        self.shares = {}
        for task, scans in references.items():
            subjects = [subject_in(scan.root, scan.name, config.subjects, otherwise=scan.subject) for scan in scans]
            equal = config.sampling == "subjects"
            self.shares[task] = shares([scan.hq.size / scan.planes for scan in scans], subjects if equal else None)

    def batch(self, step: int) -> Batch:
        """This process's samples of this step, for all its passes."""
        config = self.config
        patch, count = config.phase(step)
        passes = config.accumulate * self.world.size
        drawn = [task for task in self.references for _ in range(count * config.multiple(task) * passes)]
        order = np.random.default_rng(np.random.SeedSequence([config.seed, 1, step])).permutation(len(drawn))
        samples = []
        for number in order[self.world.rank :: self.world.size].tolist():
            rng = np.random.default_rng(np.random.SeedSequence([config.seed, 3, step, number]))
            task = drawn[number]
            scans = self.references[task]
            scan = scans[rng.choice(len(scans), p=self.shares[task])]
            samples.append((*self._sample(scan, patch, rng), task, scan.label, int(rng.integers(8))))
        lq, hq, mask, tasks, names, views = zip(*samples, strict=True)
        stacked = [torch.from_numpy(np.stack(part)[:, None]) for part in (lq, hq, mask)]
        return Batch(stacked[0], stacked[1], stacked[2], tasks, names, views)

    def batches(self, start: int, stop: int) -> Iterator[Batch]:
        """The batches of steps start..stop-1, prepared ahead in threads."""
        ahead = AHEAD * self.config.workers
        with ThreadPoolExecutor(max_workers=self.config.workers) as pool:
            pending = deque(pool.submit(self.batch, step) for step in range(start, min(start + ahead, stop)))
            for step in range(start, stop):
                batch = pending.popleft().result()
                if step + ahead < stop:
                    pending.append(pool.submit(self.batch, step + ahead))
                yield batch

    def _sample(
        self, scan: Reference, patch: int, rng: np.random.Generator
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """(LQ, HQ, mask) crops of one random slice."""
        window = scan.window
        # MR intensities are arbitrary: the network must not lean on the exact upper bound of the range.
        jitter = scan.task.modality == "MR" and self.config.augment
        scale = np.float32(np.exp(rng.uniform(-0.25, 0.25))) if jitter else np.float32(1)
        pair = self._pair(scan, patch, rng)
        crops = [window.normalise(window.clip(values.astype(np.float32))) * scale for values in pair]
        crops.append(np.ones_like(crops[0]))
        padding = [(0, patch - length) for length in crops[0].shape]
        padded = [np.pad(crop, padding) for crop in crops]
        if self.config.augment:
            turns, flip = int(rng.integers(4)), bool(rng.integers(2))
            padded = [np.rot90(crop[:, ::-1] if flip else crop, turns) for crop in padded]
        lq, hq, mask = (np.ascontiguousarray(crop, dtype=np.float32) for crop in padded)
        return lq, hq, mask

    def _pair(self, scan: Reference, patch: int, rng: np.random.Generator) -> tuple[NDArray[np.float32], ...]:
        """(LQ, HQ) crops in physical units."""
        varies = scan.fields is None and self.config.augment  # MRI, degraded on the fly
        if self.config.crops == "foreground" and not varies:  # no more than the crop is read
            index, place = by_foreground(scan.hq, scan.window, patch, rng)
            return scan.low_quality(index, rng, place), scan.hq[index][place]
        index = int(rng.integers(len(scan.hq)))
        hq = varied(scan.hq[index], scan.window.upper, patch, rng) if varies else scan.hq[index]
        if self.config.crops == "foreground":
            _, place = by_foreground(hq[None], scan.window, patch, rng)
            return scan.degraded(hq, rng)[place], hq[place]
        lq = scan.degraded(hq, rng) if varies else scan.low_quality(index, rng)
        place = by_error(lq, hq, scan.window, patch, rng, scored=scan.task.evaluation_window)
        return lq[place], hq[place]
