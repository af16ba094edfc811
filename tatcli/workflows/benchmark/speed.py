"""``tat benchmark speed``: how fast the network restores slices here, as a fraction of what the machine can do."""

from __future__ import annotations

import math
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tatcli.errors import UsageError, WeightsError
from tatcli.workflows.benchmark.fresh import measure_afresh

if TYPE_CHECKING:
    from tatcli.workflows.benchmark.machine import Machine, Peak

__all__ = ["SpeedConfig", "SpeedReport", "SpeedResult", "benchmark_speed", "result_of", "weights_for"]

_SMALLEST: Final = 8


@dataclass(frozen=True, kw_only=True)
class SpeedConfig:
    """Options of ``tat benchmark speed``; every combination of presets, sizes, batches and precisions is one case.

    Attributes:
        presets: of the network; with the installed weights of that name, else with random ones.
        sizes: sides of the square slices, pixels.
        batches: slices in one pass.
        precisions: ``fp32``, ``bf16``, ``fp16`` or ``auto``.
        device, threads: of the machine.
        compiled: the networks through PyTorch's compiler, on a CUDA device.
        repeats: how often each case is timed, after some passes to warm up.
    """

    presets: tuple[str, ...] = ("tat-small", "tat-base")
    sizes: tuple[int, ...] = (128, 256, 512)
    batches: tuple[int, ...] = (1,)
    precisions: tuple[str, ...] = ("fp32", "bf16")
    device: str = "auto"
    threads: int | None = None
    compiled: bool = False
    repeats: int = 5

    def __post_init__(self) -> None:
        named = {
            "--preset": self.presets, "--sizes": self.sizes, "--batch": self.batches, "--precision": self.precisions,
        }  # fmt: skip
        for option, values in named.items():
            if not values:
                msg = f"{option}: expected at least one value, got none"
                raise UsageError(msg)
        for option, least, number in (
            ("--sizes", _SMALLEST, min(self.sizes)),
            ("--batch", 1, min(self.batches)),
            ("--repeats", 1, self.repeats),
        ):
            if number < least:
                msg = f"{option}: expected at least {least}, got {number}"
                raise UsageError(msg)


@dataclass(frozen=True, kw_only=True)
class SpeedResult:
    """One case.

    Attributes:
        preset: as asked for.
        weights: name and hash, or what stood in for them.
        size: side of the slices, pixels.
        batch: slices in one pass.
        precision, device, threads: as settled.
        slices_per_s: the median of the repeats.
        slices_per_s_min, slices_per_s_max: their spread.
        nominal_gflop: work of one slice (see :mod:`~tatcli.workflows.benchmark.nominal`).
        nominal_gflops: GFLOP/s, the median.
        nominal_gflops_min, nominal_gflops_max: their spread.
        fraction_of_peak: nominal_gflops over the machine's peak in this precision.
        peak_rss_bytes: of a process that did nothing else; it includes Python and PyTorch.
        peak_device_bytes: of tensors on a CUDA device.
        startup_seconds: of that process: import, weights, first_slice.
        breakdown: fraction of a pass, by kind of operation.
    """

    preset: str
    weights: str
    size: int
    batch: int
    precision: str
    device: str
    threads: int
    slices_per_s: float
    slices_per_s_min: float
    slices_per_s_max: float
    nominal_gflop: float
    nominal_gflops: float
    nominal_gflops_min: float
    nominal_gflops_max: float
    fraction_of_peak: float
    peak_rss_bytes: int | None
    peak_device_bytes: int | None
    startup_seconds: dict[str, float]
    breakdown: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class SpeedReport:
    """All cases, and the machine in the same run.

    Attributes:
        started: UTC, ISO 8601.
        versions: of tat, Python and libraries.
        machine: what it is.
        peaks: by precision, the best before and after the cases; ``gflops`` is what fractions refer to.
        copy_bytes_per_s: read and written while a large tensor is copied.
        repeats: timings of each case.
        results: the cases.
    """

    started: str
    versions: dict[str, str]
    machine: Machine
    peaks: dict[str, Peak]
    copy_bytes_per_s: float
    repeats: int
    results: tuple[SpeedResult, ...]

    def to_json(self) -> str:
        """Everything."""
        from tatcli.reporting.run_report import to_json

        return to_json(self)


def benchmark_speed(config: SpeedConfig, *, progress: Callable[[str, int, int], None] = lambda *_: None) -> SpeedReport:
    """Measure every case, each in a process of its own, and the machine before and after them.

    Args:
        config: what is to be measured.
        progress: is called with (what is being measured, number of cases done, of all).

    Raises:
        UsageError: an unknown preset, precision.
        DeviceError: the device is absent, doesn't compute in a precision, or ran out of memory.
    """
    from tatcli.inference.runtime import choose_device, choose_precision
    from tatcli.reporting.run_report import versions
    from tatcli.workflows.benchmark.machine import Machine, Peak, best_peak

    started = datetime.now(UTC).isoformat(timespec="seconds")
    device = choose_device(config.device)
    precisions = tuple(dict.fromkeys(choose_precision(device, precision) for precision in config.precisions))
    cases = tuple(product(config.presets, precisions, config.sizes, config.batches))
    machine = {"device": str(device), "threads": config.threads, "precisions": precisions}
    measured = []
    with weights_for(config.presets) as weights:
        progress("the machine", 0, len(cases))
        around = [measure_afresh("machine", **machine)]
        for index, (preset, precision, size, batch) in enumerate(cases):
            progress(f"{preset} {size}x{size} {precision}", index, len(cases))
            case = {"weights": weights[preset], "size": size, "batch": batch, "precision": precision}
            case |= {"device": str(device), "threads": config.threads, "compiled": config.compiled}
            measured.append(measure_afresh("case", **case, repeats=config.repeats))
        progress("the machine", len(cases), len(cases))
        around.append(measure_afresh("machine", **machine))
    peaks = {
        name: best_peak(
            [Peak(once["peaks"][name]["matrix_product"], once["peaks"][name]["convolution_1x1"]) for once in around]
        )
        for name in precisions
    }
    return SpeedReport(
        started=started,
        versions=versions(),
        machine=Machine(**around[0]["machine"]),
        peaks=peaks,
        copy_bytes_per_s=max(once["copy_bytes_per_s"] for once in around),
        repeats=config.repeats,
        results=tuple(
            result_of(preset, found, size=size, batch=batch, peak=peaks[precision])
            for (preset, precision, size, batch), found in zip(cases, measured, strict=True)
        ),
    )


def result_of(preset: str, found: dict[str, Any], *, size: int, batch: int, peak: Peak) -> SpeedResult:
    """The result of one case.

    Args:
        preset: of the case.
        found: what was measured, the fields of :class:`~tatcli.workflows.benchmark.case.Measured`.
        size: of the case, like its batch.
        batch: slices in one pass.
        peak: of the machine in the case's precision.
    """
    from tatcli.model.config import TatConfig
    from tatcli.workflows.benchmark.nominal import nominal_flop

    seconds: Sequence[float] = found["seconds"]
    gflop = nominal_flop(TatConfig.from_dict(found["config"]), size, size) / 1e9
    median, slowest, fastest = 1 / statistics.median(seconds), 1 / max(seconds), 1 / min(seconds)
    return SpeedResult(
        preset=preset,
        weights=found["weights"],
        size=size,
        batch=batch,
        precision=found["precision"],
        device=found["device"],
        threads=found["threads"],
        slices_per_s=median,
        slices_per_s_min=slowest,
        slices_per_s_max=fastest,
        nominal_gflop=gflop,
        nominal_gflops=gflop * median,
        nominal_gflops_min=gflop * slowest,
        nominal_gflops_max=gflop * fastest,
        fraction_of_peak=gflop * median / peak.gflops if peak.gflops else math.nan,
        peak_rss_bytes=found["peak_rss_bytes"],
        peak_device_bytes=found["peak_device_bytes"],
        startup_seconds=found["startup"],
        breakdown=found["breakdown"],
    )


@contextmanager
def weights_for(presets: Sequence[str]) -> Iterator[dict[str, str]]:
    """What to load for each preset: the installed weights of its name, else random ones in a folder of the block's.

    Raises:
        UsageError: no weights and no preset of this name.
        WeightsError: no such file.
    """
    import torch

    from tatcli.model.config import find_preset
    from tatcli.model.tat import Tat
    from tatcli.model.weights import card_for_tasks, find_weights, save_weights

    with tempfile.TemporaryDirectory(prefix="tat-benchmark-") as folder:
        found = {}
        for preset in presets:
            try:
                found[preset] = str(find_weights(preset))
            except WeightsError:
                if preset.endswith(".safetensors"):
                    raise
                config = find_preset(preset)
                path = Path(folder) / f"{preset}.safetensors"
                torch.manual_seed(0)
                save_weights(Tat(config), card_for_tasks(f"{preset} (random)", config), path)
                found[preset] = str(path)
        yield found
