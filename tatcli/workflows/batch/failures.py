"""The list of what failed, as a table that other programs can read."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tatcli.errors import OutputError
from tatcli.volumes.replacing import checked_output, replaced
from tatcli.workflows.batch.config import BatchConfig
from tatcli.workflows.batch.work import Outcome
from tatcli.workflows.spreadsheets import as_text

__all__ = ["check_failures", "failures_path", "write_failures"]

_COLUMNS: Final = ("path", "series", "output", "stage", "reason", "exit_code", "attempts")


def failures_path(config: BatchConfig, folder: Path | None) -> Path:
    """Where the list goes: shards have lists of their own."""
    if config.failures is not None:
        return config.failures
    shard = config.selection.shard
    name = "failures.csv" if shard is None else f"failures-{shard.index}-of-{shard.count}.csv"
    return (folder or Path.cwd()) / name


def check_failures(config: BatchConfig, folder: Path | None) -> None:
    """Refuse to put the list in the place of a file that isn't an earlier run's list, or where none can be written.

    Raises:
        OutputError: there is one, and it may not be replaced; ``--failures`` names a place that can't be written to.
    """
    path = failures_path(config, folder)
    if config.failures is not None:
        checked_output(path, source=None, overwrite=True, makes_folders=True)
    replaceable = path.is_file() and (config.scan.overwrite or path.stat().st_size == 0 or _is_ours(path))
    if path.exists() and not replaceable:
        msg = f"{path}: expected the list of failures of an earlier run, got something else; name another by --failures"
        raise OutputError(msg)


def write_failures(path: Path, failed: Sequence[Outcome]) -> None:
    """Write the list, whole or not at all; where nothing failed, an earlier run's list is deleted.

    Raises:
        OutputError: the system refuses to write.
    """
    if not failed:
        if path.is_file() and _is_ours(path):
            path.unlink()
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        replaced(path, extension=".csv") as temporary,
        temporary.open("w", encoding="utf-8", errors="surrogateescape", newline="") as stream,  # names as on the disk
    ):
        table = csv.writer(stream)
        table.writerow(_COLUMNS)
        for outcome in failed:
            work, failure = outcome.work, outcome.failure
            assert failure is not None  # noqa: S101  they failed
            said = (as_text(work.config.series or ""), work.output, failure.stage, as_text(failure.reason))
            table.writerow((work.config.input, *said, failure.exit_code, work.attempt + 1))


def _is_ours(path: Path) -> bool:
    try:
        with path.open(encoding="utf-8", errors="replace") as stream:
            return stream.readline().strip() == ",".join(_COLUMNS)
    except OSError:  # of another user, who keeps it to himself
        return False
