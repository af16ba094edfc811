"""What ``tat prepare`` is asked for, and what it tells."""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from tatcli.errors import UsageError
from tatcli.processor import MOST_THREADS
from tatcli.tasks import find_task
from tatcli.training.config import LARGEST_SEED, MOST_FIELDS
from tatcli.training.references import FORMAT

__all__ = ["PrepareConfig", "PrepareReport"]


@dataclass(frozen=True, kw_only=True)
class PrepareConfig:
    """Options of ``tat prepare``.

    Attributes:
        roots: folders with scans.
        output: the set's folder; one that was begun is gone on with.
        task: of scans whose header and folders name no modality; None: they are left out.
        subject: pattern in a scan's path that tells whom it is of (its first group, or all that it matches).
        validation, test: shares of the subjects that are kept for these splits.
        noise_fields: precomputed noise realisations for each slice (CT, PET).
        max_slices: evenly spaced slices of each scan; 0: all.
        planes: ``acquired``, or ``all``: PET with nearly cubic voxels to be trained on in all three planes.
        default_share: share of PET's realisations at the default dose reduction factor.
        thickness: CT slices thinner than about half of this are averaged to it, mm; 0: never.
        quiet: unless their noise is at most this, HU.
        synthetic_pet: whole-body PET volumes to make up, for training only.
        synthetic_brain: likewise PET of brains.
        seed: of all noise, and of the made-up volumes.
        workers: processes that read and simulate.
    """

    roots: tuple[Path, ...]
    output: Path
    task: str | None = None
    subject: str | None = None
    validation: float = 0.1
    test: float = 0.0
    noise_fields: int = 4
    max_slices: int = 0
    planes: Literal["acquired", "all"] = "acquired"
    default_share: float = 0.3
    thickness: float = 4.0
    quiet: float = 12.0
    synthetic_pet: int = 0
    synthetic_brain: int = 0
    seed: int = 0
    workers: int = 1

    def __post_init__(self) -> None:
        if self.task is not None:
            object.__setattr__(self, "task", find_task(self.task).name)
        if self.subject is not None:
            try:
                re.compile(self.subject)
            except re.error as error:
                msg = f"--subject {self.subject!r}: expected a regular expression, got {error}"
                raise UsageError(msg) from error
        if not (self.roots or self.synthetic_pet or self.synthetic_brain):
            msg = "prepare: expected folders with scans (ROOT), --synthetic-pet or --synthetic-brain, got none"
            raise UsageError(msg)
        shares, ct = (self.validation, self.test), (self.thickness, self.quiet)
        counts = (self.max_slices, self.synthetic_pet, self.synthetic_brain, self.seed)
        checks: dict[str, tuple[bool, tuple[Any, ...]]] = {
            "--val and --test (shares, in all below 1)": (min(shares) >= 0 and sum(shares) < 1, shares),
            f"--noise-fields (1 to {MOST_FIELDS})": (1 <= self.noise_fields <= MOST_FIELDS, (self.noise_fields,)),
            "--max-slices, --synthetic-pet, --synthetic-brain, --seed (not negative)": (min(counts) >= 0, counts),
            "--seed (below 2**63)": (self.seed < LARGEST_SEED, (self.seed,)),
            "--planes (acquired, or all with --max-slices 0)": (
                self.planes == "acquired" or (self.planes == "all" and not self.max_slices),
                (self.planes, self.max_slices),
            ),
            "--default-share (0 to 1)": (0 <= self.default_share <= 1, (self.default_share,)),
            "--ct-thickness, --ct-quiet (not negative)": (all(0 <= value < math.inf for value in ct), ct),
            f"--workers (1 to {MOST_THREADS})": (1 <= self.workers <= MOST_THREADS, (self.workers,)),
        }
        for option, (holds, values) in checks.items():
            if not holds:
                msg = f"prepare: {option}: value out of range, got {', '.join(map(str, values))}"
                raise UsageError(msg)

    def options(self) -> dict[str, Any]:
        """What decides a scan's outcome: a set that is gone on with must have the same.

        ``references`` counts the ways in which tat has made them: old and new ones don't mix in a set.
        """
        free = ["roots", "output", "workers", "synthetic_pet", "synthetic_brain"]
        free += ["planes"] if self.planes == "acquired" else []  # sets from before this option go on
        return {key: value for key, value in asdict(self).items() if key not in free} | {"references": FORMAT}


@dataclass(frozen=True)
class PrepareReport:
    """What became of the scans.

    Attributes:
        output: the set.
        scans: how many references each (task, split) has.
        slices: how many slices.
        subjects: how many subjects.
        rejected: (scan, why) of those that are no references.
        averaged: CT scans whose slices were averaged.
        new: references that were not in the set before.
        nbytes: of the set.
        warnings: what else is good to know.
    """

    output: Path
    scans: dict[tuple[str, str], int]
    slices: dict[tuple[str, str], int]
    subjects: dict[tuple[str, str], int]
    rejected: tuple[tuple[str, str], ...]
    averaged: int
    new: int
    nbytes: int
    warnings: tuple[str, ...]
