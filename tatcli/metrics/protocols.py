"""The evaluation protocols: which data range PSNR and SSIM refer to, and what is averaged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from tatcli.errors import UsageError
from tatcli.intensity import IntensityRule, Window

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tatcli.tasks import Task

__all__ = ["FIXED_RANGES", "PROTOCOLS", "Protocol", "evaluation_window", "find_protocol"]

FIXED_RANGES: Final[dict[str, float]] = {"ct-denoise": 4095.0, "pet-synthesis": 20.0, "mri-sr": 4095.0}
"""Data ranges of the protocol ``fixed``, by task, as in UniH3's code; MRI's suits scans of 12-bit intensities only."""


@dataclass(frozen=True)
class Protocol:
    """How a restored volume is scored. Every protocol clips both volumes to the task's evaluation window first.

    Attributes:
        name: the CLI name.
        per: what a PSNR or RMSE is computed of; those of slices are averaged over the volume. SSIM is always per slice.
        summary: one line for help texts and reports.
    """

    name: str
    per: Literal["slice", "volume"]
    summary: str


PROTOCOLS: Final[dict[str, Protocol]] = {
    protocol.name: protocol
    for protocol in (
        Protocol("paper", "slice", "data range: max - min of the clipped HQ slice; mean over slices"),
        Protocol("fixed", "slice", "data range: PET 20, CT and MRI 4095; mean over slices"),
        Protocol(
            "volume",
            "volume",
            "data range: the evaluation window's width (MRI: the HQ volume's max - min); over the whole volume",
        ),
    )
}


def find_protocol(name: str) -> Protocol:
    """The protocol of this name.

    Raises:
        UsageError: no such protocol; the message lists the known ones.
    """
    protocol = PROTOCOLS.get(name.strip().lower())
    if protocol is None:
        msg = f"unknown protocol {name!r}: expected one of {', '.join(PROTOCOLS)}"
        raise UsageError(msg)
    return protocol


def evaluation_window(task: Task, reference: NDArray[np.floating[Any]], *, rule: IntensityRule | None = None) -> Window:
    """The window inside which a scan is scored.

    Args:
        task: its own evaluation window counts, where it has one (CT, PET).
        reference: the whole HQ scan; it decides where the task has no window (MRI: the scan's network range).
        rule: the network's intensity rule, from the weights' card; default: the task's.
    """
    return task.evaluation_window or (rule or task.intensity).window_for(reference)
