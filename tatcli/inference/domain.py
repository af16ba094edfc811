"""Whether a scan is like what the weights were trained on: noise, resolution, range. A warning, never a refusal.

The card of the weights says what the training's LQ scans were like (``domain``, measured by ``tat weights domain``) and
over which degradation strengths it went. A network that is asked about other scans still answers, and looks as sure.

Statistics of a scan, over at most 12 evenly spaced slices of its first frame:

- ``noise``: median over slices of :func:`tatcli.metrics.noise_level.noise_level` inside the evaluation window; HU, SUV,
  or, in MR, parts of the scan's range;
- ``spacing_mm``: the larger in-plane pixel size;
- ``beyond``: share of voxels above the network's range;
- ``below`` (pet-synthesis): share of voxels below it by more than 0.005 of its width, as reconstructions that allow
  negative activity have them;
- ``kspace_factor`` (mri-sr): how many times the matrix exceeds the lines that were measured, by the spectrum's border;
  ``kspace_factor_one_way`` where one axis alone has a border, as scanners leave the phase-encoding one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from tatcli.inference.options import RestoreOptions
from tatcli.intensity import Units
from tatcli.metrics.noise_level import noise_level
from tatcli.volumes.slices import evenly_spaced, in_plane

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tatcli.intensity import IntensityRule, Window
    from tatcli.model.weights import WeightsCard
    from tatcli.tasks import Task
    from tatcli.volumes.volume import ScanHeader

__all__ = ["MOST_SLICES", "domain_warnings", "stack_statistics"]

MOST_SLICES: Final = 12
"""Of a scan are looked at."""
_TOLERANCE: Final = 1.25
"""A statistic may leave the card's range by this factor: between scans of one protocol it varies as much."""
_BEYOND: Final = 1e-3
_BELOW: Final = 1e-2
_SLIGHTLY: Final = 0.005
"""Of the network's range: so far below it, interpolation rings where there is no noise."""


def stack_statistics(
    stack: NDArray[np.float32], task: Task, rule: IntensityRule, *, spacing: tuple[float, float]
) -> dict[str, float]:
    """What a scan is like.

    Args:
        stack: (slices, rows, columns), the task's units.
        task: decides the window and whether k-space is looked at.
        rule: the network's intensity rule.
        spacing: (row, column) pixel size, mm.

    Returns:
        Name -> value; what can't be told is left out, and ``kspace_factor`` is 1 where the spectrum has no border.
    """
    part = stack if len(stack) <= MOST_SLICES else stack[evenly_spaced(len(stack), MOST_SLICES)]
    scan_range = rule.window_for(part)
    window = task.evaluation_window or scan_range
    levels = [noise_level(slice_, window) for slice_ in part]
    levels = [level / (1.0 if task.evaluation_window else window.width) for level in levels if level > 0.0]
    found = {"spacing_mm": float(max(spacing))}
    if levels:
        found["noise"] = float(np.median(levels))
    finite = np.isfinite(part)
    if task.evaluation_window is not None and (count := np.count_nonzero(finite)):
        found["beyond"] = np.count_nonzero(finite & (part > scan_range.upper)) / count
        if task.units is Units.SUVBW:  # what CT has there is padding, and the noise of air
            limit = scan_range.lower - _SLIGHTLY * scan_range.width
            found["below"] = np.count_nonzero(finite & (part < limit)) / count
    if task.name == "mri-sr":
        from tatcli.inference.data_consistency import SMALLEST_MATRIX, estimate_factors

        if min(stack.shape[1:]) >= SMALLEST_MATRIX:
            down, across = estimate_factors(part)
            if (down > 1.0) != (across > 1.0):
                found["kspace_factor_one_way"] = max(down, across)
            else:
                found["kspace_factor"] = 0.5 * (down + across)
    return found


def domain_warnings(
    scan: ScanHeader,
    stack: NDArray[np.float32],
    task: Task,
    card: WeightsCard,
    *,
    axis: int,
    options: RestoreOptions | None = None,
) -> tuple[str, ...]:
    """What of the scan lies outside the weights' training, one line each, with the card's figures.

    Args:
        scan: the input, in the task's units.
        stack: slices of its first frame that isn't empty, or some of them: (slices, rows, columns).
        task: what is to be restored.
        card: of the weights.
        axis: that is sliced through.
        options: of the restoration. They may refine a coarse grid, or say how k-space was cut: it is then known to be
            empty outside.
    """
    options = options or RestoreOptions()
    scale = options.scale
    known = card.tasks[task.name]
    row, column = in_plane(scan.geometry.spacing, axis)
    found = stack_statistics(stack, task, known.intensity, spacing=(row / scale, column / scale))
    warnings = []
    units = task.units if task.evaluation_window else "of the scan's range"
    for name, what, unit in (("noise", "noise level", units), ("spacing_mm", "pixel size", "mm")):
        limits = known.domain.get(name)
        if limits is not None and name in found and not _within(found[name], limits):
            low, high = limits
            warnings.append(
                f"{what} {found[name]:.3g} {unit}: outside the {low:.3g} to {high:.3g} {unit} that {card.name} was "
                "trained on; check the result against the original"
            )
    range_ = known.intensity.window_for(stack[:1])
    return (*warnings, *_range(found, task, card, range_), *_resolution(found, task, card, options.known_factor))


def _range(found: dict[str, float], task: Task, card: WeightsCard, range_: Window) -> tuple[str, ...]:
    """What lies outside the network's range."""
    warnings = []
    beyond, below = found.get("beyond", 0.0), found.get("below", 0.0)
    if beyond > max(_BEYOND, card.tasks[task.name].domain.get("beyond", (0.0, 0.0))[1]):
        warnings.append(
            f"{100 * beyond:.3g} % of the voxels lie above {range_.upper:g} {task.units}, where {card.name}'s range "
            "ends; they keep their excess, and are restored as if they were at its end"
        )
    if below > _BELOW:
        warnings.append(
            f"{100 * below:.3g} % of the voxels lie well below {range_.lower:g} {task.units}, where {card.name}'s "
            "range begins; they keep what lies below it, noise too: regions without uptake may come out negative"
        )
    return tuple(warnings)


def _resolution(found: dict[str, float], task: Task, card: WeightsCard, told: float | None) -> tuple[str, ...]:
    """What is wrong with an MR scan's resolution, by the factor that was told, else by the spectrum's."""
    factor = told or found.get("kspace_factor")
    one_way = None if told else found.get("kspace_factor_one_way")
    if one_way is not None:
        words = f"the scan's k-space is cut by a factor of {one_way:.2g} along one in-plane axis alone; {card.name} was"
        return (f"{words} trained on scans cut alike along both, and changes others less",)
    if task.name != "mri-sr" or factor is None:
        return ()
    low, high = card.tasks[task.name].strengths
    full = factor == 1.0
    if not full and _within(factor, (low, high)):
        return ()
    trained = f"{card.name} was trained on scans whose k-space was cut by a factor of {low:g} to {high:g}"
    if full:  # whatever the weights know: there may be nothing to restore
        words = (
            "the scan's k-space is not empty outside, so its resolution may be full already, unless it was masked or"
        )
        return (f"{words} resampled since; {trained}",)
    return (f"the scan's k-space is cut by a factor of {factor:.2g}; {trained}",)


def _within(value: float, limits: tuple[float, float]) -> bool:
    return limits[0] / _TOLERANCE <= value <= limits[1] * _TOLERANCE
