"""What a classical baseline is: a filter for one slice, with one parameter in units that carry over between scans."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import scipy.ndimage

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tatcli.intensity import Window

__all__ = ["Baseline", "SliceContext", "noise_level"]

_PATCH: Final = 9
_PERCENTILE: Final = 20.0
_MARGIN: Final = 0.01
_FEWEST: Final = 50


@dataclass(frozen=True)
class SliceContext:
    """What a filter may know of a slice: never its reference.

    Attributes:
        noise: the slice's noise level, in its own units, from :func:`noise_level`.
        window: the evaluation window.
        strength: the degradation's strength, where it is known (MRI: the k-space factor).
    """

    noise: float
    window: Window
    strength: float | None = None

    @classmethod
    def of(cls, slice_: NDArray[np.floating[Any]], *, window: Window, strength: float | None = None) -> SliceContext:
        """The context of a slice (rows, columns), its noise level measured."""
        return cls(noise_level(slice_, window), window, strength)


Filter = Callable[["NDArray[np.float64]", float, SliceContext], "NDArray[np.float64]"]


@dataclass(frozen=True)
class Baseline:
    """A classical filter.

    Attributes:
        name: the CLI name.
        summary: one line with its source.
        unit: what its parameter counts: the slice's noise levels, pixels, widths of the evaluation window, or nothing
            (a plain factor).
        grid: parameters to tune over, rising.
        tasks: names of the tasks that it is compared on unless asked otherwise.
        apply: (slice, parameter, context) -> slice; float64, finite, (rows, columns).
        needs_strength: it works only where the degradation's strength is known.
        package: distribution that it needs beyond tat's own requirements.
    """

    name: str
    summary: str
    unit: Literal["noise levels", "pixels", "window widths", "factor"]
    grid: tuple[float, ...]
    tasks: tuple[str, ...]
    apply: Filter
    needs_strength: bool = False
    package: str | None = None

    def __call__(
        self, slice_: NDArray[np.floating[Any]], parameter: float, *, context: SliceContext
    ) -> NDArray[np.float32]:
        """The filtered slice; voxels that are not finite stay as they are.

        Args:
            slice_: (rows, columns), physical units.
            parameter: in :attr:`unit`.
            context: of this slice.
        """
        finite = np.isfinite(slice_)
        filled = np.where(finite, slice_, context.window.lower).astype(np.float64)
        if self.unit == "noise levels" and context.noise == 0.0:
            return np.array(slice_, dtype=np.float32)
        return np.where(finite, self.apply(filled, parameter, context), slice_).astype(np.float32)


def noise_level(slice_: NDArray[np.floating[Any]], window: Window) -> float:
    """How noisy a slice is: the 20th percentile of the local standard deviation (9x9) of what the window shows.

    Structure only adds to the local deviation, so a low percentile shows the noise, whatever its spectrum: of the noise
    added to CT at a quarter of the dose it shows 1.0-1.3 times the standard deviation (the reference's own noise is
    part of it). Where noise follows the signal (PET) it stands for the quieter parts, and without noise (MRI) for the
    texture. It is a unit for parameters tuned on other slices, not a measurement.

    Args:
        slice_: (rows, columns), physical units.
        window: pixels whose local mean is at or beyond one of its bounds (air, bone) don't count, unless all are.

    Returns:
        In the slice's units; 0 for a constant slice.
    """
    values = np.nan_to_num(np.asarray(slice_, dtype=np.float64), nan=window.lower)
    values = np.clip(values, window.lower - window.width, window.upper + window.width)
    mean = scipy.ndimage.uniform_filter(values, _PATCH)
    variance = scipy.ndimage.uniform_filter((values - values.mean()) ** 2, _PATCH) - (mean - values.mean()) ** 2
    deviation = np.sqrt(np.maximum(variance, 0.0))
    shown = (mean > window.lower + _MARGIN * window.width) & (mean < window.upper - _MARGIN * window.width)
    if shown.sum() < _FEWEST:
        shown = deviation > 1e-9 * window.width
    return float(np.percentile(deviation[shown], _PERCENTILE)) if shown.any() else 0.0
