"""One scan, read, checked and prepared, in a process of its own."""

from __future__ import annotations

import hashlib
import json
import multiprocessing.connection
import os
import shutil
import signal
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from tatcli.errors import TatError
from tatcli.tasks import TASKS, Task
from tatcli.workflows.preparing.config import PrepareConfig
from tatcli.workflows.training.advice import for_training

if TYPE_CHECKING:
    from tatcli.training.config import TrainConfig
    from tatcli.training.references import ReferenceScan
    from tatcli.volumes.volume import Volume
    from tatcli.workflows.preparing.survey import Found

__all__ = ["CHANGED", "NO_MEMORY", "Job", "Outcome", "job_key", "run_job", "start_process", "synthetic_jobs"]

NO_MEMORY: Final = "it takes more memory than there is; fewer --workers leave more for each"
"""Why a scan was left out that is tried again by the next run."""
CHANGED: Final = "it changed or went away while the set was made; run tat prepare again"
"""Likewise: what was found is there again, perhaps (a network drive's)."""

_SYNTHETIC_SLICES: Final = 96
_SYNTHETIC_VARIATION: Final = (0.05, 0.12)
"""What a clean volume's noise would be at the reference's dose: a clinical whole body's, in uniform tissue."""


@dataclass(frozen=True)
class Job:
    """A scan to prepare.

    Attributes:
        key: what it is made from, and how.
        task: its task.
        split: where it goes.
        scan: what was found; None: a made-up volume.
        number: of the made-up volume.
        region: what it shows: ``pet``, a whole body, or ``brain``.
    """

    key: str
    task: str
    split: str
    scan: Found | None
    number: int = 0
    region: Literal["pet", "brain"] = "pet"

    @property
    def name(self) -> str:
        """Of the scan."""
        return f"synthetic-{self.region}-{self.number:04d}" if self.scan is None else self.scan.name

    @property
    def subject(self) -> str:
        """Whom it is of."""
        return self.name if self.scan is None else self.scan.subject


@dataclass(frozen=True)
class Outcome:
    """What came of it: files in ``part``, or ``rejected``; and what the manifest tells."""

    part: Path
    rejected: str
    source: dict[str, Any]


def job_key(digest: str, *, task: str, split: str, options: dict[str, Any]) -> str:
    """What identifies a scan's outcome."""
    content = json.dumps([digest, task, split, options], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def synthetic_jobs(config: PrepareConfig) -> list[Job]:
    """The made-up volumes, whole bodies and brains; all are for training."""
    jobs: list[Job] = []
    regions: tuple[tuple[Literal["pet", "brain"], str, int], ...] = (
        ("pet", "synthetic", config.synthetic_pet),
        ("brain", "synthetic brain", config.synthetic_brain),
    )
    for region, words, count in regions:
        for number in range(count):
            key = job_key(f"{words} {number}", task="pet-synthesis", split="train", options=config.options())
            jobs.append(Job(key, "pet-synthesis", "train", None, number, region))
    return jobs


def start_process() -> None:
    """Leave Ctrl-C to the process that waits for this one, and end with it, however it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:

        def follow() -> None:
            multiprocessing.connection.wait([parent.sentinel])
            os._exit(1)

        threading.Thread(target=follow, daemon=True).start()


def run_job(job: Job, config: PrepareConfig, part: Path) -> Outcome:
    """Prepare a scan into a folder that doesn't exist yet; an error of the scan's own is its rejection."""
    from tatcli.training.references import prepare_scan

    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    task = TASKS[job.task]
    source: dict[str, Any] = {}
    try:
        made = _synthetic(job, config, source) if job.scan is None else _read(job, task, config, source)
        source |= _told(made.volume)
        options = _options(config, job)
        prepare_scan(made, task, replace(options, max_slices=_most(options, job)), part)
        rejected = json.loads((part / "facts.json").read_text(encoding="utf-8"))["rejected"] or ""
    except TatError as error:
        rejected = for_training(str(error)) if job.scan is None or job.scan.is_as_found else CHANGED
    except MemoryError:
        rejected = NO_MEMORY
    except Exception as error:
        error.add_note(f"while preparing {job.name if job.scan is None else job.scan.shown}")
        raise
    return Outcome(part, rejected, source)


def _read(job: Job, task: Task, config: PrepareConfig, source: dict[str, Any]) -> ReferenceScan:
    from tatcli.training.averaging import cleaner_reference
    from tatcli.training.references import ReferenceScan
    from tatcli.volumes import read_volume
    from tatcli.workflows.usable_scans import usable_scan

    found = job.scan
    assert found is not None  # noqa: S101  a made-up volume isn't read
    volume = usable_scan(read_volume(found.folder, series=found.series), task)
    partner = found.candidate.lq
    if partner is not None:
        return ReferenceScan(job.key, volume, usable_scan(read_volume(partner), task))
    if task.modality == "CT":
        volume, averaged = cleaner_reference(volume, thickness=config.thickness, quiet=config.quiet)
        source["averaged"] = averaged
    return ReferenceScan(job.key, volume)


def _synthetic(job: Job, config: PrepareConfig, source: dict[str, Any]) -> ReferenceScan:
    import numpy as np

    from tatcli.phantoms import brain_pet, whole_body_pet
    from tatcli.training.references import ReferenceScan

    seed = config.seed * 1_000_003 + job.number
    volume = brain_pet(seed) if job.region == "brain" else whole_body_pet(seed)
    source["sha256"] = hashlib.sha256(volume.array.tobytes()).hexdigest()  # of its voxels: it has no file
    variation = float(np.random.default_rng([config.seed, job.number]).uniform(*_SYNTHETIC_VARIATION))
    return ReferenceScan(job.key, volume, variation=variation)


def _options(config: PrepareConfig, job: Job) -> TrainConfig:
    from tatcli.training.config import TrainConfig

    return TrainConfig(
        data=config.output,
        output=config.output,
        noise_fields=config.noise_fields,
        max_slices=config.max_slices,
        planes=config.planes,
        default_share=(config.default_share if job.split == "train" else 1.0,),
        seed=config.seed,
    )


def _most(options: TrainConfig, job: Job) -> int:
    if job.scan is not None:
        return options.max_slices
    if options.planes == "all":
        return 0
    return min(options.max_slices or _SYNTHETIC_SLICES, _SYNTHETIC_SLICES)


def _told(volume: Volume) -> dict[str, Any]:
    """What the manifest says of the reference."""
    return {
        "units": volume.units.value,
        "shape": "x".join(str(length) for length in volume.geometry.shape),
        "spacing": "x".join(f"{step:.4g}" for step in volume.geometry.spacing),
        "frames": volume.frames,
    }
