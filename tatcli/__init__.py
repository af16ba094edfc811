"""Medical image restoration with the Task-Adaptive Transformer (TAT): low-dose CT, low-count PET, low-resolution MRI.

The public names load on first use, so that ``import tatcli`` (and ``tat --help``) costs neither torch nor numpy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from tatcli.degradation import simulate as simulate
    from tatcli.inference import Restorer as Restorer
    from tatcli.tasks import TASKS as TASKS
    from tatcli.volumes import read_volume as read_volume
    from tatcli.volumes import write_volume as write_volume
    from tatcli.workflows.evaluate import evaluate as evaluate

__version__ = "0.1.0"

__all__ = ["TASKS", "Restorer", "__version__", "evaluate", "read_volume", "simulate", "write_volume"]

_HOMES: Final[dict[str, str]] = {
    "TASKS": "tatcli.tasks",
    "Restorer": "tatcli.inference",
    "evaluate": "tatcli.workflows.evaluate",
    "read_volume": "tatcli.volumes",
    "simulate": "tatcli.degradation",
    "write_volume": "tatcli.volumes",
}


def __getattr__(name: str) -> Any:
    """Import a public name from its module on first use (PEP 562)."""
    if name not in _HOMES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names, loaded or not."""
    return sorted({*globals(), *__all__})
