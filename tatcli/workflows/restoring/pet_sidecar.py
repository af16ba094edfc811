"""The sidecar of a PET image that was made of another: NIfTI in the input's units says nothing without one."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tatcli.errors import OutputError
from tatcli.volumes.formats import format_of, stem_of
from tatcli.volumes.replacing import checked_output

if TYPE_CHECKING:
    from tatcli.volumes.pet_tags import PetTags

__all__ = ["PetSidecar", "pet_sidecar"]


@dataclass(frozen=True)
class PetSidecar:
    """A sidecar to be written.

    Attributes:
        path: where to.
        fields: what it says.
    """

    path: Path
    fields: dict[str, Any]

    def check(self, *, source: Path, overwrite: bool, report: Path | None = None) -> None:
        """Refuse a file that can't be written, before the work.

        Args:
            source: the input.
            overwrite: whether an existing file may be replaced.
            report: another file that the run writes.

        Raises:
            OutputError: it exists, is the report, or can't be written to.
        """
        if report is not None and report.resolve() == self.path.resolve():
            msg = f"{report}: expected a report apart from the output's sidecar, got the same name; choose another"
            raise OutputError(msg)
        checked_output(self.path, source=source, overwrite=overwrite)

    def write(self) -> None:
        """Write it, whole or not at all.

        Raises:
            OutputError: the system refuses to write.
        """
        from tatcli.reporting.run_report import write_json

        write_json(json.dumps(self.fields, indent=2) + "\n", self.path)


def pet_sidecar(
    source: Path, output: Path, *, pet: PetTags | None = None, description: str = "restored by tat"
) -> PetSidecar | None:
    """What belongs beside an image; None where it isn't NIfTI, or not made of PET in NIfTI with a sidecar.

    Args:
        source: the input.
        output: what is made of it.
        pet: the caller's word on what SUV needs.
        description: what was done.
    """
    if format_of(source) != "nifti" or format_of(output) != "nifti":
        return None
    from tatcli.volumes.bids_pet import derived_fields

    fields = derived_fields(source, pet=pet)
    if fields is None:
        return None
    place = output.with_name(stem_of(output) + ".json")
    return PetSidecar(place, fields | {"Description": description, "Sources": [source.name]})
