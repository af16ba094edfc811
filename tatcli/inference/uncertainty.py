"""How sure a restoration is: the spread of the network's answers to the same scan shown in other ways.

Anatomy has no preferred side for a denoiser, so a flipped and restored slice, flipped back, should be the same as the
restored one; where it isn't, the network guesses (test-time augmentation, Wang et al., Neurocomputing 338:34, 2019). Of
isotropic volumes the three anatomical planes are further views. The spread is a lower bound of the error: what the
network gets wrong in the same way each time doesn't show.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from tatcli.inference.coarse_grid import refined
from tatcli.inference.options import VIEWS, RestoreOptions
from tatcli.volumes.geometry import Geometry
from tatcli.volumes.padding import without_padding
from tatcli.volumes.slices import is_isotropic, slices_along, through_plane_axis
from tatcli.volumes.volume import Provenance, Volume

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tatcli.inference.restorer import Restorer
    from tatcli.tasks import Task

__all__ = ["restoration_spread", "view_count"]


def view_count(volume: Volume) -> int:
    """How many restorations :func:`restoration_spread` takes: 8, and 2 more for isotropic volumes."""
    return len(VIEWS) + (2 if is_isotropic(volume.geometry) else 0)


def restoration_spread(
    restorer: Restorer,
    volume: Volume,
    task: Task,
    *,
    options: RestoreOptions | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Volume:
    """Standard deviation, voxel by voxel, over 4 quarter turns with and without a flip of every slice.

    Isotropic volumes (spacings within 20 %) are also restored along the other two axes, unflipped.

    Args:
        restorer: the network.
        volume: the input scan.
        task: what is restored.
        options: of the restoration; with ``scale`` the scan is refined first.
        progress: is called with (views done, views in all).

    Returns:
        On the restored scan's grid, in the task's units, a float32 scan of its own; NaN where the input isn't finite.

    Raises:
        As :meth:`Restorer.__call__ <tatcli.inference.restorer.Restorer.__call__>`.
    """
    options = options or RestoreOptions()
    axis = through_plane_axis(volume.geometry, options.axis)
    volume, _ = without_padding(volume, restorer.card.intensity_rule(task))
    volume = refined(volume, task, scale=options.scale, axis=axis)
    options = replace(
        options,
        scale=1,
        kspace_factor=options.known_factor if options.puts_back(task) else None,
        planes=1,
        ensemble=False,
        axis="axial",
        check_values=False,
        ignore_modality=True,
    )
    total = view_count(volume)
    mean = np.zeros(volume.array.shape, dtype=np.float32)
    square = np.zeros(volume.array.shape, dtype=np.float32)
    for number, answer in enumerate(_answers(restorer, volume, task, options, axis), start=1):
        with np.errstate(invalid="ignore"):  # infinity less infinity
            new, middle, around = (array.reshape(-1, *array.shape[-2:]) for array in (answer, mean, square))
            for plane, value in enumerate(new):  # one by one: little beside the arrays themselves
                step = value - middle[plane]  # Welford: the variance of close values survives float32
                middle[plane] += step / np.float32(number)
                around[plane] += step * (value - middle[plane])
        if progress is not None:
            progress(number, total)
    deviation = square
    deviation /= np.float32(total - 1)
    np.sqrt(deviation, out=deviation)
    deviation[~np.isfinite(volume.array)] = np.nan
    provenance = Provenance(
        format="memory",
        modality=volume.provenance.modality,
        frame_step=volume.provenance.frame_step,
        steps=(*volume.provenance.steps, f"spread of {total} restorations: {task.name}, weights {restorer.card.name}"),
    )
    return Volume(deviation, volume.geometry, task.units, provenance)


def _answers(
    restorer: Restorer, volume: Volume, task: Task, options: RestoreOptions, axis: int
) -> Iterator[NDArray[np.float32]]:
    """The restored scan by every view, in the scan's own array order."""

    def restore(frames: NDArray[np.float32], plane: int) -> NDArray[np.float32]:
        # a grid of its own, whose axial slices are its first axis; all frames at once, as some may be empty
        grid = Geometry.from_spacing((10.0, 1.0, 1.0), (frames.shape[1], frames.shape[2], frames.shape[3]))
        array = frames if volume.array.ndim == 4 else frames[0]
        seen = Volume(array, grid, volume.units, Provenance(dtype=volume.provenance.dtype))
        # what is known of k-space is known of the acquired slices
        own = options if plane == axis else replace(options, data_consistency=False, kspace_factor=None)
        return restorer(seen, task, options=own).array.reshape(frames.shape)

    views = [_View(axis, turns, flipped) for turns, flipped in VIEWS]
    if is_isotropic(volume.geometry):
        views += [_View(other) for other in sorted({0, 1, 2} - {axis})]
    for view in views:
        shown = np.stack([view.shown(slices_along(frame, view.axis)) for frame in volume.iter_frames()])
        out = np.empty(volume.array.shape, dtype=np.float32)
        targets = out.reshape(-1, *volume.geometry.shape)
        for answer, target in zip(restore(shown, view.axis), targets, strict=True):
            slices_along(target, view.axis)[:] = view.undone(answer)
        yield out


@dataclass(frozen=True)
class _View:
    """How the slices through an axis are shown: mirrored or not, then turned by quarters."""

    axis: int
    turns: int = 0
    flipped: bool = False

    def shown(self, stack: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.rot90(stack[:, :, ::-1] if self.flipped else stack, self.turns, axes=(1, 2))

    def undone(self, stack: NDArray[np.float32]) -> NDArray[np.float32]:
        back = np.rot90(stack, -self.turns, axes=(1, 2))
        return back[:, :, ::-1] if self.flipped else back
