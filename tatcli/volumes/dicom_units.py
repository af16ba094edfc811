"""What a derived object says of its values: rescale, windows, real world values, and SUV in PET's own words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from tatcli.volumes.dicom_coding import as_ds
from tatcli.volumes.dicom_planes import Plane

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

__all__ = ["add_suv_mapping", "describe_values", "recode_mappings", "scale_windows", "set_rescale", "state_suv"]

_SUV: Final = ("g/ml{SUVbw}", "UCUM", "Standardized Uptake Value body weight")
"""PET units, CID 84."""


def describe_values(dataset: Dataset, plane: Plane) -> None:
    """A classic source's rescale, where it changed, and what follows from it."""
    if plane.rescaled:
        set_rescale(dataset, plane)
    if plane.remapped:
        recode_mappings(dataset, plane)
    if plane.in_suv:
        scale_windows(dataset, plane.factor)


def set_rescale(dataset: Dataset, plane: Plane) -> None:
    """A classic object's rescale, and its units where they are SUV; none where there was none and none is needed."""
    coding = plane.coding
    if plane.in_suv:
        state_suv(dataset)
    if (coding.slope, coding.intercept) == (1.0, 0.0) and "RescaleSlope" not in dataset:
        return
    dataset.RescaleSlope, dataset.RescaleIntercept = as_ds(coding.slope), as_ds(coding.intercept)
    if dataset.get("Modality") == "MR" and "RescaleType" not in dataset:  # whose rescale is that of C.11.1
        dataset.RescaleType = "US"


def recode_mappings(place: Dataset, plane: Plane) -> None:
    """Real world values keep their meaning under another rescale; mappings by table, which can't, are dropped then.

    What is stored in SUVbw is first brought back to the source's units, of which the mappings speak.

    Args:
        place: a classic object, or a frame's functional groups; is changed.
        plane: how its numbers were stored, and how they are.
    """
    kept = []
    for item in place.get("RealWorldValueMappingSequence") or []:
        if item.get("RealWorldValueSlope") is None:
            kept += [] if plane.rescaled else [item]
            continue
        slope, intercept = float(item.RealWorldValueSlope), float(item.get("RealWorldValueIntercept") or 0.0)
        item.RealWorldValueSlope = slope * plane.coding.slope / plane.factor / plane.own.slope
        item.RealWorldValueIntercept = (
            intercept + slope * (plane.coding.intercept / plane.factor - plane.own.intercept) / plane.own.slope
        )
        _map_all(item, plane)
        kept.append(item)
    if kept:
        place.RealWorldValueMappingSequence = kept
    elif "RealWorldValueMappingSequence" in place:
        del place["RealWorldValueMappingSequence"]


def add_suv_mapping(group: Dataset, plane: Plane) -> None:
    """Say that rescaled values are SUVbw: enhanced PET has no other place for its units (PS3.3 A.56.4).

    Args:
        group: a frame's functional groups; the mapping comes first in them, instead of any in the same unit.
        plane: how its numbers are stored.
    """
    from pydicom.dataset import Dataset as NewDataset

    item, code = NewDataset(), NewDataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = _SUV
    item.MeasurementUnitsCodeSequence = [code]
    item.LUTExplanation, item.LUTLabel = "SUV by body weight", "SUVbw"
    item.RealWorldValueSlope, item.RealWorldValueIntercept = plane.coding.slope, plane.coding.intercept
    _map_all(item, plane)
    others = [other for other in group.get("RealWorldValueMappingSequence") or [] if _unit(other) != _SUV[0]]
    group.RealWorldValueMappingSequence = [item, *others]


def state_suv(place: Dataset) -> None:
    """Say so in the words of classic PET (C.8.9.1)."""
    place.Units, place.SUVType = "GML", "BW"


def scale_windows(place: Dataset, factor: float) -> None:
    """Windows are in units of rescaled values (PS3.3 C.11.2.1.2); SUV's are narrower than what LINEAR can tell.

    Args:
        place: where WindowCenter and WindowWidth may be; is changed.
        factor: new unit / old unit.
    """
    if place.get("WindowCenter") is None or place.get("WindowWidth") is None:
        return
    for keyword in ("WindowCenter", "WindowWidth"):
        value: Any = place[keyword].value
        values = list(value) if place[keyword].VM > 1 else [value]
        setattr(place, keyword, [as_ds(float(number) * factor) for number in values])
    if str(place.get("VOILUTFunction") or "LINEAR") == "LINEAR":  # whose width is at least 1, and a pixel wider
        place.VOILUTFunction = "LINEAR_EXACT"


def _map_all(item: Dataset, plane: Plane) -> None:
    """A mapping holds for all stored numbers."""
    first, last = plane.coding.limits
    vr = "SS" if plane.coding.signed else "US"
    for keyword, value in (("RealWorldValueFirstValueMapped", first), ("RealWorldValueLastValueMapped", last)):
        if keyword in item:
            del item[keyword]
        item.add_new(keyword, vr, value)


def _unit(mapping: Dataset) -> str:
    codes = mapping.get("MeasurementUnitsCodeSequence")
    return str(codes[0].get("CodeValue", "")) if codes else ""
