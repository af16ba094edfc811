"""An evaluation as an HTML page: which tables, which plots, which pictures."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from tatcli.intensity import Window
from tatcli.metrics import PHYSICAL_QUANTITIES
from tatcli.reporting.figures import Display, display_for
from tatcli.reporting.html_page import Comparison, Section, TableBlock, compare_slices, render, write_page
from tatcli.reporting.plots import Curve, curve_plot, distribution_plot
from tatcli.tasks import TASKS
from tatcli.workflows.evaluation.report import INPUT

if TYPE_CHECKING:
    from tatcli.metrics import Interval
    from tatcli.metrics.noise_power import NoiseSpectrum
    from tatcli.workflows.evaluation.report import EvaluateReport, MethodSummary, TaskReport

__all__ = ["html_of", "method_name", "physical_heading", "write_html"]

_REFERENCE: Final = "reference"
_INPUT: Final = "input"
_HEADINGS: Final = {
    "bias": "bias ({units})",
    "noise_ratio": "noise ratio",
    "noise_peak": "NPS peak (1/mm)",
    "noise_peak_shift": "NPS peak shift (1/mm)",
    "noise_mean": "NPS mean (1/mm)",
    "noise_mean_shift": "NPS mean shift (1/mm)",
    "edge_ratio": "edge ratio",
    "residual_structure": "residual structure",
    "suv_max_error": "SUVmax error (%)",
    "suv_peak_error": "SUVpeak error (%)",
    "suv_mean_error": "SUVmean error (%)",
}
"""Of the scores beyond the protocol, one for each of ``PHYSICAL_QUANTITIES``; ``{units}`` are the task's."""


def write_html(report: EvaluateReport, path: Path, *, title: str, command: str = "") -> None:
    """Write the page; callers check the path before the work.

    Raises:
        OutputError: the system refuses to write.
    """
    write_page(html_of(report, title=title, command=command), path)


def html_of(report: EvaluateReport, *, title: str, command: str = "") -> str:
    """The page's text.

    Args:
        report: with pictures, where they were asked for.
        title: of the page.
        command: that made the report, for the record.
    """
    facts = [
        ("tat", report.version),
        ("protocol", f"{report.protocol}: {report.protocol_summary}; {report.averaging}"),
        *((name, str(value)) for name, value in report.weights.items() if value),
        *((name.replace("_", " "), _fact(value)) for name, value in report.settings.items() if value not in (None, {})),
        *([("command", command)] if command else []),
    ]
    return render(title, [_section(task) for task in report.tasks], facts=facts)


def physical_heading(quantity: str, task: TaskReport) -> str:
    """A column's heading, for one of ``PHYSICAL_QUANTITIES``."""
    return _HEADINGS[quantity].format(units=task.units)


def method_name(method: str) -> str:
    """What readers know a method as: the LQ scan is the input."""
    return _INPUT if method == INPUT else method


def _fact(value: object) -> str:
    return ("no", "yes")[value] if isinstance(value, bool) else str(value)


def _section(task: TaskReport) -> Section:
    strength = "" if task.strength is None else f", {task.strength_name} {task.strength:g}"
    notes = [f"{scan}: {reason}" for scan, reason in task.failures.items()]
    notes += [f"{scan}: constant inside the evaluation window, left out" for scan in task.empty]
    notes += [f"{scan}: no restored scan" for scan in task.unused]
    return Section(
        title=f"{task.task}{strength}",
        tables=[table for table in (_scores(task), _physical(task), _tests(task)) if table.rows],
        plots=[*_distributions(task), *_spectra(task)],
        comparisons=list(_comparisons(task)),
        notes=notes,
    )


def _scores(task: TaskReport) -> TableBlock:
    costs = any(row.cost for row in task.methods)
    columns = ["method", "PSNR (dB)", "gain", "SSIM", f"RMSE ({task.units})", f"MAE ({task.units})", "parameter"]
    rows = []
    for row in task.methods:
        gain = "" if row.gain is None else f"{row.gain:+.2f}"
        cells = [method_name(row.method), _with(row, "psnr", 2), gain, _with(row, "ssim", 4), _with(row, "rmse", None)]
        cells += [f"{row.score.mae:.4g}", row.parameter]
        rows.append([*cells, *(_cost(row) if costs else ())])
    subjects = max((row.subjects for row in task.methods), default=0)
    caption = f"Mean over {subjects} subject{'' if subjects == 1 else 's'}"
    caption += ", 95 % bootstrap interval in brackets" if subjects > 1 else "; one subject has no interval"
    return TableBlock(caption, [*columns, *(["s/slice", "memory (MiB)"] if costs else [])], rows)


def _cost(row: MethodSummary) -> tuple[str, str]:
    if row.cost is None:
        return "", ""
    return f"{row.cost.seconds:.3g}", "" if row.cost.peak_bytes is None else f"{row.cost.peak_bytes / 2**20:.1f}"


def _with(row: MethodSummary, quantity: str, digits: int | None) -> str:
    def form(value: float) -> str:
        return f"{value:.4g}" if digits is None else f"{value:.{digits}f}"

    interval: Interval | None = row.intervals.get(quantity)
    value = form(getattr(row.score, quantity))
    return value if interval is None else f"{value} [{form(interval.lower)}, {form(interval.upper)}]"


def _physical(task: TaskReport) -> TableBlock:
    found = [name for name in PHYSICAL_QUANTITIES if any(row.physical.get(name) is not None for row in task.methods)]
    rows = [
        [method_name(row.method), *("" if (v := row.physical.get(name)) is None else f"{v:.3g}" for name in found)]
        for row in task.methods
        if row.physical
    ]
    return TableBlock("Beyond the protocol", ["method", *(physical_heading(name, task) for name in found)], rows)


def _tests(task: TaskReport) -> TableBlock:
    rows = [
        [
            f"{method_name(test.method)} − {method_name(test.other)}",
            test.quantity.upper(),
            f"{test.difference:+.4g}",
            "" if test.p is None else f"{test.p:.3g}",
            str(test.subjects),
        ]
        for test in task.tests
        if test.subjects > 1
    ]
    return TableBlock("Paired Wilcoxon tests", ["methods", "of", "difference", "p", "subjects"], rows)


def _distributions(task: TaskReport) -> list[tuple[str, str]]:
    plots = []
    for quantity, label in (("psnr", "PSNR (dB)"), ("ssim", "SSIM"), ("rmse", f"RMSE ({task.units})")):
        values = {
            method_name(row.method): [
                float(getattr(score, quantity)) for scan in task.scans for score in scan.methods[row.method].slices
            ]
            for row in task.methods
        }
        plots.append((f"{label} of slices", distribution_plot(values, label=label)))
    return plots


def _spectra(task: TaskReport) -> list[tuple[str, str]]:
    """The mean spectrum over scans, interpolated to those of the first one's frequencies that all scans have."""
    scans = [scan for scan in task.scans if scan.reference_spectrum is not None]
    if not scans:
        return []
    curves = []
    for row in task.methods:
        found = [scan.physical[row.method].spectrum for scan in scans if row.method in scan.physical]
        curves += _mean_curve(method_name(row.method), [spectrum for spectrum in found if spectrum is not None])
    curves += _mean_curve(_REFERENCE, [s.reference_spectrum for s in scans if s.reference_spectrum], dashed=True)
    label = f"NPS ({task.units}² mm²)"
    plot = curve_plot(curves, x_label="spatial frequency (cycles/mm)", y_label=label)
    return [("Noise power spectra in the reference's most uniform patches", plot)]


def _mean_curve(name: str, spectra: list[NoiseSpectrum], *, dashed: bool = False) -> list[Curve]:
    if not spectra:
        return []
    frequency = spectra[0].frequency
    frequency = frequency[
        (frequency >= max(each.frequency[0] for each in spectra))
        & (frequency <= min(each.frequency[-1] for each in spectra))
    ]
    power = np.mean([np.interp(frequency, each.frequency, each.power) for each in spectra], axis=0)
    return [Curve(name, frequency.tolist(), power.tolist(), dashed)]


def _comparisons(task: TaskReport) -> Iterable[Comparison]:
    known = TASKS[task.task]
    kinds = {row.method: row.kind for row in task.methods}
    order = sorted(kinds, key=lambda method: ("input", "classical", "network").index(kinds[method]))
    for scan in task.scans:
        for picture in scan.pictures:
            # MR has no units: the scan's own robust range, not the slice's
            own = Display(Window(*scan.window)) if known.evaluation_window is None else None
            display = own or display_for(known, picture.reference)
            images = {method_name(method): picture.images[method] for method in order if method in picture.images}
            images[_REFERENCE] = picture.reference
            yield compare_slices(
                f"{scan.name}, slice {picture.index}",
                images,
                reference=_REFERENCE,
                display=display,
                units=task.units,
                spacing=picture.spacing,
            )
