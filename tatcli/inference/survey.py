"""What must be known of a scan before its first slice is restored, in as few passes over it as that takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tatcli.inference.value_summary import Summariser, ValueSummary
from tatcli.intensity import FixedRange, IntensityRule, Window
from tatcli.percentile import PositivePercentile
from tatcli.volumes.planes import PlaneSource
from tatcli.volumes.varying_frames import FirstVarying

__all__ = ["Survey", "survey", "windows_for"]


@dataclass(frozen=True, eq=False)
class Survey:
    """What one pass gave.

    Attributes:
        summary: of the values.
        telling_frame: the first whose values differ, or the first where none has such.
        percentiles: for each frame, after the first of their two passes; empty where no rule was expected to need them.
    """

    summary: ValueSummary
    telling_frame: int = 0
    percentiles: Sequence[PositivePercentile] = ()


def survey(source: PlaneSource, expected: IntensityRule) -> Survey:
    """Pass over a scan once.

    Args:
        source: the scan.
        expected: the task's own rule: what the weights, which aren't loaded yet, will probably ask for.

    Raises:
        VolumeReadError: the file is truncated or damaged.
    """
    summariser, varying = Summariser(source.header), FirstVarying()
    frames = 0 if isinstance(expected, FixedRange) else source.header.frames
    percentiles = [PositivePercentile() for _ in range(frames)]
    for frame, values in source.values():
        summariser.add(values)
        varying.add(frame, values)
        if percentiles:
            percentiles[frame].add(values)
    return Survey(summariser.summary(), varying.frame, percentiles)


def windows_for(source: PlaneSource, rule: IntensityRule, found: Survey) -> list[Window]:
    """The network's range for every frame, the same as ``rule.window_for`` gives of its array.

    Args:
        source: the scan; it is passed over once more where the rule needs it, twice where the survey didn't expect it.
        rule: of the weights.
        found: by the survey.

    Raises:
        VolumeReadError: the file is truncated or damaged.
    """
    if isinstance(rule, FixedRange):
        return [rule.window] * source.header.frames
    percentiles = found.percentiles
    if not percentiles:
        percentiles = [PositivePercentile() for _ in range(source.header.frames)]
        for frame, values in source.values():
            percentiles[frame].add(values)
    for percentile in percentiles:
        percentile.choose(rule.percentile)
    for frame, values in source.values():
        percentiles[frame].refine(values)
    return [rule.window_from(percentile) for percentile in percentiles]
