"""Enhanced multi-frame objects taken apart: every frame a classic single-frame object of CT, MR or PET."""

from __future__ import annotations

import re
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tatcli.errors import OutputError
from tatcli.volumes.dicom_coding import as_ds
from tatcli.volumes.dicom_images import DicomImage
from tatcli.volumes.pet_classic import complete_pet

if TYPE_CHECKING:
    from pydicom.dataelem import DataElement
    from pydicom.dataset import Dataset

__all__ = ["CLASSIC", "as_classic", "check_class"]

CLASSIC: Final = {
    "1.2.840.10008.5.1.4.1.1.2.1": "1.2.840.10008.5.1.4.1.1.2",
    "1.2.840.10008.5.1.4.1.1.2.2": "1.2.840.10008.5.1.4.1.1.2",
    "1.2.840.10008.5.1.4.1.1.4.1": "1.2.840.10008.5.1.4.1.1.4",
    "1.2.840.10008.5.1.4.1.1.4.4": "1.2.840.10008.5.1.4.1.1.4",
    "1.2.840.10008.5.1.4.1.1.130": "1.2.840.10008.5.1.4.1.1.128",
    "1.2.840.10008.5.1.4.1.1.128.1": "1.2.840.10008.5.1.4.1.1.128",
}
"""Enhanced (and legacy converted) SOP classes of CT, MR and PET -> the classic ones."""
_MULTI_FRAME_ONLY: Final = (
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "NumberOfFrames", "DimensionIndexSequence",
    "DimensionOrganizationSequence", "DimensionOrganizationType", "RepresentativeFrameNumber",
    "SourceImageEvidenceSequence", "ReferencedImageEvidenceSequence",
)  # fmt: skip
_OF_SOURCES: Final = ("DerivationImageSequence", "ConversionSourceAttributesSequence")
"""Groups that name other objects: classic ones say at the top level what they are derived from."""
_OF_FRAMES: Final = ("FrameType", "FrameAcquisitionDateTime", "FrameReferenceDateTime", "DimensionIndexValues")
_MR_SEQUENCES: Final = {"SPIN": ["SE"], "GRADIENT": ["GR"], "BOTH": ["SE", "GR"]}
"""EchoPulseSequence -> ScanningSequence."""


def check_class(sop_class: str, path: Path) -> None:
    """Whether there is a classic SOP class for an enhanced object.

    Raises:
        OutputError: there is none.
    """
    if sop_class not in CLASSIC:
        msg = f"{path.name}: expected enhanced CT, MR or PET to make classic images of, got another kind"
        raise OutputError(msg + "; leave --enhanced classic out")


def as_classic(
    dataset: Dataset, index: int, *, image: DicomImage, frames: tuple[tuple[DicomImage, ...], ...]
) -> Dataset:
    """One frame as a classic single-frame object: what its functional groups say stands at the top level.

    Args:
        dataset: an enhanced object; is not changed.
        index: of the frame.
        image: the frame as it was read.
        frames: for every frame of the scan the images by position.
    """
    from pydicom.dataset import Dataset as NewDataset

    new = NewDataset()
    for element in dataset:
        if element.keyword not in (*_MULTI_FRAME_ONLY, "PixelData"):
            new[element.tag] = deepcopy(element)
    shared = list(dataset.get("SharedFunctionalGroupsSequence") or [])
    for place in (*shared, dataset.PerFrameFunctionalGroupsSequence[index]):
        _lift(place, new)
    _rename(new)
    modality = new.get("Modality")
    if modality == "MR":
        _complete_mr(new)
    elif modality == "PT":
        complete_pet(new, image, frames)
    elif modality == "CT" and "KVP" not in new:
        new.KVP = None
    for keyword in _OF_FRAMES:
        if keyword in new:
            del new[keyword]
    new.SOPClassUID = CLASSIC[str(dataset.SOPClassUID)]
    return new


def _lift(place: Dataset, new: Dataset) -> None:
    """Copy what functional groups say to the top level."""
    for element in place:
        if element.VR != "SQ" or element.keyword in _OF_SOURCES:
            continue
        if element.tag.is_private:
            _lift_private(element, place, new)
        elif element.value and _is_group(element.keyword):
            for member in element.value[0]:
                new[member.tag] = deepcopy(member)
        else:
            new[element.tag] = deepcopy(element)


def _lift_private(element: DataElement, place: Dataset, new: Dataset) -> None:
    """With its creator (PS3.5 7.8.1), whose block may be another one there; one without creator is nobody's."""
    creator = place.get((element.tag.group, element.tag.element >> 8))
    if creator is not None and str(creator.value or ""):
        block = new.private_block(element.tag.group, str(creator.value), create=True)
        if element.tag.element & 0xFF in block:
            del block[element.tag.element & 0xFF]
        block.add_new(element.tag.element & 0xFF, "SQ", deepcopy(element.value))


def _is_group(keyword: str) -> bool:
    """Whether a sequence of a functional group is a macro, whose one item's attributes classic objects have on top."""
    return keyword not in ("ReferencedImageSequence", "RealWorldValueMappingSequence")


def _rename(new: Dataset) -> None:
    """Attributes that classic objects call otherwise."""
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


def _complete_mr(new: Dataset) -> None:
    """Types 1 and 2 of the classic MR image module (C.8.3.1)."""
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
