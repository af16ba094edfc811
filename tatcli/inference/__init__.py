"""Run trained networks on whole scans. Names load on first use: the options need no torch."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tatcli.inference.guards import check_scan
    from tatcli.inference.options import RestoreOptions
    from tatcli.inference.restorer import Restorer

__all__ = ["RestoreOptions", "Restorer", "check_scan"]

_HOMES = {"RestoreOptions": "options", "Restorer": "restorer", "check_scan": "guards"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
