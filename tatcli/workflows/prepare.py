"""``tat prepare``: folders of scans into an indexed, memory-mapped training set."""

from __future__ import annotations

import json
import multiprocessing
import os
import secrets
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final, TypeVar

from tatcli.errors import OutputError, UsageError
from tatcli.training.prepared_set import Entry, SetWriter, is_prepared
from tatcli.training.subjects import check_found
from tatcli.volumes.replacing import checked_output, replaced
from tatcli.workflows.lock import locked
from tatcli.workflows.preparing.candidates import find_candidates
from tatcli.workflows.preparing.config import PrepareConfig, PrepareReport
from tatcli.workflows.preparing.job import (
    CHANGED,
    NO_MEMORY,
    Job,
    Outcome,
    job_key,
    run_job,
    start_process,
    synthetic_jobs,
)
from tatcli.workflows.preparing.manifest import MANIFEST, write_manifest
from tatcli.workflows.preparing.patients import doubtful, join_subjects
from tatcli.workflows.preparing.splits import assign_splits, files_in, splits_in
from tatcli.workflows.preparing.survey import Found, survey

__all__ = ["prepare"]

_OPTIONS: Final = "options.json"
_WORK: Final = ".work"
_AHEAD: Final = 2
"""Jobs of each process that are under way or wait to be appended: bounds what lies on disk twice."""
_ONE_THREAD: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

Made = TypeVar("Made")
Progress = Callable[[str, int, int], None]


def prepare(config: PrepareConfig, *, on_progress: Progress = lambda *_: None) -> PrepareReport:
    """Make a training set, or go on with the one in ``config.output``.

    Scans are appended in the order of their paths, whatever process is done first: the same scans and options give the
    same bytes, with any number of processes and after any interruption.

    Args:
        config: options.
        on_progress: called with what is being done, how many scans are done and how many there are.

    Raises:
        UsageError: no scans, none that can be used, a subject in two splits, or a set of other options or scans.
        OutputError: the folder can't be written to, or holds something else.
        VolumeReadError: the set's files are damaged.
    """
    _check_output(config)
    _check_options(config)
    with _processes(config.workers) as each:
        candidates = [one for root in config.roots for one in find_candidates(root)]
        surveyed = each(survey, [(one, config) for one in candidates])
        found = [scan for scans in _counted(surveyed, "survey", len(candidates), on_progress) for scan in scans]
        check_found(config.subject, (scan.candidate.shown for scan in found), option="--subject")
        jobs, refused, doubts = _plan(found, config)
        try:
            config.output.mkdir(parents=True, exist_ok=True)
            with locked(config.output, "tat prepare"):
                writer = SetWriter(config.output)
                _check_options(config)  # again, alone: another run may have begun the set since
                _check_scans(writer, {job.key for job in jobs} | {entry.key for entry in refused})
                with replaced(config.output / _OPTIONS, extension=".json") as temporary:
                    temporary.write_text(json.dumps(config.options(), indent=2) + "\n", encoding="utf-8")
                report = _fill(writer, jobs, refused, (config, each, on_progress))
        except OSError as error:
            msg = f"{config.output}: expected to write the set, got {error.strerror or error}; check space and rights"
            raise OutputError(msg) from error
    return replace(report, warnings=(*report.warnings, *doubts))


def _plan(found: Sequence[Found], config: PrepareConfig) -> tuple[list[Job], list[Entry], list[str]]:
    """What is to be prepared, what is refused before its voxels are read, and what is in doubt."""
    before = splits_in(config.output)
    found = join_subjects(found, before)
    splits = assign_splits([scan for scan in found if not scan.problem], config, before=before)
    jobs: list[Job] = []
    refused: list[Entry] = []
    first = files_in(config.output, there={scan.shown for scan in found})
    for scan in found:
        problem = scan.problem
        if not problem and first.get(scan.sha256, scan.shown) != scan.shown:
            problem = f"the same bytes as {first[scan.sha256]}"
        split = "" if problem else splits[scan.subject]
        digest = scan.sha256 or scan.shown
        key = job_key(digest + scan.metadata + problem, task=scan.task or "", split=split, options=config.options())
        if problem or scan.task is None:
            entry = Entry(key=key, task=scan.task or "", split="", name=scan.name, subject=scan.subject)
            refused.append(replace(entry, facts={"rejected": problem}, source=_source(scan)))
        else:
            first[scan.sha256] = scan.shown
            jobs.append(Job(key, scan.task, split, scan))
    jobs += synthetic_jobs(config)
    if not jobs:
        why = f": {refused[0].source['file']}: {refused[0].rejected}" if refused else ""
        named = ", ".join(map(str, config.roots))
        msg = f"{named}: expected scans to prepare, found none among {len(found)} files and series{why}"
        raise UsageError(msg)
    return jobs, refused, doubtful(found, splits)


def _fill(
    writer: SetWriter,
    jobs: Sequence[Job],
    refused: Sequence[Entry],
    run: tuple[PrepareConfig, Callable[..., Iterator[Any]], Progress],
) -> PrepareReport:
    """Prepare what isn't in the set yet, append it in order, and mark the set as whole."""
    config, each, on_progress = run
    known = {entry.key for entry in writer.entries if entry.rejected not in (CHANGED, NO_MEMORY)}
    due = [job for job in jobs if job.key not in known]
    if due or any(entry.key not in known for entry in refused):
        writer.reopen()
    for entry in refused:
        if entry.key not in known:
            writer.reject(entry, entry.rejected or "")
    # a name of this run's own: processes of a run that was killed may still be writing
    shutil.rmtree(config.output / _WORK, ignore_errors=True)
    work = config.output / _WORK / secrets.token_hex(4)
    outcomes = each(run_job, [(job, config, work / job.key) for job in due])
    new = 0
    try:
        for job, outcome in zip(due, _counted(outcomes, "prepare", len(due), on_progress), strict=True):
            new += _append(writer, job, outcome)
    finally:
        writer.flush()
    shutil.rmtree(config.output / _WORK, ignore_errors=True)
    planned = {job.key for job in jobs} | {entry.key for entry in refused}  # (of one tried again what came last)
    entries = list({entry.key: entry for entry in writer.entries if entry.key in planned}.values())
    write_manifest(config.output / MANIFEST, entries)
    report = _report(entries, config, new)
    if not report.scans:
        scan, why = report.rejected[0]
        msg = f"{config.output}: expected scans that can be references, got none; {scan}: {why}"
        raise UsageError(msg)
    writer.finish(config.options())
    return report


def _append(writer: SetWriter, job: Job, outcome: Outcome) -> bool:
    told = {"file": job.name} if job.scan is None else _source(job.scan)
    if job.scan is None:
        told |= {"source": "made up by tat", "terms": "CC0-1.0"}
    entry = Entry(key=job.key, task=job.task, split=job.split, name=job.name, subject=job.subject)
    entry = replace(entry, source=told | outcome.source)
    if outcome.rejected:
        writer.reject(entry, outcome.rejected)
        shutil.rmtree(outcome.part, ignore_errors=True)
        return False
    writer.add(entry, outcome.part)
    return True


def _source(scan: Found) -> dict[str, Any]:
    candidate = scan.candidate
    return {"file": scan.shown, "sha256": scan.sha256, "source": candidate.source, "terms": candidate.terms}


def _report(entries: Iterable[Entry], config: PrepareConfig, new: int) -> PrepareReport:
    used: dict[tuple[str, str], list[Entry]] = {}
    rejected = []
    for entry in entries:
        if entry.rejected is None:
            used.setdefault((entry.task, entry.split), []).append(entry)
        else:
            rejected.append((str(entry.source.get("file", entry.name)), entry.rejected))
    used = dict(sorted(used.items()))
    tasks = {task for task, _ in used}
    warnings = tuple(
        f"{task}: no subject is left for the split {split}; give more scans, or another share"
        for task in sorted(tasks)
        for split, share in (("train", 1.0), ("val", config.validation), ("test", config.test))
        if share and (task, split) not in used
    )
    return PrepareReport(
        output=config.output,
        scans={place: len(group) for place, group in used.items()},
        slices={place: sum(entry.shapes["hq"][0] for entry in group) for place, group in used.items()},
        subjects={place: len({entry.subject for entry in group}) for place, group in used.items()},
        rejected=tuple(rejected),
        averaged=sum(entry.source.get("averaged", 1) > 1 for group in used.values() for entry in group),
        new=new,
        nbytes=sum(path.stat().st_size for path in config.output.iterdir() if path.is_file()),
        warnings=warnings,
    )


def _check_output(config: PrepareConfig) -> None:
    output = config.output
    for root in config.roots:
        if output.resolve() == root.resolve() or root.resolve() in output.resolve().parents:
            msg = f"{output}: expected a folder apart from {root}, got one in it; choose another"
            raise OutputError(msg)
    if output.exists() and not output.is_dir():
        msg = f"{output}: expected a folder, got a file; choose another name"
        raise OutputError(msg)
    checked_output(output / _OPTIONS, source=None, overwrite=True, makes_folders=True)
    others = output.is_dir() and any(not path.name.startswith(".") for path in output.iterdir())
    if others and not is_prepared(output):
        msg = f"{output}: expected a new folder or a training set, got a folder with other files; choose another"
        raise OutputError(msg)


def _check_options(config: PrepareConfig) -> None:
    """Refuse to go on with a set of other options."""
    path = config.output / _OPTIONS
    if not path.exists():
        return
    before = json.loads(path.read_text(encoding="utf-8"))
    options = json.loads(json.dumps(config.options()))
    if before.get("references") != options["references"]:
        msg = f"{config.output}: expected a set made by this version of tat, got one whose references another made "
        raise UsageError(msg + "otherwise; train on it as it is, or prepare the scans anew in another folder")
    changed = [key for key in options | before if before.get(key) != options.get(key)]
    if changed:
        values = ((key, before.get(key, "the default"), options.get(key, "the default")) for key in changed)
        told = "; ".join(f"{key} was {old}, now {new}" for key, old, new in values)
        msg = f"{config.output}: a set is gone on with by the same options ({told}); use them, or another folder"
        raise UsageError(msg)


def _check_scans(writer: SetWriter, planned: set[str]) -> None:
    """Refuse to go on with a set of scans that aren't there any more."""
    gone = [entry for entry in writer.entries if entry.key not in planned and entry.rejected is None]
    if gone:
        msg = (
            f"{writer.root}: holds {len(gone)} scans that are not there any more, have changed or belong to another "
            f"split now, the first: {gone[0].source.get('file', gone[0].name)}; choose another folder"
        )
        raise UsageError(msg)


def _counted(items: Iterable[Made], stage: str, total: int, on_progress: Progress) -> Iterator[Made]:
    on_progress(stage, 0, total)
    for done, item in enumerate(items, start=1):
        yield item
        on_progress(stage, done, total)


@contextmanager
def _processes(count: int) -> Iterator[Callable[..., Iterator[Any]]]:
    """A way to call a function with each of some arguments, in as many processes; results come in order."""
    if count == 1:
        yield lambda call, calls: (call(*arguments) for arguments in calls)
        return
    before = {name: os.environ.get(name) for name in _ONE_THREAD}
    os.environ |= dict.fromkeys(_ONE_THREAD, "1")  # the processes are the parallelism
    others = set(multiprocessing.active_children())
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(count, mp_context=context, initializer=start_process)
    try:
        yield lambda call, calls: _ordered(pool, count, call, calls)
        pool.shutdown()
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        for child in set(multiprocessing.active_children()) - others:
            child.terminate()
        raise
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _ordered(
    pool: ProcessPoolExecutor, count: int, call: Callable[..., Made], calls: Sequence[tuple[Any, ...]]
) -> Iterator[Made]:
    pending: deque[Future[Made]] = deque()
    waiting = deque(calls)
    try:
        while waiting or pending:
            while waiting and len(pending) < _AHEAD * count:
                pending.append(pool.submit(call, *waiting.popleft()))
            yield pending.popleft().result()
    except BrokenProcessPool as error:
        msg = (
            f"prepare: a process was ended by the system, most likely for want of memory, after "
            f"{len(calls) - len(waiting) - len(pending) - 1} scans; run it again with fewer --workers to go on"
        )
        raise OutputError(msg) from error
