"""What can be wrong with the names of a run's outputs: told before anything is read."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from tatcli.errors import OutputError
from tatcli.volumes.formats import extension_of, format_to_write, written_for
from tatcli.workflows.evidence import check_evidence
from tatcli.workflows.output_names import asked_format, default_output

if TYPE_CHECKING:
    from tatcli.workflows.restore import RestoreConfig

__all__ = ["check_format", "check_results", "checked_outputs"]


def checked_outputs(config: RestoreConfig) -> tuple[Path, str]:
    """The output's path and format, once nothing speaks against it, the report's and those of the evidence.

    Raises:
        OutputError: one exists (unless it may be replaced), is the input or another of them, or can't be written to.
        UsageError: a format that tat doesn't write, or can't de-identify.
    """
    from tatcli.volumes.reading import kind_of
    from tatcli.volumes.writing import check_output

    source = kind_of(config.input, series=config.series)
    asked = asked_format(config.format)
    source = "npy" if source == "tensor" else source  # a bare array, too
    output = config.output or default_output(config.input, asked or source)
    kind = format_to_write(output, asked if config.output else asked or source)
    check_output(output, source=config.input, overwrite=config.overwrite, kind=kind)
    check_format(output, kind, source=source)
    config.dicom.check_kind(kind, output)
    others = written_for(output)
    if config.report is not None:
        _check_report(config.report, config, output=output)
        others = (*others, config.report)
    check_evidence(config.evidence, source=config.input, others=others, overwrite=config.overwrite)
    return output, kind


def check_format(output: Path, kind: str, *, source: str) -> None:
    """Refuse a format that can't hold what comes from the source's.

    Args:
        output: where to.
        kind: its format.
        source: the input's format, ``npy`` for any bare array, or ``memory``.

    Raises:
        OutputError: an array without a grid for a scan that has one; DICOM of what isn't DICOM.
    """
    if kind == "npy" and source != "npy":
        msg = f"{output}: expected a format that keeps the scan's grid, got .npy; name the output .nii.gz"
        raise OutputError(msg)
    if kind == "dicom" and source != "dicom":
        msg = f"{output}: expected an output ending in .nii.gz, .nrrd or .mha, since DICOM is written from DICOM only"
        raise OutputError(msg + f", got {source} to write a folder of it; change the name")


def check_results(files: Iterable[Path], *, sources: Iterable[Path] = (), overwrite: bool) -> None:
    """Refuse names of files with scores or timings that can't be written, or would replace scans.

    Args:
        files: where results go.
        sources: scans and folders that they are of.
        overwrite: whether existing files may be replaced.

    Raises:
        OutputError: one exists (unless ``overwrite``), is named twice, like a scan, or is one of the sources.
    """
    from tatcli.volumes.replacing import checked_output

    origins = tuple(sources)
    taken: set[Path] = set()
    for path in files:
        _refuse_scan(path)
        for source in origins or (None,):
            checked_output(path, source=source, overwrite=overwrite)
        if path.resolve() in taken:
            msg = f"{path}: expected a file of its own for each result, got a name that is used twice; choose another"
            raise OutputError(msg)
        taken.add(path.resolve())


def _refuse_scan(path: Path) -> None:
    """Refuse a name for results that is a scan's, or where a DICOM file lies (which often has no extension)."""
    from tatcli.volumes.dicom_files import is_dicom

    if extension_of(path) is not None or (path.is_file() and is_dicom(path)):
        msg = f"{path}: expected a name for results, got a scan's; choose another"
        raise OutputError(msg)


def _check_report(report: Path, config: RestoreConfig, *, output: Path) -> None:
    from tatcli.volumes.members import members_of
    from tatcli.volumes.replacing import checked_output

    for source in [config.input] if config.input.is_dir() else members_of(config.input):
        checked_output(report, source=source, overwrite=config.overwrite)
    place = report.resolve()
    if any(path.resolve() in (place, *place.parents) for path in written_for(output)):
        msg = f"{report}: expected a report apart from the output, got the same name; choose another"
        raise OutputError(msg)
    _refuse_scan(report)
