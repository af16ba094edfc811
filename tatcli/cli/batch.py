"""How ``tat restore`` shows a batch: progress while it runs, what failed at its end."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from tatcli.cli import console
from tatcli.cli.progress_lines import ProgressLines, in_hours
from tatcli.errors import PartialFailure, UsageError

if TYPE_CHECKING:
    from tatcli.workflows.batch.config import BatchConfig
    from tatcli.workflows.restore import RestoreConfig

__all__ = ["Asked", "run"]

_LISTED = 20
"""Failures that are shown; all of them are in the list."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The options for many scans, as they were typed."""

    inputs: tuple[str, ...]
    lists: tuple[str, ...]
    include: tuple[str, ...]
    exclude: tuple[str, ...]
    pattern: str | None
    dry_run: bool
    force: bool
    fail_fast: bool
    retries: int | None
    timeout: float | None
    shard: str | None
    cluster: str | None
    devices: tuple[str, ...]
    events: Path | None
    failures: Path | None

    def is_one_scan(self, output: Path | None, series: str | None) -> bool:
        """Whether one scan is meant, which is restored without all of this. Only a batch is rehearsed, if of one.

        Raises:
            UsageError: nothing was given; a rehearsal of one scan that has several series.
        """
        if not self.inputs and not self.lists:
            msg = "Missing argument 'SCAN'; see tat restore --help"
            raise UsageError(msg)
        others = (self.lists, self.include, self.exclude, self.pattern, self.shard, self.cluster, self.events)
        flags = (self.force, self.fail_fast, self.retries is not None, self.timeout is not None)
        if any(others) or any(flags) or self.failures is not None or len(self.devices) != 1:
            return False
        from tatcli.workflows.batch.single import check_one_series, is_one_scan

        alone = is_one_scan(self.inputs, output=output, series=series)
        if alone and self.dry_run and series is None:
            check_one_series(Path(self.inputs[0]))
        return alone and not self.dry_run

    def config(self, scan: RestoreConfig) -> BatchConfig:
        """The batch.

        Raises:
            UsageError: a value that isn't one.
        """
        from tatcli.workflows.batch.config import BatchConfig, Endurance, Selection, Shard

        default = Endurance()
        return BatchConfig(
            scan=replace(scan, report=None),
            selection=Selection(
                inputs=self.inputs,
                lists=self.lists,
                include=self.include,
                exclude=self.exclude,
                shard=None if self.shard is None else Shard.parse(self.shard),
            ),
            endurance=Endurance(
                force=self.force,
                fail_fast=self.fail_fast,
                retries=default.retries if self.retries is None else self.retries,
                timeout=default.timeout if self.timeout is None else self.timeout,
            ),
            pattern=self.pattern,
            devices=self.devices or ("auto",),
            cluster=self.cluster,
            events=self.events,
            failures=self.failures,
            summary=scan.report,
        )


def run(config: BatchConfig, *, dry: bool, quiet: bool, verbose: bool, told: bool = False) -> None:
    """Restore many scans, or say what would be done.

    Args:
        config: the batch.
        dry: whether to say it only.
        quiet: no bar, and no words but warnings.
        verbose: words for each scan.
        told: whether the batch's report goes to stdout.

    Raises:
        PartialFailure: some of them failed.
    """
    if dry:
        _rehearse(config)
        return
    from tatcli.workflows.batch.run import run_batch

    with _watching(quiet=quiet, verbose=verbose) as watch:
        report = run_batch(config, watch=watch, read_stdin=sys.stdin.read)
    if told:
        console.result(report.to_json().rstrip())
    if not quiet:
        rate = f", {report.slices / report.seconds:.2f} slices/s" if report.slices and report.seconds else ""
        before = f", {report.finished} were finished before" if report.finished else ""
        console.note(f"{report.done} of {report.scans} scans restored in {report.seconds:.1f} s{rate}{before}")
    if report.failed:
        for place, reason in report.failures[:_LISTED]:
            console.warn(f"{place}: {reason}")
        more = f" ({report.failed - _LISTED} more than shown)" if report.failed > _LISTED else ""
        where = f"; listed in {report.failures_file}" if report.failures_file else ""
        early = ", the rest was not begun (--fail-fast)" if report.ended_early else ""
        msg = f"{report.failed} of {report.scans} scans failed{more}{early}{where}"
        raise PartialFailure(msg)


def _rehearse(config: BatchConfig) -> None:
    from tatcli.workflows.batch.rehearsal import rehearse

    found = rehearse(config, read_stdin=sys.stdin.read)
    rows = []
    for step in found.steps:
        size = "" if step.grid is None else "x".join(str(length) for length in step.grid.shape if length > 1)
        seconds = "" if step.cost is None else in_hours(step.cost.seconds)
        memory = "" if step.cost is None else _memory(step.cost.memory)
        reason = step.reason.removeprefix(f"{Path(step.work.place).name}: ")  # the row names it
        what = f"fails: {reason}" if reason else step.what
        rows.append((step.work.place, what, size, seconds, memory, console.from_here(step.work.output)))
    console.table(("scan", "what", "voxels", "time", "memory", "output"), rows)
    todo = sum(step.what == "restore" for step in found.steps)
    console.note(
        f"{todo} of {len(found.steps)} scans to restore, about {in_hours(found.seconds)} of computing "
        f"and {_memory(found.memory)} of memory; nothing was written"
    )


@contextmanager
def _watching(*, quiet: bool, verbose: bool) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """What shows the events: bars on a terminal, else a line now and then; with ``verbose`` one for each."""
    with _NoBars() if quiet else _Bars() if sys.stderr.isatty() else _NoBars() if verbose else _Lines() as bars:

        def watch(event: Mapping[str, Any]) -> None:
            kind = event["event"]
            bars.show(event)
            if kind == "warning":
                bars.say(lambda: console.warn(str(event["message"])))
            elif verbose and not quiet and (line := _line(event)):
                bars.say(lambda: console.note(line))

        yield watch


def _line(event: Mapping[str, Any]) -> str:
    """An event in words; those that come many times a second have none."""
    kind, scan = event["event"], event.get("scan", "")
    took = event.get("took") or event.get("seconds", {}).get("total", 0.0) if kind == "done" else 0.0
    lines = {
        "start": f"{event.get('scans')} scans (of {event.get('of')} in all shards)",
        "cluster": str(event.get("message")),
        "several": f"{scan}: {len(event.get('series', ()))} series",
        "replaced": f"{event.get('output')}: deleted, outputs of its series replace it",
        "busy": f"{scan}: {event.get('owner')} is at it; later",
        "finished": f"{scan}: was finished",
        "done": f"{event.get('output')}: {event.get('task')} in {took:.1f} s",
        "retry": f"{scan}: {event.get('reason')}; tried again later",
        "failed": f"{scan}: failed: {event.get('reason')}",
    }
    return lines.get(kind, "")


class _NoBars:
    """Warnings alone, or a line for each event anyway."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def show(self, event: Mapping[str, Any]) -> None:
        """Nothing."""

    def say(self, line: Callable[[], None]) -> None:
        """Just a line."""
        line()


class _Lines(_NoBars):
    """No terminal: how far it is, now and then."""

    def __init__(self) -> None:
        self._log = ProgressLines(console.note)
        self._scans = self._finished = self._restored = self._failed = 0

    def show(self, event: Mapping[str, Any]) -> None:
        kind = event["event"]
        if kind in ("start", "several"):
            self._scans = event["scans"]
        self._finished += kind == "finished"  # by a former run, in no time
        self._restored += kind == "done"
        self._failed += kind == "failed"
        failed = f", {self._failed} failed" if self._failed else ""
        self._log.report("restore", self._restored + self._failed, self._scans - self._finished, f" scans{failed}")


class _Bars(_NoBars):
    """Two bars: all scans with their ETA, and the slices of one that is computed, until it is through."""

    def __init__(self) -> None:
        from tqdm import tqdm

        self._all = tqdm(unit="scan", desc="scans", position=0, leave=False, dynamic_ncols=True)
        self._one = tqdm(unit="slice", position=1, leave=False, dynamic_ncols=True)
        self._shown: str | None = None
        self._failed = 0
        self._skipped = 0

    def __exit__(self, *_: object) -> None:
        self._one.close()
        self._all.close()

    def show(self, event: Mapping[str, Any]) -> None:
        kind = event["event"]
        if kind not in ("progress", "state") and event.get("scan") == self._shown:
            self._shown = None  # it ended, or begins again
        if kind in ("start", "several"):
            self._all.total = event["scans"]
            self._all.refresh()
        elif kind == "progress" and self._shown in (None, event["scan"]):
            self._shown = event["scan"] if event["slice"] < event["of"] else None
            self._show_slices(event)
        elif kind == "finished":  # it took no time, so it says nothing of what the others will take
            self._skipped += 1
            self._all.initial += 1
            self._all.update(1)
        elif kind in ("done", "failed"):
            self._failed += kind == "failed"
            self._all.update(1)
            if self._failed:
                self._all.set_postfix_str(f"{self._failed} failed")

    def say(self, line: Callable[[], None]) -> None:
        self._one.clear()
        self._all.clear()
        line()
        self._all.refresh()

    def _show_slices(self, event: Mapping[str, Any]) -> None:
        name = console.visible(str(event["scan"])[-40:])
        if self._one.desc != f"{name}: ":
            self._one.reset(total=event["of"])
            self._one.set_description(name, refresh=False)
            self._one.start_t = time.time()
            self._one.n = event["slice"]
            self._one.refresh()
        self._one.total = event["of"]
        self._one.update(event["slice"] - self._one.n)


def _memory(size: int | None) -> str:
    return "too much" if size is None else f"{size / 2**30:.1f} GiB"
