"""Voxels without a number in references: networks and simulators need one everywhere."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tatcli.tasks import Task

__all__ = ["without_holes"]

_AIR_HU = -1000.0


def without_holes(values: NDArray[np.floating[Any]], task: Task) -> NDArray[np.float32]:
    """NaN becomes what surrounds a patient (air in CT, nothing elsewhere), infinities the scan's own extremes."""
    air = _AIR_HU if task.modality == "CT" else 0.0
    known = values[np.isfinite(values)]
    least, most = (known.min(), known.max()) if known.size else (air, air)
    return np.asarray(np.nan_to_num(values, nan=air, posinf=most, neginf=least), dtype=np.float32)
