"""``tat prepare``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from tatcli.cli import console
from tatcli.cli.options import QuietOption, completes
from tatcli.errors import UsageError
from tatcli.tasks import TASKS

if TYPE_CHECKING:
    from tatcli.workflows.preparing.config import PrepareReport

__all__ = ["prepare"]

_MOST_SHOWN: Final = 10


def prepare(
    context: typer.Context,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="SET", show_default=False, help="Set; one that was begun goes on."),
    ],
    roots: Annotated[
        list[Path] | None,
        typer.Argument(metavar="ROOT...", show_default=False, help="Folders with scans, in any arrangement."),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(
            metavar="|".join(TASKS),
            autocompletion=completes(*TASKS),
            help="Of scans that name no modality (NIfTI and the like) and lie in no folder CT, PET or MRI.",
        ),
    ] = None,
    subject: Annotated[
        str | None,
        typer.Option(
            metavar="REGEX",
            show_default="PatientID, sub-..., the topmost folder, or the file's name",
            help="What in a scan's path tells whom it is of.",
        ),
    ] = None,
    validation: Annotated[float, typer.Option("--val", metavar="X", help="Share of subjects to validate on.")] = 0.1,
    test: Annotated[float, typer.Option(metavar="X", help="Share of subjects to keep for a test.")] = 0.0,
    noise_fields: Annotated[int, typer.Option(metavar="N", help="Noise realisations per slice.")] = 4,
    max_slices: Annotated[int, typer.Option(metavar="N", help="Slices of each scan; 0: all.")] = 0,
    planes: Annotated[
        str,
        typer.Option(
            metavar="acquired|all",
            autocompletion=completes("acquired", "all"),
            help="all: whole PET volumes are simulated, to be trained on in all planes (tat train --planes all).",
        ),
    ] = "acquired",
    default_share: Annotated[
        float, typer.Option(metavar="X", help="Share of PET's realisations at the default strength.")
    ] = 0.3,
    thickness: Annotated[
        float, typer.Option("--ct-thickness", metavar="MM", help="Thin noisy CT slices are averaged to it; 0: never.")
    ] = 4.0,
    quiet_noise: Annotated[
        float, typer.Option("--ct-quiet", metavar="HU", help="CT with at most this noise is not averaged.")
    ] = 12.0,
    synthetic_pet: Annotated[
        int, typer.Option(metavar="N", help="Whole-body PET volumes to make up, as further references.")
    ] = 0,
    synthetic_brain: Annotated[int, typer.Option(metavar="N", help="Likewise PET of brains.")] = 0,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Of everything random.")] = 0,
    workers: Annotated[
        int | None,
        typer.Option(metavar="N", show_default="one per core, 8 at most", help="Processes; each holds a scan."),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Prepare nothing: compare the set with its check sums.")
    ] = False,
    quiet: QuietOption = False,
) -> None:
    """Make a training set of folders of scans: tat train --data SET.

    SET/MANIFEST.tsv tells what became of every scan, and why.
    """
    if check:
        _check(context, output, quiet=quiet)
        return
    from tatcli.processor import usable_cores
    from tatcli.workflows.prepare import prepare as run
    from tatcli.workflows.preparing.config import PrepareConfig

    config = PrepareConfig(
        roots=tuple(roots or ()),
        output=output,
        task=task,
        subject=subject,
        validation=validation,
        test=test,
        noise_fields=noise_fields,
        max_slices=max_slices,
        planes=planes,  # type: ignore[arg-type]  # checked there
        default_share=default_share,
        thickness=thickness,
        quiet=quiet_noise,
        synthetic_pet=synthetic_pet,
        synthetic_brain=synthetic_brain,
        seed=seed,
        workers=min(usable_cores(), 8) if workers is None else workers,
    )
    with console.stage_bar(quiet=quiet) as progress:
        done = run(config, on_progress=progress)
    if not quiet:
        _show(done)


def _check(context: typer.Context, output: Path, *, quiet: bool) -> None:
    from tatcli.workflows.preparing.checking import check_set

    sources = ((name, context.get_parameter_source(name)) for name in context.params)
    named = {name for name, source in sources if source is not None and source.name == "COMMANDLINE"}
    if named - {"output", "check", "quiet"}:
        msg = "--check: expected -o SET alone, as nothing is prepared, got other words too; leave them out"
        raise UsageError(msg)
    with console.stage_bar(quiet=quiet) as progress:
        found = check_set(output, on_progress=progress)
    if found.unknown:
        console.warn(
            f"{output}: {found.unknown} scans were prepared before check sums were kept, and can't be compared"
        )
    if not quiet:
        console.note(f"{output}: {found.scans} scans are as they were written")


def _show(done: PrepareReport) -> None:
    rows = [
        (task, split, str(count), str(done.subjects[task, split]), str(done.slices[task, split]))
        for (task, split), count in done.scans.items()
    ]
    console.table(("task", "split", "scans", "subjects", "slices"), rows)
    for scan, reason in done.rejected[:_MOST_SHOWN]:
        console.warn(f"{scan}: left out: {reason}")
    if len(done.rejected) > _MOST_SHOWN:
        console.warn(f"{len(done.rejected) - _MOST_SHOWN} more were left out: see {done.output / 'MANIFEST.tsv'}")
    for warning in done.warnings:
        console.warn(warning)
    averaged = f", slices of {done.averaged} CT scans averaged" if done.averaged else ""
    console.note(f"{done.output}: {done.nbytes / 1e9:.2f} GB, {done.new} scans new{averaged}")
