"""What a classical baseline is: a filter for one slice, with one parameter in units that carry over between scans."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from tatcli.metrics.noise_level import noise_level

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tatcli.intensity import Window

__all__ = ["Baseline", "SliceContext", "noise_level"]


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
        unit: what its parameter counts: the slice's noise levels, pixels, widths of the evaluation window, steps of an
            iteration, or nothing (a plain factor).
        grid: parameters to tune over, rising.
        tasks: names of the tasks that it is compared on unless asked otherwise.
        apply: (slice, parameter, context) -> slice; float64, finite, (rows, columns).
        needs_strength: it works only where the degradation's strength is known.
        package: module that it needs beyond tat's own requirements.
        extra: of tat's distribution that installs it.
        usual: whether ``tat evaluate`` runs it without being asked; ``tat benchmark quality`` runs all that are there.
    """

    name: str
    summary: str
    unit: Literal["noise levels", "pixels", "window widths", "steps", "factor"]
    grid: tuple[float, ...]
    tasks: tuple[str, ...]
    apply: Filter
    needs_strength: bool = False
    package: str | None = None
    extra: str | None = None
    usual: bool = True

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
