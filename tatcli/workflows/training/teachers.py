"""The trained networks that teach a run: TATs, or ones that TAT is compared with, each for its tasks."""

from __future__ import annotations

from tatcli.baselines.networks import load_any_weights
from tatcli.errors import UsageError
from tatcli.model.weights import find_weights
from tatcli.tasks import TASKS
from tatcli.training.config import TrainConfig
from tatcli.training.teacher import TeachingNetwork

__all__ = ["load_teachers", "teacher_names"]


def teacher_names(config: TrainConfig) -> tuple[str, ...]:
    """The names and paths that ``config.teacher`` lists."""
    return tuple(name.strip() for name in (config.teacher or "").split(",") if name.strip())


def load_teachers(config: TrainConfig) -> tuple[TeachingNetwork, ...]:
    """The networks of ``config.teacher``: each teaches the taught tasks of its card.

    Raises:
        UsageError: a network was trained for none of the tasks, or with another network range.
        WeightsError: missing or damaged weights.
    """
    return tuple(_teacher(name, config) for name in teacher_names(config))


def _teacher(name: str, config: TrainConfig) -> TeachingNetwork:
    module, card = load_any_weights(find_weights(name))
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
