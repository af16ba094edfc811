"""The arms of the ablation: what is changed of TAT, everything else being equal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from tatcli.errors import UsageError

__all__ = ["ARMS", "Arm", "find_arms"]


@dataclass(frozen=True)
class Arm:
    """One variant.

    Attributes:
        name: the command line's.
        summary: what it is.
        options: of the training that differ from the study's.
        separate: a network for each task instead of one for all.
    """

    name: str
    summary: str
    options: Mapping[str, Any] = field(default_factory=dict)
    separate: bool = False


ARMS: Final[dict[str, Arm]] = {
    arm.name: arm
    for arm in (
        Arm("tat", "adaptive kernels and loss balancing", {"network": "tat", "loss": "balanced"}),
        Arm("static", "loss balancing only", {"network": "static-tat", "loss": "balanced"}),
        Arm("l1", "adaptive kernels only: plain L1", {"network": "tat", "loss": "l1"}),
        Arm("static-l1", "neither", {"network": "static-tat", "loss": "l1"}),
        Arm("uncertainty", "one uncertainty per task (Kendall et al. 2018)", {"network": "tat", "loss": "uncertainty"}),
        Arm("psnr", "decibels", {"network": "tat", "loss": "psnr"}),
        Arm("single", "a network for each task", {"network": "tat", "loss": "balanced"}, separate=True),
    )
}
"""The first one is what the others are compared with."""


def find_arms(names: Sequence[str]) -> tuple[Arm, ...]:
    """The arms of these names; all of them for none.

    Raises:
        UsageError: an unknown one; the message lists the known ones.
    """
    unknown = [name for name in names if name not in ARMS]
    if unknown:
        msg = f"--arms: unknown {', '.join(unknown)}: expected some of {', '.join(ARMS)}"
        raise UsageError(msg)
    return tuple(ARMS[name] for name in dict.fromkeys(names)) or tuple(ARMS.values())
