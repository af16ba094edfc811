"""Before/after figures: slices the right way up, in a modality's customary window, side by side in one PNG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from tatcli.errors import UsageError
from tatcli.intensity import Window
from tatcli.tasks import Task
from tatcli.volumes.geometry import Geometry
from tatcli.volumes.replacing import checked_output, replaced

__all__ = ["SIDES", "Display", "Panel", "before_after", "check_png", "display_for", "upright", "write_png"]

SUV_WINDOW: Final = Window(0.0, 5.0)
"""The customary window of whole-body FDG PET, shown on an inverted grey scale."""

MR_PERCENTILE: Final = 99.5
GAP: Final = 8
BACKGROUND: Final = 255
INK: Final = 0
EDGE: Final = 200
"""Grey of the frame around a picture: an inverted one is as white as the sheet."""
SIDES: Final = {"axial": ("R", "A"), "coronal": ("R", "S"), "sagittal": ("A", "S")}
"""What lies at the left and the upper edge of an upright picture (right, anterior, superior), by its plane."""
_WIDEST: Final = 4
"""A picture's width over the figure's height, at most."""


@dataclass(frozen=True)
class Display:
    """How values become greys: the window's lower end is black, its upper end white; ``inverted`` swaps them."""

    window: Window
    inverted: bool = False

    def to_grey(self, image: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
        """Physical values -> 0..255. NaN is shown as the lower end."""
        finite = np.nan_to_num(image, nan=self.window.lower, posinf=self.window.upper, neginf=self.window.lower)
        share = self.window.normalise(self.window.clip(np.asarray(finite, dtype=np.float64)))
        return np.rint(255.0 * (1.0 - share if self.inverted else share)).astype(np.uint8)


@dataclass(frozen=True, eq=False)
class Panel:
    """One picture of a figure.

    Attributes:
        title: text above it; a line feed starts a second line.
        image: (rows, columns), physical units, already upright (see :func:`upright`).
        spacing: (row, column) pixel size in mm; unequal sizes are resampled to square pixels.
        sides: letters inside the picture's left and upper edge, as viewers show what lies there (``R``, ``A`` ...).
    """

    title: str
    image: NDArray[np.floating[Any]]
    spacing: tuple[float, float] = (1.0, 1.0)
    sides: tuple[str, str] = ("", "")


def display_for(task: Task, values: NDArray[np.floating[Any]]) -> Display:
    """The customary display of a task's scans.

    CT: its evaluation window (soft tissue, [-160, 240] HU). PET: SUV 0 to 5, inverted. MR has no
    units, so the scan's own 99.5th percentile of positive voxels becomes white.

    Args:
        task: the scan's task.
        values: the reference's (or input's) voxels; only MR looks at them.
    """
    if task.modality == "PT":
        return Display(SUV_WINDOW, inverted=True)
    if task.evaluation_window is not None:
        return Display(task.evaluation_window)
    positive = values[np.isfinite(values) & (values > 0)]
    return Display(Window(0.0, float(np.percentile(positive, MR_PERCENTILE)) if positive.size else 1.0))


def upright(
    frame: NDArray[np.floating[Any]], geometry: Geometry, *, axis: int, index: int
) -> tuple[NDArray[np.floating[Any]], tuple[float, float]]:
    """One slice as radiologists look at it, whatever the scan's orientation.

    Axial: anterior above, the patient's left at the viewer's right. Coronal: superior above, left at
    the right. Sagittal: superior above, anterior at the left. Oblique grids: the closest of the three.

    Args:
        frame: (slices, rows, columns) of one frame.
        geometry: its grid.
        axis: array axis that is stacked through the wanted plane (see ``tatcli.volumes.slices``).
        index: which slice along it.

    Returns:
        The (rows, columns) image, a view, and its (row, column) spacing in mm.
    """
    array_axis = geometry.anatomical_axes  # for LPS x, y, z: the array axis along it
    through = array_axis.index(axis)
    down, right = {2: (1, 0), 1: (2, 0), 0: (2, 1)}[through]  # LPS axes of the picture's rows and columns
    plane = np.moveaxis(frame, [axis, array_axis[down], array_axis[right]], [0, 1, 2])[index]
    direction = geometry.direction  # columns: index axes (column, row, slice), that is array axes 2, 1, 0
    ascending = [bool(direction[lps, 2 - array_axis[lps]] > 0) for lps in (down, right)]
    if down == 2:
        ascending[0] = not ascending[0]  # superior is up, and rows run downwards
    rows, columns = (slice(None) if forward else slice(None, None, -1) for forward in ascending)
    return plane[rows, columns], (geometry.spacing[array_axis[down]], geometry.spacing[array_axis[right]])


def before_after(panels: Sequence[Panel], display: Display, *, height: int = 512) -> Image.Image:
    """Panels side by side under their titles, all with the same grey scale.

    Args:
        panels: at least one.
        display: window and polarity, shared, so that the panels can be compared.
        height: of each picture in pixels; the width follows from the panel's spacing. A picture wider than four times
            this is less high instead; a title wider than its picture gets the room that it takes.

    Raises:
        ValueError: no panels, or an image that is not 2-D.
    """
    if not panels:
        msg = "figure: expected at least one panel, got none"
        raise ValueError(msg)
    pictures = [_picture(panel, display, height) for panel in panels]
    font_size = max(12, height // 24)
    font = ImageFont.load_default(size=font_size)
    titles = [panel.title.split("\n") for panel in panels]
    top = GAP + max(map(len, titles)) * (font_size * 5 // 4) + GAP
    widths = [
        max(picture.width, *(math.ceil(font.getlength(line)) for line in lines))
        for picture, lines in zip(pictures, titles, strict=True)
    ]
    size = (GAP + sum(width + GAP for width in widths), top + max(picture.height for picture in pictures) + GAP)
    sheet = Image.new("L", size, BACKGROUND)
    pen = ImageDraw.Draw(sheet)
    left = GAP
    for panel, picture, width in zip(panels, pictures, widths, strict=True):
        pen.multiline_text((left, GAP), panel.title, fill=INK, font=font)
        pen.rectangle((left - 1, top - 1, left + picture.width, top + picture.height), outline=EDGE)
        sheet.paste(picture, (left, top))
        for letter, place, anchor in zip(
            panel.sides, ((GAP, picture.height // 2), (picture.width // 2, GAP)), ("lm", "mt"), strict=True
        ):
            at = (left + place[0], top + place[1])
            pen.text(at, letter, fill=255, font=font, anchor=anchor, stroke_width=2, stroke_fill=0)
        left += width + GAP
    return sheet


def write_png(image: Image.Image, path: Path | str, *, overwrite: bool = False) -> Path:
    """Write a figure as PNG; the file appears under its name only when it is complete.

    Raises:
        UsageError: a name for something else.
        OutputError: the file exists and ``overwrite`` is off, or its folder can't be written.
    """
    path = Path(path)
    check_png(path, overwrite=overwrite)
    with replaced(path, extension=".png") as temporary:
        image.save(temporary, format="PNG")  # smaller by 1 to 3 % at its best, in four times the time
    return path


def check_png(path: Path, *, overwrite: bool) -> None:
    """Refuse a picture's name before the work.

    Raises:
        UsageError: a name for something else.
        OutputError: the file exists and ``overwrite`` is off, or its folder can't be written.
    """
    if path.suffix.lower() != ".png":
        msg = f"{path}: expected a name ending in .png"
        raise UsageError(msg)
    checked_output(path, source=None, overwrite=overwrite)


def _picture(panel: Panel, display: Display, height: int) -> Image.Image:
    """The panel's greys at the wanted height, or less where that makes it too wide, with square pixels."""
    if panel.image.ndim != 2:
        msg = f"figure: expected a 2-D image for panel {panel.title!r}, got shape {panel.image.shape}"
        raise ValueError(msg)
    rows, columns = panel.image.shape
    aspect = columns * panel.spacing[1] / (rows * panel.spacing[0])
    width = max(1, round(height * min(aspect, _WIDEST)))
    size = (width, height if aspect <= _WIDEST else max(1, round(width / aspect)))
    grey = Image.fromarray(display.to_grey(panel.image))
    return grey if grey.size == size else grey.resize(size, Image.Resampling.BICUBIC)
