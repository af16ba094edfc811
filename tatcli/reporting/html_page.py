"""One self-contained HTML page: tables, plots, pictures and a before/after slider. It loads no outside resource.

The page forbids itself to load anything (Content-Security-Policy), so it can be mailed or kept with the results.
Pictures are 8-bit PNG in the display windows that the field uses; scores are never computed from them.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from PIL import Image

from tatcli.intensity import Window
from tatcli.reporting.figures import Display
from tatcli.volumes.replacing import replaced

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "Comparison",
    "Picture",
    "Section",
    "TableBlock",
    "compare_slices",
    "difference_display",
    "render",
    "shown_difference",
    "write_page",
]

_LONGEST: Final = 512
"""Pixels of a picture's longer side; smaller slices are enlarged without smoothing by the browser."""
_TEMPLATES: Final = Path(__file__).with_name("templates")


@dataclass(frozen=True)
class TableBlock:
    """A table.

    Attributes:
        caption: above it.
        columns: headings.
        rows: text cells; the first is the row's name.
    """

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Picture:
    """An image as a data URI, with its size on the page in CSS pixels."""

    title: str
    source: str
    width: int
    height: int


@dataclass(frozen=True)
class Comparison:
    """One slice: pictures side by side, and a slider between any two of them.

    Attributes:
        title: scan and slice.
        legend: display window and difference window, in words.
        pictures: input, restored ones, reference.
        differences: of each but the reference, minus the reference.
        left, right: indices of the pictures that the slider starts with.
    """

    title: str
    legend: str
    pictures: Sequence[Picture]
    differences: Sequence[Picture]
    left: int
    right: int


@dataclass(frozen=True)
class Section:
    """One task.

    Attributes:
        title: its name and what was evaluated.
        tables: in order.
        plots: (caption, SVG), in order.
        comparisons: pictured slices.
        notes: failures and the like, one line each.
    """

    title: str
    tables: Sequence[TableBlock]
    plots: Sequence[tuple[str, str]]
    comparisons: Sequence[Comparison]
    notes: Sequence[str] = ()


def compare_slices(
    title: str,
    images: Mapping[str, NDArray[np.floating[Any]]],
    *,
    reference: str,
    display: Display,
    units: str,
    spacing: tuple[float, float] = (1.0, 1.0),
) -> Comparison:
    """Pictures of one slice by every method.

    Args:
        title: scan and slice.
        images: name -> (rows, columns), upright, physical units; in the order of display. The slider starts between
            the first and the first network's, that is the last but the reference.
        reference: which of them the differences are taken from.
        display: window and polarity of the pictures.
        units: for the legend.
        spacing: (row, column), mm; pixels become square on the page.
    """
    window = difference_display(display)
    names = list(images)
    truth = images[reference]
    others = [name for name in names if name != reference]
    differences = [
        _picture(f"{name} − {reference}", shown_difference(images[name], truth), window, spacing) for name in others
    ]
    shown = display.window
    polarity = ", inverted grey" if display.inverted else ""
    half = window.window.upper
    legend = (
        f"window [{shown.lower:.4g}, {shown.upper:.4g}] {units}{polarity}; differences ±{half:.3g} {units}, grey is 0"
    )
    return Comparison(
        title,
        legend,
        [_picture(name, image, display, spacing) for name, image in images.items()],
        differences,
        left=0,
        right=names.index(others[-1]),
    )


def difference_display(display: Display) -> Display:
    """A grey scale around 0, a quarter of the display window to both sides."""
    half = 0.25 * display.window.width
    return Display(Window(-half, half))


def shown_difference(image: NDArray[np.floating[Any]], base: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    """The image less its base, for a picture: none where a voxel is no number (padding), which would be black."""
    with np.errstate(invalid="ignore"):  # infinity less infinity
        difference = np.subtract(image, base)
    return np.where(np.isnan(difference), 0.0, difference)


def render(title: str, sections: Sequence[Section], *, facts: Sequence[tuple[str, str]]) -> str:
    """The page's text.

    Args:
        title: of the page.
        sections: one for each task.
        facts: (name, value) pairs at the top: version, protocol, command, weights.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("evaluation.html.j2").render(title=title, sections=sections, facts=facts)


def write_page(text: str, path: Path) -> None:
    """Write a page whole or not at all; callers check the path before the work.

    Raises:
        OutputError: the system refuses to write.
    """
    with replaced(path, extension=".html") as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")  # names need not be UTF-8


def _picture(title: str, image: NDArray[np.floating[Any]], display: Display, spacing: tuple[float, float]) -> Picture:
    """Stored at the slice's own resolution (at most 512 pixels a side), shown with square pixels."""
    grey = Image.fromarray(display.to_grey(image))
    if max(grey.size) > _LONGEST:
        factor = _LONGEST / max(grey.size)
        size = (max(1, round(grey.width * factor)), max(1, round(grey.height * factor)))
        grey = grey.resize(size, Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    grey.save(stream, format="PNG")
    rows, columns = image.shape
    high, wide = rows * spacing[0], columns * spacing[1]
    scale = _LONGEST / max(high, wide)
    data = base64.b64encode(stream.getvalue()).decode("ascii")
    return Picture(title, f"data:image/png;base64,{data}", max(1, round(wide * scale)), max(1, round(high * scale)))
