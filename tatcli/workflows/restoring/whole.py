"""Restore a scan as one volume: for files that can only be read or written so, and for a change of its grid."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tatcli.errors import DeviceError, UsageError
from tatcli.inference.guards import check_scan, name_of
from tatcli.volumes.slices import acquired_plane, through_plane_axis
from tatcli.workflows.evidence import RestoredScan, check_evidence_grid, write_evidence
from tatcli.workflows.restoring.fitting import fitted, loaded_memory, with_settings
from tatcli.workflows.restoring.outcome import Job, MemoryRecord, Outcome, in_words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tatcli.inference.memory import Plan
    from tatcli.inference.options import RestoreOptions
    from tatcli.inference.restorer import Restorer
    from tatcli.intensity import Units
    from tatcli.volumes.dicom_options import DicomOptions
    from tatcli.volumes.pet_tags import PetTags
    from tatcli.volumes.volume import ScanHeader, Volume
    from tatcli.workflows.evidence import EvidenceConfig
    from tatcli.workflows.restoring.clock import Clock

__all__ = ["WholeFile", "check_dicom", "check_room", "restore_whole"]

_SURELY_FITS: Final = 32
"""A scan whose files are this many times smaller than the limit isn't looked at more closely."""
_REST: Final = 512 * 2**20
"""Python, torch, weights, and a pass of small tiles."""


@dataclass(frozen=True, kw_only=True)
class WholeFile:
    """A scan to be read, and where it goes.

    Attributes:
        path: file or folder.
        series: which series of the folder.
        units: the caller's word on the units.
        pet: the caller's word on what SUV needs of a PET's DICOM header or BIDS sidecar.
        output: where to, checked.
        kind: its format.
        dicom: how DICOM is written.
        evidence: maps and preview.
        overwrite: whether an existing output may be replaced.
        reason: why it is restored as a whole, in words that follow "since".
    """

    path: Path
    series: str | None
    units: Units | None
    pet: PetTags | None
    output: Path
    kind: str
    dicom: DicomOptions
    evidence: EvidenceConfig
    overwrite: bool
    reason: str


def check_room(file: WholeFile, *, scale: int, limit: int | None, planes: int = 1) -> None:
    """Refuse a scan that is too big to be restored as a whole, before it is read.

    Args:
        file: the scan.
        scale: of the grid, in both in-plane axes.
        limit: bytes that the process should stay below; None: not known.
        planes: that it is restored in.

    Raises:
        DeviceError: it is; the message says what it takes.
        VolumeReadError, GeometryError, UnitsError, UsageError: it can't be read.
    """
    path = file.path
    files = [path] if path.is_file() else [entry for entry in path.rglob("*") if entry.is_file()]
    small = limit is not None and _SURELY_FITS * scale**2 * sum(entry.stat().st_size for entry in files) < limit
    if limit is None or (small and not _may_be_packed(path)):
        return
    voxels, itemsize = _size_of(file)
    # stored numbers, values, the result; a finer grid has values of its own
    finer = 4 * (1 if scale == 1 else 2) + _spread(file.evidence)
    needed = _REST + voxels * (itemsize + 4 + finer * scale**2 + _extra(planes))
    if needed > limit:
        msg = (
            f"{path.name}: expected to stay within {in_words(limit)} of memory, got a scan that takes "
            f"{in_words(needed)}, since {file.reason}; give it more with --max-memory, or convert it to .nii first"
        )
        raise DeviceError(msg)


def _may_be_packed(path: Path) -> bool:
    """Whether voxels may take any number of times the size of their files, and the header is cheap to look at."""
    from tatcli.volumes.dicom_archives import is_zip
    from tatcli.volumes.formats import format_of

    packed = format_of(path) in ("dicom", "nrrd", "metaimage") or path.name.lower().endswith(".nii.gz")
    return packed or (format_of(path) is None and not is_zip(path))


def check_dicom(file: WholeFile, scan: ScanHeader, options: RestoreOptions) -> None:
    """Refuse DICOM output that can't be made of the scan, once its header is read.

    Args:
        file: the scan, and where it goes.
        scan: its header.
        options: how it is restored.

    Raises:
        OutputError, UsageError, GeometryError: see :func:`~tatcli.volumes.dicom_checks.check_dicom_output`.
    """
    if file.kind != "dicom":
        return
    from tatcli.volumes.dicom_checks import check_dicom_output, dicom_header

    axis = through_plane_axis(scan.geometry, _acquired_plane(options, scan).axis)
    finer = scan.geometry.finer(options.scale, axis)
    check_dicom_output(dicom_header(scan.provenance), file.output, file.dicom, geometry=finer)


def restore_whole(file: WholeFile, job: Job, *, options: RestoreOptions, clock: Clock) -> Outcome:
    """Restore a scan as one volume.

    Args:
        file: the scan.
        job: what to do.
        options: how; ``check_values`` is the caller's last word on the check of values.
        clock: takes the time of each stage.

    Raises:
        VolumeReadError, GeometryError, UnitsError, TaskMismatchError: the input can't be restored; before torch loads.
        UsageError: options that don't fit it; before that, too.
        WeightsError, DeviceError: before the work, or (out of memory) within it.
        OutputError: the output can't be written; before torch loads where the header tells.
    """
    from tatcli.inference.domain import domain_warnings
    from tatcli.reporting.run_report import change_statistics, intensity_statistics
    from tatcli.volumes.padding import without_padding
    from tatcli.volumes.reading import read_volume
    from tatcli.volumes.varying_frames import telling_slices
    from tatcli.volumes.writing import write_volume

    with clock.stage("read"):
        uneven = file.kind == "dicom"  # there each slice keeps its own place
        volume = read_volume(file.path, series=file.series, units=file.units, pet=file.pet, uneven=uneven)
        check_evidence_grid(file.evidence, volume)
        check_dicom(file, volume.header, options)
        options = _acquired_plane(options, volume.header)
        task = job.task(volume.header)
        options.puts_back(task)  # or is refused before torch loads
        axes = options.axes(task, volume.geometry)
        check_scan(volume, task, trust_values=not options.check_values, ignore_modality=options.ignore_modality)
    with clock.stage("load"):
        restorer = job.load()
    each = _extra(len(axes)) + _spread(file.evidence)
    plan, notes = _fitted(volume.header, restorer, options, axes=axes, limit=job.limit, each=each)
    with job.turn(), clock.stage("restore"):
        fitting = with_settings(options, plan.settings)
        checked = replace(fitting, check_values=False)  # done above
        restored = restorer(volume, task, options=checked, progress=job.progress)
        axis = through_plane_axis(volume.geometry, options.axis)
        seen = telling_slices(without_padding(volume, restorer.card.intensity_rule(task))[0], axis)
        outside = domain_warnings(volume.header, seen, task, restorer.card, axis=axis, options=options)
    with clock.stage("write"):
        card = restorer.card
        dicom = replace(file.dicom, software=tuple(filter(None, (f"weights {card.name}", card.sha256))))
        write_volume(restored, file.output, overwrite=file.overwrite, kind=file.kind, dicom=dicom)
    facts: dict[str, float] = {}
    if file.evidence.files:
        with clock.stage("evidence"):
            done = RestoredScan(volume=volume, restored=restored, task=task, restorer=restorer, options=checked)
            facts = write_evidence(file.evidence, done, overwrite=file.overwrite, progress=job.progress)
    return Outcome(
        task=task,
        restorer=restorer,
        scan=volume.header,
        steps=restored.provenance.steps,
        warnings=(*restored.provenance.warnings, *_restored_before(volume), *notes, *outside),
        before=intensity_statistics(volume),
        after=intensity_statistics(restored),
        change=change_statistics(volume, restored),
        memory=MemoryRecord(
            limit_bytes=job.limit,
            predicted_peak_bytes=plan.predicted,
            scan="whole",
            batch=plan.settings.batch,
            tile=plan.settings.tile,
        ),
        evidence=facts,
    )


def _restored_before(volume: Volume) -> tuple[str, ...]:
    """A warning where DICOM says that tat made the scan: of a study's folder, outputs are taken as well as scans."""
    if volume.provenance.format != "dicom":
        return ()
    from tatcli.volumes.dicom_checks import dicom_header
    from tatcli.volumes.dicom_files import read_dataset, tolerant
    from tatcli.volumes.dicom_origin import is_restored

    path = dicom_header(volume.provenance).frames[0][0].path
    with tolerant(path):
        return ("the series was restored by tat already, and is now restored again",) * is_restored(read_dataset(path))


def _extra(planes: int) -> int:
    """Bytes of each voxel that several planes take beside the result: the change so far, and one plane's."""
    return 8 if planes > 1 else 0


def _spread(evidence: EvidenceConfig) -> int:
    """Bytes of each voxel that the spread over views takes: its mean and square, a view as shown and as restored."""
    return 22 if evidence.uncertainty is not None else 0


def _fitted(
    scan: ScanHeader,
    restorer: Restorer,
    options: RestoreOptions,
    *,
    axes: Sequence[int],
    limit: int | None,
    each: int,
) -> tuple[Plan, list[str]]:
    """Batch and tiles beside the result, on the finer grid if there is one, for the plane that takes most.

    (``each``: bytes of every voxel beside the result.)
    """
    from tatcli.inference.memory import Workload

    own = through_plane_axis(scan.geometry, options.axis)
    slices, rows, columns = (
        length * (1 if index == own else options.scale) for index, length in enumerate(scan.geometry.shape)
    )
    axis = min(axes, key=lambda axis: (slices, rows, columns)[axis])  # the fewer slices, the larger they are
    workload = Workload(shape=(scan.frames, slices, rows, columns), axis=axis, itemsize=0, held=True)
    arrays = 1 if options.scale == 1 else 2  # the result, and the finer grid's own values
    base = loaded_memory(held=0) + (4 * arrays + each) * math.prod(workload.shape)
    return fitted([workload], restorer, options, base=base, limit=limit, name=name_of(scan))


def _acquired_plane(options: RestoreOptions, scan: ScanHeader) -> RestoreOptions:
    """Slices at uneven distances are restored as they were acquired: there is no plane across them."""
    if not scan.provenance.uneven:
        return options
    plane = acquired_plane(scan.geometry, options.axis)
    if options.planes not in (None, 1):
        msg = f"--planes {options.planes}: expected 1, since the slices lie at uneven distances"
        raise UsageError(msg)
    return replace(options, axis=plane)


def _size_of(file: WholeFile) -> tuple[int, int]:
    """(voxels of all frames, bytes of a stored number), from headers alone."""
    import numpy as np

    from tatcli.volumes.formats import format_of
    from tatcli.volumes.scan_info import describe

    if format_of(file.path) == "npy":
        array = np.load(file.path, mmap_mode="r", allow_pickle=False)
        return int(array.size), int(array.dtype.itemsize)
    uneven = file.kind == "dicom"
    info = describe(file.path, series=file.series, units=file.units, pet=file.pet, uneven=uneven)
    voxels = math.prod(info.shape or ()) * (info.frames or 1)
    return voxels, np.dtype(info.dtype).itemsize if info.dtype else 4
