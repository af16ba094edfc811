"""Run a batch: give the scans out, take what comes back, try again what may pass, and tell what failed."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, Final

import tatcli
from tatcli.errors import OutputError
from tatcli.workflows.batch.cluster import ClusterPool, check_dask
from tatcli.workflows.batch.config import local_workers
from tatcli.workflows.batch.events import event_log
from tatcli.workflows.batch.failures import check_failures, failures_path, write_failures
from tatcli.workflows.batch.former import Formers
from tatcli.workflows.batch.planning import Plan, plan
from tatcli.workflows.batch.pool import LocalPool, Message, Pool, lane_settings
from tatcli.workflows.batch.reader import find_weights
from tatcli.workflows.batch.staging import sweep
from tatcli.workflows.batch.summary import BatchReport, check_summary, write_summary
from tatcli.workflows.batch.work import Outcome, Work

if TYPE_CHECKING:
    from tatcli.workflows.batch.config import BatchConfig

__all__ = ["run_batch"]

_POLL: Final = 0.5
_BUSY: Final = 2.0
"""Seconds until a scan that another run is at is looked at again."""
Watch = Callable[[Mapping[str, Any]], None]


def run_batch(
    config: BatchConfig,
    *,
    watch: Watch = lambda _: None,
    read_stdin: Callable[[], str] = sys.stdin.read,
) -> BatchReport:
    """Restore many scans.

    Args:
        config: what is asked.
        watch: gets every event: a mapping with ``event`` and what it is about.
        read_stdin: gives the list that ``-`` stands for.

    Raises:
        UsageError, VolumeReadError: the inputs or options make no batch; before anything is done.
        WeightsError, DeviceError: the network can't be loaded here.
    """
    start = time.monotonic()
    planned = plan(config, read_stdin=read_stdin)
    check_failures(config, planned.folder)
    check_summary(config)
    planned.prepare()
    for area in planned.areas:
        sweep(area)
    problems = lambda text: watch({"event": "warning", "message": text})  # noqa: E731
    with event_log(config.events, problem=problems) as emit:

        def tell(event: Mapping[str, Any], *, log: bool = True) -> None:
            if log:
                emit(event)
            watch(event)

        run = _Run(config, planned, tell)
        try:
            with _pool(config, tell) as pool:
                weights = pool.weights
                begun = {"version": tatcli.__version__, "scans": len(planned.works), "of": planned.total}
                tell({"event": "start", **begun, "weights": weights})
                run.through(pool)
        finally:
            for area in planned.areas:
                sweep(area)
        report = replace(run.report(), seconds=round(time.monotonic() - start, 3), weights=weights)
        report = _listed(report, config, planned, run.failed, tell)
        summary = {key: value for key, value in asdict(report).items() if key != "failures"}
        tell({"event": "end", **summary})
    if config.summary is not None:
        write_summary(report, config.summary)
    return report


class _Run:
    """The scans of a batch on their way."""

    def __init__(self, config: BatchConfig, planned: Plan, tell: Callable[..., None]) -> None:
        self._endurance = config.endurance
        self._alone = config.cluster is None
        self._tell = tell
        self._waiting = deque(planned.works)
        self._later: list[tuple[float, Work]] = []
        self._flying = 0
        self._began: dict[tuple[str, int], float] = {}
        self.failed: list[Outcome] = []
        self._done = self._finished = self._slices = 0
        self._scans = len(planned.works)
        self._ended_early = False
        self._formers = Formers()

    def through(self, pool: Pool) -> None:
        """Until nothing is left."""
        while self._waiting or self._later or self._flying:
            now = time.monotonic()
            due = [work for moment, work in self._later if moment <= now]
            self._later = [(moment, work) for moment, work in self._later if moment > now]
            self._waiting.extend(due)
            while self._waiting and self._flying < pool.room:
                pool.submit(self._waiting.popleft())
                self._flying += 1
            message = pool.next(_POLL)
            if message is None:
                continue
            if message.kind != "outcome":
                self._show(message)
                continue
            self._flying -= 1
            self._take(message.content)
            if self._ended_early:
                return

    def report(self) -> BatchReport:
        """What became of them."""
        return BatchReport(
            scans=self._scans,
            done=self._done,
            finished=self._finished,
            failed=len(self.failed),
            slices=self._slices,
            seconds=0.0,
            weights={},
            failures=tuple((one.work.place, one.failure.reason) for one in self.failed if one.failure is not None),
            ended_early=self._ended_early,
        )

    def _show(self, message: Message) -> None:
        work = message.work
        if message.kind == "state" and message.content == "looking":
            self._began.setdefault((work.place, work.attempt), time.monotonic())
            self._tell({"event": "begin", "scan": work.place, "attempt": work.attempt + 1})
        elif message.kind == "state":
            self._tell({"event": "state", "scan": work.place, "state": message.content}, log=False)
        else:
            done, total = message.content
            self._tell({"event": "progress", "scan": work.place, "slice": done, "of": total}, log=False)

    def _take(self, outcome: Outcome) -> None:
        work, status = outcome.work, outcome.status
        told = {"scan": work.place, "output": str(work.output)}
        began = self._began.pop((work.place, work.attempt), None)
        if status == "several":
            self._scans += len(outcome.parts) - 1
            self._formers.split(work, outcome.parts)
            self._waiting.extendleft(reversed(outcome.parts))
            parts = [part.place for part in outcome.parts]
            self._tell({"event": "several", "scan": work.place, "series": parts, "scans": self._scans})
        elif status == "busy":
            self._later.append((time.monotonic() + _BUSY, work))
            self._tell({"event": "busy", **told, **outcome.facts})
        elif status == "finished":
            self._finished += 1
            self._tell({"event": "finished", **told})
        elif status == "done":
            self._done += 1
            self._slices += int(outcome.facts.get("slices", 0))
            took = {} if began is None else {"took": round(time.monotonic() - began, 3)}
            self._tell({"event": "done", **told, **outcome.facts, **took})
        else:
            self._take_failure(outcome, told)
        if status in ("finished", "done") and (folder := self._formers.replaced(work)) is not None:
            self._tell({"event": "replaced", "scan": folder.place, "output": str(folder.output)})

    def _take_failure(self, outcome: Outcome, told: Mapping[str, str]) -> None:
        work, failure = outcome.work, outcome.failure
        assert failure is not None  # noqa: S101  it failed
        if failure.stage == "load" and self._alone:  # no scan of this run will fare better
            raise failure.as_error()
        told = {**told, "stage": failure.stage, "reason": failure.reason, "exit_code": str(failure.exit_code)}
        if failure.passing and work.attempt < self._endurance.retries:
            self._waiting.append(replace(work, attempt=work.attempt + 1))
            self._tell({"event": "retry", **told, "attempt": work.attempt + 1})
            return
        self.failed.append(outcome)
        self._ended_early = self._endurance.fail_fast
        details = {"details": failure.details} if failure.details else {}
        self._tell({"event": "failed", **told, "attempts": work.attempt + 1, **details})


def _pool(config: BatchConfig, tell: Callable[..., None]) -> Pool:
    if config.cluster is None:
        return LocalPool(lane_settings(config))
    workers = local_workers(config.cluster) or 1
    check_dask()
    weights = find_weights(config.scan.weights)
    (settings, *_) = lane_settings(config, weights=weights["sha256"], workers=workers)
    return ClusterPool(config.cluster, settings, weights, say=lambda text: tell({"event": "cluster", "message": text}))


def _listed(
    report: BatchReport, config: BatchConfig, planned: Plan, failed: list[Outcome], tell: Callable[..., None]
) -> BatchReport:
    path = failures_path(config, planned.folder)
    try:
        write_failures(path, failed)
    except (OutputError, OSError) as error:
        tell({"event": "warning", "message": f"{path}: the list of failures could not be written, {error}"})
        return report
    return replace(report, failures_file=str(path)) if failed else report
