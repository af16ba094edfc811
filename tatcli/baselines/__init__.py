"""Classical filters to compare the network with, one file each, and how their parameter is tuned."""

from __future__ import annotations

from tatcli.baselines.baseline import Baseline, SliceContext, noise_level
from tatcli.baselines.registry import BASELINES, every_baseline, find_baseline, is_installed, usual_baselines
from tatcli.baselines.tuning import TrainingSlice, TunedBaseline, tune

__all__ = [
    "BASELINES",
    "Baseline",
    "SliceContext",
    "TrainingSlice",
    "TunedBaseline",
    "every_baseline",
    "find_baseline",
    "is_installed",
    "noise_level",
    "tune",
    "usual_baselines",
]
