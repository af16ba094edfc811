"""One scan of a batch, and what became of it."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tatcli.errors import DeviceError, OutputError, TatError, UsageError, WeightsError
from tatcli.workflows.batch.naming import series_folder

if TYPE_CHECKING:
    from tatcli.workflows.restore import RestoreConfig

__all__ = ["Failure", "Outcome", "Work"]


@dataclass(frozen=True, kw_only=True)
class Work:
    """One scan of a batch.

    Attributes:
        config: how it is restored; input, output and format are set.
        place: where it lies in the tree of inputs, with slashes: its name in messages, and what shards go by.
        area: the folder for locks and for what is being written, on the output's own file system.
        note: what a BIDS dataset keeps beside the output (JSON); None: nothing.
        force: redo it even if it is finished.
        attempt: 0 for the first.
        neighbours: names that other scans' outputs take in the folder where series of this one would go.
    """

    config: RestoreConfig
    place: str
    area: Path
    note: Mapping[str, Any] | None = None
    force: bool = False
    attempt: int = 0
    neighbours: frozenset[str] = frozenset()

    @property
    def shares_folder(self) -> bool:
        """Whether the output is a folder in which others' outputs go, too: its series then get folders of their own."""
        return bool(self.neighbours) and series_folder(self.output) == self.output

    @property
    def output(self) -> Path:
        """Where the restored scan goes."""
        output = self.config.output
        assert output is not None  # noqa: S101  planning sets it
        return output


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why a scan could not be restored.

    Attributes:
        stage: ``plan``, ``read``, ``restore`` or ``write``.
        reason: one line.
        exit_code: the one that restoring the scan alone would have given.
        passing: whether another attempt may succeed.
        details: a traceback, for bugs.
    """

    stage: str
    reason: str
    exit_code: int
    passing: bool = False
    details: str = ""

    def as_error(self) -> TatError:
        """The error that ends the run as it would have ended that of a single scan."""
        kinds: dict[int, type[TatError]] = {2: UsageError, 4: WeightsError, 5: DeviceError}
        if self.exit_code in kinds:
            return kinds[self.exit_code](self.reason)
        error = TatError(f"{self.reason}\n{self.details}".strip())
        error.exit_code = self.exit_code
        return error

    @classmethod
    def of(cls, error: BaseException, stage: str) -> Failure:
        """What an exception says."""
        if isinstance(error, TatError):
            from_system = isinstance(error.__cause__, OSError) and isinstance(error, OutputError)
            passing = from_system or isinstance(error, DeviceError)
            reason = " ".join(str(error).split())
            return cls(stage=stage, reason=reason, exit_code=error.exit_code, passing=passing)
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        if isinstance(error, OSError | MemoryError):
            return cls(stage=stage, reason=reason, exit_code=3 if stage == "read" else 2, passing=True)
        details = "".join(traceback.format_exception(error))
        return cls(stage=stage, reason=f"a bug in tat: {reason}", exit_code=1, passing=True, details=details)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a scan.

    Attributes:
        work: the scan.
        status: ``done``; ``finished``: it was already; ``several``: it is a folder of several series; ``busy``: another
            run is at it; ``failed``.
        parts: the series.
        failure: why it failed.
        facts: of the restoration: task, slices, seconds, warnings, device; who is at a busy one.
    """

    work: Work
    status: str
    parts: tuple[Work, ...] = ()
    failure: Failure | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
