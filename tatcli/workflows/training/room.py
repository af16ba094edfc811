"""Whether what a run draws fits into memory, and what is said where its steps don't."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import torch
from torch import Tensor, nn

from tatcli.errors import DeviceError
from tatcli.inference.runtime import is_out_of_memory
from tatcli.inference.system_memory import free_memory
from tatcli.training.config import TrainConfig
from tatcli.training.losses import autocast
from tatcli.training.sampler import AHEAD
from tatcli.workflows.restoring.outcome import in_words

__all__ = ["check_crops", "check_pass", "largest_pass", "memory_watched"]

_PIXEL: Final = 3 * 4
"""Bytes that a crop takes for each of its pixels: LQ, HQ and mask."""
_PROBES: Final = (32, 64)
"""Sides of the crops that tell what a network keeps of each pixel."""


def check_crops(config: TrainConfig) -> None:
    """Refuse batches whose crops alone are more than what is free: drawing them would only end when it is used up.

    Raises:
        DeviceError: they are.
    """
    free = free_memory()
    ahead = min(AHEAD * config.workers, config.steps)
    patch, samples = largest_pass(config)
    samples *= config.accumulate
    needed = samples * patch**2 * _PIXEL * ahead
    if free is not None and needed > free:
        msg = f"train: expected batches that fit into the free {in_words(free)} of memory, got {samples} crops of"
        msg += f" {patch}x{patch} a step, which take {in_words(needed)} with those drawn ahead; lower --batch, --patch,"
        raise DeviceError(msg + " --accumulate or --workers")


def largest_pass(config: TrainConfig) -> tuple[int, int]:
    """(Side of the crops, samples of all tasks) of the phase whose passes have the most pixels."""
    patch, batch = max(zip(config.patch, config.batch, strict=True), key=lambda phase: phase[0] ** 2 * phase[1])
    return patch, batch * sum(config.multiple(task) for task in config.tasks)


def check_pass(
    command: str, network: nn.Module, *, patch: int, samples: int, precision: str, device: torch.device
) -> None:
    """Refuse passes of which the network would keep more, for its gradients, than what is free.

    It keeps a like amount of every pixel, which two small crops tell. That is the least that a pass takes, so what fits
    isn't refused. On GPUs nothing is: they say themselves that they are full, where on a CPU the process is killed.

    Args:
        command: whose.
        network: that is trained.
        patch: side of the crops.
        samples: in a pass.
        precision: that it computes in.
        device: where.

    Raises:
        DeviceError: they don't fit.
    """
    free = free_memory()
    if free is None or device.type != "cpu":
        return
    network = copy.deepcopy(network).cpu().train()  # (a pass moves the averages of a batch normalisation)
    small, large = (_kept_bytes(network, side, precision) for side in _PROBES)
    each = (large - small) / (_PROBES[1] ** 2 - _PROBES[0] ** 2)
    needed = int(samples * patch**2 * each)
    if needed > free:
        msg = f"{command}: expected passes that fit into the free {in_words(free)} of memory, got {samples} crops of"
        msg += f" {patch}x{patch}, of which the network keeps {in_words(needed)} for its gradients"
        raise DeviceError(msg + "; lower --batch or --patch")


def _kept_bytes(network: nn.Module, side: int, precision: str) -> int:
    """What autograd keeps of a pass of one crop of this side, beside the weights."""
    weights = {weight.untyped_storage().data_ptr() for weight in network.parameters()}
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    crop = torch.zeros(1, 1, side, side)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor), autocast(crop.device, precision):
        network(crop)
    return sum(size for place, size in kept.items() if place not in weights)


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
