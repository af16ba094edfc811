"""What datasets and prepared sets have: splits of tasks."""

from __future__ import annotations

from pathlib import Path

from tatcli.errors import UsageError
from tatcli.tasks import TASKS, Task
from tatcli.training.config import TrainConfig
from tatcli.training.pairs import has_scans

__all__ = ["check_sources", "has_references"]


def check_sources(config: TrainConfig) -> None:
    """That every further dataset is of use.

    Raises:
        UsageError: one that isn't there, or has scans of none of the tasks to train on.
    """
    for root in config.also:
        if not any(has_references(root, TASKS[task], "train") for task in config.tasks):
            msg = f"--also {root}: expected scans of {', '.join(config.tasks)} to train on, found none"
            raise UsageError(msg)


def has_references(root: Path, task: Task, split: str) -> bool:
    """Whether a dataset, or a prepared set, has the split of a task.

    Raises:
        UsageError: no dataset, or a set that isn't whole.
    """
    from tatcli.training.prepared_set import has_entries, is_prepared

    return has_entries(root, task, split) if is_prepared(root) else has_scans(root, task, split)
