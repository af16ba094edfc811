"""Degradations: high quality -> low quality, one seeded simulator for each task.

:func:`simulate` takes whole volumes. Training uses the array-level functions of :mod:`low_dose_ct`,
:mod:`low_count_pet` and :mod:`low_resolution_mri`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tatcli.degradation.simulation import simulate as simulate

__all__ = ["simulate"]


def __getattr__(name: str) -> Any:
    """Load the simulators, and with them scipy, on first use (PEP 562)."""
    if name not in __all__:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    from tatcli.degradation import simulation

    return getattr(simulation, name)
