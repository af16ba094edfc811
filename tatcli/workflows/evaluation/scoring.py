"""Score every method's version of one scan: the protocol's metrics, those beyond it, and pictures for the report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tatcli.errors import EmptyMaskError, VolumeReadError
from tatcli.metrics import find_protocol, reference_facts, score_physically, score_volume
from tatcli.reporting.figures import upright
from tatcli.training.subjects import subject_of, subject_of_place
from tatcli.workflows.evaluation.degraded import mid_positions
from tatcli.workflows.evaluation.report import INPUT, ScanScores, SlicePicture

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tatcli.intensity import Window
    from tatcli.tasks import Task
    from tatcli.volumes.geometry import Geometry
    from tatcli.workflows.evaluation.config import EvaluateConfig

__all__ = ["ScanStacks", "score_scan"]


@dataclass(frozen=True, kw_only=True, eq=False)
class ScanStacks:
    """A scan by every method.

    Attributes:
        name: of the scan.
        reference: (slices, rows, columns), the slices that are scored.
        methods: name -> the same shape; the LQ scan under :data:`~tatcli.workflows.evaluation.report.INPUT`.
        window: the evaluation window.
        indices: positions of the slices in the scan.
        geometry: of one frame of those slices, in the array order that ``axis`` belongs to.
        axis: array axis that is sliced through.
        spacing: (slice, row, column) steps, mm.
        whole: whether these are all slices of one frame.
        mask: the voxels that count; None: all.
        extent: lowest and highest value of the whole reference; None: these slices are all of it.
    """

    name: str
    reference: NDArray[np.float32]
    methods: Mapping[str, NDArray[np.float32]]
    window: Window
    indices: tuple[int, ...]
    geometry: Geometry
    axis: int
    spacing: tuple[float, float, float]
    whole: bool = True
    mask: NDArray[np.bool_] | None = None
    extent: Window | None = None


def score_scan(scan: ScanStacks, task: Task, config: EvaluateConfig) -> ScanScores:
    """Scores of all methods.

    Raises:
        VolumeReadError: a method's volume is NaN where the reference isn't.
        EmptyMaskError: no slice has both voxels of the mask and something to score.
    """
    protocol = find_protocol(config.protocol)
    scores = {}
    for method, volume in scan.methods.items():
        try:
            found = score_volume(
                volume,
                scan.reference,
                task=task,
                window=scan.window,
                protocol=protocol,
                mask=scan.mask,
                extent=scan.extent,
            )
        except ValueError as error:
            msg = f"{scan.name} ({method}): {error}"
            raise VolumeReadError(msg) from error
        scores[method] = found.numbered(scan.indices)
    if scan.mask is not None and all(found.mean is None for found in scores.values()):
        msg = f"{scan.name}: expected mask voxels in slices with something to score inside the window, got none"
        raise EmptyMaskError(msg)
    physical, spectrum = {}, None
    if config.physical:
        facts = reference_facts(scan.reference, task, spacing=scan.spacing, whole=scan.whole, mask=scan.mask)
        spectrum = facts.spectrum
        lq = scan.methods.get(INPUT)
        physical = {
            method: score_physically(volume, scan.reference, facts, lq=lq) for method, volume in scan.methods.items()
        }
    return ScanScores(
        scan.name,
        (scan.window.lower, scan.window.upper),
        scan.indices,
        scores,
        subject=subject_of(scan.name, config.subjects, otherwise=subject_of_place(scan.name)),
        physical=physical,
        reference_spectrum=spectrum,
        pictures=_pictures(scan, config.pictures),
    )


def _pictures(scan: ScanStacks, count: int) -> tuple[SlicePicture, ...]:
    """Evenly spaced slices of the first frame, upright."""
    if not count:
        return ()
    available = scan.geometry.shape[scan.axis]
    pictures = []
    for place in mid_positions(available, count):
        images, spacing = {}, (1.0, 1.0)
        for name, stack in {"reference": scan.reference, **scan.methods}.items():
            frame = np.moveaxis(stack[:available], 0, scan.axis)
            image, spacing = upright(frame, scan.geometry, axis=scan.axis, index=place)
            images[name] = np.array(image, dtype=np.float32)
        pictures.append(SlicePicture(scan.indices[place], images.pop("reference"), images, spacing))
    return tuple(pictures)
