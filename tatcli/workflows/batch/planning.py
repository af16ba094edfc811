"""From what was asked to a list of scans, each with its output: nothing is read yet but names, lists and folders."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from tatcli.errors import UsageError, VolumeReadError, reason_of
from tatcli.tasks import find_task
from tatcli.volumes.bids_pet import SUV_UNITS
from tatcli.volumes.formats import extension_of, format_of, written_for
from tatcli.workflows.batch.bids import bids_images, derived_name, is_dataset, write_description
from tatcli.workflows.batch.discovery import Found, Rules, find_scans, read_list
from tatcli.workflows.batch.manifest import is_manifest, read_manifest
from tatcli.workflows.batch.naming import area_of, check_pattern, output_of, series_folder, with_output
from tatcli.workflows.batch.sidecar import has_sidecar
from tatcli.workflows.batch.single import scan_with_output
from tatcli.workflows.batch.work import Work
from tatcli.workflows.output_names import asked_format

if TYPE_CHECKING:
    from tatcli.volumes.dicom_options import DicomOptions
    from tatcli.workflows.batch.config import BatchConfig, Shard
    from tatcli.workflows.restore import RestoreConfig

__all__ = ["Plan", "in_shard", "plan"]

_DERIVATIVES = Path("derivatives", "tat")


@dataclass(frozen=True)
class Plan:
    """What a batch is to do.

    Attributes:
        works: the scans of this run's shard.
        total: how many there are in all shards.
        folder: of the outputs; None: beside the inputs.
        datasets: (BIDS dataset, its derivatives).
    """

    works: tuple[Work, ...]
    total: int
    folder: Path | None
    datasets: tuple[tuple[Path, Path], ...] = ()

    @property
    def areas(self) -> tuple[Path, ...]:
        """All work folders, each once."""
        return tuple(dict.fromkeys(work.area for work in self.works))

    def prepare(self) -> None:
        """Make what has to be there before the first scan.

        Raises:
            UsageError, OutputError: see :func:`~tatcli.workflows.batch.bids.write_description`.
        """
        for dataset, derivatives in self.datasets:
            write_description(dataset, derivatives)


def plan(config: BatchConfig, *, read_stdin: Callable[[], str]) -> Plan:
    """Find all scans and name their outputs.

    Args:
        config: what was asked.
        read_stdin: gives the list that ``-`` stands for.

    Raises:
        UsageError: nothing to do, two scans with one output, an option that doesn't fit.
        VolumeReadError: a folder that can't be listed, a pattern without match.
    """
    check_pattern(config.pattern)
    _check(config)
    scan = config.scan
    folder = None if scan.output is None else Path(os.path.abspath(scan.output))  # noqa: PTH100  keeps links
    task = scan.task if scan.task == "auto" else find_task(scan.task).name
    scan = replace(scan, task=task, output=folder, dicom=_with_stable_uids(scan))
    single = scan_with_output(config)
    datasets: list[tuple[Path, Path]] = []
    if single is not None:
        found, output = single
        works, folder = [_work(found, replace(scan, output=None), output, config)], output.parent
    else:
        works, datasets = _all_works(config, scan, read_stdin)
        if folder is None and len(datasets) == 1:
            folder = datasets[0][1]
    _check_outputs(works)
    _check_reports(config, works)
    works, shard = _with_neighbours(works), config.selection.shard
    mine = tuple(work for work in works if shard is None or in_shard(work.place, shard))
    return Plan(mine, len(works), folder, tuple(datasets))


def _all_works(
    config: BatchConfig, scan: RestoreConfig, read_stdin: Callable[[], str]
) -> tuple[list[Work], list[tuple[Path, Path]]]:
    """The scans of all inputs, with their outputs, and the BIDS datasets among the inputs with their derivatives."""
    folder = scan.output
    if folder is not None and not folder.is_dir() and (folder.exists() or extension_of(folder) is not None):
        msg = f"{folder}: expected a folder for the outputs of several scans, got a file; choose another -o"
        raise UsageError(msg)
    works: list[Work] = []
    datasets: list[tuple[Path, Path]] = []
    words, tables, folders = _sorted_inputs(config, read_stdin)
    selection = config.selection
    outside = frozenset() if folder is None else frozenset({folder})
    rules = Rules(include=selection.include, exclude=selection.exclude, outside=outside)
    for dataset in folders:
        derivatives = folder or dataset / _DERIVATIVES
        datasets.append((dataset, derivatives))
        works += list(_of_dataset(dataset, derivatives, config, replace(scan, output=derivatives), rules))
    if words:
        found_scans = find_scans(words, rules)
        works += [_work(found, scan, output_of(found, scan, config.pattern), config) for found in found_scans]
    for table in tables:
        works += list(_of_manifest(table, scan, config))
    if not works:
        msg = f"{', '.join(selection.inputs) or 'the list'}: expected scans, got none; check the folder, --include and"
        raise VolumeReadError(msg + " --exclude; outputs of tat, with a .tat.json, are none")
    return works, datasets


def in_shard(place: str, shard: Shard) -> bool:
    """Whether a scan belongs to a shard: by a hash of its place, the same on every machine."""
    digest = hashlib.sha256(place.encode(errors="surrogateescape")).hexdigest()
    return int(digest[:16], 16) % shard.count == shard.index - 1


def _check(config: BatchConfig) -> None:
    scan = config.scan
    asked_format(scan.format)
    files = next(iter(scan.evidence.files), None)
    if files is not None:
        msg = f"{files}: expected with one scan only and its -o FILE, got a batch, or an option of one such as"
        raise UsageError(msg + " --dry-run or --retries; restore that scan by itself, without those")


def _with_stable_uids(scan: RestoreConfig) -> DicomOptions:
    """A series that is made again must not become a second one at the PACS."""
    return scan.dicom if scan.dicom.anonymise else replace(scan.dicom, reproducible=True)


def _sorted_inputs(config: BatchConfig, read_stdin: Callable[[], str]) -> tuple[list[str], list[Path], list[Path]]:
    """(files, folders and patterns; manifests; BIDS datasets)."""
    words: list[str] = []
    for word in config.selection.inputs:
        words += read_list(read_stdin(), Path.cwd()) if word == "-" else [word]
    for name in config.selection.lists:
        words += read_list(read_stdin(), Path.cwd()) if name == "-" else _listed(Path(name))
    rest: list[str] = []
    tables: list[Path] = []
    datasets: list[Path] = []
    for word in words:
        path = Path(os.path.abspath(word))  # noqa: PTH100
        if is_manifest(path):
            tables.append(path)
        elif is_dataset(path):
            datasets.append(path)
        else:
            rest.append(word)
    return rest, tables, datasets


def _listed(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8", errors="surrogateescape")  # names are bytes, of any encoding
    except OSError as error:
        msg = f"--list {path}: expected a text file with one path a line, got {reason_of(error)}"
        raise UsageError(msg) from error
    return read_list(text, path.parent)


def _of_dataset(
    dataset: Path, derivatives: Path, config: BatchConfig, scan: RestoreConfig, rules: Rules
) -> Iterator[Work]:
    for image in bids_images(dataset, scan.task, rules):
        found = image.found
        named = replace(found, place=found.place.with_name(derived_name(found.place.name)))
        own = replace(scan, task=image.task)
        work = _work(found, own, output_of(named, own, config.pattern), config)
        note = image.note
        if image.task == "pet-synthesis" and format_of(work.output) != "nifti":
            note = note | {"Units": SUV_UNITS}  # another format has no header that leads back to the input's units
        yield replace(work, note=note, area=area_of(work.output, derivatives))


def _of_manifest(table: Path, scan: RestoreConfig, config: BatchConfig) -> Iterator[Work]:
    folder = table.parent
    for row in read_manifest(table, scan):
        path = Path(os.path.abspath(row.path))  # noqa: PTH100
        if path.is_file() and has_sidecar(path):
            continue  # an output is no input
        inside = path.is_relative_to(folder)
        place = PurePosixPath((path.relative_to(folder) if inside else Path(path.name)).as_posix())
        found = Found(path, place, format_of(path) or "dicom")
        if row.output is None:
            output = output_of(found, row.config, config.pattern)
        else:
            output = Path(os.path.abspath((scan.output or folder) / row.output))  # noqa: PTH100
        work = _work(found, row.config, output, config)
        # By their names alone, scans of one name would be one in messages, and all of one shard.
        yield work if inside else replace(work, place=path.as_posix())


def _work(found: Found, scan: RestoreConfig, output: Path, config: BatchConfig) -> Work:
    return Work(
        config=with_output(scan, found, output),
        place=str(found.place) if found.place.name else found.path.name,
        area=area_of(output, scan.output),
        force=config.endurance.force,
    )


def _with_neighbours(works: list[Work]) -> list[Work]:
    """The scans, each knowing which names others' outputs take where its series would go; shards agree on it."""
    names: dict[Path, set[str]] = {
        series_folder(work.output): set() for work in works if format_of(work.config.input) is None
    }
    for work in works:
        for folder in work.output.parents:
            if folder in names:
                names[folder].add(work.output.relative_to(folder).parts[0])
    return [
        replace(work, neighbours=frozenset(names[series_folder(work.output)]))
        if format_of(work.config.input) is None
        else work
        for work in works
    ]


def _check_outputs(works: list[Work]) -> None:
    taken: dict[str, Work] = {}
    for work in works:
        other = taken.setdefault(_one_name(work.output), work)
        if other.config != work.config:  # another scan, or the same one with other options
            same = work.config.input == other.config.input and work.config.series == other.config.series
            second = "the same with other options" if same else work.place
            msg = f"{work.output}: expected one scan for each output, got {other.place} and {second}; use"
            msg += " --output-pattern, or a manifest's column output"
            raise UsageError(msg)
        if _one_name(work.output) == _one_name(work.config.input):
            msg = f"{work.output}: expected outputs apart from the inputs, got the same path; choose another -o or"
            msg += " --output-pattern"
            raise UsageError(msg)


def _one_name(path: Path) -> str:
    """The same for all spellings that are one file: on macOS and Windows those that differ in case, as a rule."""
    return str(path).casefold() if sys.platform in ("darwin", "win32") else str(path)


def _check_reports(config: BatchConfig, works: list[Work]) -> None:
    """What the batch tells of itself replaces no scan."""
    paths = (path for work in works for path in (*written_for(work.config.input), *written_for(work.output)))
    scans = map(_one_name, paths)
    taken = dict.fromkeys(scans, "a scan's")
    for option, path in (("--report", config.summary), ("--events", config.events), ("--failures", config.failures)):
        if path is None:
            continue
        other = taken.setdefault(_one_name(Path(os.path.abspath(path))), f"{option}'s")  # noqa: PTH100
        if other != f"{option}'s":
            msg = f"{option} {path}: expected a file of its own, got {other}; choose another name"
            raise UsageError(msg)
