"""Everything that decides an evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tatcli.errors import UsageError
from tatcli.metrics.protocols import find_protocol
from tatcli.tasks import find_task

__all__ = ["EvaluateConfig"]


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Options of ``tat evaluate``. It takes either ``restored`` and ``reference``, or ``data``.

    Attributes:
        restored: a restored scan, or a folder of them.
        reference: its HQ scan, or a folder with scans of equal names.
        input: the LQ scan or folder, to be scored too.
        data: root of a dataset in one of the layouts of :func:`tatcli.training.pairs.find_scans`.
        split: folder of the scans to evaluate on.
        tune_split: folder of the scans that the baselines are tuned on.
        tasks: names or aliases; empty: all tasks of the dataset; with ``restored``, by the file's modality.
        weights: a name or path; None: the default ones; ``none``: no network, the baselines alone.
        strength: of the simulated degradation; None: each task's default.
        seed: of the simulated noise and of the choice of slices to tune on.
        baselines: names; None: the usual ones of each task; empty: none.
        protocol: ``paper``, ``fixed`` or ``volume``.
        max_slices: evenly spaced slices taken of each scan; None: all.
        tune_slices: slices that the baselines are tuned on.
        device, precision, threads: of the machine, see :class:`~tatcli.inference.restorer.Restorer`.
    """

    restored: Path | None = None
    reference: Path | None = None
    input: Path | None = None
    data: Path | None = None
    split: str = "val"
    tune_split: str = "train"
    tasks: tuple[str, ...] = ()
    weights: str | None = None
    strength: float | None = None
    seed: int = 0
    baselines: tuple[str, ...] | None = None
    protocol: str = "paper"
    max_slices: int | None = None
    tune_slices: int = 12
    device: str = "auto"
    precision: str = "auto"
    threads: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "tasks", tuple(dict.fromkeys(find_task(name).name for name in self.tasks)))
        object.__setattr__(self, "protocol", find_protocol(self.protocol).name)
        if (self.data is None) == (self.restored is None) or (self.restored is None) != (self.reference is None):
            msg = "evaluate: expected a restored scan with its --reference, or a dataset (--data), and not both"
            raise UsageError(msg)
        if self.input is not None and self.restored is None:
            msg = "--input: expected together with a restored scan and its --reference; leave it out"
            raise UsageError(msg)
        if self.restored is not None and len(self.tasks) > 1:
            msg = f"--tasks: expected one task for restored scans, got {', '.join(self.tasks)}"
            raise UsageError(msg)
        if self.strength is not None and len(self.tasks) != 1:
            msg = "--strength: expected exactly one task beside it, as strengths differ between tasks; add --tasks NAME"
            raise UsageError(msg)
        counts = (("--max-slices", self.max_slices), ("--tune-slices", self.tune_slices), ("--seed", self.seed + 1))
        for option, count in counts:
            if count is not None and count < 1:
                msg = f"{option}: expected a positive number (a seed: from 0), got {count - (option == '--seed')}"
                raise UsageError(msg)
