"""Options that several commands share, and what completes them in a shell."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from tatcli.errors import UsageError
from tatcli.intensity import Units
from tatcli.tasks import TASKS, find_units

if TYPE_CHECKING:
    from tatcli.volumes.pet_tags import PetTags

__all__ = [
    "AxisOption",
    "CompileOption",
    "DeviceOption",
    "EnsembleOption",
    "InputArgument",
    "MaxMemoryOption",
    "OverwriteOption",
    "PetOption",
    "PrecisionOption",
    "QuietOption",
    "SeriesOption",
    "SubjectsOption",
    "TaskOption",
    "ThreadsOption",
    "UnitsOption",
    "VerboseOption",
    "completes",
    "parse_list",
    "parse_methods",
    "parse_pet",
    "parse_size",
    "parse_units",
    "tasks_option",
]

Item = TypeVar("Item")


def completes(*words: str) -> Callable[[str], list[str]]:
    """A shell completion from a fixed list."""
    return lambda incomplete: [word for word in words if word.startswith(incomplete)]


def tasks_option(default: str) -> Any:
    """``--tasks``, under both of its names, of a command whose default is said in these words."""
    return typer.Option(
        "--task",
        "--tasks",
        metavar="NAME,...",
        show_default=default,
        autocompletion=completes(*TASKS),
        help="Tasks.",
    )


def parse_list(option: str, text: str, kind: Callable[[str], Item]) -> tuple[Item, ...]:
    """The parts of a comma-separated list.

    Raises:
        UsageError: a part isn't of that kind.
    """
    try:
        return tuple(kind(part.strip()) for part in text.split(",") if part.strip())
    except ValueError:
        msg = f"{option} {text!r}: expected numbers separated by commas"
        raise UsageError(msg) from None


def parse_methods(option: str, text: str) -> tuple[str, ...]:
    """The names of classical methods; of the word ``none`` no name."""
    return () if text.strip() == "none" else parse_list(option, text, str)


def parse_size(option: str, text: str | None) -> int | None:
    """A number of bytes, such as 6GiB, 500 MB or 1.5g; None for None.

    Raises:
        UsageError: it isn't one, or it is zero or beyond all numbers.
    """
    if text is None:
        return None
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(?:([kmgt])(i?b)?|b)?\s*", text.lower())
    size = 0.0
    if match is not None:
        number, prefix, ending = match.groups()
        size = float(number) * (1000 if ending == "b" else 1024) ** ("kmgt".index(prefix) + 1 if prefix else 0)
    if not 1 <= size < math.inf:
        msg = f"{option} {text!r}: expected an amount of memory such as 6GiB or 800MiB"
        raise UsageError(msg)
    return int(size)


def parse_units(word: str | None) -> Units | None:
    """The units of this name, in any case.

    Raises:
        UsageError: no such units; the message lists the known ones.
    """
    return None if word is None else find_units(word)


def parse_pet(text: str | None) -> PetTags | None:
    """What the caller knows of a PET scan.

    Raises:
        UsageError: an unknown key, a value that isn't one.
    """
    if text is None:
        return None
    from tatcli.volumes.pet_tags import PetTags

    return PetTags.parse(text)


_UNITS = tuple(units for units in Units if units is not Units.UNKNOWN)

TaskOption = Annotated[
    str,
    typer.Option(
        metavar="|".join([*TASKS, "auto"]),
        autocompletion=completes(*TASKS, "auto"),
        help="What to do. auto: by the modality that the file names (DICOM does, NIfTI doesn't).",
    ),
]
DatasetOption = Annotated[
    Path, typer.Option(metavar="ROOT", show_default=False, help="A dataset, as of tat evaluate --data.")
]
DatasetTasksOption = Annotated[str | None, tasks_option("all of the dataset")]
SubjectsOption = Annotated[
    str | None,
    typer.Option(
        metavar="REGEX",
        show_default="sub-..., else the topmost folder, else the scan",
        help="What in a scan's path below the split tells the subject (first group).",
    ),
]
SeriesOption = Annotated[
    str | None,
    typer.Option(metavar="UID|NUMBER[:PART]", help="Which series of a DICOM folder that holds several."),
]
PetOption = Annotated[
    str | None,
    typer.Option(
        metavar="KEY=VALUE,...",
        help="What a PET's DICOM header or BIDS sidecar lacks for SUV: weight (kg), dose (MBq), half-life (s), "
        "injected and scanned ([DATET]HH:MM:SS), decay (START|ADMIN).",
    ),
]
UnitsOption = Annotated[
    str | None,
    typer.Option(
        metavar="|".join(_UNITS),
        autocompletion=completes(*_UNITS),
        help="Your word on the units of the values, where the file doesn't say; they are then not checked.",
    ),
]
AxisOption = Annotated[
    str,
    typer.Option(
        metavar="auto|axial|coronal|sagittal",
        autocompletion=completes("auto", "axial", "coronal", "sagittal"),
        help="Which slices to take. auto: across the coarsest spacing, or a thin slab; else axial.",
    ),
]
PlanesOption = Annotated[
    int | None,
    typer.Option(
        metavar="1|2|3",
        show_default="PET 3, else 1",
        help="Restore in so many planes and average. 2: those that cross the slices; 3: all.",
    ),
]
ConsistencyOption = Annotated[
    bool | None,
    typer.Option(
        "--data-consistency/--no-data-consistency",
        show_default="where the spectrum shows it",
        help="mri-sr: put the measured k-space back.",
    ),
]
EnsembleOption = Annotated[
    bool, typer.Option("--ensemble", help="Average eight views of every slice: 8 times the time, a little better.")
]
DeviceOption = Annotated[
    str,
    typer.Option(
        metavar="auto|cpu|cuda|cuda:N|mps",
        autocompletion=completes("auto", "cpu", "cuda", "cuda:0", "mps"),
        help="Where to compute. auto: a CUDA GPU that PyTorch supports, if any. One asked for and absent is an error.",
    ),
]
CompileOption = Annotated[
    bool,
    typer.Option(
        "--compile",
        help="On a CUDA device, compile the network first: minutes for each slice size, but once.",
    ),
]
PrecisionOption = Annotated[
    str,
    typer.Option(
        metavar="auto|fp32|bf16|fp16",
        autocompletion=completes("auto", "fp32", "bf16", "fp16"),
        help="What the network computes in. auto: bf16 where it is the faster one, else fp32.",
    ),
]
ThreadsOption = Annotated[
    int | None, typer.Option(metavar="N", help="Threads of the CPU.", show_default="one per core")
]
MaxMemoryOption = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        show_default="most of what is free",
        help="Memory to stay below, such as 6GiB: decides batch and tiles, and whether the scan is read in pieces.",
    ),
]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace existing outputs.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Errors only.")]
VerboseOption = Annotated[bool, typer.Option("--verbose", "-v", help="More about what was done.")]

InputArgument = Annotated[
    Path,
    typer.Argument(metavar="SCAN", show_default=False, help="A file, or DICOM: a folder, zip archive or DICOMDIR."),
]
