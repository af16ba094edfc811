"""What a batch would take: shapes from headers, time and memory from the network on this machine."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from tatcli.errors import DeviceError, VolumeReadError
from tatcli.inference.options import VIEWS, RestoreOptions
from tatcli.tasks import find_task, task_for_modality
from tatcli.volumes.geometry import Geometry
from tatcli.volumes.scan_info import describe
from tatcli.volumes.slices import through_plane_axis
from tatcli.workflows.batch.vetting import check_beside, check_place, is_finished, parts_of
from tatcli.workflows.batch.work import Work

if TYPE_CHECKING:
    from tatcli.inference.restorer import Restorer

__all__ = ["Cost", "Grid", "Look", "Measure", "Seen", "look", "measure"]

_MEASURED: Final = (256, 256)
_TIMED: Final = 3


@dataclass(frozen=True)
class Look:
    """Ask the reader for a scan's grid, from its headers."""

    work: Work
    weights: str


@dataclass(frozen=True)
class Grid:
    """What of a scan decides its cost.

    Attributes:
        shape: (frames, slices, rows, columns).
        axis: along which slices are taken.
        itemsize: bytes of a stored number.
        options: how it is restored.
        planes: in how many.
    """

    shape: tuple[int, int, int, int]
    axis: int
    itemsize: int
    options: RestoreOptions = field(default_factory=RestoreOptions)
    planes: int = 1

    @property
    def slices(self) -> int:
        """In all frames."""
        return self.shape[0] * self.shape[1 + self.axis]

    @property
    def pixels(self) -> int:
        """Of all slices, in all planes."""
        frames, slices, rows, columns = self.shape
        return self.planes * frames * slices * rows * columns


@dataclass(frozen=True)
class Seen:
    """What a look gave: nothing to do, several series, or a grid."""

    finished: bool = False
    parts: tuple[Work, ...] = ()
    grid: Grid | None = None


@dataclass(frozen=True)
class Measure:
    """Ask the engine what scans with these grids would take."""

    grids: Sequence[Grid]


@dataclass(frozen=True)
class Cost:
    """An estimate.

    Attributes:
        seconds: of computing, one scan.
        memory: bytes; None: more than there is.
    """

    seconds: float
    memory: int | None


def look(request: Look) -> Seen:
    """Look at a scan's headers.

    Raises:
        TatError: what they say can't be restored; the output can't be written, or is another's.
    """
    work = request.work
    if is_finished(work, request.weights):
        return Seen(finished=True)
    parts = parts_of(work)
    if parts:
        return Seen(parts=parts)
    check_place(work)
    config = work.config
    uneven = config.format == "dicom"
    info = describe(config.input, series=config.series, units=config.units, pet=config.pet, uneven=uneven)
    if info.shape is None:
        msg = f"{config.input}: expected one scan, got several series"
        raise VolumeReadError(msg)
    check_beside(work)
    geometry = Geometry(np.array(info.affine), info.shape)
    axis = through_plane_axis(geometry, config.options.axis)
    task = task_for_modality(info.modality) if config.task == "auto" else find_task(config.task)
    planes = 1 if task is None else len(config.options.axes(task, geometry))
    itemsize = np.dtype(info.dtype).itemsize if info.dtype else 4
    return Seen(grid=Grid((info.frames or 1, *info.shape), axis, itemsize, config.options, planes))


def measure(request: Measure, restorer: Restorer, *, limit: int | None) -> list[Cost]:
    """Time the network on a slice, and plan the memory of every scan as the restoration will.

    Args:
        request: the scans.
        restorer: with what they would be restored.
        limit: bytes that the process may take.
    """
    from tatcli.inference.cuda_graphs import AFTER, GraphedNetwork
    from tatcli.inference.memory import Workload
    from tatcli.inference.passes import Passes, first_pass
    from tatcli.workflows.restoring.fitting import fitted, loaded_memory

    runtime = restorer.runtime
    asked = first_pass(RestoreOptions(), *_MEASURED, device=runtime.device)
    passes = Passes(restorer.network, runtime, asked)
    slices = np.random.default_rng(0).random((asked.batch, *_MEASURED), dtype=np.float32)
    for _ in range(AFTER + 1 if isinstance(restorer.network, GraphedNetwork) else 1):  # a graph is recorded by then
        passes.corrections(slices)
    start = time.perf_counter()
    for _ in range(_TIMED):
        passes.corrections(slices)
    per_pixel = (time.perf_counter() - start) / (_TIMED * slices.size)
    costs = []
    for grid in request.grids:
        seconds = per_pixel * grid.pixels * (len(VIEWS) if grid.options.ensemble else 1)
        scan = Workload(shape=grid.shape, axis=grid.axis, itemsize=grid.itemsize)
        choices = [replace(scan, held=True), scan]
        try:
            plan, _ = fitted(choices, restorer, grid.options, base=loaded_memory(held=0), limit=limit, name="the scan")
        except DeviceError:
            costs.append(Cost(seconds, None))
            continue
        costs.append(Cost(seconds, plan.predicted))
    return costs
