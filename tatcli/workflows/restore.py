"""Restore a scan: check everything that can be checked first, then read, restore, write, report."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tatcli.errors import OutputError, UsageError
from tatcli.inference.options import RestoreOptions
from tatcli.intensity import Units
from tatcli.tasks import TASKS, Task, find_task, task_for_modality
from tatcli.volumes.formats import extension_of
from tatcli.workflows.evidence import EvidenceConfig, Restoration, check_evidence, consistent, write_evidence

if TYPE_CHECKING:
    from tatcli.inference.restorer import Restorer
    from tatcli.reporting.run_report import ChangeStatistics, FileRecord, IntensityStatistics, ScanRecord

__all__ = ["RestoreConfig", "RestoreReport", "default_output", "restore", "task_of"]

_SUFFIX: Final = "_restored"


@dataclass(frozen=True, kw_only=True)
class RestoreConfig:
    """Options of ``tat restore``.

    Attributes:
        input: a file or a DICOM folder.
        task: a task, an alias, or ``auto``: by the modality that the file names.
        output: where to; None: ``<name>_restored.<ext>`` beside the input.
        weights: a name or path; None: the default ones.
        device, precision, threads: of the machine, see :class:`~tatcli.inference.restorer.Restorer`.
        options: how to restore.
        series: which series of a DICOM folder.
        units: the caller's word on the units of the values; they are then not checked.
        overwrite: whether existing output and report may be replaced.
        report: where to write the run report (JSON).
        evidence: maps, preview and data consistency.
    """

    input: Path
    task: str = "auto"
    output: Path | None = None
    weights: str | None = None
    device: str = "auto"
    precision: str = "auto"
    threads: int | None = None
    options: RestoreOptions = field(default_factory=RestoreOptions)
    series: str | None = None
    units: Units | None = None
    overwrite: bool = False
    report: Path | None = None
    evidence: EvidenceConfig = field(default_factory=EvidenceConfig)


@dataclass(frozen=True, kw_only=True)
class RestoreReport:
    """What was done.

    Attributes:
        started: UTC, ISO 8601.
        versions: of tat, Python and libraries.
        task: its name.
        weights: name and SHA-256.
        device, precision, threads: of the machine.
        options: mode, tile, overlap, batch, axis, scale, checks.
        input, output: files with their hashes.
        scan: the input's facts.
        steps: what happened to the scan since it was read.
        seconds: wall time of each stage and in all.
        peak_rss_bytes: peak resident memory of the process.
        peak_device_bytes: of tensors on a CUDA device.
        before, after: statistics of the intensities.
        change: statistics of their difference; None where the grid changed.
        warnings: what was odd, and what of the scan lies outside the weights' training, one line each.
        evidence: option -> file written beside the output; and the uncertainty's mean.
    """

    started: str
    versions: dict[str, str]
    task: str
    weights: dict[str, str]
    device: str
    precision: str
    threads: int
    options: dict[str, Any]
    input: FileRecord | None
    output: FileRecord
    scan: ScanRecord
    steps: tuple[str, ...]
    seconds: dict[str, float]
    peak_rss_bytes: int | None
    peak_device_bytes: int | None
    before: IntensityStatistics
    after: IntensityStatistics
    change: ChangeStatistics | None
    warnings: tuple[str, ...]
    evidence: dict[str, str | float] = field(default_factory=dict)

    def to_json(self) -> str:
        """The run report."""
        from tatcli.reporting.run_report import to_json

        return to_json(self)


def restore(
    config: RestoreConfig,
    *,
    restorer: Restorer | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> RestoreReport:
    """Restore one scan.

    Args:
        config: what is to be done.
        restorer: a loaded one, which replaces weights, device, precision and threads of the config.
        progress: is called with (slices done, slices in all).

    Raises:
        UsageError, OutputError: options that don't fit, outputs that can't be written; before anything is read.
        VolumeReadError, GeometryError, UnitsError, TaskMismatchError: the input can't be restored; before torch loads.
        WeightsError, DeviceError: before the work, or (out of memory) within it.
    """
    from tatcli.inference.guards import check_scan
    from tatcli.reporting import run_report
    from tatcli.volumes.reading import read_volume
    from tatcli.volumes.writing import write_volume

    clock = _Clock()
    asked = None if config.task == "auto" else find_task(config.task)
    output = _checked_output(config)
    with clock.stage("read"):
        volume = read_volume(config.input, series=config.series, units=config.units)
        task = asked or task_of(volume.provenance.modality, config.input.name)
        options = config.options
        trusted = config.units is not None or not options.check_values
        check_scan(volume, task, trust_values=trusted, ignore_modality=options.ignore_modality)
    with clock.stage("load"):
        restorer = restorer or _load(config)
    from tatcli.inference.domain import domain_warnings
    from tatcli.inference.runtime import peak_memory
    from tatcli.volumes.slices import through_plane_axis

    with clock.stage("restore"):
        options = replace(options, check_values=False)  # done above
        restored = restorer(volume, task, options=options, progress=progress)
        restored = consistent(config.evidence, volume, restored, task, options)
        axis = through_plane_axis(volume.geometry, options.axis)
        outside = domain_warnings(volume, task, restorer.card, axis=axis, scale=options.scale)
    with clock.stage("write"):
        write_volume(restored, output, overwrite=config.overwrite)
    facts: dict[str, float] = {}
    if config.evidence.files:
        with clock.stage("evidence"):
            done = Restoration(volume=volume, restored=restored, task=task, restorer=restorer, options=options)
            facts = write_evidence(config.evidence, done, overwrite=config.overwrite, progress=progress)
    with clock.stage("report"):
        resident, on_device = peak_memory(restorer.runtime.device)
        report = RestoreReport(
            started=clock.started,
            versions=run_report.versions(),
            task=task.name,
            weights={"name": restorer.card.name, "sha256": restorer.card.sha256},
            device=restorer.runtime.device_name,
            precision=restorer.runtime.precision,
            threads=restorer.runtime.threads,
            options=asdict(config.options) | {"check_values": not trusted},
            input=run_report.input_record(volume),
            output=run_report.file_record(output),
            scan=run_report.describe_scan(volume),
            steps=restored.provenance.steps,
            seconds=clock.seconds,
            peak_rss_bytes=resident,
            peak_device_bytes=on_device,
            before=run_report.intensity_statistics(volume),
            after=run_report.intensity_statistics(restored),
            change=run_report.change_statistics(volume, restored),
            warnings=(*restored.provenance.warnings, *outside),
            evidence={option: str(path) for option, path in config.evidence.files.items()} | facts,
        )
    clock.finish()
    if config.report is not None:
        run_report.write_json(report.to_json(), config.report)
    return report


def task_of(modality: str | None, name: str) -> Task:
    """The task that a scan's modality asks for.

    Raises:
        UsageError: the file doesn't say, or says one that no task takes; the message lists the tasks.
    """
    task = task_for_modality(modality)
    if task is None:
        tasks = ", ".join(TASKS)
        got = f"modality {modality}" if modality else "a file that doesn't name its modality"
        msg = f"{name}: expected CT, PT or MR to choose the task by, got {got}; choose --task {tasks}"
        raise UsageError(msg)
    return task


def default_output(path: Path) -> Path:
    """``<name>_restored.<ext>`` beside the input.

    Raises:
        UsageError: the input is DICOM, which tat doesn't write yet.
    """
    extension = extension_of(path)
    if path.is_dir() or extension is None or extension in (".dcm", ".ima"):
        name = path.resolve().name.split(".")[0] or "restored"
        msg = f"{path.name}: expected an output name, since tat doesn't write DICOM yet; add -o {name}{_SUFFIX}.nii.gz"
        raise UsageError(msg)
    return path.with_name(path.name[: -len(extension)] + _SUFFIX + path.name[-len(extension) :])


def _checked_output(config: RestoreConfig) -> Path:
    """The output's path, once nothing speaks against it and the report's."""
    from tatcli.volumes.reading import kind_of
    from tatcli.volumes.replacing import checked_output
    from tatcli.volumes.writing import check_output

    kind = kind_of(config.input, series=config.series)
    output = config.output or default_output(config.input)
    check_output(output, source=config.input, overwrite=config.overwrite)
    if extension_of(output) == ".npy" and kind != "npy":
        msg = f"{output}: expected a format that keeps the scan's grid, got .npy; name the output .nii.gz"
        raise OutputError(msg)
    report = config.report
    if report is not None:
        checked_output(report, source=config.input, overwrite=config.overwrite)
        if report.resolve() == output.resolve():
            msg = f"{report}: expected a report apart from the output, got the same name; choose another"
            raise OutputError(msg)
    others = (output,) if report is None else (output, report)
    check_evidence(config.evidence, source=config.input, others=others, overwrite=config.overwrite)
    return output


def _load(config: RestoreConfig) -> Restorer:
    from tatcli.inference.restorer import Restorer
    from tatcli.model.weights import DEFAULT_WEIGHTS

    return Restorer(
        config.weights or DEFAULT_WEIGHTS, device=config.device, precision=config.precision, threads=config.threads
    )


class _Clock:
    """Wall time of each stage, rounded to milliseconds."""

    def __init__(self) -> None:
        self.started = datetime.now(UTC).isoformat(timespec="seconds")
        self.seconds: dict[str, float] = {}
        self._start = time.perf_counter()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - start, 3)

    def finish(self) -> None:
        self.seconds["total"] = round(time.perf_counter() - self._start, 3)
