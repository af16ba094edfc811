"""``tat train plot``: a run's log as curves."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from tatcli.errors import UsageError
from tatcli.reporting.curve_picture import CurvePanel, draw_curves
from tatcli.reporting.figures import write_png
from tatcli.reporting.plots import Curve
from tatcli.training.log import read_log

__all__ = ["plot_run", "run_panels"]

PICTURE: Final = "curves.png"


def plot_run(run: Path, output: Path | None = None, *, overwrite: bool = False) -> Path:
    """Draw a run's curves; returns the PNG.

    Args:
        run: its folder.
        output: the PNG; ``run / "curves.png"`` by default.
        overwrite: whether it may exist.

    Raises:
        UsageError: no log, nothing in it yet, or an output that isn't named .png.
        OutputError: the file exists or can't be written.
    """
    panels = run_panels(read_log(run))
    if not any(curve.x for panel in panels for curve in panel.curves):
        msg = f"{run}: expected a run that has logged a step, got none yet; wait for the first --log-every steps"
        raise UsageError(msg)
    return write_png(draw_curves(panels, x_label="step"), output or run / PICTURE, overwrite=overwrite)


def run_panels(entries: list[dict[str, Any]]) -> list[CurvePanel]:
    """Errors and decibels of each task, sigma where the loss has one, and the learning rate."""
    trained = [entry for entry in entries if entry["kind"] == "train"]
    validated = [entry for entry in entries if entry["kind"] == "validation"]
    gains = [{**entry, "gain": {task: told["gain"] for task, told in entry["tasks"].items()}} for entry in validated]
    tasks = sorted({task for entry in (*trained, *gains) for name in ("l1", "gain") for task in entry.get(name, {})})
    return [
        CurvePanel("mean absolute error in training, network range", _by_task(tasks, trained, "l1"), logarithmic=True),
        CurvePanel("validation: PSNR gained, dB", _by_task(tasks, gains, "gain")),
        CurvePanel("sigma of the loss", _by_task(tasks, trained, "sigma")),
        CurvePanel("learning rate", [_curve("lr", trained, lambda entry: entry.get("lr"))]),
    ]


def _by_task(tasks: list[str], entries: list[dict[str, Any]], quantity: str) -> list[Curve]:
    """A curve for each task, one without points too: its colour is the task's in all panels."""
    return [_curve(task, entries, lambda entry, task=task: entry.get(quantity, {}).get(task)) for task in tasks]


def _curve(name: str, entries: Iterable[dict[str, Any]], value: Any) -> Curve:
    found = [(float(entry["step"]), value(entry)) for entry in entries]
    points = [(step, float(y)) for step, y in found if y is not None and math.isfinite(y)]
    return Curve(name, [step for step, _ in points], [y for _, y in points])
