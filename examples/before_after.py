#!/usr/bin/env python3
"""Draw the same slice of several scans side by side, in the customary window of their task.

Usage: python examples/before_after.py OUTPUT.png --task TASK TITLE=SCAN [TITLE=SCAN ...]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from tatcli import read_volume
from tatcli.reporting.figures import Panel, before_after, display_for, upright, write_png
from tatcli.tasks import find_task
from tatcli.volumes import Volume, through_plane_axis


def panel(title: str, volume: Volume, *, index: int | None, crop: tuple[int, int, int, int] | None) -> Panel:
    """One slice of a scan, upright; by default the middle one."""
    axis = through_plane_axis(volume.geometry, "auto")
    frame = next(volume.iter_frames())
    middle = frame.shape[axis] // 2
    image, spacing = upright(frame, volume.geometry, axis=axis, index=middle if index is None else index)
    if crop is not None:
        top, left, rows, columns = crop
        image = image[top : top + rows, left : left + columns]
    return Panel(title, image, spacing)


def main() -> None:
    """Read, draw, write."""
    parser = argparse.ArgumentParser(description="Draw the same slice of several scans side by side.")
    parser.add_argument("output", type=Path, help="PNG file; an existing one is replaced")
    parser.add_argument("scans", nargs="+", metavar="TITLE=SCAN", help="\\n in a title starts a second line")
    parser.add_argument("--task", required=True, help="decides the window: ct-denoise, pet-synthesis or mri-sr")
    parser.add_argument("--slice", type=int, help="which slice; default: the middle one")
    parser.add_argument(
        "--crop", type=int, nargs=4, metavar=("TOP", "LEFT", "ROWS", "COLUMNS"), help="show only this part"
    )
    parser.add_argument("--height", type=int, default=512, help="of each picture, pixels (default: 512)")
    arguments = parser.parse_args()
    pairs = [scan.split("=", 1) for scan in arguments.scans]
    volumes = [(title.replace("\\n", "\n"), read_volume(path)) for title, path in pairs]
    panels = [panel(title, volume, index=arguments.slice, crop=arguments.crop) for title, volume in volumes]
    reference = panels[-1].image  # MR's window follows the last scan, so put the reference or the best one there
    display = display_for(find_task(arguments.task), np.asarray(reference))
    write_png(before_after(panels, display, height=arguments.height), arguments.output, overwrite=True)


if __name__ == "__main__":
    main()
