"""An evaluation's tables in the terminal, and the files that ``tat evaluate`` and ``tat benchmark quality`` write."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tatcli.cli import console
from tatcli.errors import PartialFailure, UsageError, some_of

if TYPE_CHECKING:
    from tatcli.workflows.evaluation.report import EvaluateReport, MethodSummary, TaskReport

__all__ = ["DEFAULT_SLICES", "EvaluationOutputs", "end_with_failures", "pictured_slices", "show_task"]

DEFAULT_SLICES: Final = 1
"""Of each scan, that the page shows."""

_PHYSICAL: Final = (
    "bias",
    "noise_ratio",
    "noise_mean_shift",
    "noise_peak_shift",
    "edge_ratio",
    "residual_structure",
    "suv_max_error",
    "suv_peak_error",
    "suv_mean_error",
)
"""Scores beyond the protocol that the terminal has room for."""


@dataclass(frozen=True, kw_only=True)
class EvaluationOutputs:
    """Where results go beside the terminal.

    Attributes:
        json: a file, or ``-`` for stdout, where the tables then don't go.
        csv: a folder.
        html: a file.
    """

    json: Path | None = None
    csv: Path | None = None
    html: Path | None = None

    @property
    def on_stdout(self) -> bool:
        """Whether stdout is the JSON's."""
        return console.is_stdout(self.json)

    def check(self, *, sources: Iterable[Path | None] = (), overwrite: bool) -> None:
        """Refuse what can't be written before the work.

        Args:
            sources: what is scored: scans, folders.
            overwrite: whether existing outputs may be replaced.

        Raises:
            OutputError: an output exists (unless ``overwrite``), is one of the sources, or can't be written.
        """
        from tatcli.workflows.evaluation.tables import check_csv_folder
        from tatcli.workflows.output_checks import check_results

        files = tuple(filter(None, (None if self.on_stdout else self.json, self.html)))
        check_results(files, sources=filter(None, sources), overwrite=overwrite)
        if self.csv is not None:
            check_csv_folder(self.csv, overwrite=overwrite, beside=files)

    def write(self, report: EvaluateReport, *, title: str) -> None:
        """Write everything that was asked for.

        Raises:
            OutputError: the system refuses.
        """
        console.give_json(report, self.json)
        if self.csv is not None:
            from tatcli.workflows.evaluation.tables import write_csv

            write_csv(report, self.csv)
        if self.html is not None:
            from tatcli.workflows.evaluation.page import write_html

            write_html(report, self.html, title=title, command=console.command_line())


def pictured_slices(asked: int, html: Path | None) -> int:
    """How many slices of each scan are kept for the page.

    Raises:
        UsageError: a number of them, and no page.
    """
    if html is None and asked != DEFAULT_SLICES:
        msg = "--html-slices: expected together with --html; leave it out, or name the page"
        raise UsageError(msg)
    return asked if html is not None else 0


def show_task(task: TaskReport, protocol: str) -> None:
    """A task's tables: the protocol's scores, what lies beyond them, paired tests."""
    from tatcli.workflows.evaluation.page import method_name, physical_heading

    if not task.methods:
        return
    subjects = max(row.subjects for row in task.methods)
    strength = "" if task.strength is None else f", {task.strength_name} {task.strength:g}"
    title = f"{task.task}{strength}: {_count(len(task.scored), 'scan')} of {_count(subjects, 'subject')}, "
    title += f"protocol {protocol}"
    costs = any(row.cost is not None for row in task.methods)
    columns: tuple[str, ...] = (
        "method",
        "PSNR (dB)",
        "gain",
        "SSIM",
        f"RMSE ({task.units})",
        f"MAE ({task.units})",
        "parameter",
    )
    rows: list[tuple[str, ...]] = [(method_name(row.method), *_row(row)) for row in task.methods]
    if costs:
        columns = (*columns, "s/slice", "memory")
        rows = [(*cells, *_cost(row)) for cells, row in zip(rows, task.methods, strict=True)]
    console.table(columns, rows, title=title + (", with 95 % intervals over subjects" if subjects > 1 else ""))
    shown = [name for name in _PHYSICAL if any(row.physical.get(name) is not None for row in task.methods)]
    if shown:
        beyond = [
            (method_name(row.method), *(_number(row.physical.get(name)) for name in shown)) for row in task.methods
        ]
        headings = [physical_heading(name, task) for name in shown]
        console.table(("method", *headings), beyond, title=f"{task.task}: beyond the protocol")
    tests = [test for test in task.tests if test.quantity == "psnr" and test.subjects > 1]
    if tests:
        paired = [
            (
                f"{method_name(test.method)} - {method_name(test.other)}",
                f"{test.difference:+.2f}",
                "" if test.p is None else f"{test.p:.3g}",
            )
            for test in tests
        ]
        console.table(
            ("PSNR of", "difference (dB)", "p"), paired, title=f"{task.task}: paired Wilcoxon test, {subjects} subjects"
        )


def end_with_failures(report: EvaluateReport) -> None:
    """Say what could not be scored, or not be tuned far enough.

    Raises:
        PartialFailure: there is such a scan, or a task without any other.
    """
    split = report.settings.get("tune_split")
    if split is not None and split == report.settings.get("split") and any(task.tuning for task in report.tasks):
        told = "the classical filters were tuned on the very scans that are scored, so that their scores flatter them"
        console.warn(f"split {split}: {told}; name another --tune-split")
    for task in report.tasks:
        if task.unused:
            told = "without a restored scan"
            console.warn(f"{task.task}: {_count(len(task.unused), 'reference')} {told}: {some_of(task.unused)}")
        if task.empty:
            told = "constant inside the evaluation window, not scored"
            console.warn(f"{task.task}: {_count(len(task.empty), 'scan')} {told}: {some_of(task.empty)}")
        strongest = [name for name, found in task.tuning.items() if _at_the_upper_end(found)]
        if strongest:
            told = "best at the strongest setting that was tried, a stronger one may be better"
            console.warn(f"{task.task}: {', '.join(strongest)}: {told}")
    for name, reason in report.failures.items():
        console.warn(f"{name}: {reason}")
    if report.failures:
        scans = sum(len(task.scans) + len(task.constant) + len(task.failures) for task in report.tasks)
        msg = f"{len(report.failures)} of {scans} scans could not be evaluated"
        raise PartialFailure(msg)
    bare = ", ".join(task.task for task in report.tasks if not task.methods)
    if bare:
        msg = f"{bare}: expected scans that can be evaluated, got constant ones only"
        raise PartialFailure(msg)


def _at_the_upper_end(tuning: Mapping[str, Any]) -> bool:
    """At the lower end the next weaker setting is next to none."""
    return bool(tuning["at_grid_edge"]) and tuning["grid"][-1]["parameter"] == tuning["parameter"]


def _row(method: MethodSummary) -> tuple[str, ...]:
    score = method.score
    gain = "" if method.gain is None else f"{method.gain:+.2f}"
    numbers = (
        _with_interval(method, "psnr", lambda value: f"{value:.2f}"),
        gain,
        _with_interval(method, "ssim", lambda value: f"{value:.4f}"),
        f"{score.rmse:.4g}",
        f"{score.mae:.4g}",
    )
    return (*numbers, method.parameter)


def _with_interval(method: MethodSummary, quantity: str, form: Callable[[float], str]) -> str:
    interval = method.intervals.get(quantity)
    value = form(getattr(method.score, quantity))
    return value if interval is None else f"{value} [{form(interval.lower)}, {form(interval.upper)}]"


def _cost(method: MethodSummary) -> tuple[str, str]:
    if method.cost is None:
        return "", ""
    peak = method.cost.peak_bytes
    return f"{method.cost.seconds:.3g}", "" if peak is None else f"{peak / 2**20:.1f} MiB"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
