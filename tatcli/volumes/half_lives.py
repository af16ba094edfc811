"""Half-lives of the nuclides that PET images.

Source: ICRP Publication 107, "Nuclear Decay Data for Dosimetric Calculations", Ann. ICRP 38 (3), 2008. The nuclides are
those of DICOM PS3.16, CID 4020 (PET Radionuclide).
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["half_life_of"]

_MINUTE, _HOUR, _DAY = 60.0, 3600.0, 86400.0
_YEAR: Final = 365.2422 * _DAY
_SECONDS: Final = {
    "C11": 20.39 * _MINUTE, "N13": 9.965 * _MINUTE, "O14": 70.606, "O15": 122.24, "F18": 109.77 * _MINUTE,
    "NA22": 2.6019 * _YEAR, "K38": 7.636 * _MINUTE, "SC43": 3.891 * _HOUR, "SC44": 3.97 * _HOUR,
    "TI45": 184.8 * _MINUTE, "MN51": 46.2 * _MINUTE, "MN52": 5.591 * _DAY, "MN52M": 21.1 * _MINUTE,
    "FE52": 8.275 * _HOUR, "CU60": 23.7 * _MINUTE, "CU61": 3.333 * _HOUR, "CU62": 9.673 * _MINUTE,
    "CU64": 12.7 * _HOUR, "ZN62": 9.186 * _HOUR, "GA66": 9.49 * _HOUR, "GA68": 67.71 * _MINUTE,
    "GE68": 270.95 * _DAY, "AS70": 52.6 * _MINUTE, "AS72": 26.0 * _HOUR, "SE73": 7.15 * _HOUR,
    "BR75": 96.7 * _MINUTE, "BR76": 16.2 * _HOUR, "BR77": 57.036 * _HOUR, "RB82": 1.273 * _MINUTE,
    "Y86": 14.74 * _HOUR, "Y90": 64.1 * _HOUR, "ZR89": 78.41 * _HOUR, "NB90": 14.6 * _HOUR, "TC94M": 52.0 * _MINUTE,
    "I124": 4.176 * _DAY, "TB152": 17.5 * _HOUR,
}  # fmt: skip
_SYMBOLS: Final = {
    "CARBON": "C", "NITROGEN": "N", "OXYGEN": "O", "FLUORINE": "F", "SODIUM": "NA", "POTASSIUM": "K",
    "SCANDIUM": "SC", "TITANIUM": "TI", "MANGANESE": "MN", "IRON": "FE", "COPPER": "CU", "ZINC": "ZN",
    "GALLIUM": "GA", "GERMANIUM": "GE", "ARSENIC": "AS", "SELENIUM": "SE", "BROMINE": "BR", "RUBIDIUM": "RB",
    "YTTRIUM": "Y", "ZIRCONIUM": "ZR", "NIOBIUM": "NB", "TECHNETIUM": "TC", "IODINE": "I", "TERBIUM": "TB",
}  # fmt: skip
_ELEMENT_FIRST: Final = re.compile(r"([A-Z]+)(\d+)(M?)")
_MASS_FIRST: Final = re.compile(r"(\d+)(M?)([A-Z]+)")
_MASS_ALONE_IS_GROUND: Final = re.compile(r"(\d+)([A-Z]+)")


def half_life_of(nuclide: str) -> float | None:
    """Seconds, or None for a nuclide that isn't in the table.

    Args:
        nuclide: in any of the usual spellings: ``F18``, ``18F``, ``[18F]``, ``F-18``, ``^18^Fluorine``, ``94mTc``.
    """
    text = re.sub(r"[^A-Z0-9]", "", nuclide.upper())
    found: list[tuple[str, str, str]] = []
    if match := _ELEMENT_FIRST.fullmatch(text):
        found.append((match[1], match[2], match[3]))
    if match := _MASS_ALONE_IS_GROUND.fullmatch(text):  # 52MN and 52MANGANESE: the M is the element's
        found.append((match[2], match[1], ""))
    if match := _MASS_FIRST.fullmatch(text):
        found.append((match[3], match[1], match[2]))
    keys = (_SYMBOLS.get(element, element) + mass + state for element, mass, state in found)
    return next((_SECONDS[key] for key in keys if key in _SECONDS), None)
