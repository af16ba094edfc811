"""Degrade a whole volume: checks, one seed per slice, dispatch to the task's simulator, provenance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from tatcli.degradation.ct_kernel import KERNELS, KernelSpec, find_kernel
from tatcli.degradation.low_count_pet import low_count_volume
from tatcli.degradation.low_dose_ct import low_dose_volume
from tatcli.degradation.low_resolution_mri import low_resolution
from tatcli.degradation.pet_count_level import count_level
from tatcli.degradation.reference_noise import estimate_correlation, estimate_noise, match_kernel, noise_profile
from tatcli.errors import UnitsError, UsageError, VolumeReadError
from tatcli.intensity import Units
from tatcli.tasks import Task, find_task
from tatcli.volumes.padding import put_back, without_padding
from tatcli.volumes.slices import in_plane, slices_along, through_plane_axis
from tatcli.volumes.varying_frames import varying_frames
from tatcli.volumes.volume import Volume, require_volume

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["STRENGTHS", "check_strength", "own_kernel", "simulate", "slice_noise"]

STRENGTHS: Final[dict[str, tuple[float, float]]] = {
    "ct-denoise": (0.01, 1.0),
    "pet-synthesis": (1.0, 100.0),
    "mri-sr": (1.0, 16.0),
}
"""The strengths that each task's simulator takes. Dose fraction 1 and factors of 1 add nothing."""
_GREATEST_NOISE: Final = {"ct-denoise": 1000.0, "pet-synthesis": 10.0}
"""HU; coefficient of variation. Beyond any scan's, and within what squares can hold."""


@dataclass(frozen=True, eq=False)
class _Frame:
    """One frame on its way through a simulator.

    Attributes:
        stack: (slices, rows, columns), through-plane axis first.
        spacing_mm: (row, column) pixel size.
        step_mm: from slice to slice.
        seeds: one for the frame and one per slice.
        strength: of the degradation.
        reference_noise, kernel, slice_correlation: as given to :func:`simulate`.
    """

    stack: NDArray[np.float32]
    spacing_mm: tuple[float, float]
    step_mm: float
    seeds: list[np.random.SeedSequence]
    strength: float
    reference_noise: float | None
    kernel: str | KernelSpec
    slice_correlation: float | None


def simulate(  # noqa: PLR0913 - the options of three simulators, each with a default
    volume: Volume,
    task: Task | str,
    *,
    strength: float | None = None,
    seed: int = 0,
    axis: str = "auto",
    reference_noise: float | None = None,
    kernel: str | KernelSpec = "auto",
    slice_correlation: float | None = None,
) -> Volume:
    """The low-quality scan that would have come instead of this reference.

    Frames of one value throughout, as before the injection of a tracer, have nothing to lose: beside others they stay
    as they are.

    Every slice has its own generator, from ``seed``, the frame and the slice's index: the result depends on neither the
    order of the slices nor the number of threads. The noise of PET, and of CT whose neighbouring slices share noise, is
    then filtered along the slices.

    What the header calls padding is nothing to the simulator, and stays where it was.

    Args:
        volume: the reference, in the task's units (MRI: arbitrary ones); each frame of a dynamic scan by itself.
        task: a task, its name or an alias.
        strength: dose fraction (CT), dose reduction factor (PET) or k-space factor (MRI); default: the task's.
        seed: of the noise.
        axis: slice plane, as for :func:`tatcli.volumes.slices.through_plane_axis`.
        reference_noise: the reference's own noise in uniform tissue: standard deviation in HU (CT) or coefficient of
            variation (PET), the same in all slices. Default: estimated, CT's slice by slice.
        kernel: CT reconstruction kernel: ``auto`` (matched to the reference's own noise spectrum), a name or a spec.
        slice_correlation: CT: how the added noise of neighbouring slices correlates, in [0, 1]. Default: as the
            reference's own noise does.

    Returns:
        A volume of the same grid and units. Its last step names strength, seed, noise level and kernel.

    Raises:
        UnitsError: the volume is not in the task's units.
        UsageError: no volume, an unknown task, an option that is out of range or doesn't belong to the task.
        VolumeReadError: the reference's noise can't be estimated; of a dynamic scan the message names the frame.
    """
    require_volume(volume)
    task = find_task(task) if isinstance(task, str) else task
    strength = task.default_strength if strength is None else strength
    if seed < 0:
        msg = f"seed: expected at least 0, got {seed}"
        raise UsageError(msg)
    _check_options(task, strength, reference_noise, kernel, slice_correlation)
    _check_units(volume, task)
    source, (volume, hidden) = volume, without_padding(volume, task.intensity)
    across = through_plane_axis(volume.geometry, axis)
    slice_step = volume.geometry.spacing[across]
    row_step, column_step = in_plane(volume.geometry.spacing, across)
    result = np.empty(volume.array.shape, dtype=np.float32)
    notes: list[str] = []
    varying = varying_frames(volume)
    empty = [index for index, varies in enumerate(varying) if not varies] if any(varying) else []
    for index, (frame, target) in enumerate(
        zip(volume.iter_frames(), result.reshape(-1, *volume.geometry.shape), strict=True)
    ):
        if index in empty:
            target[:] = frame
            continue
        stack = np.ascontiguousarray(slices_along(frame, across))
        seeds = np.random.SeedSequence((seed, index)).spawn(len(stack) + 1)
        request = _Frame(
            stack, (row_step, column_step), slice_step, seeds, strength, reference_noise, kernel, slice_correlation
        )
        try:
            degraded, note = _SIMULATORS[task.name](request)
        except VolumeReadError as error:
            which = f"frame {index + 1} of {volume.frames}: " if volume.frames > 1 else ""
            msg = f"{volume.provenance.path or 'volume'}: {which}{error}"
            raise VolumeReadError(msg) from error
        slices_along(target, across)[:] = degraded
        notes += [note] if note not in notes else []
    put_back(result, source, hidden)
    notes += [f"{len(empty)} empty of {volume.frames} frames left as they are"] if empty else []
    return volume.with_array(result, step=f"simulated {task.name}: {'; '.join(notes)}; seed {seed}")


def check_strength(task: Task, strength: float) -> None:
    """Refuse a strength that the task's simulator doesn't take.

    Raises:
        UsageError: it is out of range, or NaN.
    """
    lowest, highest = STRENGTHS[task.name]
    if not lowest <= strength <= highest:
        msg = f"{task.name}: expected a {task.strength_name} from {lowest:g} to {highest:g}, got {strength:g}"
        raise UsageError(msg)


def _check_options(
    task: Task,
    strength: float,
    reference_noise: float | None,
    kernel: str | KernelSpec,
    slice_correlation: float | None,
) -> None:
    check_strength(task, strength)
    if isinstance(kernel, str) and kernel != "auto":
        find_kernel(kernel)
    if task.name != "ct-denoise" and kernel != "auto":
        msg = f"{task.name}: expected no kernel (only CT has one), got {kernel}; leave it out"
        raise UsageError(msg)
    if slice_correlation is not None:
        if task.name != "ct-denoise":
            msg = (
                f"{task.name}: expected no slice correlation (only CT has one), got {slice_correlation:g}; leave it out"
            )
            raise UsageError(msg)
        if not 0 <= slice_correlation <= 1:
            msg = f"{task.name}: expected a slice correlation from 0 to 1, got {slice_correlation:g}"
            raise UsageError(msg)
    if reference_noise is None:
        return
    if task.name == "mri-sr":
        msg = "mri-sr: expected no reference noise (only CT and PET simulations add noise); leave it out"
        raise UsageError(msg)
    most = _GREATEST_NOISE[task.name]
    if not 0 < reference_noise <= most:
        msg = f"{task.name}: expected a positive reference noise, at most {most:g}, got {reference_noise:g}"
        raise UsageError(msg)


def _check_units(volume: Volume, task: Task) -> None:
    """CT and PET need physical units; MR intensities are arbitrary, but never HU or activity."""
    fitting = {task.units, Units.UNKNOWN} if task.units is Units.ARBITRARY else {task.units}
    if volume.units not in fitting:
        name = volume.provenance.path or "volume"
        expected = f"expected {task.units} for {task.name}, got {volume.units}"
        msg = f"{name}: {expected}; convert it or give its units on reading"
        raise UnitsError(msg)


def slice_noise(stack_hu: NDArray[np.float32], spacing_mm: tuple[float, float], step_mm: float) -> NDArray[np.float64]:
    """Standard deviation of a CT reference's own noise in each slice's soft tissue, HU: (slices,).

    Raises:
        VolumeReadError: there is no homogeneous soft tissue to estimate it in.
    """
    noise = estimate_noise(stack_hu, spacing_mm)
    if not noise > 0:
        msg = "expected homogeneous soft tissue to estimate the noise in, found none; give the reference noise (HU)"
        raise VolumeReadError(msg)
    return np.asarray(noise * noise_profile(stack_hu, spacing_mm, step_mm))


def own_kernel(stack_hu: NDArray[np.float32], spacing_mm: tuple[float, float]) -> KernelSpec:
    """The kernel that a CT reference's own noise spectrum tells, the standard one where it tells none."""
    return match_kernel(stack_hu, spacing_mm) or KERNELS["standard"]


def _low_dose(frame: _Frame) -> tuple[NDArray[np.float32], str]:
    noise: float | NDArray[np.float64]
    if frame.reference_noise is None:
        noise = slice_noise(frame.stack, frame.spacing_mm, frame.step_mm)
        told = " to ".join(dict.fromkeys((f"{noise.min():.1f}", f"{noise.max():.1f}")))
    else:
        noise = frame.reference_noise
        told = f"{noise:.1f}"
    kernel = frame.kernel
    if kernel == "auto":
        kernel = own_kernel(frame.stack, frame.spacing_mm)
    elif isinstance(kernel, str):
        kernel = find_kernel(kernel)
    correlation = frame.slice_correlation
    if correlation is None:
        correlation = estimate_correlation(frame.stack, frame.spacing_mm)
    degraded = low_dose_volume(
        frame.stack,
        spacing_mm=frame.spacing_mm,
        dose=frame.strength,
        noise=noise,
        kernel=kernel,
        seeds=frame.seeds[1:],
        correlation=correlation,
    )
    note = f"dose fraction {frame.strength:g}, reference noise {told} HU, {kernel}"
    return degraded, f"{note}, slice correlation {correlation:.2f}"


def _low_count(frame: _Frame) -> tuple[NDArray[np.float32], str]:
    counts = count_level(frame.stack, spacing_mm=frame.spacing_mm, variation=frame.reference_noise, seed=frame.seeds[0])
    if not np.isfinite(counts):
        msg = (
            "expected tissue of a few centimetres with uptake and noise to estimate the counts from, found none; check"
            " the units, or say what noise a reference without any would have (--reference-noise)"
        )
        raise VolumeReadError(msg)
    drf = frame.strength
    spacing = (frame.step_mm, *frame.spacing_mm)
    degraded = low_count_volume(frame.stack, spacing_mm=spacing, drf=drf, counts=counts, seeds=frame.seeds[1:])
    return degraded, f"dose reduction factor {drf:g}, reference at {counts:.3g} counts per SUV mm"


def _low_resolution(frame: _Frame) -> tuple[NDArray[np.float32], str]:
    return low_resolution(frame.stack, frame.strength), f"k-space factor {frame.strength:g}"


_SIMULATORS: Final[dict[str, Callable[[_Frame], tuple[NDArray[np.float32], str]]]] = {
    "ct-denoise": _low_dose,
    "pet-synthesis": _low_count,
    "mri-sr": _low_resolution,
}
