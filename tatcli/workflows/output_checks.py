"""What can be wrong with the names of a run's outputs: told before anything is read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tatcli.errors import OutputError
from tatcli.volumes.formats import format_to_write, written_for
from tatcli.workflows.evidence import check_evidence
from tatcli.workflows.output_names import asked_format, default_output

if TYPE_CHECKING:
    from tatcli.workflows.restore import RestoreConfig

__all__ = ["checked_outputs"]


def checked_outputs(config: RestoreConfig) -> tuple[Path, str]:
    """The output's path and format, once nothing speaks against it, the report's and those of the evidence.

    Raises:
        OutputError: one exists (unless it may be replaced), is the input or another of them, or can't be written to.
        UsageError: a format that tat doesn't write.
    """
    from tatcli.volumes.reading import kind_of
    from tatcli.volumes.writing import check_output

    source = kind_of(config.input, series=config.series)
    asked = asked_format(config.format)
    source = "npy" if source == "tensor" else source  # a bare array, too
    output = config.output or default_output(config.input, asked or source)
    kind = format_to_write(output, asked if config.output else asked or source)
    check_output(output, source=config.input, overwrite=config.overwrite, kind=kind)
    if kind == "npy" and source != "npy":
        msg = f"{output}: expected a format that keeps the scan's grid, got .npy; name the output .nii.gz"
        raise OutputError(msg)
    if kind == "dicom" and source != "dicom":
        msg = f"{output}: expected an output ending in .nii.gz, .nrrd or .mha, since DICOM is written from DICOM only"
        raise OutputError(msg + f", got {source} to write a folder of it; change the name")
    others = written_for(output)
    if config.report is not None:
        _check_report(config.report, config, output=output)
        others = (*others, config.report)
    check_evidence(config.evidence, source=config.input, others=others, overwrite=config.overwrite)
    return output, kind


def _check_report(report: Path, config: RestoreConfig, *, output: Path) -> None:
    from tatcli.volumes.replacing import checked_output
    from tatcli.volumes.writing import source_voxels

    for source in (config.input, source_voxels(config.input)):
        checked_output(report, source=source, overwrite=config.overwrite)
    place = report.resolve()
    if any(path.resolve() in (place, *place.parents) for path in written_for(output)):
        msg = f"{report}: expected a report apart from the output, got the same name; choose another"
        raise OutputError(msg)
