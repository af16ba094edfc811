"""The part of the network range that scores look at.

CT is scored between -160 and 240 HU. Of the squared error of a restored abdomen two fifths lie outside of it, in the
air around the patient, in the lungs and in bone: trained alike, a network spends as much of itself there, and what is
scored learns from gradients that are so much noisier.
"""

from __future__ import annotations

import math
from typing import Final, TypeVar

from tatcli.intensity import FixedRange, IntensityRule
from tatcli.tasks import Task

__all__ = ["counted", "scored_range"]

Squares = TypeVar("Squares")
"""A numpy array or torch tensor."""

_OUTSIDE: Final = 0.1
"""What a squared error counts beyond the bounds that scores look at: lungs and bone are to be restored as well."""


def scored_range(task: Task, rule: IntensityRule) -> tuple[float, float]:
    """The evaluation window on the network's scale, where the network range is [0, 1].

    Args:
        task: whose.
        rule: its map onto the network range.

    Returns:
        Lower and upper bound; infinite ones where all of the network range is scored.
    """
    scored = task.evaluation_window
    if scored is None or not isinstance(rule, FixedRange) or scored == rule.window:
        return -math.inf, math.inf
    return rule.window.normalise(scored.lower), rule.window.normalise(scored.upper)


def counted(squares: Squares, scored: Squares) -> Squares:
    """What squared errors count, or sums of them.

    Args:
        squares: in the network range.
        scored: of the same, within the bounds that scores look at.
    """
    return _OUTSIDE * squares + (1 - _OUTSIDE) * scored  # type: ignore[operator,return-value]
