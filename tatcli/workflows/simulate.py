"""Degrade a scan the way its task's acquisition does, and write the result."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tatcli.intensity import Units
from tatcli.tasks import find_task

if TYPE_CHECKING:
    from tatcli.volumes.pet_tags import PetTags

__all__ = ["SimulateConfig", "SimulateReport", "simulate_scan"]


@dataclass(frozen=True, kw_only=True)
class SimulateConfig:
    """Options of ``tat simulate``.

    Attributes:
        input: a file or a DICOM folder: the reference.
        output: where to.
        task: a task, an alias, or ``auto``: by the modality that the file names.
        strength: dose fraction, dose reduction factor or k-space factor; None: the task's default.
        seed: of the noise.
        axis: slice plane.
        reference_noise: the reference's own noise (HU, or the coefficient of variation for PET); None: measured.
        kernel: CT reconstruction kernel, or ``auto``.
        slice_correlation: of the noise of neighbouring CT slices; None: the reference's own.
        series: which series of a DICOM folder.
        units: the caller's word on the units of the values; they are then not checked.
        pet: the caller's word on what SUV needs of a PET's DICOM header or BIDS sidecar.
        overwrite: whether an existing output may be replaced.
    """

    input: Path
    output: Path
    task: str = "auto"
    strength: float | None = None
    seed: int = 0
    axis: str = "auto"
    reference_noise: float | None = None
    kernel: str = "auto"
    slice_correlation: float | None = None
    series: str | None = None
    units: Units | None = None
    pet: PetTags | None = None
    overwrite: bool = False


@dataclass(frozen=True)
class SimulateReport:
    """What was done: the simulator's own description of it, and what was odd."""

    output: Path
    task: str
    step: str
    warnings: tuple[str, ...]


def simulate_scan(config: SimulateConfig) -> SimulateReport:
    """Read, degrade, write.

    Raises:
        UsageError, OutputError: options that don't fit, an output that can't be written.
        VolumeReadError, GeometryError, UnitsError, TaskMismatchError: the input is none for this task.
    """
    from tatcli.degradation import simulate
    from tatcli.inference.guards import check_scan
    from tatcli.reporting.run_report import intensity_statistics
    from tatcli.volumes.dicom_checks import check_dicom_output, dicom_header
    from tatcli.volumes.dicom_options import DicomOptions
    from tatcli.volumes.formats import format_to_write
    from tatcli.volumes.reading import kind_of, read_volume
    from tatcli.volumes.slices import acquired_plane
    from tatcli.volumes.writing import check_output, write_volume
    from tatcli.workflows.limits import beyond_type
    from tatcli.workflows.output_checks import check_format
    from tatcli.workflows.restoring.pet_sidecar import pet_sidecar
    from tatcli.workflows.task_choice import task_of

    asked = None if config.task == "auto" else find_task(config.task)
    source = kind_of(config.input, series=config.series)
    check_output(config.output, source=config.input, overwrite=config.overwrite)
    kind = format_to_write(config.output)
    check_format(config.output, kind, source="npy" if source == "tensor" else source)
    sidecar = pet_sidecar(config.input, config.output, pet=config.pet, description="simulated by tat")
    if sidecar is not None:
        sidecar.check(source=config.input, overwrite=config.overwrite)
    dicom = kind == "dicom"  # there each slice keeps its own place
    volume = read_volume(config.input, series=config.series, units=config.units, pet=config.pet, uneven=dicom)
    axis = acquired_plane(volume.geometry, config.axis) if volume.provenance.uneven else config.axis
    described = DicomOptions(suffix=" simulated")
    if dicom:
        check_dicom_output(dicom_header(volume.provenance), config.output, described, geometry=volume.geometry)
    task = asked or task_of(volume.provenance.modality, config.input.name or ".")
    check_scan(volume, task, trust_values=config.units is not None)
    if volume.units is Units.UNKNOWN:  # the task says what the values are, and they passed
        volume = replace(volume, units=task.units)
    degraded = simulate(
        volume,
        task,
        strength=config.strength,
        seed=config.seed,
        axis=axis,
        reference_noise=config.reference_noise,
        kernel=config.kernel,
        slice_correlation=config.slice_correlation,
    )
    write_volume(degraded, config.output, overwrite=config.overwrite, dicom=described)
    if sidecar is not None:
        sidecar.write()
    origin = degraded.provenance
    beyond = beyond_type(volume.header, config.output, kind, intensity_statistics(degraded), made="simulated")
    return SimulateReport(config.output, task.name, origin.steps[-1], (*origin.warnings, *beyond))
