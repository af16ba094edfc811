"""Restore a scan plane by plane: the next slices are read and the last ones written while the network computes."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from tatcli.inference.domain import MOST_SLICES, domain_warnings
from tatcli.inference.guards import check_header, check_summary, name_of
from tatcli.inference.survey import survey, windows_for
from tatcli.reporting.statistics import ChangeGatherer, IntensityGatherer
from tatcli.volumes.block_writing import BlockWriter, block_writer, encoding_for
from tatcli.volumes.overlap import read_ahead, written_behind
from tatcli.volumes.planes import Block, FilePlanes, HeldPlanes, PlaneSource
from tatcli.volumes.slices import evenly_spaced, in_plane, slices_along, through_plane_axis
from tatcli.workflows.restoring.fitting import fitted, loaded_memory, with_settings
from tatcli.workflows.restoring.outcome import Job, MemoryRecord, Outcome

if TYPE_CHECKING:
    from tatcli.inference.data_consistency import KnownLines
    from tatcli.inference.memory import Plan, Workload
    from tatcli.inference.options import RestoreOptions
    from tatcli.inference.restoration import Restoration
    from tatcli.volumes.geometry import Geometry
    from tatcli.workflows.restoring.clock import Clock

__all__ = ["restore_planes"]

_HELD_SHARE: Final = 1 / 3
"""A scan is held in memory while it takes no more than this of the limit; the network comes first."""


def restore_planes(
    planes: FilePlanes, output: Path, job: Job, *, options: RestoreOptions, overwrite: bool, clock: Clock
) -> Outcome:
    """Restore a scan whose planes can be read one after the other, to an output that takes them so.

    Args:
        planes: the scan.
        output: where to, checked.
        job: what to do.
        options: how; ``check_values`` is the caller's last word on the check of values.
        overwrite: whether an existing output may be replaced.
        clock: takes the time of each stage.

    Raises:
        VolumeReadError, UnitsError, TaskMismatchError: the input can't be restored; before torch loads.
        UsageError: options of mri-sr for another task (before that, too), or measured k-space asked for that the scan
            doesn't show.
        DeviceError: it doesn't fit into the memory that it may take, or memory ran out.
        WeightsError: before the work.
        OutputError: the output can't be written.
    """
    with clock.stage("read"):
        task = job.task(planes.header)
        check_header(planes.header, task, ignore_modality=options.ignore_modality)
        puts_back = options.puts_back(task)
        axis = through_plane_axis(planes.header.geometry, options.axis)
        source: PlaneSource = planes
        if job.limit is None or planes.stored_bytes <= _HELD_SHARE * job.limit:
            source = planes.held()
        found = survey(source, task.intensity)
        check_summary(found.summary, task, name_of(planes.header), trust_values=not options.check_values)
    with clock.stage("load"):
        restorer = job.load()
        rule = restorer.card.intensity_rule(task)
    held = source.stored_bytes if isinstance(source, HeldPlanes) else 0
    plan, notes = fitted(
        _choices(source, output, axis),
        restorer,
        options,
        base=loaded_memory(held=held),
        limit=job.limit,
        name=name_of(planes.header),
    )
    if not plan.workload.held:
        source = planes
    with ExitStack() as finishing:
        write = finishing.enter_context(
            block_writer(
                planes.header,
                output,
                axis=axis,
                spool_in_memory=plan.workload.gathered_in_memory,
                overwrite=overwrite,
            )
        )
        with job.turn(), clock.stage("restore"):
            windows = windows_for(source, rule, found)
            restoration = restorer.begin(
                found.summary,
                windows,
                slices=planes.header.frames * planes.header.geometry.shape[axis],
                settings=plan.settings,
                known=_measured(source, found.telling_frame, plan, options) if puts_back else None,
                progress=job.progress,
            )
            seen = _Seen(planes.header.geometry, axis, frame=found.telling_frame)
            statistics = _pass_through(source, restoration, write, seen, axis=axis, block=plan.block)
            outside = domain_warnings(planes.header, seen.slices, task, restorer.card, axis=axis, options=options)
        with clock.stage("write"):
            finishing.close()
    before, after, change = statistics
    origin = planes.header.provenance
    return Outcome(
        task=task,
        restorer=restorer,
        scan=planes.header,
        steps=(*origin.steps, restorer.step(task) + with_settings(options, plan.settings).told, *restoration.steps),
        warnings=(*origin.warnings, *notes, *restoration.warnings, *outside),
        before=before.statistics(),
        after=after.statistics(),
        change=change.statistics(),
        memory=_record(plan, job.limit),
    )


class _Seen:
    """Slices of the frame that tells what the scan is like."""

    def __init__(self, geometry: Geometry, axis: int, *, frame: int, most: int = MOST_SLICES) -> None:
        self.indices = evenly_spaced(geometry.shape[axis], most)
        self.axis = axis
        self.frame = frame
        self.missing = len(self.indices)
        self.slices = np.empty((len(self.indices), *in_plane(geometry.shape, axis)), dtype=np.float32)

    def look(self, part: Block) -> None:
        """Keep those that lie in this block."""
        if part.frame == self.frame:
            within = slices_along(part.values, self.axis)
            for number in np.flatnonzero((self.indices >= part.start) & (self.indices < part.stop)):
                self.slices[number] = within[self.indices[number] - part.start]
                self.missing -= 1


def _measured(source: PlaneSource, frame: int, plan: Plan, options: RestoreOptions) -> KnownLines | None:
    """Lines of k-space to put back; the scan is passed over once more for them, as far as that frame's slices."""
    from tatcli.inference.data_consistency import SPECTRUM_SLICES, lines_to_put_back

    axis = plan.workload.axis
    seen = _Seen(source.header.geometry, axis, frame=frame, most=SPECTRUM_SLICES)
    for part in source.blocks(axis, plan.block):
        seen.look(part)
        if not seen.missing:
            break
    return lines_to_put_back(seen.slices, options)


def _pass_through(
    source: PlaneSource,
    restoration: Restoration,
    write: BlockWriter,
    seen: _Seen,
    *,
    axis: int,
    block: int,
) -> tuple[IntensityGatherer, IntensityGatherer, ChangeGatherer]:
    """Restore block by block; statistics before, after, and of the change. What ``seen`` asks for is put there."""
    before, after, change = IntensityGatherer(), IntensityGatherer(), ChangeGatherer()

    def finish(part: Block, values: NDArray[np.float32]) -> None:
        write(part, values)
        for old, new in zip(part.values, values, strict=True):
            before.add(old)
            after.add(new)
            change.add(old, new)

    with read_ahead(source.blocks(axis, block)) as parts, written_behind(finish) as put:
        for part in parts:
            seen.look(part)
            values = np.empty(part.values.shape, dtype=np.float32)
            restoration.restore(slices_along(part.values, axis), slices_along(values, axis), frame=part.frame)
            put(part, values)
            del part, values  # or they would live on while the next part comes
    return before, after, change


def _choices(source: PlaneSource, output: Path, axis: int) -> list[Workload]:
    """What may be in memory, the best first."""
    from tatcli.inference.memory import Workload

    header = source.header
    encoding = encoding_for(header, output)
    streamed = Workload(
        shape=(header.frames, *header.geometry.shape),
        axis=axis,
        itemsize=source.dtype.itemsize,
        gathered=4 if encoding is None else encoding.dtype.itemsize if axis else 0,
    )
    choices = []
    if isinstance(source, HeldPlanes):
        held = replace(streamed, held=True)
        choices += [replace(held, gathered_in_memory=True), held] if streamed.gathered else [held]
    if streamed.gathered and axis == 0:  # across planes, longer blocks are worth more: they save passes
        choices.append(replace(streamed, gathered_in_memory=True))
    return [*choices, streamed]


def _record(plan: Plan, limit: int | None) -> MemoryRecord:
    workload = plan.workload
    where = "memory" if workload.gathered_in_memory else "disk"
    return MemoryRecord(
        limit_bytes=limit,
        predicted_peak_bytes=plan.predicted,
        scan="held" if workload.held else "streamed",
        gathered=where if workload.gathered else None,
        block=plan.block,
        batch=plan.settings.batch,
        tile=plan.settings.tile,
    )
