"""Scans: reading, writing, their grid and their units. Names load on first use, so that importing this is cheap."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tatcli.volumes.dicom_series import SeriesInfo, list_series
    from tatcli.volumes.geometry import Geometry
    from tatcli.volumes.reading import read_volume
    from tatcli.volumes.scan_info import ScanInfo, TaskFit, describe
    from tatcli.volumes.slices import evenly_spaced, slices_along, through_plane_axis
    from tatcli.volumes.volume import Provenance, Volume
    from tatcli.volumes.writing import check_output, write_volume

__all__ = [
    "Geometry",
    "Provenance",
    "ScanInfo",
    "SeriesInfo",
    "TaskFit",
    "Volume",
    "check_output",
    "describe",
    "evenly_spaced",
    "list_series",
    "read_volume",
    "slices_along",
    "through_plane_axis",
    "write_volume",
]

_HOMES = {
    "Geometry": "geometry",
    "Provenance": "volume",
    "ScanInfo": "scan_info",
    "SeriesInfo": "dicom_series",
    "TaskFit": "scan_info",
    "Volume": "volume",
    "check_output": "writing",
    "describe": "scan_info",
    "evenly_spaced": "slices",
    "list_series": "dicom_series",
    "read_volume": "reading",
    "slices_along": "slices",
    "through_plane_axis": "slices",
    "write_volume": "writing",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
