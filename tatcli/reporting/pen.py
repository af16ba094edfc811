"""A sheet to draw on with Pillow: drawn twice as large and reduced, which smooths lines and letters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from PIL import Image, ImageDraw, ImageFont

__all__ = ["FONT", "GRID", "Pen"]

FONT: Final = 13
"""Height of letters, pixels."""
GRID: Final = "#dddddd"
_SCALE: Final = 2
_INK: Final = "#222222"


class Pen:
    """Draws in pixels of the finished sheet, from its upper left corner.

    Args:
        width, height: of the sheet.
    """

    def __init__(self, width: int, height: int) -> None:
        self._sheet = Image.new("RGB", (_SCALE * width, _SCALE * height), "white")
        self._draw = ImageDraw.Draw(self._sheet)

    def line(self, points: Sequence[tuple[float, float]], colour: str = GRID, *, width: int = 1) -> None:
        """A line through these points."""
        self._draw.line(_scaled(points), fill=colour, width=width * _SCALE, joint="curve")

    def dot(self, x: float, y: float, colour: str, *, radius: float = 2.5, hollow: bool = False) -> None:
        """A disc, or a circle."""
        corners = _scaled([(x - radius, y - radius), (x + radius, y + radius)])
        self._draw.ellipse(corners, fill=None if hollow else colour, outline=colour, width=_SCALE)

    def write(self, x: float, y: float, words: str, *, anchor: str) -> None:
        """One line of text; the anchor is Pillow's (``lm``: the left end's middle)."""
        font = ImageFont.load_default(size=FONT * _SCALE)
        self._draw.text((x * _SCALE, y * _SCALE), words, fill=_INK, font=font, anchor=anchor)

    def finished(self) -> Image.Image:
        """The sheet."""
        sheet = self._sheet
        return sheet.resize((sheet.width // _SCALE, sheet.height // _SCALE), Image.Resampling.LANCZOS)


def _scaled(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    return [(x * _SCALE, y * _SCALE) for x, y in points]
