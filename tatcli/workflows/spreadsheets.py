"""Tables that people open with a spreadsheet program, which takes cells for formulas that begin like one."""

from __future__ import annotations

from typing import Any, Final

__all__ = ["as_text"]

_LIKE_FORMULAS: Final = ("=", "+", "-", "@", "\t", "\r")


def as_text(cell: Any) -> Any:
    """A cell as it is, but for text that would be run as a formula: an apostrophe, as spreadsheets have it, goes first.

    Names of files and series, and messages that quote them, come from whoever made the scan.
    """
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(_LIKE_FORMULAS) else cell
