"""The part of a reference's degradation that is computed before training: noise of CT scans, low-count PET slices."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tatcli.degradation.ct_kernel import KernelSpec, random_kernel
from tatcli.degradation.low_count_pet import low_count_slices, low_count_volume
from tatcli.degradation.low_dose_ct import ct_noise_realisations, random_acquisition
from tatcli.degradation.pet_count_level import count_level
from tatcli.degradation.pet_scanner import random_reconstruction
from tatcli.tasks import Task
from tatcli.training.config import TrainConfig
from tatcli.volumes import Volume

__all__ = ["ReferenceScan", "ct_fields", "draw_strength", "pet_fields", "seeds_for", "stacked"]


@dataclass(frozen=True, eq=False)
class ReferenceScan:
    """What a reference is made of.

    Attributes:
        name: of the scan; decides its random numbers.
        volume: high quality.
        lq: low-quality partner on the same grid; None: it is simulated.
        variation: a PET reference's coefficient of variation in uniform tissue, where it is known (of a synthetic one,
            which has no noise); None: measured.
    """

    name: str
    volume: Volume
    lq: Volume | None = None
    variation: float | None = None


def draw_strength(task: Task, rng: np.random.Generator, *, default_share: float) -> float:
    """A degradation strength for one training sample: the task's default, or log-uniform over its range."""
    if rng.random() < default_share:
        return task.default_strength
    low, high = np.log(task.training_strengths)
    return float(np.exp(rng.uniform(low, high)))


def seeds_for(config: TrainConfig, name: str, index: int) -> np.random.SeedSequence:
    """Random numbers of a scan's slice, or with index -1 of the whole scan."""
    return np.random.SeedSequence([config.seed, zlib.crc32(name.encode()), index + 1])


def stacked(fields: Iterable[NDArray[np.float32]]) -> NDArray[np.float16]:
    """Fields one behind the other, at half the precision: they are noise."""
    return np.stack([field.astype(np.float16) for field in fields])


def ct_fields(
    slice_: NDArray[np.float32],
    pixel: tuple[float, float],
    seeds: np.random.SeedSequence,
    config: TrainConfig,
    matched: KernelSpec | None,
) -> NDArray[np.float32]:
    """Noise fields of unit level; every other one has the reference's own spectrum, as a low-dose scan of it would."""
    draws, noise = seeds.spawn(2)
    rng = np.random.default_rng(draws)
    kernels = [matched if matched and not i % 2 else random_kernel(rng) for i in range(config.noise_fields)]
    acquisition = random_acquisition(rng)
    return ct_noise_realisations(slice_, spacing_mm=pixel, kernels=kernels, seed=noise, acquisition=acquisition)


def pet_fields(
    stack: NDArray[np.float32],
    chosen: NDArray[np.intp] | None,
    spacing: tuple[float, float, float],
    known: tuple[Task, float | None],
    seeds: np.random.SeedSequence,
    config: TrainConfig,
) -> NDArray[np.float16] | None:
    """Low-count slices, None without uniform tissue; each realisation has one reconstruction.

    The ``chosen`` slices have a strength each. With None the whole volume has one, and noise that correlates along the
    slices: to be sliced in other planes too. ``known`` is the task, and the reference's variation where that needn't be
    measured.
    """
    task, variation = known
    realisations = []
    for realisation in seeds.spawn(config.noise_fields):
        rng = np.random.default_rng(realisation)
        reconstruction = random_reconstruction(rng)
        counts = count_level(
            stack,
            spacing_mm=spacing[1:],
            variation=variation,
            reconstruction=reconstruction,
            seed=realisation.spawn(1)[0],
        )
        if math.isnan(counts):
            return None
        own = realisation.spawn(len(stack if chosen is None else chosen))
        share = config.share(task.name)
        if chosen is None:
            drf = draw_strength(task, rng, default_share=share)
            volume = low_count_volume(
                stack, spacing_mm=spacing, drf=drf, counts=counts, seeds=own, reconstruction=reconstruction
            )
            realisations.append(volume.astype(np.float16))
            continue
        slices = [
            low_count_slices(
                stack[index],
                spacing_mm=spacing[1:],
                drf=[draw_strength(task, rng, default_share=share)],
                counts=counts,
                seed=seed,
                reconstruction=reconstruction,
            )[0]
            for index, seed in zip(chosen, own, strict=True)
        ]
        realisations.append(stacked(slices))
    return np.stack(realisations, axis=1)
