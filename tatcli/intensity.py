"""Intensities: physical units, windows, and the rule that maps a scan onto the network's range [0, 1]."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tatcli.percentile import PositivePercentile

__all__ = ["FixedRange", "IntensityRule", "RobustRange", "Units", "Window", "rule_from_dict"]

Array = TypeVar("Array")
"""A numpy array or torch tensor: windows only use arithmetic and ``clip``."""


class Units(StrEnum):
    """Physical units of voxel values, in DICOM's and QIBA's spelling."""

    HU = "HU"
    SUVBW = "SUVbw"
    BQML = "BQML"
    ARBITRARY = "a.u."
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Window:
    """A closed intensity interval [lower, upper] in physical units."""

    lower: float
    upper: float

    def __post_init__(self) -> None:
        if not self.upper > self.lower:
            msg = f"window: expected upper > lower, got [{self.lower}, {self.upper}]"
            raise ValueError(msg)

    @property
    def width(self) -> float:
        """Upper minus lower."""
        return self.upper - self.lower

    def clip(self, values: Array) -> Array:
        """Values limited to the window."""
        return values.clip(self.lower, self.upper)  # type: ignore[attr-defined,no-any-return]

    def normalise(self, values: Array) -> Array:
        """Physical units -> [0, 1] (linear; not clipped)."""
        return (values - self.lower) * (1.0 / self.width)  # type: ignore[operator,return-value]

    def denormalise(self, values: Array) -> Array:
        """[0, 1] -> physical units, the inverse of :meth:`normalise`."""
        return values * self.width + self.lower  # type: ignore[operator,return-value]


@dataclass(frozen=True)
class FixedRange:
    """The same network range for every scan (CT in HU, PET in SUV)."""

    window: Window
    kind: Final = "fixed"

    def __post_init__(self) -> None:
        if not math.isfinite(self.window.width):
            msg = f"intensity rule: expected finite bounds, got [{self.window.lower}, {self.window.upper}]"
            raise ValueError(msg)

    def window_for(self, values: NDArray[np.floating[Any]]) -> Window:  # noqa: ARG002
        """The network range of a scan with these voxel values."""
        return self.window

    def to_dict(self) -> dict[str, Any]:
        """JSON form, for a weights card."""
        return {"kind": self.kind, "lower": self.window.lower, "upper": self.window.upper}


@dataclass(frozen=True)
class RobustRange:
    """A range from the scan's own intensities: [0, scale * percentile of its positive finite voxels].

    MR intensities are arbitrary between scans, so the range follows each scan (volume, not slice).
    Voxels above the upper bound survive through the residual rule of the restorer.
    """

    percentile: float
    scale: float = 1.0
    kind: Final = "robust"

    def __post_init__(self) -> None:
        if not (0.0 <= self.percentile <= 100.0 and 0.0 < self.scale < math.inf):
            got = f"percentile {self.percentile:g} and scale {self.scale:g}"
            msg = f"intensity rule: expected a percentile from 0 to 100 and a scale above 0, got {got}"
            raise ValueError(msg)

    def window_for(self, values: NDArray[np.floating[Any]]) -> Window:
        """The network range of a scan with these voxel values, (..., rows, columns)."""
        from tatcli.percentile import PositivePercentile

        found = PositivePercentile()
        planes = values.reshape(-1, *values.shape[-2:])  # plane by plane, so that nothing of the scan's size is made
        for plane in planes:
            found.add(plane)
        found.choose(self.percentile)
        for plane in planes:
            found.refine(plane)
        return self.window_from(found)

    def window_from(self, found: PositivePercentile) -> Window:
        """The network range of a scan whose percentile was found."""
        value = found.value()
        upper = 1.0 if value is None else value * self.scale
        return Window(0.0, upper if upper > 0 else 1.0)

    def to_dict(self) -> dict[str, Any]:
        """JSON form, for a weights card."""
        return {"kind": self.kind, "percentile": self.percentile, "scale": self.scale}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Self:
        """The inverse of :meth:`to_dict`."""
        return cls(float(fields["percentile"]), float(fields.get("scale", 1.0)))


IntensityRule = FixedRange | RobustRange


def rule_from_dict(fields: dict[str, Any]) -> IntensityRule:
    """Read an intensity rule from its JSON form.

    Raises:
        ValueError: the kind is neither ``fixed`` nor ``robust``.
    """
    kind = fields.get("kind")
    if kind == FixedRange.kind:
        return FixedRange(Window(float(fields["lower"]), float(fields["upper"])))
    if kind == RobustRange.kind:
        return RobustRange.from_dict(fields)
    msg = f"intensity rule: expected kind 'fixed' or 'robust', got {kind!r}"
    raise ValueError(msg)
