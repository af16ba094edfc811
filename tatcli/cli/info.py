"""``tat info``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tatcli.cli import console
from tatcli.cli.options import InputArgument, PetOption, SeriesOption, UnitsOption, parse_pet, parse_units

if TYPE_CHECKING:
    from tatcli.volumes.scan_info import ScanInfo

__all__ = ["info"]


def info(
    scan: InputArgument,
    series: SeriesOption = None,
    units: UnitsOption = None,
    pet: PetOption = None,
    header_only: Annotated[
        bool, typer.Option("--header-only", help="Don't read the voxels: no range, tasks by the header alone.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Everything as JSON.")] = False,
) -> None:
    """What a file or folder holds, and which task takes it.

    For the other tasks it says why not.
    """
    from tatcli.workflows.info import info_json, scan_info

    found = scan_info(scan, series=series, units=parse_units(units), pet=parse_pet(pet), values=not header_only)
    if json:
        console.result(info_json(found))
        return
    console.table(("", ""), _facts(found), title=found.path)
    if len(found.series) > 1 or found.shape is None:
        columns = ["series", "description", "modality", "images", "UID", "problem"]
        rows = [
            [
                (entry.number or "-") + f":{entry.part}" * bool(entry.part),
                entry.description,
                entry.modality,
                str(entry.images),
                entry.uid,
                entry.problem,
            ]
            for entry in found.series
        ]
        if not any(entry.problem for entry in found.series):
            columns, rows = columns[:-1], [row[:-1] for row in rows]
        console.table(columns, rows, title="choose with --series UID or NUMBER[:PART]")
    if found.tasks:
        words = {True: "yes", False: "no", None: "maybe"}
        console.table(("task", "fits", "why"), [(fit.task, words[fit.fits], fit.reason) for fit in found.tasks])
    for warning in found.warnings:
        console.warn(f"{scan.name or scan}: {warning}")


def _facts(found: ScanInfo) -> list[tuple[str, str]]:
    facts = [("format", found.format), ("modality", found.modality or "not given")]
    if found.shape is None or found.spacing is None:
        return facts
    frames = f" x {found.frames} frames {found.frame_dimension}".rstrip() if (found.frames or 1) > 1 else ""
    slices, rows, columns = found.shape
    facts += [
        ("units", f"{found.units}, from {found.units_from}" if found.units_from else found.units),
        ("size", f"{columns} columns x {rows} rows x {slices} slices{frames}"),
        ("spacing", " x ".join(f"{step:.4g}" for step in reversed(found.spacing)) + " mm (column, row, slice)"),
        (
            "orientation",
            f"{found.orientation} (where slices, rows, columns go){', tilted gantry' * found.sheared}",
        ),
        ("voxels", f"{found.dtype or 'unknown'}, {_rescale(found)}"),
    ]
    if found.value_range is not None:
        lower, upper = found.value_range
        facts.append(("range", f"{lower:.6g} to {upper:.6g}"))
    if found.nonfinite:
        facts.append(("NaN or infinite", f"{found.nonfinite} voxels"))
    return facts


def _rescale(found: ScanInfo) -> str:
    if found.slope is None or found.intercept is None:
        return "rescale differs between slices"
    if (found.slope, found.intercept) == (1.0, 0.0):
        return "no rescale"
    sign = "-" if found.intercept < 0 else "+"
    return f"value = stored x {found.slope:g} {sign} {abs(found.intercept):g}"
