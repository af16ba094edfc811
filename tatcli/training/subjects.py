"""Whom a scan is of, and how likely it is drawn."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["shares", "subject_of"]


def subject_of(name: str, pattern: str | None) -> str:
    """The subject that a scan is of: the pattern's first group (or all that it matches) in the name, else the name."""
    found = re.search(pattern, name) if pattern else None
    return name if found is None else found.group(1 if found.groups() else 0)


def shares(sizes: Sequence[int], subjects: Sequence[str] | None) -> NDArray[np.float64]:
    """How likely each scan is drawn, in all 1.

    Args:
        sizes: voxels of each scan.
        subjects: whom each is of: subjects are then equally likely, and of one subject's scans every voxel (a subject
            with many scans, or long ones, isn't seen more often); None: every voxel of all is equally likely.
    """
    voxels = np.array(sizes, dtype=np.float64)
    if subjects is None:
        return np.asarray(voxels / voxels.sum())
    _, whose = np.unique(np.array(subjects), return_inverse=True)
    each = np.bincount(whose, weights=voxels)
    return np.asarray(voxels / each[whose] / len(each))
