"""References made ready for training: memory-mapped slices, with the costly part of their degradation precomputed.

A CT reference gets noise fields in units of its own noise, scaled to a dose when drawn; a PET reference gets whole
low-count slices at random dose reduction factors and reconstructions; k-space truncation of MRI is cheap and done when
drawn.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tatcli.degradation.low_resolution_mri import low_resolution
from tatcli.degradation.reference_noise import estimate_noise, match_kernel, noise_profile
from tatcli.errors import VolumeReadError
from tatcli.intensity import Window
from tatcli.tasks import Task
from tatcli.training.config import TrainConfig
from tatcli.training.holes import without_holes
from tatcli.training.pairs import ScanPair, find_scans
from tatcli.training.precomputed import ReferenceScan, ct_fields, draw_strength, pet_fields, seeds_for, stacked
from tatcli.training.sources import has_references
from tatcli.volumes import Volume, evenly_spaced, read_volume, slices_along, through_plane_axis
from tatcli.volumes.bids_pet import derived_fields
from tatcli.volumes.formats import format_of
from tatcli.volumes.grids import check_grid
from tatcli.volumes.members import members_of
from tatcli.volumes.replacing import new_folder
from tatcli.volumes.slices import has_cubic_voxels, in_plane, is_isotropic

__all__ = ["Reference", "ReferenceScan", "draw_strength", "prepare_references", "prepare_scan"]

FORMAT: Final = 8
"""Raised whenever prepared files change, so that old ones are not reused."""

_NO_TISSUE: Final = "no uniform tissue to measure its noise in, to which strengths are relative"

_HALF_RANGE: Final = (2.0**-4, 2.0**13)
"""Upper bounds of a network range that half-precision LQ partners keep to 11 bits, with room for voxels beyond it.

Only MRI, whose units are arbitrary, has others: such scans are kept in other units of their own."""

Crop = tuple[slice, slice]
Check = Callable[[Volume, Task], Volume]
WHOLE: Final = (slice(None), slice(None))


@dataclass(frozen=True, eq=False)
class Reference:
    """One scan's slices, ready to draw training pairs from.

    Attributes:
        name: of the scan; with the folders that it lies in below the split.
        task: its task.
        window: its network range.
        hq: (slices, rows, columns) float32, physical units.
        fields: (slices, fields, rows, columns) float16: noise (CT), low-count slices (PET), or the LQ partner of a
            fixed pair; None for MRI.
        noise: the scan's reference noise in HU (CT), in units of which the fields are; None where they are whole
            slices.
        default_share: share of draws at the task's default strength.
    """

    name: str
    task: Task
    window: Window
    hq: NDArray[np.float32]
    fields: NDArray[np.float16] | None
    noise: float | None
    default_share: float
    subject: str = ""
    """Whom the scan is of, where a prepared set or its folders tell."""
    root: Path = Path()
    """The dataset, or set, that it is from."""
    planes: int = 1
    """In how many directions the scan is sliced, each in a reference of its own."""

    @property
    def label(self) -> str:
        """What people tell it by: in a prepared set, scans of several subjects may have equal names."""
        return self.name if self.subject in self.name else f"{self.subject}/{self.name}"

    def low_quality(self, index: int, rng: np.random.Generator, crop: Crop = WHOLE) -> NDArray[np.float32]:
        """A degraded version of slice ``index``, or of a crop of it: (rows, columns), physical units."""
        if self.fields is None:
            return self.degraded(self.hq[index], rng)[crop]
        field: NDArray[np.float32] = self.fields[index, rng.integers(self.fields.shape[1])][crop].astype(np.float32)
        if self.noise is None:
            return field
        dose = draw_strength(self.task, rng, default_share=self.default_share)
        field *= np.float32(self.noise * np.sqrt(1.0 / dose - 1.0))
        field += self.hq[index][crop]
        return field

    def sliced(self, axis: int) -> Reference:
        """The same scan sliced along another of its axes: the noise is that of the acquired slices, seen across."""
        fields = self.fields
        if fields is not None:
            fields = np.moveaxis(np.moveaxis(np.moveaxis(fields, 1, 3), axis, 0), 3, 1)
        return replace(self, hq=np.moveaxis(self.hq, axis, 0), fields=fields, planes=self.hq.ndim)

    def degraded(self, slice_: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
        """A slice at a random strength, for degradations that are cheap enough to be drawn anew each time (MRI's)."""
        return low_resolution(slice_, draw_strength(self.task, rng, default_share=self.default_share))


def prepare_references(
    task: Task,
    split: str,
    config: TrainConfig,
    *,
    on_scan: Callable[[str, str], None] = lambda *_: None,
    check: Check = lambda volume, _: volume,
) -> list[Reference]:
    """All references of a task and split, from the cache where they were prepared before.

    Those to train on are of ``config.data`` and of all of ``config.also`` that have the task; those to validate on are
    of ``config.data`` alone.

    Args:
        task: what they are prepared for.
        split: ``train``, or one to validate on, whose scans are only degraded at the default strength.
        config: of the run.
        on_scan: called with a scan's name and "" before it is prepared, and with why for each one that is left out.
        check: called with each reference and LQ partner once it is read; gives it back, or raises a VolumeReadError
            that says why it can't be used. (Guards of restoring are of a sibling layer.)

    Raises:
        UsageError: no scans.
        VolumeReadError: one that can't be read, or none that can serve as a reference.
        GeometryError: an LQ partner on another grid.
        OutputError: the cache can't be written (disk full).
    """
    from tatcli.training.prepared_set import is_prepared, prepared_references

    if split != "train":
        roots = [config.data]
        config = replace(config, default_share=(1.0,), planes="acquired")
    else:
        roots = [root for root in (config.data, *config.also) if has_references(root, task, split)]
        roots = roots or [config.data]  # (which says what is missing)
    references, left_out = [], []
    for root in roots:
        if is_prepared(root):
            references += [replace(one, root=root) for one in prepared_references(root, task, split, config)]
            continue
        for pair in find_scans(root, task, split):
            on_scan(pair.place, "")
            reference = _cached(pair, task, config, check)
            if isinstance(reference, str):
                on_scan(pair.place, reference)
                left_out.append(f"{pair.place}: {reference}")
            else:
                references += [replace(one, root=root) for one in reference]
    if not references:
        places = ", ".join(str(root) for root in roots)
        why = f"found none among {len(left_out)} scans ({left_out[0]})"
        msg = f"{places}: expected references for {task.name} in the split {split}, {why}"
        raise VolumeReadError(msg)
    return references


def _cached(pair: ScanPair, task: Task, config: TrainConfig, check: Check) -> list[Reference] | str:
    """The prepared reference, once for each plane that it is sliced in, or why the scan can't be one."""
    cache = (config.cache or config.output / "cache") / task.name
    paths = [path for path in (pair.reference, pair.lq) if path]
    settings: dict[str, Any] = {
        "format": FORMAT,
        "files": [
            [str(file), file.stat().st_size, file.stat().st_mtime_ns] for path in paths for file in members_of(path)
        ],
        "options": [
            config.noise_fields,
            config.max_slices,
            config.seed,
            config.share(task.name) if task.modality == "PT" else None,
        ],
    }
    # (named only where they are not the defaults, so that references from before these options are found again)
    if config.planes == "all":
        settings["planes"] = "volumes" if task.modality == "PT" else config.planes
    if config.intensity(task) != task.intensity:
        settings["intensity"] = config.intensity(task).to_dict()
    told = [derived_fields(path) for path in paths if task.modality == "PT" and format_of(path) == "nifti"]
    if any(told):  # what a PET's sidecar says of its values
        settings["metadata"] = told
    digest = hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:12]
    folder = cache / f"{pair.name}-{digest}"
    if not folder.is_dir():
        with new_folder(folder) as made:  # (a run that shares the cache may be faster: what it makes is the same)
            _read_and_prepare(pair, task, config, check, made)
    try:
        return _loaded(folder, pair, task, config)
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        msg = f"{folder}: expected a prepared reference, got a damaged one ({' '.join(str(error).split())}); delete"
        raise VolumeReadError(msg + " that folder, and the reference is prepared again") from error


def _loaded(folder: Path, pair: ScanPair, task: Task, config: TrainConfig) -> list[Reference] | str:
    facts = json.loads((folder / "facts.json").read_text())
    if facts["rejected"]:
        return str(facts["rejected"])
    has_fields = pair.lq is not None or task.modality != "MR"
    reference = Reference(
        name=pair.place,
        subject=pair.subject,
        task=task,
        window=Window(*facts["window"]),
        hq=np.load(folder / "hq.npy", mmap_mode="r"),
        fields=np.load(folder / "fields.npy", mmap_mode="r") if has_fields else None,
        noise=facts["noise"],
        default_share=config.share(task.name),
    )
    return [reference.sliced(axis) for axis in range(3)] if facts.get("all_planes") else [reference]


def _read_and_prepare(pair: ScanPair, task: Task, config: TrainConfig, check: Check, folder: Path) -> None:
    volume, partner = read_volume(pair.reference), None if pair.lq is None else read_volume(pair.lq)
    try:
        volume = check(volume, task)
    except VolumeReadError as error:
        return _reject(folder, str(error))
    try:
        partner = None if partner is None else check(partner, task)
    except VolumeReadError as error:
        return _reject(folder, f"its LQ partner: {error}")
    return prepare_scan(ReferenceScan(pair.place, volume, partner), task, config, folder)


def prepare_scan(scan: ReferenceScan, task: Task, config: TrainConfig, folder: Path) -> None:
    """Write a reference's slices and the costly part of their degradation: hq.npy, fields.npy, facts.json.

    Args:
        scan: what to prepare.
        task: what for.
        config: noise fields, slices, seed and share of the default strength.
        folder: where to; facts.json says why where the scan can't be a reference.

    Raises:
        GeometryError: the partner lies on another grid.
    """
    volume = scan.volume
    axis = through_plane_axis(volume.geometry)
    pixel = in_plane(volume.geometry.spacing, axis)
    sliceable = has_cubic_voxels if task.modality == "PT" else is_isotropic
    every = config.planes == "all" and sliceable(volume.geometry)
    frame = without_holes(next(volume.iter_frames()), task)
    window = config.intensity(task).window_for(frame)
    unit = 1.0
    if scan.lq is not None and not _HALF_RANGE[0] <= window.upper <= _HALF_RANGE[1]:
        unit = 2.0 ** round(math.log2(window.upper / _HALF_RANGE[1])) if window.upper > 0 else 1.0
        frame, window = frame / np.float32(unit), Window(window.lower / unit, window.upper / unit)
    stack = np.ascontiguousarray(slices_along(frame, axis))
    chosen = evenly_spaced(len(stack), config.max_slices)
    hq = stack[chosen]
    noise: float | None = None
    fields: NDArray[np.float16] | None = None
    if scan.lq is not None:
        check_grid(scan.lq, volume, str(scan.lq.provenance.path or scan.name))
        low = without_holes(next(scan.lq.iter_frames()), task) / np.float32(unit)
        fields = np.ascontiguousarray(slices_along(low, axis))[chosen, None].astype(np.float16)
    elif task.modality == "CT":
        noise = estimate_noise(stack, pixel)
        if math.isnan(noise):
            return _reject(folder)
        matched = match_kernel(stack, pixel)
        profile = noise_profile(stack, pixel, volume.geometry.spacing[axis]).astype(np.float32)
        fields = stacked(
            profile[i] * ct_fields(slice_, pixel, seeds_for(config, scan.name, int(i)), config, matched)
            for i, slice_ in zip(chosen, hq, strict=True)
        )
    elif task.modality == "PT":
        steps, known = (volume.geometry.spacing[axis], *pixel), (task, scan.variation)
        fields = pet_fields(stack, None if every else chosen, steps, known, seeds_for(config, scan.name, -1), config)
        if fields is None:
            return _reject(folder)
    np.save(folder / "hq.npy", hq)
    if fields is not None:
        np.save(folder / "fields.npy", fields)
    facts = {
        "window": [window.lower, window.upper],
        "noise": noise,
        "rejected": None,
        "all_planes": every,
        "unit": unit,
    }
    (folder / "facts.json").write_text(json.dumps(facts))
    return None


def _reject(folder: Path, reason: str = _NO_TISSUE) -> None:
    (folder / "facts.json").write_text(json.dumps({"rejected": reason}))
