"""Several processes that train one network, as ``torchrun`` starts them: who this one is, and what they agree on."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import torch
from torch import Tensor, distributed

from tatcli.errors import DeviceError, UsageError

__all__ = ["World", "this_world"]

PATIENCE: Final = timedelta(hours=6)
"""How long processes wait for the first one, which alone prepares references and validates."""


@dataclass(frozen=True)
class World:
    """This process among all.

    Attributes:
        rank: from 0; the first one writes everything.
        size: how many.
        local_rank: among those of this machine.
        local_size: how many of them are on this machine.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    @contextmanager
    def joined(self, device: torch.device) -> Iterator[None]:
        """The processes together while the block runs (NCCL on GPUs, gloo elsewhere); alone, nothing happens.

        Raises:
            DeviceError: another process stopped, or can't be reached; what stopped it is told by itself.
        """
        if self.size == 1:
            yield
            return
        on_gpu = device.type == "cuda"
        try:
            distributed.init_process_group(
                "nccl" if on_gpu else "gloo",
                rank=self.rank,
                world_size=self.size,
                timeout=PATIENCE,
                # NCCL would guess it from the rank over all machines, which have others' GPUs beside ours
                device_id=device if on_gpu else None,
            )
            try:
                yield
            finally:
                distributed.destroy_process_group()
        except RuntimeError as error:
            if not (isinstance(error, distributed.DistError) or "gloo" in str(error).lower()):
                raise
            got = " ".join(str(error).split())[:200]
            msg = (
                f"train: process {self.rank}: expected all {self.size} processes to go on together, got: {got}; another"
            )
            raise DeviceError(msg + " one stopped, and says why itself, or can't be reached") from error

    @contextmanager
    def first_goes_first(self) -> Iterator[None]:
        """The first process runs the block, then all others, which find what it left on disk."""
        if self.size > 1 and not self.first:
            distributed.barrier()
        yield
        if self.size > 1 and self.first:
            distributed.barrier()

    def any(self, flags: Sequence[bool], device: torch.device) -> list[bool]:
        """Which flags are set in any process."""
        if self.size == 1:
            return list(flags)
        shared = torch.tensor([float(flag) for flag in flags], device=device)
        distributed.all_reduce(shared, distributed.ReduceOp.MAX)
        return [bool(value) for value in shared.tolist()]

    def total(self, values: Tensor) -> Tensor:
        """The sum over all processes."""
        if self.size > 1:
            distributed.all_reduce(values)
        return values

    def gathered(self, words: Sequence[str]) -> list[str]:
        """The words of all processes, in their order."""
        if self.size == 1:
            return list(words)
        found: list[list[str]] = [[] for _ in range(self.size)]
        distributed.all_gather_object(found, list(words))
        return [word for part in found for word in part]


def this_world() -> World:
    """What ``torchrun`` says of this process in its environment; alone without it.

    Raises:
        UsageError: the variables are there, but are no numbers, or don't say where the first process is.
    """
    told = os.environ
    try:
        size, local_rank = int(told.get("WORLD_SIZE", "1")), int(told.get("LOCAL_RANK", "0"))
        local_size = int(told.get("LOCAL_WORLD_SIZE", str(local_rank + 1)))
        world = World(int(told.get("RANK", "0")), size, local_rank, local_size)
    except ValueError as error:
        msg = f"train: expected RANK, WORLD_SIZE, LOCAL_RANK and LOCAL_WORLD_SIZE as torchrun sets them, got {error}"
        raise UsageError(msg) from error
    missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if not told.get(name)]
    if world.size > 1 and missing:
        msg = f"train: expected {', '.join(missing)} beside WORLD_SIZE {world.size}, as torchrun sets them, got none; "
        raise UsageError(msg + "start with torchrun, or unset WORLD_SIZE to train in one process")
    return world
