"""Checkpoints: everything that a run needs to go on as if it had never stopped.

The crops and strengths of step n are drawn from (seed, n), so no generator state has to be kept.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Final

import torch

from tatcli.errors import UsageError, WeightsError, reason_of
from tatcli.training.config import TrainConfig
from tatcli.volumes.replacing import replaced

__all__ = ["CHECKPOINT", "load_checkpoint", "save_checkpoint", "started_from"]

CHECKPOINT: Final = "checkpoint.pt"
_OLDER: Final = {"sampling": "voxels"}
"""What runs did before there were options for it, where that is not the default."""


def save_checkpoint(folder: Path, config: TrainConfig, state: dict[str, Any]) -> Path:
    """Write ``checkpoint.pt`` whole or not at all.

    Raises:
        OutputError: the system refuses to write (disk full, folder gone).
    """
    path = folder / CHECKPOINT
    with replaced(path, extension=path.suffix) as temporary, temporary.open("wb") as stream:
        try:
            torch.save({"config": json.dumps(config.fixed()), **state}, stream)
        except RuntimeError as error:
            # what torch makes of a full disk; the system's own word follows from writing to a stream of ours
            if isinstance(error.__context__, OSError):
                raise error.__context__ from error
            raise
    return path


def started_from(folder: Path) -> dict[str, Any]:
    """What the network of the run in this folder was at its start: its name, its sizes, and the weights it began with.

    Empty where there is no run, or one from before this was kept, or (as :func:`load_checkpoint` says) a damaged one.
    """
    try:
        state = torch.load(folder / CHECKPOINT, map_location="cpu", weights_only=True, mmap=True)  # (no tensor is read)
        start: dict[str, Any] = state["start"]
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, EOFError, UnpicklingError):
        return {}
    return start


def load_checkpoint(folder: Path, config: TrainConfig) -> dict[str, Any] | None:
    """The state of the run in this folder, None where it has none.

    Raises:
        UsageError: the run was started with other options.
        WeightsError: the file is damaged.
    """
    path = folder / CHECKPOINT
    if not path.exists():
        return None
    try:
        with zipfile.ZipFile(path) as archive:  # PyTorch doesn't compare what it reads with the file's check sums
            damaged = archive.testzip()
        if damaged:
            raise ValueError(f"other bytes in {damaged} than were written")  # noqa: EM102, TRY301 - told below
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        before = json.loads(state["config"])
    except Exception as error:
        msg = f"{path}: expected a checkpoint of tat train, got {reason_of(error)}; delete it to"
        msg += " begin anew, or choose another output folder"
        raise WeightsError(msg) from error
    before = TrainConfig(data=config.data, output=config.output).fixed() | _OLDER | before
    for share in ("default_share", "teacher_share"):
        if isinstance(before[share], float):  # one for all tasks, before each could have its own
            before[share] = [before[share]]
    changed = [key for key, value in config.fixed().items() if before[key] != value]
    if changed:
        told = "; ".join(f"{key} was {before[key]}, now {config.fixed()[key]}" for key in changed)
        msg = f"{path}: a resumed run needs the same options ({told}); use them, or another output folder"
        raise UsageError(msg)
    return state
