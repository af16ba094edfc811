"""The output that a folder had while it was restored as one series: its series' own outputs replace it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tatcli.errors import OutputError
from tatcli.workflows.batch.locks import Lock
from tatcli.workflows.batch.sidecar import has_sidecar
from tatcli.workflows.batch.staging import lock_path, withdraw
from tatcli.workflows.batch.work import Work

__all__ = ["Formers"]


class Formers:
    """Former outputs of the folders of a batch. Each stays until all outputs that replace it are in their places."""

    def __init__(self) -> None:
        self._folders: dict[Path, Work] = {}
        self._missing: dict[Path, set[Path]] = {}

    def split(self, folder: Work, series: Iterable[Work]) -> None:
        """Note a folder that became several scans, if a batch has made an output of it before."""
        if has_sidecar(folder.output):
            outputs = {one.output for one in series}
            self._missing[folder.output] = outputs
            self._folders |= dict.fromkeys(outputs, folder)

    def replaced(self, series: Work) -> Work | None:
        """Note an output that is in its place; the folder whose former output was deleted for it, being the last.

        What another run is at, or the system doesn't let go, is left to the next run.
        """
        folder = self._folders.pop(series.output, None)
        if folder is None:
            return None
        missing = self._missing[folder.output]
        missing.discard(series.output)
        return folder if not missing and _withdrawn(folder) else None


def _withdrawn(folder: Work) -> bool:
    try:
        lock = Lock.take(lock_path(folder))
        if lock is None:
            return False
        try:
            return withdraw(folder.output)
        finally:
            lock.release()
    except (OutputError, OSError):
        return False
