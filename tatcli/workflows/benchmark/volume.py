"""``tat benchmark volume``: what a whole scan costs, reading and writing included, beside its slices alone."""

from __future__ import annotations

import shutil
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from tatcli.errors import DeviceError, OutputError, UsageError
from tatcli.workflows.benchmark.fresh import measure_afresh

if TYPE_CHECKING:
    from tatcli.workflows.benchmark.machine import Machine

__all__ = ["VolumeConfig", "VolumeReport", "VolumeResult", "benchmark_volume", "make_scan", "volume_result"]

_MAKING: Final = 3 * 8
"""Bytes that a slice takes for each pixel while it is made: the body, its noise, their sum."""
_WRITTEN: Final = {".nii": 2 * 2}
"""Bytes of each voxel on the disk: the scan's and the output's."""
_COMPRESSED: Final = 1
"""The least that they come to in the other formats, which compress (the scan alone comes to 1.1)."""


@dataclass(frozen=True, kw_only=True)
class VolumeConfig:
    """Options of ``tat benchmark volume``; every combination of sizes and numbers of slices is one case.

    Attributes:
        weights: a name, a path, or a preset without weights, which gets random ones.
        sizes: sides of the square slices, pixels.
        slices: numbers of them.
        extension: of the scan and of the output.
        device, precision, threads: of the machine.
        max_memory: bytes that the process should stay below; None: most of what is free.
        repeats: how often each scan is restored.
        folder: where the scans are made and restored, and deleted again; None: the system's for temporary files.
    """

    weights: str = "tat-small"
    sizes: tuple[int, ...] = (256,)
    slices: tuple[int, ...] = (100,)
    extension: str = ".nii.gz"
    device: str = "auto"
    precision: str = "auto"
    threads: int | None = None
    max_memory: int | None = None
    repeats: int = 3
    folder: Path | None = None

    def __post_init__(self) -> None:
        for option, least, numbers in (
            ("--sizes", 8, self.sizes),
            ("--slices", 2, self.slices),
            ("--repeats", 1, (self.repeats,)),
        ):
            if not numbers or min(numbers) < least:
                msg = f"{option}: expected at least {least}, got {min(numbers, default='none')}"
                raise UsageError(msg)
        if self.extension not in (".nii", ".nii.gz", ".nrrd", ".mha"):
            msg = f"--format {self.extension!r}: expected .nii, .nii.gz, .nrrd or .mha"
            raise UsageError(msg)
        if self.folder is not None and not self.folder.is_dir():
            msg = f"--folder {self.folder}: expected a folder, got none; create it first"
            raise UsageError(msg)


@dataclass(frozen=True, kw_only=True)
class VolumeResult:
    """One scan. Times are wall time, the median of the repeats; loading torch and the weights is in none of them.

    Attributes:
        weights: name and hash.
        size: side of the slices, pixels.
        slices: how many.
        extension: of the files.
        precision, device, threads: as settled.
        seconds: for the scan, from its file to the finished output and report.
        seconds_min, seconds_max: their spread.
        slice_seconds: for one slice through the network alone, timed before and after each repeat.
        slice_seconds_min, slice_seconds_max: their spread.
        file_seconds: for a scan of one slice, from its file to the finished output and report.
        over_slices: seconds over the slices' own: what reading, writing and the rest add.
        over_files: seconds over those of as many scans of one slice.
        seconds_per_slice: of the scan.
        seconds_per_megapixel: of the scan.
        stages: seconds of each stage of the median repeat.
        memory: how the run kept within its memory, with the peak that was predicted.
        peak_rss_bytes: the peak that was measured, of a process that did nothing else.
    """

    weights: str
    size: int
    slices: int
    extension: str
    precision: str
    device: str
    threads: int
    seconds: float
    seconds_min: float
    seconds_max: float
    slice_seconds: float
    slice_seconds_min: float
    slice_seconds_max: float
    file_seconds: float
    over_slices: float
    over_files: float
    seconds_per_slice: float
    seconds_per_megapixel: float
    stages: dict[str, float]
    memory: dict[str, Any]
    peak_rss_bytes: int | None


@dataclass(frozen=True, kw_only=True)
class VolumeReport:
    """All scans.

    Attributes:
        started: UTC, ISO 8601.
        versions: of tat, Python and libraries.
        machine: what was measured on.
        repeats: of each scan.
        results: the scans.
    """

    started: str
    versions: dict[str, str]
    machine: Machine
    repeats: int
    results: tuple[VolumeResult, ...]

    def to_json(self) -> str:
        """Everything."""
        from tatcli.reporting.run_report import to_json

        return to_json(self)


def benchmark_volume(
    config: VolumeConfig, *, progress: Callable[[str, int, int], None] = lambda *_: None
) -> VolumeReport:
    """Make scans, and restore each in a process of its own.

    Args:
        config: what is to be measured.
        progress: is called with (what is being done, number of scans done, of all).

    Raises:
        UsageError: no such weights or preset, precision.
        DeviceError: the device is absent, doesn't compute in the precision, or the scan doesn't fit into the memory.
        OutputError: the folder is full, or has no room for the largest scan.
    """
    from tatcli.inference.runtime import prepare_runtime
    from tatcli.reporting.run_report import versions
    from tatcli.workflows.benchmark.machine import this_machine
    from tatcli.workflows.benchmark.speed import weights_for

    started = datetime.now(UTC).isoformat(timespec="seconds")
    runtime = prepare_runtime(device=config.device, precision=config.precision, threads=config.threads)
    cases = list(product(config.sizes, config.slices))
    _check_room(config)
    results = []
    with (
        weights_for([config.weights]) as weights,
        tempfile.TemporaryDirectory(prefix="tat-benchmark-", dir=config.folder) as folder,
    ):
        for index, (size, slices) in enumerate(cases):
            progress(f"making {slices} slices of {size}x{size}", index, len(cases))
            scan, one = (Path(folder) / f"{name}{config.extension}" for name in ("scan", "one"))
            make_scan(scan, slices=slices, size=size)
            make_scan(one, slices=1, size=size)
            progress(f"restoring {slices} slices of {size}x{size}", index, len(cases))
            found = measure_afresh(
                "volume",
                scan=str(scan),
                one=str(one),
                weights=weights[config.weights],
                machine={"device": str(runtime.device), "precision": runtime.precision, "threads": config.threads},
                max_memory=config.max_memory,
                repeats=config.repeats,
            )
            results.append(volume_result(found, size=size, slices=slices, extension=config.extension))
            scan.unlink()
            one.unlink()
    return VolumeReport(
        started=started,
        versions=versions(),
        machine=this_machine(runtime),
        repeats=config.repeats,
        results=tuple(results),
    )


def _check_room(config: VolumeConfig) -> None:
    """Refuse scans that would fill the memory, or the disk for hours first, before they could be measured.

    Raises:
        DeviceError: a slice can't be made in the free memory.
        OutputError: the largest scan can't be on the disk.
    """
    from tatcli.inference.system_memory import free_memory
    from tatcli.workflows.restoring.outcome import in_words

    size, slices, free = max(config.sizes), max(config.slices), free_memory()
    if free is not None and size**2 * _MAKING > free:
        msg = f"--sizes: expected slices that can be made in the free {in_words(free)} of memory, got {size}x{size},"
        msg += f" which take {in_words(size**2 * _MAKING)}; lower it"
        raise DeviceError(msg)
    folder = config.folder or Path(tempfile.gettempdir())
    needed, room = slices * size**2 * _WRITTEN.get(config.extension, _COMPRESSED), shutil.disk_usage(folder).free
    if needed > room:
        msg = f"{folder}: expected room for a scan and its output, got {in_words(room)} free for {slices} slices of"
        msg += f" {size}x{size}, which take {in_words(needed)}; lower --slices or --sizes, or name another --folder"
        raise OutputError(msg)


def volume_result(found: dict[str, Any], *, size: int, slices: int, extension: str) -> VolumeResult:
    """The result of one scan.

    Args:
        found: what was measured, the fields of :class:`~tatcli.workflows.benchmark.scan_case.MeasuredScan`.
        size: of the scan's slices, pixels.
        slices: how many.
        extension: of the files.
    """
    seconds, alone, file = found["seconds"], found["slice_seconds"], statistics.median(found["file_seconds"])
    median, slice_median = statistics.median(seconds), statistics.median(alone)
    middle = min(range(len(seconds)), key=lambda index: abs(seconds[index] - median))
    return VolumeResult(
        weights=found["weights"],
        size=size,
        slices=slices,
        extension=extension,
        precision=found["precision"],
        device=found["device"],
        threads=found["threads"],
        seconds=median,
        seconds_min=min(seconds),
        seconds_max=max(seconds),
        slice_seconds=slice_median,
        slice_seconds_min=min(alone),
        slice_seconds_max=max(alone),
        file_seconds=file,
        over_slices=median / (slices * slice_median),
        over_files=median / (slices * file),
        seconds_per_slice=median / slices,
        seconds_per_megapixel=1e6 * median / (slices * size * size),
        stages=found["stages"][middle],
        memory=found["memory"],
        peak_rss_bytes=found["peak_rss_bytes"],
    )


def make_scan(path: Path, *, slices: int, size: int) -> None:
    """Write a made-up CT in int16: a body with noise in air, slice by slice, so that its size doesn't matter.

    Args:
        path: a format that is written plane by plane.
        slices: how many.
        size: of their sides, pixels.

    Raises:
        OutputError: the disk is full.
    """
    from tatcli.intensity import Units
    from tatcli.volumes.block_writing import block_writer
    from tatcli.volumes.geometry import Geometry
    from tatcli.volumes.planes import Block
    from tatcli.volumes.volume import Provenance, ScanHeader

    rng = np.random.default_rng(0)
    across = np.linspace(-1.0, 1.0, size)
    body = np.where(np.hypot(across[:, None], across / 0.7) < 0.9, 40.0, -1000.0)
    geometry = Geometry.from_spacing((3.0, 0.7, 0.7), (slices, size, size))
    scan = ScanHeader(geometry, 1, Units.HU, Provenance(dtype=np.dtype(np.int16)))
    with block_writer(scan, path, axis=0) as write:
        for index in range(slices):
            plane = (body + rng.normal(0.0, 20.0, (1, size, size))).round().clip(-1024, 3071)
            values = plane.astype(np.float32)
            write(Block(0, 0, index, values, values), values)
