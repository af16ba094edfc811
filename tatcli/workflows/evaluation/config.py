"""Everything that decides an evaluation."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final

from tatcli.errors import UsageError
from tatcli.inference.options import RestoreOptions
from tatcli.intensity import Units
from tatcli.metrics.protocols import find_protocol
from tatcli.tasks import find_task

__all__ = ["NO_WEIGHTS", "EvaluateConfig"]

NO_WEIGHTS: Final = "none"

_OF_FILES: Final = ("input", "compare", "units")
"""What belongs to a restored scan and its reference alone."""
_OF_A_DATASET: Final = (
    "split", "tune_split", "weights", "strength", "seed", "baselines", "max_slices", "tune_slices", "ensemble",
    "planes", "data_consistency", "networks", "device", "precision", "threads",
)  # fmt: skip
"""What belongs to a dataset alone, whose scans are degraded and restored: of restored scans it would change nothing."""
_OF_A_NETWORK: Final = ("ensemble", "planes", "data_consistency", "device", "precision", "threads")
_OF_BASELINES: Final = ("tune_split", "tune_slices")


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
        baselines: names; None: the usual ones of each task; ``all``: every one that is installed; empty: none.
        protocol: ``paper``, ``fixed`` or ``volume``.
        max_slices: evenly spaced slices taken of each scan; None: all.
        tune_slices: slices that the baselines are tuned on.
        device, precision, threads: of the machine, see :class:`~tatcli.inference.restorer.Restorer`.
        ensemble, planes, data_consistency: as of ``tat restore``, for the comparison networks too.
        compare: another method's restored scan or folder, scored beside ``restored`` and tested against it.
        mask: a mask, or a folder with one for each scan; only its voxels count.
        units: the caller's word on the units of the restored scan and its reference; they are then not checked.
        subjects: regular expression for a scan's path below the split, or its name; the first group (or all of what it
            matches) names the subject. Otherwise it is ``sub-...`` in it, or the topmost folder, or the scan.
        physical: score what lies beyond the protocol too (bias, noise texture, edges, uptake).
        pictures: slices of each scan that are kept for the HTML report.
        networks: (name, weights) of comparison networks, see :mod:`tatcli.baselines.networks`.
        costs: measure time and memory of every method.
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
    ensemble: bool = False
    planes: int | None = None
    data_consistency: bool | None = None
    compare: Path | None = None
    mask: Path | None = None
    units: Units | None = None
    subjects: str | None = None
    physical: bool = True
    pictures: int = 0
    networks: tuple[tuple[str, str], ...] = ()
    costs: bool = False

    @property
    def options(self) -> RestoreOptions:
        """How scans are restored. Parts of a scan may hold values that would look odd as a whole one."""
        return RestoreOptions(
            ensemble=self.ensemble, planes=self.planes, data_consistency=self.data_consistency, check_values=False
        )

    def __post_init__(self) -> None:
        for name in ("restored", "reference", "input", "data", "compare", "mask"):
            if (path := getattr(self, name)) is not None:
                object.__setattr__(self, name, Path(path))  # notebooks have text
        if isinstance(self.tasks, str):
            msg = f"tasks: expected several names, got {self.tasks!r}; write ({self.tasks!r},)"
            raise UsageError(msg)
        object.__setattr__(self, "tasks", tuple(dict.fromkeys(find_task(name).name for name in self.tasks)))
        object.__setattr__(self, "protocol", find_protocol(self.protocol).name)
        if (self.data is None) == (self.restored is None) or (self.restored is None) != (self.reference is None):
            msg = "evaluate: expected a restored scan with its --reference, or a dataset (--data), and not both"
            raise UsageError(msg)
        self._check_belonging()
        _check_pattern(self.subjects)
        if self.restored is not None and len(self.tasks) > 1:
            msg = f"--tasks: expected one task for restored scans, got {', '.join(self.tasks)}"
            raise UsageError(msg)
        if self.strength is not None and len(self.tasks) != 1:
            msg = "--strength: expected exactly one task beside it, as strengths differ between tasks; add --tasks NAME"
            raise UsageError(msg)
        if self.strength is not None:
            from tatcli.degradation.simulation import check_strength

            check_strength(find_task(self.tasks[0]), self.strength)
        self._check_counts()
        _ = self.options  # refuses what doesn't fit

    def _check_belonging(self) -> None:
        """Refuse what would have no effect on what is evaluated."""
        defaults = {field.name: field.default for field in fields(self)}
        given = [name for name, default in defaults.items() if getattr(self, name) != default]
        idle = (
            (_OF_FILES, self.restored is None, "a restored scan and its --reference"),
            (_OF_A_DATASET, self.restored is not None, "a dataset (--data)"),
            (_OF_A_NETWORK, self.weights == NO_WEIGHTS and not self.networks, "a network, got --weights none"),
            (_OF_BASELINES, self.baselines == (), "classical filters to tune, got none"),
        )
        for names, is_idle, home in idle:
            name = next((name for name in names if name in given), None)
            if is_idle and name is not None:
                option = "--" + name.replace("_", "-")
                msg = f"{option}: expected together with {home}; leave it out"
                raise UsageError(msg)

    def _check_counts(self) -> None:
        counts = (
            ("--max-slices", self.max_slices),
            ("--tune-slices", self.tune_slices),
            ("--seed", self.seed + 1),
            ("--html-slices", self.pictures + 1),
        )
        for option, count in counts:
            if count is not None and count < 1:
                from_zero = option in ("--seed", "--html-slices")
                wanted = "number from 0" if from_zero else "positive number"
                msg = f"{option}: expected a {wanted}, got {count - from_zero}"
                raise UsageError(msg)


def _check_pattern(pattern: str | None) -> None:
    try:
        re.compile(pattern or "")
    except re.error as error:
        msg = f"--subjects {pattern!r}: expected a regular expression, got one with {error}"
        raise UsageError(msg) from error
