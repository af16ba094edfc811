"""Make up a scan and write it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

__all__ = ["PhantomConfig", "PhantomReport", "make_phantom"]


@dataclass(frozen=True, kw_only=True)
class PhantomConfig:
    """Options of ``tat phantom``.

    Attributes:
        output: where to.
        seed: decides everything.
        region: ``whole-body`` or ``brain``.
        overwrite: whether an existing output may be replaced.
    """

    output: Path
    seed: int = 0
    region: Literal["whole-body", "brain"] = "whole-body"
    overwrite: bool = False


@dataclass(frozen=True)
class PhantomReport:
    """What was made: how, and its (slices, rows, columns)."""

    output: Path
    step: str
    shape: tuple[int, int, int]


def make_phantom(config: PhantomConfig) -> PhantomReport:
    """Make up a PET and write it.

    Raises:
        UsageError, OutputError: an output that can't be written.
    """
    from tatcli.phantoms import brain_pet, whole_body_pet
    from tatcli.volumes.formats import format_to_write
    from tatcli.volumes.writing import check_output, write_volume
    from tatcli.workflows.output_checks import check_format

    check_output(config.output, source=None, overwrite=config.overwrite)
    check_format(config.output, format_to_write(config.output), source="memory")
    made = (brain_pet if config.region == "brain" else whole_body_pet)(config.seed)
    write_volume(made, config.output, overwrite=config.overwrite)
    return PhantomReport(config.output, made.provenance.steps[-1], made.geometry.shape)
