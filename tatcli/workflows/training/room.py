"""Whether what a run draws fits into memory, and what is said where its steps don't."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tatcli.errors import DeviceError
from tatcli.inference.runtime import is_out_of_memory
from tatcli.inference.system_memory import free_memory
from tatcli.training.config import TrainConfig
from tatcli.training.sampler import AHEAD
from tatcli.workflows.restoring.outcome import in_words

__all__ = ["check_crops", "memory_watched"]

_PIXEL = 3 * 4
"""Bytes that a crop takes for each of its pixels: LQ, HQ and mask."""


def check_crops(config: TrainConfig) -> None:
    """Refuse batches whose crops alone are more than what is free: drawing them would only end when it is used up.

    Raises:
        DeviceError: they are.
    """
    free = free_memory()
    multiples = sum(config.multiple(task) for task in config.tasks) * config.accumulate
    ahead = min(AHEAD * config.workers, config.steps)
    patch, samples = max(zip(config.patch, config.batch, strict=True), key=lambda phase: phase[0] ** 2 * phase[1])
    samples *= multiples
    needed = samples * patch**2 * _PIXEL * ahead
    if free is not None and needed > free:
        msg = f"train: expected batches that fit into the free {in_words(free)} of memory, got {samples} crops of"
        msg += f" {patch}x{patch} a step, which take {in_words(needed)} with those drawn ahead; lower --batch, --patch,"
        raise DeviceError(msg + " --accumulate or --workers")


@contextmanager
def memory_watched(command: str, device: str) -> Iterator[None]:
    """Say it in a line where memory runs out in training steps.

    Args:
        command: whose.
        device: that they run on.

    Raises:
        DeviceError: it does.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        got = " ".join(str(error).split())[:200] or "none left"
        msg = f"{command}: expected enough memory on {device}, got: {got}; lower --batch or --patch"
        raise DeviceError(msg) from error
