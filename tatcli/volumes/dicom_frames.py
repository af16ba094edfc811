"""Functional groups of enhanced multi-frame objects (PS3.3 C.7.6.16): changed frame by frame, or taken apart."""

from __future__ import annotations

import re
from copy import deepcopy
from typing import TYPE_CHECKING, Any, Final

from tatcli.volumes.dicom_coding import as_ds
from tatcli.volumes.dicom_origin import Derivation, derived_type, source_image
from tatcli.volumes.dicom_planes import Plane

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

__all__ = ["CLASSIC", "as_classic", "drop_acquisition", "recode_mappings", "update_frames"]

CLASSIC: Final = {
    "1.2.840.10008.5.1.4.1.1.2.1": "1.2.840.10008.5.1.4.1.1.2",
    "1.2.840.10008.5.1.4.1.1.2.2": "1.2.840.10008.5.1.4.1.1.2",
    "1.2.840.10008.5.1.4.1.1.4.1": "1.2.840.10008.5.1.4.1.1.4",
    "1.2.840.10008.5.1.4.1.1.4.4": "1.2.840.10008.5.1.4.1.1.4",
    "1.2.840.10008.5.1.4.1.1.130": "1.2.840.10008.5.1.4.1.1.128",
    "1.2.840.10008.5.1.4.1.1.128.1": "1.2.840.10008.5.1.4.1.1.128",
}
"""Enhanced (and legacy converted) SOP classes of CT, MR and PET -> the classic ones."""
_FRAME_TYPES: Final = ("MRImageFrameTypeSequence", "CTImageFrameTypeSequence", "PETFrameTypeSequence")
_MULTI_FRAME_ONLY: Final = (
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "NumberOfFrames", "DimensionIndexSequence",
    "DimensionOrganizationSequence", "DimensionOrganizationType", "ConcatenationUID", "InConcatenationNumber",
    "InConcatenationTotalNumber", "ConcatenationFrameOffsetNumber", "SOPInstanceUIDOfConcatenationSource",
    "RepresentativeFrameNumber", "SourceImageEvidenceSequence", "ReferencedImageEvidenceSequence",
)  # fmt: skip
_OF_ORIGINALS: Final = (
    "PulseSequenceName", "MRAcquisitionType", "EchoPulseSequence", "MultipleSpinEcho", "MultiPlanarExcitation",
    "PhaseContrast", "VelocityEncodingAcquisitionSequence", "TimeOfFlightContrast", "ArterialSpinLabelingContrast",
    "SteadyStatePulseSequence", "EchoPlanarPulseSequence", "SaturationRecovery", "SpectrallySelectedSuppression",
    "OversamplingPhase", "GeometryOfKSpaceTraversal", "RectilinearPhaseEncodeReordering", "SegmentedKSpaceTraversal",
    "CoverageOfKSpace", "NumberOfKSpaceTrajectories", "BulkMotionCompensationTechnique",
)  # fmt: skip
"""What enhanced MR says of original images only (C.8.13.4, C.8.14.2); dciodvfy finds it an error in derived ones."""
_MR_SEQUENCES: Final = {"SPIN": ["SE"], "GRADIENT": ["GR"], "BOTH": ["SE", "GR"]}
"""EchoPulseSequence -> ScanningSequence."""


def update_frames(dataset: Dataset, planes: tuple[Plane, ...], derivation: Derivation, source: tuple[str, str]) -> None:
    """Keep the groups of these frames, and give each its derivation, rescale and place.

    Args:
        dataset: an enhanced object; is changed.
        planes: in the order of its frames.
        derivation: what was done.
        source: SOP class and instance UID of the source.
    """
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [None])[0]
    groups = dataset.PerFrameFunctionalGroupsSequence
    kept = [groups[plane.image.frame] for plane in planes]
    for plane, group in zip(planes, kept, strict=True):
        _set_type(group, source[0])
        group.DerivationImageSequence = [_derivation_item(plane, derivation, source)]
        if any(other.recoded for other in planes):
            _recode(group, shared, plane)
        if plane.position is not None:
            _own_group(group, shared, "PlanePositionSequence")
            group.PlanePositionSequence[0].ImagePositionPatient = [as_ds(value) for value in plane.position]
        if plane.spacing is not None:
            _own_group(group, shared, "PixelMeasuresSequence")
            group.PixelMeasuresSequence[0].PixelSpacing = [as_ds(value) for value in plane.spacing]
    if shared is not None:
        _set_type(shared, source[0])
        for keyword in ("DerivationImageSequence", *_groups_of_frames(planes)):
            if keyword in shared:
                del shared[keyword]
    dataset.PerFrameFunctionalGroupsSequence = kept
    dataset.NumberOfFrames = len(kept)


def _groups_of_frames(planes: tuple[Plane, ...]) -> list[str]:
    """The groups that every frame has for itself now."""
    moved = []
    if any(plane.recoded for plane in planes):
        moved += ["PixelValueTransformationSequence", "RealWorldValueMappingSequence"]
    if planes[0].position is not None:
        moved += ["PlanePositionSequence", "PixelMeasuresSequence"]
    return moved


def _recode(group: Dataset, shared: Dataset | None, plane: Plane) -> None:
    """The frame's own rescale, and what follows from it."""
    _own_group(group, shared, "PixelValueTransformationSequence")
    item = group.PixelValueTransformationSequence[0]
    item.RescaleSlope, item.RescaleIntercept = as_ds(plane.coding.slope), as_ds(plane.coding.intercept)
    if "RescaleType" not in item:
        item.RescaleType = "US"
    if _own_group(group, shared, "RealWorldValueMappingSequence"):
        recode_mappings(group, plane)


def drop_acquisition(dataset: Dataset) -> None:
    """Leave out what an enhanced object may say of original images only; the source still says it."""
    for keyword in _OF_ORIGINALS:
        if keyword in dataset:
            del dataset[keyword]


def as_classic(dataset: Dataset, index: int) -> Dataset:
    """One frame as a classic single-frame object: what its functional groups say stands at the top level.

    Args:
        dataset: an enhanced object; is not changed.
        index: of the frame.
    """
    from pydicom.dataset import Dataset as NewDataset

    new = NewDataset()
    for element in dataset:
        if element.keyword not in (*_MULTI_FRAME_ONLY, "PixelData"):
            new[element.tag] = deepcopy(element)
    shared = list(dataset.get("SharedFunctionalGroupsSequence") or [])
    group = dataset.PerFrameFunctionalGroupsSequence[index]
    for place in (*shared, group):
        for element in place:
            if element.keyword == "DerivationImageSequence":
                continue
            if element.VR == "SQ" and element.value and not element.tag.is_private and _is_group(element.keyword):
                for member in element.value[0]:
                    new[member.tag] = deepcopy(member)
            elif element.VR == "SQ":
                new[element.tag] = deepcopy(element)
    _rename(new)
    new.SOPClassUID = CLASSIC[str(dataset.SOPClassUID)]
    new.InstanceNumber = index + 1
    return new


def recode_mappings(place: Dataset, plane: Plane) -> None:
    """Real world values keep their meaning under another rescale; mappings by table, which can't, are dropped."""
    kept = []
    for item in place.get("RealWorldValueMappingSequence") or []:
        if "RealWorldValueSlope" not in item:
            continue
        slope, intercept = float(item.RealWorldValueSlope), float(item.get("RealWorldValueIntercept") or 0.0)
        item.RealWorldValueSlope = slope * plane.coding.slope / plane.own.slope
        item.RealWorldValueIntercept = (
            intercept + slope * (plane.coding.intercept - plane.own.intercept) / plane.own.slope
        )
        first, last = plane.coding.limits
        vr = "SS" if plane.coding.signed else "US"
        for keyword, value in (("RealWorldValueFirstValueMapped", first), ("RealWorldValueLastValueMapped", last)):
            if keyword in item:
                del item[keyword]
            item.add_new(keyword, vr, value)
        kept.append(item)
    if kept:
        place.RealWorldValueMappingSequence = kept
    elif "RealWorldValueMappingSequence" in place:
        del place["RealWorldValueMappingSequence"]


def _own_group(group: Dataset, shared: Dataset | None, keyword: str) -> bool:
    """Make sure that a frame has a group of its own, a copy of the shared one; whether there is any."""
    from pydicom.dataset import Dataset as NewDataset

    if keyword in group:
        return True
    if shared is not None and keyword in shared:
        group[keyword] = deepcopy(shared[keyword])
        return True
    if keyword != "RealWorldValueMappingSequence":
        setattr(group, keyword, [NewDataset()])
    return False


def _derivation_item(plane: Plane, derivation: Derivation, source: tuple[str, str]) -> Dataset:
    from pydicom.dataset import Dataset as NewDataset

    item = NewDataset()
    item.DerivationDescription = derivation.description[:1024]
    item.DerivationCodeSequence = derivation.codes()
    item.SourceImageSequence = [source_image(*source, frame=plane.image.frame, resampled=derivation.resampled)]
    return item


def _set_type(group: Dataset, sop_class: str) -> None:
    for keyword in _FRAME_TYPES:
        if items := group.get(keyword):
            items[0].FrameType = derived_type(items[0].get("FrameType"), sop_class)


def _is_group(keyword: str) -> bool:
    """Whether a sequence of a functional group is a macro, whose one item's attributes classic objects have on top."""
    return keyword not in ("ReferencedImageSequence", "RealWorldValueMappingSequence")


def _rename(new: Dataset) -> None:
    """Attributes that classic objects call otherwise, and those that they need (type 2 of the classic modules)."""
    pairs: tuple[tuple[str, str], ...] = (
        ("EffectiveEchoTime", "EchoTime"),
        ("TemporalPositionIndex", "TemporalPositionIdentifier"),
        ("NominalCardiacTriggerDelayTime", "TriggerTime"),
        ("RFEchoTrainLength", "EchoTrainLength"),
        ("FrameAcquisitionNumber", "AcquisitionNumber"),
    )
    for old, name in pairs:
        if new.get(old) is not None and not new.get(name):
            value = new[old].value
            setattr(new, name, as_ds(value) if isinstance(value, float) else value)
    moment = str(new.get("FrameAcquisitionDateTime") or new.get("AcquisitionDateTime") or "")
    if len(moment) >= 14:
        new.AcquisitionDate, new.AcquisitionTime = moment[:8], re.split("[+-]", moment[8:])[0]
    frame_type = new.get("FrameType")
    if frame_type is not None:
        new.ImageType = list(frame_type)
    for keyword in ("FrameType", "FrameAcquisitionDateTime", "FrameReferenceDateTime", "DimensionIndexValues"):
        if keyword in new:
            del new[keyword]
    if new.get("Modality") == "MR":
        _complete_mr(new)
    if new.get("Modality") == "CT" and "KVP" not in new:
        new.KVP = None


def _complete_mr(new: Dataset) -> None:
    if "ScanningSequence" not in new:
        new.ScanningSequence = _MR_SEQUENCES.get(str(new.get("EchoPulseSequence")), ["RM"])
    if "IR" not in new.ScanningSequence and "InversionTime" in new:
        del new.InversionTime
    if str(new.get("InPlanePhaseEncodingDirection")) == "COLUMN":
        new.InPlanePhaseEncodingDirection = "COL"
    empty: dict[str, Any] = {"SequenceVariant": "NONE", "ScanOptions": None, "EchoTrainLength": None, "EchoTime": None}
    for keyword, value in empty.items():
        if keyword not in new:
            setattr(new, keyword, value)
