"""What a derived series is called: its number and description, and the character set that its texts are written in."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from tatcli.volumes.dicom_images import text_of
from tatcli.volumes.dicom_options import GREATEST_NUMBER, LEAST_NUMBER, DicomOptions

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

__all__ = ["fit_character_set", "name_series"]

_LONGEST_DESCRIPTION: Final = 64
_NUMBER_OFFSET: Final = 1000
_UTF_8: Final = "ISO_IR 192"


def name_series(dataset: Dataset, options: DicomOptions) -> None:
    """Number and description of the new series, by the source's: 1000 further, or before where there is no room."""
    description = text_of(dataset, "SeriesDescription")
    kept = description[: max(0, _LONGEST_DESCRIPTION - len(options.suffix))]
    dataset.SeriesDescription = f"{kept}{options.suffix}".strip()[:_LONGEST_DESCRIPTION]
    number = options.series_number
    if number is None:
        number = _NUMBER_OFFSET
        with suppress(TypeError, ValueError, OverflowError):
            source = int(dataset.get("SeriesNumber"))
            further = source + (_NUMBER_OFFSET if source <= GREATEST_NUMBER - _NUMBER_OFFSET else -_NUMBER_OFFSET)
            number = further if LEAST_NUMBER <= further <= GREATEST_NUMBER else number
    dataset.SeriesNumber = number


def fit_character_set(dataset: Dataset, texts: Iterable[str]) -> None:
    """Bring all texts to UTF-8 where the source's character set can't hold the new ones (PS3.3 C.12.1.1.2).

    What the source wrote in another set than it names (local bytes under none at all) is left to it, byte by byte.

    Args:
        dataset: with its new description; is changed, its sequences' items included.
        texts: what was or will be added.
    """
    from pydicom.charset import convert_encodings

    encodings = convert_encodings(dataset.get("SpecificCharacterSet"))
    if all(_fits(text, encodings) for text in texts) and _comes_back(text_of(dataset, "SeriesDescription"), encodings):
        return
    dataset.decode()  # by the old set, or by that of an item
    _declare(dataset)
    dataset.SpecificCharacterSet = _UTF_8


def _fits(text: str, encodings: list[str]) -> bool:
    """Whether pydicom writes a text so that it reads it again, without the bytes beyond ASCII that it is lax about."""
    from pydicom.charset import default_encoding

    if text.isascii():
        return True
    strict = [encoding for encoding in encodings if encoding != default_encoding]
    return any(_is_encodable(text, encoding) for encoding in strict) and _comes_back(text, encodings)


def _comes_back(text: str, encodings: list[str]) -> bool:
    """Whether pydicom reads what it writes of a text."""
    from pydicom.charset import decode_bytes, encode_string

    return decode_bytes(encode_string(text, encodings), encodings, set()) == text


def _is_encodable(text: str, encoding: str) -> bool:
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def _declare(dataset: Dataset) -> None:
    """The new set in the place of every one that is named."""
    if "SpecificCharacterSet" in dataset:
        dataset.SpecificCharacterSet = _UTF_8
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                _declare(item)
