"""LQ/HQ pairs of a dataset: read, simulated where no LQ scan is there, and cut to chosen slices.

Simulation and intensity ranges see the whole scan: the reference's noise and kernel, the PET's counts and the MRI's
robust range are properties of the scan, not of the slices chosen. Evaluated scans are simulated whole, as ``tat
simulate`` with the same seed does it: that is much faster than restoring them.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tatcli.degradation import simulate
from tatcli.degradation.low_dose_ct import low_dose_volume
from tatcli.degradation.simulation import own_kernel, slice_noise
from tatcli.errors import GeometryError, VolumeReadError
from tatcli.inference.guards import check_scan
from tatcli.intensity import Window
from tatcli.metrics import evaluation_window
from tatcli.volumes.geometry import Geometry
from tatcli.volumes.grids import check_grid
from tatcli.volumes.padding import without_padding
from tatcli.volumes.reading import read_volume
from tatcli.volumes.slices import in_plane, slices_along, through_plane_axis

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from tatcli.intensity import IntensityRule
    from tatcli.tasks import Task
    from tatcli.training.pairs import ScanPair
    from tatcli.volumes.volume import Volume

__all__ = [
    "DegradedScan",
    "degrade",
    "is_constant",
    "mid_positions",
    "read_partner",
    "read_scan",
    "scan_seed",
    "simulate_slices",
]


@dataclass(frozen=True, eq=False)
class DegradedScan:
    """A reference and its LQ partner.

    Attributes:
        name: of the scan.
        hq, lq: whole volumes of one frame, in the task's units.
        axis: array axis that is sliced through.
        window: the evaluation window.
        seed: of the simulated noise; None where the LQ scan came from a file.
        simulation: what the simulator did, in its words.
    """

    name: str
    hq: Volume
    lq: Volume
    axis: int
    window: Window
    seed: int | None = None
    simulation: str | None = None

    @property
    def count(self) -> int:
        """Number of slices."""
        return int(self.hq.array.shape[self.axis])

    @property
    def extent(self) -> Window:
        """Lowest and highest value of the whole reference."""
        return Window(float(np.nanmin(self.hq.array)), float(np.nanmax(self.hq.array)))

    def slices(self, indices: Sequence[int]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The LQ and HQ slices at these positions, (n, rows, columns) each."""
        lq, hq = (slices_along(volume.array, self.axis)[list(indices)] for volume in (self.lq, self.hq))
        return lq, hq

    def part(self, indices: Sequence[int]) -> Volume:
        """The LQ volume of these slices alone."""
        return _part(self.lq, self.axis, indices)


def degrade(pair: ScanPair, task: Task, *, rule: IntensityRule, strength: float, seed: int) -> DegradedScan | None:
    """Read a reference and its LQ partner, or simulate that.

    Args:
        pair: of the dataset.
        task: what the LQ scan is to be restored from.
        rule: the network's intensity rule.
        strength: of the simulation.
        seed: of the evaluation; the scan's own is :func:`scan_seed`'s.

    Returns:
        None where the reference is constant inside the evaluation window: there is nothing to restore or to score.

    Raises:
        VolumeReadError: a scan can't be read, isn't one of the task, or can't be degraded (its noise can't be
            estimated, say).
        GeometryError: the scan is dynamic, or the partner lies on another grid.
    """
    hq = read_scan(pair.reference, task)
    window = evaluation_window(task, hq.array, rule=rule)
    if is_constant(hq.array, window):
        return None
    check_scan(hq, task)
    own: int | None = None
    if pair.lq is not None:
        lq = read_partner(pair.lq, hq, task)
    else:
        own = scan_seed(seed, task, pair.place)
        lq = simulate(hq, task, strength=strength, seed=own)
    return DegradedScan(
        name=pair.place,
        hq=hq,
        lq=lq,
        axis=through_plane_axis(hq.geometry),
        window=window,
        seed=own,
        simulation=None if own is None else lq.provenance.steps[-1],
    )


def scan_seed(seed: int, task: Task, name: str) -> int:
    """The seed of one scan's noise: different for every scan, whatever its place in the dataset."""
    return zlib.crc32(f"{seed}/{task.name}/{name}".encode(errors="surrogateescape"))


def is_constant(values: NDArray[np.floating[Any]], window: Window) -> bool:
    """Whether the known values are all the same inside the window."""
    known = values[~np.isnan(values)]
    return not known.size or bool(window.clip(known.min()) == window.clip(known.max()))


def mid_positions(count: int, most: int | None) -> tuple[int, ...]:
    """Positions of at most this many of ``count`` slices: the middles of equally long stretches; None: all."""
    if most is None or most >= count:
        return tuple(range(count))
    return tuple(int((index + 0.5) * count / most) for index in range(most))


def simulate_slices(
    hq: Volume, task: Task, indices: Sequence[int], *, strength: float, seed: int
) -> NDArray[np.float32]:
    """LQ versions of some slices, (n, rows, columns), for which most of a CT need not be simulated.

    Args:
        hq: the whole reference; its noise and kernel are measured all over it.
        task: what to simulate.
        indices: of the slices.
        strength: of the simulation.
        seed: of the noise.

    Raises:
        VolumeReadError: the reference can't be degraded.
    """
    axis = through_plane_axis(hq.geometry)
    if task.modality != "CT":
        lq = simulate(hq, task, strength=strength, seed=seed)
        return slices_along(lq.array, axis)[list(indices)]
    spacing, step = in_plane(hq.geometry.spacing, axis), hq.geometry.spacing[axis]
    stack = slices_along(hq.array, axis)
    try:
        noise = slice_noise(stack, spacing, step)
    except VolumeReadError as error:
        msg = f"{hq.provenance.path or 'volume'}: {error}"
        raise VolumeReadError(msg) from error
    chosen = list(indices)
    return low_dose_volume(  # (the slices needn't be neighbours: the noise of each is its own)
        np.ascontiguousarray(stack[chosen]),
        spacing_mm=spacing,
        dose=strength,
        noise=noise[chosen],
        kernel=own_kernel(stack, spacing),
        seeds=np.random.SeedSequence((seed, 0)).spawn(len(chosen) + 1)[1:],
    )


def _part(volume: Volume, axis: int, indices: Sequence[int]) -> Volume:
    """Some slices of a volume. The affine stays the whole scan's: it still says which axis is sliced."""
    array = np.take(volume.array, list(indices), axis=axis)
    slices, rows, columns = array.shape
    geometry = Geometry(volume.geometry.affine, (slices, rows, columns))
    return replace(volume, array=array, geometry=geometry, provenance=replace(volume.provenance, stored=None))


def read_scan(path: Path, task: Task) -> Volume:
    """A scan of one frame in the task's units, without its padding.

    Raises:
        VolumeReadError: it can't be read.
        UnitsError: its units are others.
        GeometryError: it is dynamic.
    """
    volume = read_volume(path, units=task.units)
    if volume.frames > 1:
        msg = f"{path.name}: expected a scan of one frame, got {volume.frames}; split it"
        raise GeometryError(msg)
    if volume.array.ndim == 4:
        volume = replace(volume, array=volume.array[0])
    return without_padding(volume, task.intensity)[0]


def read_partner(path: Path, hq: Volume, task: Task) -> Volume:
    """The LQ scan of a reference.

    Raises:
        VolumeReadError: it can't be read, or isn't one of the task.
        GeometryError: it is dynamic, or lies on another grid than the reference.
    """
    lq = read_scan(path, task)
    check_scan(lq, task)
    check_grid(lq, hq, path.name)
    return lq
