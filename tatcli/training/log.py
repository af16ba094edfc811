"""A run's log: JSON lines in its folder, and TensorBoard's files where they are wanted."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from tatcli.errors import OutputError, UsageError, reason_of
from tatcli.training.distributed import World
from tatcli.volumes.replacing import replaced

__all__ = ["LOG", "RunLog", "TaskMeans", "board_writer", "read_log"]

LOG: Final = "log.jsonl"
BOARD: Final = "tensorboard"


class RunLog:
    """Writes ``log.jsonl``: a line for each entry, with its kind, step and seconds.

    Args:
        folder: of the run.
        board: write TensorBoard's files into ``folder / "tensorboard"`` too.
        start: lines of later steps, which a run that died left after its last checkpoint, are dropped.

    Raises:
        UsageError: TensorBoard is wanted and not installed.
    """

    def __init__(self, folder: Path, *, board: bool, start: int) -> None:
        self.path = folder / LOG
        if self.path.exists():
            kept = [line for line in read_log(folder) if line["step"] <= start]
            with replaced(self.path, extension=".jsonl") as temporary:
                temporary.write_text("".join(map(_line, kept)), encoding="utf-8")
        self._board = board_writer()(str(folder / BOARD), purge_step=start + 1) if board else None

    def add(self, kind: str, step: int, seconds: float, **fields: Any) -> None:
        """One entry; what isn't finite (the score of validation slices that are all constant) is null.

        Raises:
            OutputError: the system refuses to write (disk full, folder gone).
        """
        line = {"kind": kind, "step": step, "seconds": round(seconds, 1), **fields}
        try:
            with self.path.open("a", encoding="utf-8") as stream:
                stream.write(_line(line))
        except OSError as error:
            msg = f"{self.path}: expected to write the log, got {reason_of(error)}; check space and permissions"
            raise OutputError(msg) from error
        if self._board is not None:
            for name, value in _numbers(kind, fields):
                self._board.add_scalar(name, value, step)
            self._board.flush()

    def close(self) -> None:
        """No more entries."""
        if self._board is not None:
            self._board.close()


def read_log(folder: Path) -> list[dict[str, Any]]:
    """The entries of a run's log, in their order; a last line that was cut off (by a full disk, say) is dropped.

    Raises:
        UsageError: the folder has no log, or it isn't one.
    """
    path = folder / LOG
    try:
        content = path.read_bytes()
        lines = content[: content.rfind(b"\n") + 1].decode("utf-8").splitlines()
        entries: list[dict[str, Any]] = [json.loads(line) for line in lines if line.strip()]
        if not all(isinstance(entry, dict) and {"kind", "step"} <= entry.keys() for entry in entries):
            raise ValueError("a line without kind and step")  # noqa: EM101, TRY301 - told below
    except (OSError, ValueError) as error:
        msg = f"{path}: expected the log of a tat train run, got {reason_of(error)}; correct it, or"
        raise UsageError(msg + " move it away, without which the run goes on all the same") from error
    return entries


class TaskMeans:
    """Means of each task's L1 error and sigma since the last entry, over the samples of all processes."""

    def __init__(self, tasks: Sequence[str]) -> None:
        self.tasks = tuple(tasks)
        self.sums = torch.zeros(3, len(self.tasks), dtype=torch.float64)

    def add(self, tasks: Tensor, l1: Tensor, sigma: Tensor) -> None:
        """Samples, by the numbers of their tasks."""
        rows = torch.stack([torch.ones_like(l1), l1, sigma]).double().cpu()
        self.sums.index_add_(1, tasks.cpu(), rows)

    def means(self, sums: Tensor | None = None) -> dict[str, dict[str, float]]:
        """``l1`` and ``sigma`` of the tasks that were seen."""
        counts, *totals = (self.sums if sums is None else sums).tolist()
        seen = [number for number in sorted(range(len(self.tasks)), key=self.tasks.__getitem__) if counts[number]]
        return {
            kind: {self.tasks[number]: row[number] / counts[number] for number in seen}
            for kind, row in zip(("l1", "sigma"), totals, strict=True)
        }

    def take(self, world: World, device: torch.device) -> dict[str, dict[str, float]]:
        """The means over all processes; counting starts anew."""
        sums = world.total(self.sums.float().to(device)).cpu()
        self.sums.zero_()
        return self.means(sums)


def board_writer() -> Any:
    """TensorBoard's class of writers.

    Raises:
        UsageError: TensorBoard isn't installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        msg = (
            "--tensorboard: expected the package tensorboard, which isn't installed: pip install 'tatcli[tensorboard]'"
        )
        raise UsageError(msg) from error
    return SummaryWriter


def _line(entry: Mapping[str, Any]) -> str:
    return json.dumps(_finite(entry), allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    """Without NaN and infinity, which JSON lacks."""
    if isinstance(value, Mapping):
        return {key: _finite(entry) for key, entry in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _numbers(name: str, value: Any) -> list[tuple[str, float]]:
    """All numbers in nested dictionaries, with their path."""
    if isinstance(value, Mapping):
        return [pair for key, part in value.items() for pair in _numbers(f"{name}/{key}", part)]
    return [(name, float(value))] if isinstance(value, int | float) else []
