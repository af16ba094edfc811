"""What a scan is, and which task takes it: headers first, then its values."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tatcli.errors import TatError
from tatcli.intensity import Units
from tatcli.tasks import TASKS

if TYPE_CHECKING:
    from tatcli.inference.value_summary import ValueSummary
    from tatcli.volumes.pet_tags import PetTags
    from tatcli.volumes.scan_info import ScanInfo, TaskFit
    from tatcli.volumes.volume import Volume

__all__ = ["info_json", "scan_info"]


def scan_info(
    path: Path,
    *,
    series: str | None = None,
    units: Units | None = None,
    pet: PetTags | None = None,
    values: bool = True,
) -> ScanInfo:
    """Describe a scan.

    Args:
        path: a file or a DICOM folder.
        series: which series of the folder; several and none chosen: they are listed, and nothing more is read.
        units: the caller's word on the units.
        pet: the caller's word on what SUV needs.
        values: read the voxels too, for their range and for which task they fit.

    Raises:
        VolumeReadError, GeometryError, UnitsError, UsageError: the scan can't be read.
    """
    from tatcli.volumes.reading import read_volume
    from tatcli.volumes.scan_info import describe

    info = describe(path, series=series, units=units, pet=pet, uneven=True)  # restored to DICOM, they are taken
    if not values or info.shape is None:
        return info
    from tatcli.inference.value_summary import summarise

    volume = read_volume(path, series=series, units=units, pet=pet, uneven=True)
    summary = summarise(volume)
    known = summary.lower <= summary.upper
    return replace(
        info,
        value_range=(summary.lower, summary.upper) if known else None,
        nonfinite=summary.nonfinite,
        tasks=tuple(_with_values(fit, volume, summary, trusted=units is not None) for fit in info.tasks),
    )


def info_json(info: ScanInfo) -> str:
    """A description as JSON."""
    return json.dumps(asdict(info), indent=2, allow_nan=False)


def _with_values(fit: TaskFit, volume: Volume, summary: ValueSummary, *, trusted: bool) -> TaskFit:
    """The verdict from the header, once the values had their say too."""
    if fit.fits is False:
        return fit
    from tatcli.inference.guards import check_scan, name_of

    try:
        check_scan(volume, TASKS[fit.task], trust_values=trusted, summary=summary)
    except TatError as error:
        return replace(fit, fits=False, reason=str(error).removeprefix(f"{name_of(volume)}: "))
    return fit
