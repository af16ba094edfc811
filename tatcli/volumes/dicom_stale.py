"""What a derived object must not keep of its source: what was said of its pixels, or of that object alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydicom.dataset import Dataset

__all__ = ["drop_stale", "flag_lossy"]

_STALE: Final = (
    "SmallestImagePixelValue", "LargestImagePixelValue", "SmallestPixelValueInSeries", "LargestPixelValueInSeries",
    "SmallestImagePixelValueInPlane", "LargestImagePixelValueInPlane", "IconImageSequence", "HistogramSequence",
    "DigitalSignaturesSequence", "MACParametersSequence", "DataSetTrailingPadding", "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths", "InstanceCreatorUID", "StorageMediaFileSetUID", "PixelDataProviderURL",
    "FloatPixelPaddingValue", "DoubleFloatPixelPaddingValue", "LengthToEnd",
    "ConcatenationUID", "InConcatenationNumber", "InConcatenationTotalNumber", "ConcatenationFrameOffsetNumber",
    "SOPInstanceUIDOfConcatenationSource", "SOPInstanceStatus", "SOPAuthorizationDateTime",
    "SOPAuthorizationComment", "AuthorizationEquipmentCertificationNumber",
)  # fmt: skip
_LOSSY: Final = {
    "1.2.840.10008.1.2.4.50": "ISO_10918_1",
    "1.2.840.10008.1.2.4.51": "ISO_10918_1",
    "1.2.840.10008.1.2.4.53": "ISO_10918_1",
    "1.2.840.10008.1.2.4.55": "ISO_10918_1",
    "1.2.840.10008.1.2.4.81": "ISO_14495_1",
    "1.2.840.10008.1.2.4.91": "ISO_15444_1",
    "1.2.840.10008.1.2.4.203": "ISO_15444_15",
}
"""Transfer syntaxes that lose information -> LossyImageCompressionMethod (PS3.3 C.7.6.1.1.5.1)."""
_MAYBE_LOSSLESS: Final = ("1.2.840.10008.1.2.4.91", "1.2.840.10008.1.2.4.203")
_GROUPS: Final = {
    "SharedFunctionalGroupsSequence": "UnassignedSharedConvertedAttributesSequence",
    "PerFrameFunctionalGroupsSequence": "UnassignedPerFrameConvertedAttributesSequence",
}
_FIRST_OVERLAY, _LAST_OVERLAY, _OVERLAY_DATA = 0x6000, 0x60FE, 0x3000


def drop_stale(dataset: Dataset, *, overlays: bool) -> None:
    """Drop what described the source's pixels; overlays too, unless they have their own bits and still fit the matrix.

    Args:
        dataset: is changed.
        overlays: whether overlays fit.
    """
    for place in _places(dataset):
        for keyword in _STALE:
            if keyword in place:
                del place[keyword]
    groups = {tag.group for tag in dataset.keys() if _FIRST_OVERLAY <= tag.group <= _LAST_OVERLAY}  # noqa: SIM118
    for group in groups:
        if not overlays or (group, _OVERLAY_DATA) not in dataset:
            for tag in [tag for tag in dataset.keys() if tag.group == group]:  # noqa: SIM118
                del dataset[tag]


def _places(dataset: Dataset) -> Iterator[Dataset]:
    """The top level, and where legacy converted objects keep what classic ones had there."""
    yield dataset
    for keyword, unassigned in _GROUPS.items():
        for group in dataset.get(keyword) or []:
            yield from group.get(unassigned) or []


def flag_lossy(dataset: Dataset, *, compressed: int) -> None:
    """What was once lossy stays so, whatever the new transfer syntax (PS3.3 C.7.6.1.1.5).

    Args:
        dataset: with the source's file meta information; is changed.
        compressed: bytes of its pixel data.
    """
    syntax = str(dataset.file_meta.TransferSyntaxUID)
    flag = str(dataset.get("LossyImageCompression") or "")
    if syntax not in _LOSSY or (flag == "00" and syntax in _MAYBE_LOSSLESS) or flag == "01":
        return
    whole = int(dataset.Rows) * int(dataset.Columns) * int(dataset.get("NumberOfFrames") or 1)
    whole *= int(dataset.BitsAllocated) // 8
    dataset.LossyImageCompression = "01"
    dataset.LossyImageCompressionRatio = f"{whole / max(compressed, 1):.4g}"
    dataset.LossyImageCompressionMethod = _LOSSY[syntax]
