"""One scan of the volume benchmark, in a process of its own."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

__all__ = ["MeasuredScan", "measure_scan"]

_PASSES: Final = 3
"""Single slices that are timed before and after each repeat."""


@dataclass(frozen=True, kw_only=True)
class MeasuredScan:
    """What was found.

    Attributes:
        weights: their name and hash.
        device, precision, threads: as settled.
        seconds: for the scan, of each repeat.
        slice_seconds: for single slices through the network (in tiles, where they don't fit whole), before, between
            and after the repeats.
        file_seconds: for the scan of one slice, of each repeat.
        stages: seconds of each stage, of each repeat.
        memory: how the run kept within its memory, by the last repeat.
        peak_rss_bytes: of the process.
    """

    weights: str
    device: str
    precision: str
    threads: int
    seconds: tuple[float, ...]
    slice_seconds: tuple[float, ...]
    file_seconds: tuple[float, ...]
    stages: tuple[dict[str, float], ...]
    memory: dict[str, Any]
    peak_rss_bytes: int | None


def measure_scan(
    scan: Path, one: Path, *, weights: str, machine: dict[str, Any], max_memory: int | None, repeats: int
) -> MeasuredScan:
    """Measure in this process, which should be fresh: its peak of memory is part of the result.

    Args:
        scan: the file to restore; outputs appear beside it, and vanish.
        one: a file with one such slice.
        weights: a name or path.
        machine: device, precision and threads.
        max_memory: bytes to stay below; None: most of what is free.
        repeats: how often.

    Raises:
        WeightsError, DeviceError, VolumeReadError, OutputError: see :func:`tatcli.workflows.restore.restore`.
    """
    from tatcli.inference.options import RestoreOptions
    from tatcli.inference.passes import Pass, Passes
    from tatcli.inference.restorer import Restorer
    from tatcli.volumes.reading import open_planes
    from tatcli.workflows.restore import RestoreConfig, restore

    restorer = Restorer(weights, **machine)
    ((_, values),) = open_planes(one).values()
    window = restorer.card.intensity_rule("ct-denoise").window_for(values)
    slices = window.normalise(window.clip(values))

    def restored(path: Path) -> tuple[float, Any]:
        output = path.with_name(f"restored-{path.name}")
        config = RestoreConfig(
            input=path, task="ct", output=output, max_memory=max_memory, options=RestoreOptions(axis="axial")
        )
        start = time.perf_counter()
        report = restore(config, restorer=restorer)
        seconds = time.perf_counter() - start
        output.unlink()
        return seconds, report

    tile = restored(one)[1].memory.tile  # (warms up, too)
    # whole slices would take what the scans keep below
    settings = Pass(1) if tile is None else Pass(1, tile, tile // 4)
    passes = Passes(restorer.network, restorer.runtime, settings)
    alone, whole, single, stages = [], [], [], []
    report: Any = None
    for _ in range(repeats):
        alone += [_timed(lambda: passes.corrections(slices)) for _ in range(_PASSES)]
        seconds, report = restored(scan)
        whole.append(seconds)
        stages.append(report.seconds)
        single.append(restored(one)[0])
    alone += [_timed(lambda: passes.corrections(slices)) for _ in range(_PASSES)]
    return MeasuredScan(
        weights=f"{restorer.card.name} {restorer.card.sha256[:12]}",
        device=restorer.runtime.device_name,
        precision=restorer.runtime.precision,
        threads=restorer.runtime.threads,
        seconds=tuple(whole),
        slice_seconds=tuple(alone),
        file_seconds=tuple(single),
        stages=tuple(stages),
        memory=asdict(report.memory),
        peak_rss_bytes=report.peak_rss_bytes,
    )


def _timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
