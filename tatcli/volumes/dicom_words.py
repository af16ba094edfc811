"""Binary values of sources in other encodings than explicit little-endian, in which derived objects are written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from pydicom.dataelem import DataElement
    from pydicom.dataset import Dataset, FileDataset

__all__ = ["settle_words"]

_WORDS: Final = {"OW": 2, "OL": 4, "OF": 4, "OD": 8, "OV": 8}
"""Bytes of a word of binary values, by VR."""


def settle_words(dataset: FileDataset) -> None:
    """Give all binary values their VR and little-endian bytes, while the object still describes the source's pixels.

    Args:
        dataset: as it was read; is changed, its sequences' items included.
    """
    implicit, little_endian = dataset.original_encoding
    if implicit:
        _settle_types(dataset, signed=bool(dataset.get("PixelRepresentation")))
    if not little_endian:
        _turn(dataset)


def _settle_types(dataset: Dataset, *, signed: bool) -> None:
    """Implicit VR leaves open what the dictionary does; pydicom closes it for all that isn't retired, as curves are.

    Little-endian words are the same bytes whether they count as bytes (OB) or as words.
    """
    for element in dataset:  # pydicom's choice, which may depend on the sign of the source's pixels, is made here
        if element.VR == "SQ":
            for item in element.value:
                _settle_types(item, signed=signed)
        elif "OW" in element.VR:
            element.VR = "OW"
        elif element.VR == "US or SS":
            _read_words(element, "SS" if signed else "US")


def _read_words(element: DataElement, vr: str) -> None:
    element.VR = vr
    if isinstance(element.value, bytes):
        words: Any = np.frombuffer(element.value, dtype="<i2" if vr == "SS" else "<u2").tolist()
        element.value = words[0] if len(words) == 1 else words


def _turn(dataset: Dataset) -> None:
    """Overlays, look-up tables and the like from big-endian to little-endian words; pydicom leaves them."""
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                _turn(item)
        elif (size := _WORDS.get(element.VR)) and element.value and len(element.value) % size == 0:
            element.value = np.frombuffer(element.value, dtype=f">u{size}").astype(f"<u{size}").tobytes()
