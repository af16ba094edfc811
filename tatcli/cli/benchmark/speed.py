"""``tat benchmark speed``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tatcli.cli import console
from tatcli.cli.benchmark.measuring import JsonOption, measure
from tatcli.cli.options import (
    CompileOption,
    DeviceOption,
    OverwriteOption,
    QuietOption,
    ThreadsOption,
    completes,
    parse_list,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tatcli.workflows.benchmark.comparison import Ratio
    from tatcli.workflows.benchmark.speed import SpeedReport, SpeedResult

__all__ = ["speed"]

_CASE = ("preset", "size", "batch", "precision")


def speed(
    preset: Annotated[str, typer.Option(metavar="NAME,...", help="Networks.")] = "tat-small,tat-base",
    sizes: Annotated[str, typer.Option(metavar="N,...", help="Sides of square slices, pixels.")] = "128,256,512",
    precision: Annotated[
        str,
        typer.Option(
            metavar="fp32|bf16|fp16|auto,...",
            autocompletion=completes("fp32", "bf16", "fp16", "auto"),
            help="What the network computes in.",
        ),
    ] = "fp32,bf16",
    batch: Annotated[str, typer.Option(metavar="N,...", help="Slices at a time.")] = "1",
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    compile_: CompileOption = False,
    repeats: Annotated[int, typer.Option(metavar="N", help="Timings of each case.")] = 5,
    json: JsonOption = None,
    compare: Annotated[
        Path | None, typer.Option(metavar="FILE", show_default=False, help="An earlier --json file to compare with.")
    ] = None,
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
) -> None:
    """Slices per second, rate, memory and start-up of a network.

    The machine's peak is measured in the same run. Rates are nominal: what the network's definition asks for, over the
    time that it took. Each case runs in a process of its own.
    """
    from tatcli.workflows.benchmark.comparison import compare_results, read_results
    from tatcli.workflows.benchmark.speed import SpeedConfig, benchmark_speed

    config = SpeedConfig(
        presets=parse_list("--preset", preset, str),
        sizes=parse_list("--sizes", sizes, int),
        batches=parse_list("--batch", batch, int),
        precisions=parse_list("--precision", precision, str),
        device=device,
        threads=threads,
        compiled=compile_,
        repeats=repeats,
    )
    before = [] if compare is None else read_results(compare)

    def show(report: SpeedReport) -> None:
        _show(report)
        if compare is None:
            return
        ratios = compare_results(report.results, before)
        console.table((*_CASE, "slices/s", "of the peak", "memory"), map(_ratio_row, ratios), title=f"over {compare}")
        if not ratios:
            console.warn(f"{compare}: no case in common")

    measure(
        lambda progress: benchmark_speed(config, progress=progress),
        show=show,
        json=json,
        overwrite=overwrite,
        quiet=quiet,
    )


def _show(report: SpeedReport) -> None:
    machine = report.machine
    peaks = [
        (name, f"{peak.matrix_product:.0f}", f"{peak.convolution_1x1:.0f}", f"{peak.gflops:.0f}")
        for name, peak in report.peaks.items()
    ]
    title = f"{machine.processor} ({machine.capability}), {machine.threads} threads, {machine.device}: "
    console.table(
        ("precision", "matrix product", "1x1 convolution", "peak (GFLOP/s)"),
        peaks,
        title=f"{title}copies {report.copy_bytes_per_s / 1e9:.1f} GB/s",
    )
    columns = (*_CASE, "slices/s", "min - max", "GFLOP/s", "of the peak", "memory (MiB)", "start-up (s)")
    console.table(columns, map(_row, report.results), title=f"median of {report.repeats}; GFLOP are nominal")
    console.table((*_CASE, *_kinds(report.results)), _breakdown_rows(report.results), title="% of a pass")


def _case(case: SpeedResult | Ratio) -> tuple[str, ...]:
    return case.preset, f"{case.size}x{case.size}", str(case.batch), case.precision


def _row(result: SpeedResult) -> tuple[str, ...]:
    startup = result.startup_seconds
    return (
        *_case(result),
        f"{result.slices_per_s:.3g}",
        f"{result.slices_per_s_min:.3g} - {result.slices_per_s_max:.3g}",
        f"{result.nominal_gflops:.3g}",
        f"{result.fraction_of_peak:.3f}",
        "" if result.peak_rss_bytes is None else f"{result.peak_rss_bytes / 2**20:.0f}",
        " + ".join(f"{startup[part]:.2f}" for part in ("import", "weights", "first_slice")),
    )


def _kinds(results: Iterable[SpeedResult]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(kind for result in results for kind in result.breakdown))


def _breakdown_rows(results: Sequence[SpeedResult]) -> list[tuple[str, ...]]:
    kinds = _kinds(results)
    return [(*_case(result), *(f"{100 * result.breakdown.get(kind, 0.0):.0f}" for kind in kinds)) for result in results]


def _ratio_row(ratio: Ratio) -> tuple[str, ...]:
    numbers = (ratio.slices_per_s, ratio.fraction_of_peak, ratio.peak_rss_bytes)
    return (*_case(ratio), *("" if number is None else f"{number:.3f}" for number in numbers))
