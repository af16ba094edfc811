"""``tat restore``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tatcli.cli import batch as batch_run
from tatcli.cli import console
from tatcli.cli.batch_options import (
    ClusterOption,
    DryRunOption,
    EventsOption,
    ExcludeOption,
    FailFastOption,
    FailuresOption,
    ForceOption,
    IncludeOption,
    InputsArgument,
    ListOption,
    PatternOption,
    RetriesOption,
    ShardOption,
    TimeoutOption,
)
from tatcli.cli.options import (
    AxisOption,
    CompileOption,
    ConsistencyOption,
    DeviceOption,
    EnsembleOption,
    MaxMemoryOption,
    OverwriteOption,
    PetOption,
    PlanesOption,
    PrecisionOption,
    QuietOption,
    SeriesOption,
    TaskOption,
    ThreadsOption,
    UnitsOption,
    VerboseOption,
    completes,
    parse_list,
    parse_pet,
    parse_size,
    parse_units,
)
from tatcli.errors import UsageError
from tatcli.tasks import TASKS

__all__ = ["restore"]


def restore(
    inputs: InputsArgument = None,
    task: TaskOption = "auto",
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE|FOLDER",
            show_default="<name>_restored.<ext> beside the input",
            help="Output. From DICOM, a name without extension is a folder for the derived series.",
        ),
    ] = None,
    format_: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="auto|dicom|nifti|nrrd|mha",
            autocompletion=completes("auto", "dicom", "nifti", "nrrd", "mha"),
            help="Of the output. auto: by its name, else the input's own.",
        ),
    ] = "auto",
    weights: Annotated[
        str | None,
        typer.Option(metavar="NAME|PATH", show_default="tat-small", help="Weights: see tat weights list."),
    ] = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    compile_: CompileOption = False,
    mode: Annotated[
        str,
        typer.Option(
            metavar="slice|patch",
            autocompletion=completes("slice", "patch"),
            help="Whole slices, or overlapping tiles of them, which take less memory.",
        ),
    ] = "slice",
    tile: Annotated[
        int | None, typer.Option(metavar="N", show_default="256", help="Side of the tiles, pixels (patch mode).")
    ] = None,
    overlap: Annotated[
        int | None,
        typer.Option(metavar="N", show_default="tile / 4", help="Overlap of the tiles, pixels (patch mode)."),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(metavar="N", show_default="1 on a CPU, more on a GPU", help="Slices at a time."),
    ] = None,
    ensemble: EnsembleOption = False,
    axis: AxisOption = "auto",
    planes: PlanesOption = None,
    scale: Annotated[
        int, typer.Option(metavar="N", help="mri-sr: first zero-fill k-space to N times the in-plane matrix.")
    ] = 1,
    max_memory: MaxMemoryOption = None,
    threads: ThreadsOption = None,
    series: SeriesOption = None,
    units: UnitsOption = None,
    pet: PetOption = None,
    ignore_modality: Annotated[
        bool, typer.Option("--ignore-modality", help="Take a scan whose header names another modality than the task's.")
    ] = False,
    uid_root: Annotated[
        str | None,
        typer.Option(metavar="UID", show_default="2.25, UUIDs", help="DICOM output: where new UIDs are made."),
    ] = None,
    reproducible: Annotated[
        bool,
        typer.Option(
            "--reproducible", help="DICOM output: UIDs follow from the source and what was done; no time of creation."
        ),
    ] = False,
    private: Annotated[
        str,
        typer.Option(
            metavar="keep|drop",
            autocompletion=completes("keep", "drop"),
            help="DICOM output: what becomes of private attributes.",
        ),
    ] = "keep",
    enhanced: Annotated[
        str,
        typer.Option(
            metavar="keep|classic",
            autocompletion=completes("keep", "classic"),
            help="DICOM output: enhanced multi-frame objects stay so, or become one object per frame.",
        ),
    ] = "keep",
    series_number: Annotated[
        int | None,
        typer.Option(metavar="N", show_default="the source's + 1000", help="DICOM output: of the new series."),
    ] = None,
    series_suffix: Annotated[
        str, typer.Option(metavar="TEXT", show_default="' restored'", help="DICOM output: ends the series description.")
    ] = " restored",
    anonymise: Annotated[
        bool,
        typer.Option("--anonymise", help="DICOM output: by the basic confidentiality profile (PS3.15 E)."),
    ] = False,
    overwrite: OverwriteOption = False,
    report: Annotated[
        Path | None,
        typer.Option(metavar="FILE|-", help="Write a JSON report of the run; -: to stdout.", show_default=False),
    ] = None,
    preview: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.png", help="Draw the middle slice before, after, and their difference.", show_default=False
        ),
    ] = None,
    residual: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the map restored - input.", show_default=False)
    ] = None,
    uncertainty: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Write the spread over flips and turns; 8 to 10 times the work.", show_default=False
        ),
    ] = None,
    data_consistency: ConsistencyOption = None,
    kspace_factor: Annotated[
        float | None,
        typer.Option(metavar="X", show_default="from the spectrum", help="mri-sr: by how much k-space was cut."),
    ] = None,
    list_: ListOption = None,
    include: IncludeOption = None,
    exclude: ExcludeOption = None,
    output_pattern: PatternOption = None,
    dry_run: DryRunOption = False,
    force: ForceOption = False,
    fail_fast: FailFastOption = False,
    retries: RetriesOption = None,
    timeout: TimeoutOption = None,
    shard: ShardOption = None,
    cluster: ClusterOption = None,
    events: EventsOption = None,
    failures: FailuresOption = None,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Restore scans. Not for diagnosis.

    The output keeps the scan's grid, units and voxel type. It appears under its name only when it is complete. Of many
    scans, those that are finished are left alone when the command is run again.
    """
    from tatcli.inference.options import RestoreOptions
    from tatcli.volumes.dicom_options import DicomOptions
    from tatcli.workflows.evidence import EvidenceConfig
    from tatcli.workflows.restore import RestoreConfig
    from tatcli.workflows.restore import restore as run

    many = batch_run.Asked(
        inputs=tuple(inputs or ()),
        lists=tuple(list_ or ()),
        include=tuple(include or ()),
        exclude=tuple(exclude or ()),
        pattern=output_pattern,
        dry_run=dry_run,
        force=force,
        fail_fast=fail_fast,
        retries=retries,
        timeout=timeout,
        shard=shard,
        cluster=cluster,
        devices=parse_list("--device", device, str),
        events=events,
        failures=failures,
    )
    alone = many.is_one_scan(output, series)
    told = console.is_stdout(report)
    if told and console.is_stdout(events):
        msg = "--report -: expected a file beside --events -, got stdout for both; name one"
        raise UsageError(msg)
    input_ = Path(many.inputs[0] if alone else ".")
    config = RestoreConfig(
        input=input_,
        task=task,
        output=output,
        format=format_,
        dicom=DicomOptions(
            uid_root=uid_root,
            reproducible=reproducible,
            private=private,
            enhanced=enhanced,
            anonymise=anonymise,
            suffix=series_suffix,
            series_number=series_number,
        ),
        weights=weights,
        device=device,
        precision=precision,
        threads=threads,
        compiled=compile_,
        options=RestoreOptions(
            mode=mode,
            tile=tile,
            overlap=overlap,
            batch=batch,
            ensemble=ensemble,
            axis=axis,
            planes=planes,
            scale=scale,
            data_consistency=data_consistency,
            kspace_factor=kspace_factor,
            ignore_modality=ignore_modality,
        ),
        max_memory=parse_size("--max-memory", max_memory),
        series=series,
        units=parse_units(units),
        pet=parse_pet(pet),
        overwrite=overwrite,
        report=None if told else report,
        evidence=EvidenceConfig(
            uncertainty=uncertainty,
            residual=residual,
            preview=preview,
        ),
    )
    if not alone:
        batch_run.run(many.config(config), dry=dry_run, quiet=quiet, verbose=verbose, told=told)
        return
    with console.progress_bar(input_.name, unit="slice", quiet=quiet) as progress:
        done = run(config, progress=progress)
    if told:
        console.result(done.to_json().rstrip())
    if quiet:
        return
    for warning in done.warnings:
        console.warn(f"{input_.name}: {warning}")
    name = console.from_here(done.output.path)
    console.note(f"{name}: {done.task} with {done.weights['name']} in {done.seconds['total']:.1f} s")
    for option, path in config.evidence.files.items():
        console.note(f"{path}: {option.removeprefix('--')}")
    if verbose:
        stages = ", ".join(f"{stage} {seconds:.2f} s" for stage, seconds in done.seconds.items())
        console.note(f"{done.device}, {done.precision}, {done.threads} threads; {stages}")
        if done.peak_rss_bytes is not None:
            peak, predicted = (size / 2**20 for size in (done.peak_rss_bytes, done.memory.predicted_peak_bytes))
            console.note(f"peak memory {peak:.0f} MiB, predicted {predicted:.0f} MiB; scan {done.memory.scan}")
        if done.change is not None:
            units = TASKS[done.task].units
            console.note(f"change {done.change.rms:.4g} {units} (rms), largest {done.change.largest:.4g} {units}")
