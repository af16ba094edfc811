"""The trained networks that teach a run: TATs, or ones that TAT is compared with, each for its tasks."""

from __future__ import annotations

import json
from pathlib import Path

from torch import nn

from tatcli.baselines.networks import load_comparison_weights
from tatcli.errors import UsageError
from tatcli.model.weights import WeightsCard, find_weights, load_weights
from tatcli.tasks import TASKS
from tatcli.training.config import TrainConfig
from tatcli.training.teacher import TeachingNetwork

__all__ = ["load_teachers"]


def load_teachers(config: TrainConfig) -> tuple[TeachingNetwork, ...]:
    """The networks of ``config.teacher``: each teaches the taught tasks of its card.

    Raises:
        UsageError: a network was trained for none of the tasks, or with another network range.
        WeightsError: missing or damaged weights.
    """
    names = [name.strip() for name in (config.teacher or "").split(",") if name.strip()]
    return tuple(_teacher(name, config) for name in names)


def _teacher(name: str, config: TrainConfig) -> TeachingNetwork:
    module, card = _loaded(find_weights(name))
    taught = [task for task in config.tasks if config.taught(task)]
    tasks = [task for task in taught if task in card.tasks]
    if not tasks:
        msg = f"--teacher {name}: expected weights for {' or '.join(taught)}, got ones for {', '.join(card.tasks)}"
        raise UsageError(msg + ("" if len(taught) == len(config.tasks) else "; the other tasks' --teacher-share is 0"))
    for task in tasks:
        wanted, found = config.intensity(TASKS[task]), card.tasks[task].intensity
        if wanted != found:
            msg = f"--teacher {name}: expected {task} in the run's network range, {wanted}, got weights for {found}"
            raise UsageError(msg + "; see --mri-range")
    return TeachingNetwork(module, tasks)


def _loaded(path: Path) -> tuple[nn.Module, WeightsCard]:
    """A TAT, or the comparison network that the card beside the file names."""
    try:
        network = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))["network"]
    except (OSError, ValueError, KeyError, TypeError):
        return load_weights(path)  # which says what is wrong with the card, if anything is
    return load_comparison_weights(str(network), path)
