"""Safety evidence of a restoration: maps of what was changed and how sure it is, and a preview."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tatcli.errors import GeometryError, OutputError, UsageError
from tatcli.volumes.formats import written_for

if TYPE_CHECKING:
    from tatcli.inference.options import RestoreOptions
    from tatcli.inference.restorer import Restorer
    from tatcli.tasks import Task
    from tatcli.volumes.volume import Volume

__all__ = ["EvidenceConfig", "RestoredScan", "check_evidence", "check_evidence_grid", "write_evidence"]


@dataclass(frozen=True, kw_only=True)
class EvidenceConfig:
    """What a restoration leaves beside the restored scan.

    Attributes:
        uncertainty: where the spread's map goes.
        residual: where restored - input goes.
        preview: where the panel (PNG) goes.
    """

    uncertainty: Path | None = None
    residual: Path | None = None
    preview: Path | None = None

    @property
    def files(self) -> dict[str, Path]:
        """Option -> file, for those that were asked for."""
        named = {"--uncertainty": self.uncertainty, "--residual": self.residual, "--preview": self.preview}
        return {option: path for option, path in named.items() if path is not None}

    @property
    def wanted(self) -> str:
        """An option that was asked for; empty: none."""
        return next(iter(self.files), "")


@dataclass(frozen=True, kw_only=True, eq=False)
class RestoredScan:
    """A restoration that was done.

    Attributes:
        volume: the input.
        restored: on its own grid.
        task: what was restored.
        restorer: the network.
        options: how.
    """

    volume: Volume
    restored: Volume
    task: Task
    restorer: Restorer
    options: RestoreOptions


def check_evidence(config: EvidenceConfig, *, source: Path, others: tuple[Path, ...], overwrite: bool) -> None:
    """Refuse files that can't be written, before the work.

    Args:
        config: names them.
        source: the input.
        others: all files that the run writes beside them.
        overwrite: whether existing ones may be replaced.

    Raises:
        OutputError: a file exists, is named twice, or can't be written to.
        UsageError: a map in a format that tat doesn't write, a preview that is no PNG.
    """
    from tatcli.volumes.formats import format_to_write
    from tatcli.volumes.replacing import checked_output
    from tatcli.volumes.writing import check_output

    taken = {path.resolve() for path in others}
    for option, path in config.files.items():
        if option == "--preview":
            if path.suffix.lower() != ".png":
                msg = f"{option} {path.name}: expected a name ending in .png"
                raise UsageError(msg)
            checked_output(path, source=source, overwrite=overwrite)
        else:
            if format_to_write(path) == "dicom":  # a map is no image of the series that DICOM could be derived from
                msg = f"{option} {path.name}: expected a map in NIfTI, NRRD or MetaImage, got a name for DICOM"
                raise UsageError(msg + "; name it .nii.gz")
            check_output(path, source=source, overwrite=overwrite)
        names = {name.resolve() for name in written_for(path)}
        if names & taken:
            msg = f"{option} {path}: expected a file of its own, got a name that is used twice; choose another"
            raise OutputError(msg)
        taken |= names


def check_evidence_grid(config: EvidenceConfig, volume: Volume) -> None:
    """Refuse maps of a scan whose slices lie at uneven distances, which only DICOM's positions can tell.

    Args:
        config: what was asked for.
        volume: the input.

    Raises:
        GeometryError: a map was asked for, and the slices are uneven.
    """
    if not volume.provenance.uneven:
        return
    from tatcli.inference.guards import name_of

    for option in config.files:
        if option != "--preview":  # a picture of one slice
            name = name_of(volume)
            msg = f"{name}: expected evenly spaced slices for {option}, got uneven ones, whose places no map can hold"
            raise GeometryError(msg + "; leave it out")


def write_evidence(
    config: EvidenceConfig,
    done: RestoredScan,
    *,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, float]:
    """Write the maps and the preview.

    Args:
        config: what was asked for.
        done: the restoration.
        overwrite: whether existing files may be replaced.
        progress: is called with (views done, views in all) of the uncertainty.

    Returns:
        Facts for the report: the mean of the uncertainty, where it was computed.
    """
    if not config.files:
        return {}
    from tatcli.volumes.writing import write_volume

    restored, task = done.restored, done.task
    axis, before = _shown(done)
    spread: Volume | None = None
    facts = {}
    if config.uncertainty is not None:
        from tatcli.inference.uncertainty import restoration_spread

        spread = restoration_spread(done.restorer, done.volume, task, options=done.options, progress=progress)
        write_volume(spread, config.uncertainty, overwrite=overwrite)
        known = spread.array[np.isfinite(spread.array)]
        facts["uncertainty_mean"] = float(known.mean()) if known.size else 0.0
    if config.residual is not None:
        write_volume(_residual(before, restored, task), config.residual, overwrite=overwrite)
    if config.preview is not None:
        from tatcli.reporting.figures import write_png
        from tatcli.reporting.preview import preview

        write_png(preview(before, restored, task, axis=axis, uncertainty=spread), config.preview, overwrite=overwrite)
    return facts


def _residual(before: Volume, restored: Volume, task: Task) -> Volume:
    """What was changed, restored - input, as a float32 scan of its own."""
    from tatcli.volumes.volume import Provenance, Volume

    with np.errstate(invalid="ignore"):  # where both are infinite nothing is known
        difference = restored.array - before.array
    steps = (*restored.provenance.steps, "residual: restored - input")
    origin = before.provenance
    made = Provenance(modality=origin.modality, frame_step=origin.frame_step, steps=steps)
    return Volume(difference, restored.geometry, task.units, made)


def _shown(done: RestoredScan) -> tuple[int, Volume]:
    """The slice axis, and the input on the restored scan's grid, refined as the restoration does: without padding."""
    from tatcli.inference.coarse_grid import refined
    from tatcli.volumes.padding import put_back, without_padding
    from tatcli.volumes.slices import through_plane_axis

    volume, scale = done.volume, done.options.scale
    axis = through_plane_axis(volume.geometry, done.options.axis)
    if scale == 1:
        return axis, volume
    shown, hidden = without_padding(volume, done.restorer.card.intensity_rule(done.task))
    fine = refined(shown, done.task, scale=scale, axis=axis)
    array = fine.array.copy()
    put_back(array, volume, hidden)
    return axis, replace(fine, array=array)
