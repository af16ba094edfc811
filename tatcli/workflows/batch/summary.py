"""What became of a batch, and the file (JSON) that tells it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from tatcli.errors import OutputError
from tatcli.volumes.replacing import checked_output

if TYPE_CHECKING:
    from tatcli.workflows.batch.config import BatchConfig

__all__ = ["BatchReport", "check_summary", "write_summary"]


@dataclass(frozen=True, kw_only=True)
class BatchReport:
    """What became of a batch.

    Attributes:
        scans: how many this run was to restore, a folder's series each by itself.
        done, finished, failed: restored by this run; before it; not at all.
        slices: restored by this run.
        seconds: wall time.
        weights: name and SHA-256.
        failures: (scan, reason).
        failures_file: where they are listed; None: there are none, or the list couldn't be written.
        ended_early: by --fail-fast.
    """

    scans: int
    done: int
    finished: int
    failed: int
    slices: int
    seconds: float
    weights: Mapping[str, str]
    failures: tuple[tuple[str, str], ...] = ()
    failures_file: str | None = None
    ended_early: bool = False

    def to_json(self) -> str:
        """The batch's own report."""
        return json.dumps(asdict(self), indent=2) + "\n"


def check_summary(config: BatchConfig) -> None:
    """Refuse to put the report in the place of a file that isn't an earlier batch's report.

    Raises:
        OutputError: there is one, and it may not be replaced; or it can't be written there.
    """
    path = config.summary
    if path is None:
        return
    checked_output(path, source=None, overwrite=True, makes_folders=True)
    if path.exists() and not (config.scan.overwrite or _is_ours(path)):
        msg = f"--report {path}: expected a new file, or the report of an earlier batch, got something else; choose"
        raise OutputError(msg + " another name or --overwrite")


def write_summary(report: BatchReport, path: Path) -> None:
    """Write the report, over an earlier one; its folder is made.

    Raises:
        OutputError: the system refuses.
    """
    from tatcli.reporting.run_report import write_json

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = f"--report {path}: expected to make its folder, got {error.strerror or error}; choose another name"
        raise OutputError(msg) from error
    write_json(report.to_json(), path)


def _is_ours(path: Path) -> bool:
    try:
        told = json.loads(path.read_bytes() or b"null")
    except (OSError, ValueError):
        return False
    return told is None or (isinstance(told, dict) and set(told) == {field.name for field in fields(BatchReport)})
