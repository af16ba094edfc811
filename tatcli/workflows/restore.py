"""Restore a scan: check everything that can be checked first, then read, restore, write, report."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tatcli.errors import DeviceError
from tatcli.inference.options import RestoreOptions
from tatcli.intensity import Units
from tatcli.tasks import find_task
from tatcli.volumes.dicom_options import DicomOptions
from tatcli.volumes.formats import extension_of, written_for
from tatcli.workflows.evidence import EvidenceConfig
from tatcli.workflows.limits import beyond_type
from tatcli.workflows.output_checks import checked_outputs
from tatcli.workflows.output_names import default_output
from tatcli.workflows.restoring.clock import Clock
from tatcli.workflows.restoring.outcome import Job, MemoryRecord, Outcome
from tatcli.workflows.restoring.pet_sidecar import pet_sidecar
from tatcli.workflows.task_choice import task_of

if TYPE_CHECKING:
    from tatcli.inference.restorer import Restorer
    from tatcli.reporting.run_report import FileRecord, ScanRecord
    from tatcli.reporting.statistics import ChangeStatistics, IntensityStatistics
    from tatcli.volumes.pet_tags import PetTags
    from tatcli.volumes.planes import FilePlanes

__all__ = ["RestoreConfig", "RestoreReport", "default_output", "restore"]


@dataclass(frozen=True, kw_only=True)
class RestoreConfig:
    """Options of ``tat restore``.

    Attributes:
        input: a file or a DICOM folder.
        task: a task, an alias, or ``auto``: by the modality that the file names.
        output: where to; None: ``<name>_restored.<ext>`` beside the input; for DICOM a folder, unless the input is one
            file.
        format: ``auto``: by the output's name, or the input's own; else ``dicom``, ``nifti``, ``nrrd`` or ``mha``.
        dicom: how DICOM is written.
        weights: a name or path; None: the default ones.
        device, precision, threads: of the machine, see :class:`~tatcli.inference.restorer.Restorer`.
        compiled: the network through PyTorch's compiler, on a CUDA device.
        options: how to restore.
        max_memory: bytes that the process should stay below; None: most of what is free.
        series: which series of a DICOM folder.
        units: the caller's word on the units of the values; they are then not checked.
        pet: the caller's word on what SUV needs of a PET's DICOM header or BIDS sidecar.
        overwrite: whether existing output and report may be replaced.
        report: where to write the run report (JSON).
        evidence: maps and preview.
    """

    input: Path
    task: str = "auto"
    output: Path | None = None
    format: str = "auto"
    dicom: DicomOptions = field(default_factory=DicomOptions)
    weights: str | None = None
    device: str = "auto"
    precision: str = "auto"
    threads: int | None = None
    compiled: bool = False
    options: RestoreOptions = field(default_factory=RestoreOptions)
    max_memory: int | None = None
    series: str | None = None
    units: Units | None = None
    pet: PetTags | None = None
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
        seconds: wall time of each stage and in all; reading and writing overlap with ``restore`` where they can.
        memory: how the run kept within its memory, with the peak that was predicted.
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
    memory: MemoryRecord
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
    turn: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> RestoreReport:
    """Restore one scan.

    Args:
        config: what is to be done.
        restorer: a loaded one, which replaces weights, device, precision and threads of the config.
        progress: is called with (slices done, slices in all).
        turn: the block in which the network computes; scans that share it take turns there.

    Raises:
        UsageError, OutputError: options that don't fit, outputs that can't be written; before anything is read.
        VolumeReadError, GeometryError, UnitsError, TaskMismatchError: the input can't be restored; before torch loads.
        WeightsError, DeviceError: before the work, or (out of memory) within it.
    """
    from tatcli.inference.system_memory import default_limit
    from tatcli.reporting import run_report

    clock = Clock()
    asked = None if config.task == "auto" else find_task(config.task)
    output, kind = checked_outputs(config)
    sidecar = pet_sidecar(config.input, output, pet=config.pet)
    if sidecar is not None:
        sidecar.check(source=config.input, overwrite=config.overwrite, report=config.report)
    job = Job(
        task=lambda scan: asked or task_of(scan.provenance.modality, config.input.name or "."),
        limit=default_limit() if config.max_memory is None else config.max_memory,
        load=lambda: restorer or _load(config),
        progress=progress,
        turn=turn,
    )
    options = replace(config.options, check_values=config.options.check_values and config.units is None)
    done = _restored(config, (output, kind), job, options=options, clock=clock)
    beyond = beyond_type(done.scan, output, kind, done.after, made="restored")
    done = replace(done, warnings=(*done.warnings, *beyond))
    if sidecar is not None:
        sidecar.write()
    with clock.stage("report"):
        from tatcli.inference.runtime import peak_memory

        runtime, card = done.restorer.runtime, done.restorer.card
        resident, on_device = peak_memory(runtime.device)
        report = RestoreReport(
            started=clock.started,
            versions=run_report.versions(),
            task=done.task.name,
            weights={"name": card.name, "sha256": card.sha256},
            device=runtime.device_name,
            precision=runtime.precision,
            threads=runtime.threads,
            options=asdict(options),
            input=run_report.input_record(done.scan),
            output=run_report.file_record(output, output.iterdir() if output.is_dir() else written_for(output)),
            scan=run_report.describe_scan(done.scan),
            steps=done.steps,
            seconds=clock.seconds,
            memory=done.memory,
            peak_rss_bytes=resident,
            peak_device_bytes=on_device,
            before=done.before,
            after=done.after,
            change=done.change,
            warnings=done.warnings,
            evidence={option: str(path) for option, path in config.evidence.files.items()} | done.evidence,
        )
    clock.finish()
    if config.report is not None:
        run_report.write_json(report.to_json(), config.report)
    return report


def _restored(
    config: RestoreConfig, target: tuple[Path, str], job: Job, *, options: RestoreOptions, clock: Clock
) -> Outcome:
    """Plane by plane where the formats and the options allow it, else as a whole."""
    from tatcli.volumes.block_writing import takes_planes
    from tatcli.volumes.planes import Unstreamable
    from tatcli.volumes.reading import open_planes
    from tatcli.workflows.restoring.planes import restore_planes
    from tatcli.workflows.restoring.whole import WholeFile, check_room, restore_whole

    output, kind = target
    crossed: FilePlanes | None = None
    try:
        if options.scale != 1:
            reason = "--scale makes a finer grid of the whole"
        elif config.evidence.wanted:
            reason = f"{config.evidence.wanted} takes the whole"
        elif not takes_planes(kind):
            reason = f"{extension_of(output) or kind.upper()} is written as a whole"
        else:
            planes = open_planes(config.input, series=config.series, units=config.units, pet=config.pet)
            if len(options.axes(job.task(planes.header), planes.header.geometry)) == 1:
                return restore_planes(planes, output, job, options=options, overwrite=config.overwrite, clock=clock)
            crossed, reason = planes, "planes that cross the slices take the whole"
    except Unstreamable as why:
        reason = str(why)
    file = WholeFile(
        path=config.input,
        series=config.series,
        units=config.units,
        pet=config.pet,
        output=output,
        kind=kind,
        dicom=config.dicom,
        evidence=config.evidence,
        overwrite=config.overwrite,
        reason=reason,
    )
    try:
        check_room(file, scale=options.scale, limit=job.limit, planes=1 if crossed is None else 3)
        return restore_whole(file, job, options=options, clock=clock)
    except DeviceError:
        if crossed is None or options.planes is not None:
            raise
        alone = replace(options, planes=1)
        done = restore_planes(crossed, output, job, options=alone, overwrite=config.overwrite, clock=clock)
        words = "restored in the plane of its slices alone, to stay within the memory; see --max-memory and --planes"
        return replace(done, warnings=(*done.warnings, words))


def _load(config: RestoreConfig) -> Restorer:
    from tatcli.inference.restorer import Restorer
    from tatcli.model.weights import DEFAULT_WEIGHTS

    return Restorer(
        config.weights or DEFAULT_WEIGHTS,
        device=config.device,
        precision=config.precision,
        threads=config.threads,
        compiled=config.compiled,
    )
