"""Functional groups of enhanced multi-frame objects (PS3.3 C.7.6.16), changed frame by frame."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Final

from tatcli.volumes.dicom_coding import as_ds
from tatcli.volumes.dicom_origin import Derivation, derived_type, source_image
from tatcli.volumes.dicom_planes import Plane
from tatcli.volumes.dicom_units import add_suv_mapping, recode_mappings, scale_windows, state_suv

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

__all__ = ["drop_acquisition", "update_frames"]

_FRAME_TYPES: Final = ("MRImageFrameTypeSequence", "CTImageFrameTypeSequence", "PETFrameTypeSequence")
_UNASSIGNED: Final = ("UnassignedSharedConvertedAttributesSequence", "UnassignedPerFrameConvertedAttributesSequence")
_DESCRIPTIONS: Final = (
    "PixelPresentation", "VolumetricProperties", "VolumeBasedCalculationTechnique", "ComplexImageComponent",
    "AcquisitionContrast",
)  # fmt: skip
"""What the whole object says in one word, and each frame for itself beside its type."""
_OF_ORIGINALS: Final = (
    "PulseSequenceName", "MRAcquisitionType", "EchoPulseSequence", "MultipleSpinEcho", "MultiPlanarExcitation",
    "PhaseContrast", "VelocityEncodingAcquisitionSequence", "TimeOfFlightContrast", "ArterialSpinLabelingContrast",
    "SteadyStatePulseSequence", "EchoPlanarPulseSequence", "SaturationRecovery", "SpectrallySelectedSuppression",
    "OversamplingPhase", "GeometryOfKSpaceTraversal", "RectilinearPhaseEncodeReordering", "SegmentedKSpaceTraversal",
    "CoverageOfKSpace", "NumberOfKSpaceTrajectories", "BulkMotionCompensationTechnique",
)  # fmt: skip
"""What enhanced MR says of original images only (C.8.13.4, C.8.14.2); dciodvfy finds it an error in derived ones."""


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
        if _any_rescaled(planes):
            _recode(group, shared, plane)
        if _any_remapped(planes) and _own_group(group, shared, "RealWorldValueMappingSequence"):
            recode_mappings(group, plane)
        if plane.in_suv:
            add_suv_mapping(group, plane)
        _place(group, shared, plane)
    if shared is not None:
        _set_type(shared, source[0])
        for keyword in ("DerivationImageSequence", *_groups_of_frames(planes)):
            if keyword in shared:
                del shared[keyword]
    _settle(dataset, [_frame_type(group, shared) for group in kept])
    if planes[0].in_suv:
        for place in (dataset, *([] if shared is None else [shared]), *kept):
            _bring_to_suv(place, planes[0])
    dataset.PerFrameFunctionalGroupsSequence = kept
    dataset.NumberOfFrames = len(kept)
    _number_anew(dataset, [plane.image.frame for plane in planes])


def _number_anew(dataset: Dataset, frames: list[int]) -> None:
    """The frame that stands for all counts among those that are left; it may not be one of them."""
    if "RepresentativeFrameNumber" not in dataset:
        return
    frame = int(dataset.RepresentativeFrameNumber or 0) - 1
    if frame in frames:
        dataset.RepresentativeFrameNumber = frames.index(frame) + 1
    else:
        del dataset.RepresentativeFrameNumber


def _any_rescaled(planes: tuple[Plane, ...]) -> bool:
    return any(plane.rescaled for plane in planes)


def _any_remapped(planes: tuple[Plane, ...]) -> bool:
    return any(plane.remapped for plane in planes)


def _bring_to_suv(place: Dataset, plane: Plane) -> None:
    """What the top level or a group says in the source's units, legacy converted objects' unassigned items included."""
    for part in (place, *(item for keyword in _UNASSIGNED for item in place.get(keyword) or [])):
        if "Units" in part:
            state_suv(part)
    for part in (place, *(place.get("FrameVOILUTSequence") or [])):
        scale_windows(part, plane.factor)


def _groups_of_frames(planes: tuple[Plane, ...]) -> list[str]:
    """The groups that every frame has for itself now."""
    moved = []
    if _any_rescaled(planes):
        moved.append("PixelValueTransformationSequence")
    if _any_remapped(planes):
        moved.append("RealWorldValueMappingSequence")
    if planes[0].position is not None:
        moved += ["PlanePositionSequence", "PixelMeasuresSequence"]
    return moved


def _recode(group: Dataset, shared: Dataset | None, plane: Plane) -> None:
    """The frame's own rescale."""
    _own_group(group, shared, "PixelValueTransformationSequence")
    item = group.PixelValueTransformationSequence[0]
    item.RescaleSlope, item.RescaleIntercept = as_ds(plane.coding.slope), as_ds(plane.coding.intercept)
    if "RescaleType" not in item:
        item.RescaleType = "US"


def _place(group: Dataset, shared: Dataset | None, plane: Plane) -> None:
    if plane.position is not None:
        _own_group(group, shared, "PlanePositionSequence")
        group.PlanePositionSequence[0].ImagePositionPatient = [as_ds(value) for value in plane.position]
    if plane.spacing is not None:
        _own_group(group, shared, "PixelMeasuresSequence")
        group.PixelMeasuresSequence[0].PixelSpacing = [as_ds(value) for value in plane.spacing]


def drop_acquisition(dataset: Dataset) -> None:
    """Leave out what an enhanced object may say of original images only; the source still says it."""
    for keyword in _OF_ORIGINALS:
        if keyword in dataset:
            del dataset[keyword]


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


def _frame_type(group: Dataset, shared: Dataset | None) -> Dataset | None:
    for place in (group, shared):
        for keyword in _FRAME_TYPES:
            if items := None if place is None else place.get(keyword):
                first: Dataset = items[0]
                return first
    return None


def _settle(dataset: Dataset, types: list[Dataset | None]) -> None:
    """What the frames that are left agree on is mixed no more (PS3.3 C.8.16.1, C.8.16.2)."""
    frames = [list(kind.get("FrameType") or []) for kind in types if kind is not None]
    if not frames or len(frames) < len(types):
        return
    for index, value in enumerate(dataset.ImageType):
        found = {str(frame[index]) if index < len(frame) else "" for frame in frames}
        if value == "MIXED" and len(found) == 1 and found != {""}:
            dataset.ImageType[index] = found.pop()
    for keyword in _DESCRIPTIONS:
        found = {str(kind.get(keyword) or "") for kind in types if kind is not None}
        if dataset.get(keyword) == "MIXED" and len(found) == 1 and found != {""}:
            setattr(dataset, keyword, found.pop())


def _set_type(group: Dataset, sop_class: str) -> None:
    for keyword in _FRAME_TYPES:
        if items := group.get(keyword):
            items[0].FrameType = derived_type(items[0].get("FrameType"), sop_class)
