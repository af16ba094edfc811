"""Made-up scans, of which everything is known. Names load on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tatcli.phantoms.brain import brain_pet as brain_pet
    from tatcli.phantoms.whole_body import whole_body_pet as whole_body_pet

__all__ = ["brain_pet", "whole_body_pet"]


def __getattr__(name: str) -> Any:
    """Load the painter, and with it scipy, on first use (PEP 562)."""
    if name not in __all__:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    from tatcli.phantoms import brain, whole_body

    return getattr(brain if name == "brain_pet" else whole_body, name)
