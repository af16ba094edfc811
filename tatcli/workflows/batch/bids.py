"""BIDS datasets (Brain Imaging Data Structure 1.10): which images a task takes, and the derivatives dataset."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

import tatcli
from tatcli.errors import OutputError, UsageError, VolumeReadError
from tatcli.tasks import find_task
from tatcli.volumes.bids_pet import weight_field
from tatcli.volumes.bids_sidecar import entities_of, image_metadata, metadata_files, read_metadata, suffix_of
from tatcli.volumes.formats import extension_of
from tatcli.volumes.replacing import replaced
from tatcli.workflows.batch.discovery import Found, Rules
from tatcli.workflows.batch.sidecar import has_sidecar

__all__ = ["BidsImage", "bids_images", "derived_name", "is_dataset", "write_description"]

_DESCRIPTION: Final = "dataset_description.json"
_TASKS: Final = {
    "anat": ("mri-sr", ("T1w", "T2w", "PDw", "T2starw", "FLAIR", "PDT2", "inplaneT1", "inplaneT2")),
    "pet": ("pet-synthesis", ("pet",)),
    "ct": ("ct-denoise", ("ct",)),
}
"""Datatype -> task, and the suffixes of images that it takes. BIDS has no CT yet; ``ct`` is its extension proposal."""
_PARTS: Final = frozenset({"part-phase", "part-real", "part-imag"})
"""Of a complex image: no magnitudes, whatever their values look like."""
_VERSION: Final = "1.10.0"
_IGNORED: Final = ("*.tat.json", ".tat-work/", "failures*.csv", "*.jsonl")
_LINK: Final = "raw"


@dataclass(frozen=True)
class BidsImage:
    """An image of a dataset.

    Attributes:
        found: the scan; its place is the path within the dataset.
        task: that takes it.
        note: metadata that the derivative keeps (JSON).
    """

    found: Found
    task: str
    note: dict[str, Any]


def is_dataset(folder: Path) -> bool:
    """Whether a folder is a raw BIDS dataset, or says so."""
    return (folder / _DESCRIPTION).is_file()


def bids_images(dataset: Path, task: str, rules: Rules) -> Iterator[BidsImage]:
    """The images that a task takes, in the order of their paths; derivatives and source data are left alone.

    Args:
        dataset: its folder.
        task: its name, or ``auto``: each image's own.
        rules: which count.

    Raises:
        UsageError: there is none.
    """
    wanted = None if task == "auto" else find_task(task).name
    count = 0
    for path in sorted((*dataset.glob("sub-*/*/*.nii*"), *dataset.glob("sub-*/*/*/*.nii*"))):  # links are followed
        place = PurePosixPath(path.relative_to(dataset).as_posix())
        own, suffixes = _TASKS.get(path.parent.name, ("", ()))
        if extension_of(path) not in (".nii", ".nii.gz") or wanted not in (None, own):
            continue
        left_out = any(rules.excludes(folder) for folder in place.parents) or has_sidecar(path)
        if suffix_of(path) in suffixes and not entities_of(path) & _PARTS and rules.take(place) and not left_out:
            count += 1
            yield BidsImage(Found(path, place, "nifti"), own, _note(dataset, path, place))
    if not count:
        known = "; ".join(f"{datatype}: {', '.join(suffixes)}" for datatype, (_, suffixes) in _TASKS.items())
        msg = f"{dataset}: expected images for {wanted or 'any task'} ({known}), got none"
        raise UsageError(msg)


def derived_name(name: str) -> str:
    """The name of a derivative: ``sub-1_T1w.nii.gz`` -> ``sub-1_desc-restored_T1w.nii.gz``."""
    entities, _, suffix = name.rpartition("_")
    kept = [part for part in entities.split("_") if not part.startswith("desc-")]
    return "_".join([*kept, "desc-restored", suffix])


def write_description(dataset: Path, derivatives: Path) -> None:
    """Make the derivatives dataset's folder and its description; an existing one stays as it is.

    Raises:
        UsageError: the dataset's own description can't be read.
        OutputError: it can't be written.
    """
    try:
        source = json.loads((dataset / _DESCRIPTION).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        msg = f"{dataset / _DESCRIPTION}: expected the description of a BIDS dataset (JSON), got {error}"
        raise UsageError(msg) from error
    name = source.get("Name", dataset.name) if isinstance(source, dict) else dataset.name
    description = {
        "Name": f"{name}, restored",
        "BIDSVersion": _VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "tat", "Version": tatcli.__version__}],
        "SourceDatasets": [{"URL": dataset.resolve().as_uri()}],
        "DatasetLinks": {_LINK: dataset.resolve().as_uri()},
    }
    try:
        derivatives.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = f"{derivatives}: expected to make the derivatives dataset, got {error.strerror or error}"
        raise OutputError(msg) from error
    texts = {_DESCRIPTION: json.dumps(description, indent=2) + "\n", ".bidsignore": "\n".join(_IGNORED) + "\n"}
    for file, text in texts.items():
        if not (derivatives / file).exists():
            with replaced(derivatives / file, extension=".json") as temporary:
                temporary.write_text(text, encoding="utf-8")


def _note(dataset: Path, image: Path, place: PurePosixPath) -> dict[str, Any]:
    """The image's metadata by the inheritance principle, and where the derivative comes from."""
    found: dict[str, Any] = {}
    for file in metadata_files(image, dataset):
        with suppress(VolumeReadError):
            found |= read_metadata(file)
    if image.parent.name == "pet":
        with suppress(VolumeReadError):
            found |= weight_field(image_metadata(image))
    found |= {"Description": "restored by tat", "Sources": [f"bids:{_LINK}:{place}"]}
    if image.parent.name == "anat":
        found.setdefault("SkullStripped", False)
    return found
