"""The panel that ``tat restore --preview`` writes: input, restored, difference, and uncertainty where it is known."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from PIL import Image

from tatcli.intensity import Window
from tatcli.reporting.figures import BACKGROUND, SIDES, Display, Panel, before_after, display_for, upright
from tatcli.reporting.html_page import difference_display, shown_difference
from tatcli.volumes.slices import plane_across
from tatcli.volumes.varying_frames import telling_frame

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tatcli.tasks import Task
    from tatcli.volumes.volume import Volume

__all__ = ["preview"]

_BRIGHTEST: Final = 99.5


def preview(
    before: Volume,
    after: Volume,
    task: Task,
    *,
    axis: int,
    uncertainty: Volume | None = None,
    height: int = 512,
) -> Image.Image:
    """The middle slice of the first frame that isn't empty: before, after, difference, each upright under its title.

    Letters say what lies at a picture's left and upper edge, a title which slice it is (counted from 1 as stored).
    Where the source doesn't say how the patient lies, there are no letters, and the plane has no name.

    Args:
        before: the input, on the restored scan's grid.
        after: restored.
        task: decides the display window (CT [-160, 240] HU, PET inverted [0, 5] SUV, MR its robust range).
        axis: that was sliced through.
        uncertainty: the spread's map, shown from 0 to the slice's 99.5th percentile.
        height: of each picture, pixels.
    """
    number = telling_frame(before)
    old, new = (list(volume.iter_frames())[number] for volume in (before, after))
    display = display_for(task, old)
    half = difference_display(display)
    count = after.geometry.shape[axis]
    index = count // 2
    plane = plane_across(after.geometry, axis) if before.provenance.oriented else "slice"

    def panel(title: str, frame: NDArray[np.floating[Any]]) -> Panel:
        image, spacing = upright(frame, after.geometry, axis=axis, index=index)
        return Panel(title, image, spacing, SIDES.get(plane, ("", "")))

    shown = display.window
    window = f"[{shown.lower:.4g}, {shown.upper:.4g}] {task.units}"
    left, right = panel(f"input\n{window}", old), panel(f"restored\n{plane}, {index + 1} of {count}", new)
    change = replace(
        right,
        title=f"restored - input\n±{half.window.upper:.3g} {task.units}",
        image=shown_difference(right.image, left.image),
    )
    sheets = [before_after([left, right], display, height=height), before_after([change], half, height=height)]
    if uncertainty is not None:
        spread = panel("", list(uncertainty.iter_frames())[number])
        known = spread.image[np.isfinite(spread.image)]
        top = float(np.percentile(known, _BRIGHTEST)) if known.size else 0.0
        scale = Display(Window(0.0, top if top > 0.0 else half.window.upper))
        title = f"uncertainty\n[0, {scale.window.upper:.3g}] {task.units}"
        sheets.append(before_after([replace(spread, title=title)], scale, height=height))
    return _side_by_side(sheets)


def _side_by_side(sheets: list[Image.Image]) -> Image.Image:
    whole = Image.new("L", (sum(sheet.width for sheet in sheets), max(sheet.height for sheet in sheets)), BACKGROUND)
    left = 0
    for sheet in sheets:
        whole.paste(sheet, (left, 0))
        left += sheet.width
    return whole
