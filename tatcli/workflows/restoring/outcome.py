"""What a restoration gave, whichever way it went."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tatcli.inference.restorer import Restorer
    from tatcli.reporting.statistics import ChangeStatistics, IntensityStatistics
    from tatcli.tasks import Task
    from tatcli.volumes.volume import ScanHeader

__all__ = ["Job", "MemoryRecord", "Outcome", "in_words"]


@dataclass(frozen=True, kw_only=True)
class MemoryRecord:
    """How the run kept within its memory.

    Attributes:
        limit_bytes: what the process was to stay below; None: not known, so there was none.
        predicted_peak_bytes: of resident memory.
        scan: ``whole``: as a volume; ``held``: in memory as it is stored; ``streamed``: from its file in each pass.
        gathered: ``memory`` or ``disk``, where what was computed didn't come in the order of the file; else None.
        block: slices that were read and written at once.
        batch: slices (tiles) in one pass through the network.
        tile: side of the tiles; None: whole slices.
    """

    limit_bytes: int | None
    predicted_peak_bytes: int
    scan: str
    gathered: str | None = None
    block: int | None = None
    batch: int | None = None
    tile: int | None = None


@dataclass(frozen=True, kw_only=True)
class Job:
    """What both ways need beside the options.

    Attributes:
        task: the one asked for, or else the one that fits the scan's modality.
        limit: bytes that the process should stay below; None: not known.
        load: gives the restorer, which costs the import of torch.
        progress: is called with (slices done, slices in all).
        turn: the block in which the network computes; scans that share it take turns there.
    """

    task: Callable[[ScanHeader], Task]
    limit: int | None
    load: Callable[[], Restorer]
    progress: Callable[[int, int], None] | None = None
    turn: Callable[[], AbstractContextManager[object]] = nullcontext


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What was done.

    Attributes:
        task: which one.
        restorer: with what.
        scan: the input.
        steps: what happened to it since it was read.
        warnings: what was odd.
        before, after: statistics of the intensities.
        change: of their difference; None where the grid changed.
        memory: how the run kept within its memory.
        evidence: facts of the evidence that was asked for.
    """

    task: Task
    restorer: Restorer
    scan: ScanHeader
    steps: tuple[str, ...]
    warnings: tuple[str, ...]
    before: IntensityStatistics
    after: IntensityStatistics
    change: ChangeStatistics | None
    memory: MemoryRecord
    evidence: dict[str, float] = field(default_factory=dict)


def in_words(size: int) -> str:
    """A number of bytes as people write it."""
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{max(1, round(size / 2**20))} MiB"
