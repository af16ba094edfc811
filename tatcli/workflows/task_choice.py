"""Which task a scan is for, where the caller leaves that to the file."""

from __future__ import annotations

from tatcli.errors import UsageError
from tatcli.tasks import TASKS, Task, task_for_modality

__all__ = ["task_of"]


def task_of(modality: str | None, name: str) -> Task:
    """The task that a scan's modality asks for.

    Raises:
        UsageError: the file doesn't say, or says one that no task takes; the message lists the tasks.
    """
    task = task_for_modality(modality)
    if task is None:
        tasks = ", ".join(TASKS)
        got = f"modality {modality}" if modality else "a file that doesn't name its modality"
        msg = f"{name}: expected CT, PT or MR to choose the task by, got {got}; choose --task {tasks}"
        raise UsageError(msg)
    return task
