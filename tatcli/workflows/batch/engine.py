"""The child process that holds the network: it restores one scan while it reads the next and writes the last."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tatcli.errors import TatError, place_of
from tatcli.inference.restorer import Restorer
from tatcli.inference.system_memory import default_limit, free_memory, resident
from tatcli.model.weights import DEFAULT_WEIGHTS
from tatcli.reporting.run_report import write_json
from tatcli.workflows.batch.estimate import Measure, measure
from tatcli.workflows.batch.locks import Lock
from tatcli.workflows.batch.roles import Assignment, EngineSettings
from tatcli.workflows.batch.sidecar import Contents, Sidecar, contents_of, note_of, request_of, sidecar_of, stamp_of
from tatcli.workflows.batch.staging import publish, staging_folder
from tatcli.workflows.restore import RestoreConfig, RestoreReport, restore

if TYPE_CHECKING:
    from tatcli.workflows.batch.work import Work

__all__ = ["Engine"]

Say = Callable[[str, Any], None]


class Engine:
    """A network on its device.

    Raises:
        WeightsError, DeviceError: it can't be loaded.
    """

    stage = "restore"

    def __init__(self, settings: EngineSettings) -> None:
        self._settings = settings
        self.slots = settings.slots
        thread = ThreadPoolExecutor(1, thread_name_prefix="tat-network")
        self._restorer = thread.submit(
            Restorer,
            settings.weights or DEFAULT_WEIGHTS,
            device=settings.device,
            precision=settings.precision,
            threads=settings.threads,
            compiled=settings.compiled,
        ).result()
        if self._restorer.runtime.device.type == "cpu":
            self._restorer.executor = thread
        self._turn = threading.Lock()

    @property
    def info(self) -> Mapping[str, Any]:
        """Weights, and where the network is."""
        runtime = self._restorer.runtime
        return {
            "name": self._restorer.card.name,
            "weights": self._restorer.card.sha256,
            "device": runtime.device_name,
            "precision": runtime.precision,
            "threads": runtime.threads,
        }

    def answer(self, request: Any, say: Say) -> Any:
        """Restore a scan (Assignment; RestoreConfig: one that is no batch's), or measure what scans take (Measure)."""
        if isinstance(request, Measure):
            return measure(request, self._restorer, limit=self._limit(alone=True))
        if isinstance(request, RestoreConfig):
            return self._restore_plainly(request, say)
        assert isinstance(request, Assignment)  # noqa: S101  there is no other
        return self._restore(request, say)

    def _restore(self, request: Assignment, say: Say) -> dict[str, Any]:
        work = request.work
        say("state", "reading")
        lock = Lock(request.lock, request.token)
        with staging_folder(lock) as folder:
            made = folder / work.output.name
            config = replace(work.config, output=made, overwrite=False, max_memory=self._limit(alone=request.alone))
            report = restore(
                config,
                restorer=self._restorer,
                progress=lambda done, total: say("progress", (done, total)),
                turn=lambda: self._taking_turns(say),
            )
            _check_unchanged(work, request.source, report)
            _describe(work, folder, request=request_of(work, request.weights), source=request.source, report=report)
            if not lock.is_mine():
                msg = f"{work.place}: another run took its lock over"
                raise OSError(msg)
            publish(folder, work.output)
        return {
            "task": report.task,
            "seconds": report.seconds,
            "warnings": list(report.warnings),
            "device": report.device,
            "precision": report.precision,
            "peak_rss_bytes": report.peak_rss_bytes,
        }

    def _restore_plainly(self, config: RestoreConfig, say: Say) -> None:
        """What a bug is told as has nothing of the scan's."""
        try:
            restore(
                replace(config, max_memory=self._limit(alone=True)),
                restorer=self._restorer,
                progress=lambda done, total: say("progress", (done, total)),
            )
        except (TatError, OSError, MemoryError):
            raise
        except Exception as error:  # noqa: BLE001 - told without its text
            msg = f"a bug in tat ({place_of(error)})"
            raise TatError(msg) from None

    @contextmanager
    def _taking_turns(self, say: Say) -> Iterator[None]:
        say("state", "waiting")
        with self._turn:
            say("state", "computing")
            yield
        say("state", "writing")

    def _limit(self, *, alone: bool) -> int | None:
        """Bytes that the process may grow to for one scan: a share of what it may take beside what it is already."""
        settings, now = self._settings, resident() or 0
        if settings.memory is not None:
            total = settings.memory // settings.engines
        else:
            usable = default_limit()
            if usable is None or free_memory() is None:
                return None
            total = now + (usable - now) // settings.engines
        return total if alone else now + max(0, total - now) // settings.slots


def _check_unchanged(work: Work, source: Contents, report: RestoreReport) -> None:
    """What was restored must be what the sidecar will say."""
    same = stamp_of(work.config.input) == source.stamp
    if not same or report.input is None or report.input.sha256 != source.sha256:
        msg = f"{work.place}: the input changed while it was restored"
        raise OSError(msg)


def _describe(work: Work, folder: Path, *, request: Mapping[str, Any], source: Contents, report: RestoreReport) -> None:
    """Write the sidecar, and what a BIDS dataset keeps, beside the output."""
    made = folder / work.output.name
    told = json.loads(report.to_json())
    told["output"]["path"] = str(work.output)
    if work.note is not None:
        write_json(json.dumps(dict(work.note), indent=2) + "\n", note_of(made))
    sidecar = Sidecar.make(request, source=source, output=contents_of(made), report=told)
    sidecar.write(folder / sidecar_of(work.output).name)
