"""Look at a scan before the network's process does: is it finished already, is it several series, can it be read?

This runs in a process of its own, which a decoder may crash or hang without harm. Every voxel is decoded here once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tatcli.errors import OutputError, VolumeReadError
from tatcli.tasks import Task, find_task, task_for_modality
from tatcli.volumes.formats import format_of, stem_of, written_for
from tatcli.volumes.replacing import check_name, checked_output
from tatcli.volumes.slices import through_plane_axis
from tatcli.volumes.writing import check_output
from tatcli.workflows.batch.naming import series_output
from tatcli.workflows.batch.sidecar import Contents, Sidecar, has_sidecar, note_of, request_of, sidecar_of, stamp_of
from tatcli.workflows.batch.work import Work
from tatcli.workflows.output_names import asked_format
from tatcli.workflows.restoring.pet_sidecar import pet_sidecar
from tatcli.workflows.task_choice import task_of

if TYPE_CHECKING:
    from tatcli.volumes.dicom_series import DicomFolder, DicomSeries
    from tatcli.volumes.volume import ScanHeader

__all__ = ["Vetted", "check_beside", "check_place", "is_finished", "parts_of", "vet"]


@dataclass(frozen=True, kw_only=True)
class Vetted:
    """What was found.

    Attributes:
        finished: there is nothing to do.
        parts: a folder's series, each a scan of its own.
        source: what the input holds, for a scan that can be restored.
        slices: how many, all frames together.
    """

    finished: bool = False
    parts: tuple[Work, ...] = ()
    source: Contents | None = None
    slices: int = 0


def vet(work: Work, weights: str, *, limit: int | None = None) -> Vetted:
    """Look at a scan; it is read only if it isn't finished.

    Args:
        work: the scan.
        weights: SHA-256 of the weights.
        limit: bytes that reading may take; None: most of what is free.

    Raises:
        VolumeReadError, GeometryError, UnitsError, TaskMismatchError, UsageError: it can't be restored.
        OutputError: the output can't be written, or is another's.
        DeviceError: it is too big to be read within the limit.
    """
    sidecar = Sidecar.read(sidecar_of(work.output))
    if is_finished(work, weights):
        return Vetted(finished=True)
    parts = parts_of(work)
    if parts:
        return Vetted(parts=parts)
    check_place(work)
    try:
        stamp = stamp_of(work.config.input)
    except OSError as error:
        msg = f"{work.config.input}: expected an image file or a DICOM folder, got {error.strerror or error}"
        raise VolumeReadError(msg) from error
    header = _read(work, limit)
    check_beside(work)
    source = replace(_contents(header), stamp=stamp)
    if sidecar is not None and not work.force and sidecar.input.sha256 == source.sha256:
        renewed = replace(sidecar, input=source)
        if sidecar.request == request_of(work, weights) and sidecar.describes(work.output):
            renewed.write(sidecar_of(work.output))  # the next run won't have to read the scan to know
            return Vetted(finished=True)
    axis = through_plane_axis(header.geometry, work.config.options.axis)
    return Vetted(source=source, slices=header.frames * header.geometry.shape[axis])


def is_finished(work: Work, weights: str) -> bool:
    """Whether output and sidecar are there, as they were written, and nothing was changed since.

    An output that others' now go into is never finished: its series move to folders of their own.
    """
    sidecar = Sidecar.read(sidecar_of(work.output))
    if work.force or work.shares_folder or sidecar is None or sidecar.request != request_of(work, weights):
        return False
    try:
        unchanged = stamp_of(work.config.input) == sidecar.input.stamp
    except OSError:
        return False
    return unchanged and sidecar.describes(work.output)


def check_place(work: Work) -> None:
    """Refuse an output that can't be written, or would replace what no batch has made.

    Raises:
        OutputError: it is so.
        UsageError: it is to be de-identified, and no DICOM.
    """
    work.config.dicom.check_kind(work.config.format, work.output)
    sidecar = Sidecar.read(sidecar_of(work.output))
    if work.shares_folder:
        msg = f"{work.output}: expected a folder for this series alone, got one that other outputs go into; use"
        raise OutputError(msg + " --output-pattern, or a manifest")
    for path in written_for(work.output):
        if path.exists() and sidecar is None and not work.config.overwrite:
            msg = f"{path}: expected a new output, got one without a sidecar, which tat didn't finish; remove it or"
            raise OutputError(msg + " --overwrite")
    kind = asked_format(work.config.format)
    check_output(work.output, source=work.config.input, overwrite=True, kind=kind, makes_folders=True)
    check_name(sidecar_of(work.output))


def check_beside(work: Work) -> None:
    """What goes beside a PET in NIfTI, or with a BIDS derivative, must not replace another's file either.

    Raises:
        OutputError: it would.
    """
    if Sidecar.read(sidecar_of(work.output)) is not None:
        return
    source, overwrite = work.config.input, work.config.overwrite
    if work.note is not None:
        checked_output(note_of(work.output), source=source, overwrite=overwrite, makes_folders=True)
        return
    beside = pet_sidecar(source, work.output, pet=work.config.pet)
    if beside is not None and beside.path.parent.is_dir():
        beside.check(source=source, overwrite=overwrite)


def _read(work: Work, limit: int | None) -> ScanHeader:
    """Decode every voxel, with all checks that restoring begins with; what the header says."""
    from tatcli.inference.guards import check_header, check_scan, check_summary, name_of
    from tatcli.inference.survey import survey
    from tatcli.inference.system_memory import default_limit
    from tatcli.volumes.planes import Unstreamable
    from tatcli.volumes.reading import open_planes, read_volume
    from tatcli.workflows.restoring.whole import WholeFile, check_dicom, check_room

    config = work.config
    trust = config.units is not None or not config.options.check_values
    ignore = config.options.ignore_modality
    choose = _task_chooser(work)
    try:
        planes = open_planes(config.input, series=config.series, units=config.units, pet=config.pet)
        task = choose(planes.header)
        check_header(planes.header, task, ignore_modality=ignore)
        found = survey(planes, task.intensity)
        check_summary(found.summary, task, name_of(planes.header), trust_values=trust)
    except Unstreamable as why:
        file = WholeFile(
            path=config.input,
            series=config.series,
            units=config.units,
            pet=config.pet,
            output=work.output,
            kind=config.format,
            dicom=config.dicom,
            evidence=config.evidence,
            overwrite=True,
            reason=str(why),
        )
        check_room(file, scale=config.options.scale, limit=limit or default_limit())
        uneven = config.format == "dicom"
        volume = read_volume(config.input, series=config.series, units=config.units, pet=config.pet, uneven=uneven)
        check_dicom(file, volume.header, config.options)
        check_scan(volume, choose(volume.header), trust_values=trust, ignore_modality=ignore)
        return volume.header
    return planes.header


def _task_chooser(work: Work) -> Callable[[ScanHeader], Task]:
    asked = None if work.config.task == "auto" else find_task(work.config.task)
    return lambda scan: asked or task_of(scan.provenance.modality, work.config.input.name)


def _contents(header: ScanHeader) -> Contents:
    """What the files held that the scan was read from."""
    from tatcli.reporting.run_report import input_record

    record = input_record(header)
    assert record is not None  # noqa: S101  it was read from a file
    return Contents(record.sha256, record.bytes, record.files, "")


def parts_of(work: Work) -> tuple[Work, ...]:
    """The series of a DICOM folder, archive or medium that holds several; none where it holds one, or no DICOM.

    Where others' outputs go into its output, one series is a part, too, with a folder of its own.

    Raises:
        VolumeReadError: it can't be read, or none of several series is for the task.
    """
    from tatcli.volumes.dicom_archives import is_collection
    from tatcli.volumes.dicom_series import read_folder

    path = work.config.input
    if work.config.series is not None or not path.exists() or format_of(path) is not None or not is_collection(path):
        return ()
    folder = read_folder(path)
    if len(folder.scans) < (1 if work.shares_folder or _holds_parts(work.output) else 2):
        return ()
    meant = [series for series in folder.scans if _is_meant(series, work)]
    if not meant:
        raise VolumeReadError(_nothing_meant(folder, work))
    names = _series_names(meant, taken=[Path(name) for name in work.neighbours])
    return tuple(_part(work, series, name) for series, name in zip(meant, names, strict=True))


def _holds_parts(output: Path) -> bool:
    """Whether the outputs of several series lie there, of which one may be left."""
    try:
        inside = [] if has_sidecar(output) else [path for path in output.iterdir() if has_sidecar(path)]
    except OSError:
        return False
    return bool(inside)


def _part(work: Work, series: DicomSeries, name: str) -> Work:
    output = series_output(work.output, name, work.config.format)
    config = replace(work.config, series=series.info.choice, output=output)
    return replace(work, config=config, place=f"{work.place}/{name}", neighbours=frozenset())


def _is_meant(series: DicomSeries, work: Work) -> bool:
    if work.config.options.ignore_modality:
        return True
    if work.config.task == "auto":
        return task_for_modality(series.info.modality) is not None
    return series.info.modality == find_task(work.config.task).modality


def _nothing_meant(folder: DicomFolder, work: Work) -> str:
    listed = "; ".join(str(series.info) for series in folder.series)
    task = "any task" if work.config.task == "auto" else work.config.task
    return f"{folder.path}: expected a series for {task}, got {listed}"


def _series_names(series: list[DicomSeries], *, taken: list[Path]) -> list[str]:
    """A folder name for each series: number, description, and the end of the UID where those aren't enough."""
    others = [stem_of(path).casefold() for path in taken]
    plain = [_plain(f"{one.info.number or '0'}_{one.info.description}_{one.info.part}") for one in series]
    folded = [name.casefold() for name in plain]  # macOS and Windows take them for one
    return [
        name
        if folded.count(name.casefold()) == 1 and name.casefold() not in others
        else f"{name}_{one.info.uid[-12:].strip('.')}_{_short(one.info.choice)}"
        for name, one in zip(plain, series, strict=True)
    ]


def _short(text: str) -> str:
    """The same for the same series, whatever others come and go beside it."""
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:6]


def _plain(text: str) -> str:
    words = "".join(letter if letter.isalnum() or letter in "-+" else " " for letter in text).split()
    return "_".join(words)[:60] or "series"
