"""Metadata beside the images of a BIDS dataset: JSON files, found by the inheritance principle.

Source: Brain Imaging Data Structure 1.11, "Common principles: The inheritance principle". A file applies to an image of
the same suffix whose name has all of its entities, in the same folder or below; the deeper one wins.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from tatcli.errors import VolumeReadError
from tatcli.volumes.formats import extension_of
from tatcli.volumes.members import is_settled

__all__ = [
    "ImageMetadata",
    "entities_of",
    "image_metadata",
    "last_change",
    "metadata_files",
    "read_metadata",
    "suffix_of",
]

_DATASET: Final = ("dataset_description.json", "participants.tsv")
_DEPTH: Final = 4
"""Folders from an image up to its dataset: datatype, session, subject, dataset."""


@dataclass(frozen=True)
class ImageMetadata:
    """What the files beside an image say of it.

    Attributes:
        image: the image.
        dataset: the folder of its dataset; None: it lies outside of any.
        files: that apply to it, the weaker first.
        fields: of all of them.
    """

    image: Path
    dataset: Path | None = None
    files: tuple[Path, ...] = ()
    fields: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What messages call the metadata: the file that says most of the image, or the one that is missing."""
        return self.files[-1].name if self.files else f"{_stem(self.image)}.json"


def image_metadata(image: Path, *, inherit: bool = True) -> ImageMetadata:
    """Find and read what the files beside an image say.

    Args:
        image: in any folder.
        inherit: look for more than the file with the image's own name.

    Raises:
        VolumeReadError: one of them can't be read.
    """
    place = Path(os.path.abspath(image))  # noqa: PTH100  links stay: data sets often consist of them
    above = list(place.parents)[:_DEPTH]
    dataset = next((folder for folder in above if any((folder / file).is_file() for file in _DATASET)), None)
    own = place.with_name(f"{_stem(place)}.json")
    files = metadata_files(place, dataset or place.parent) if inherit else [own] if own.is_file() else []
    fields: dict[str, Any] = {}
    for file in files:
        fields |= read_metadata(file)
    return ImageMetadata(place, dataset, tuple(files), fields)


def metadata_files(image: Path, dataset: Path) -> list[Path]:
    """The JSON files that apply to an image, the weaker first.

    Args:
        image: within the dataset.
        dataset: its folder.
    """
    suffix, found = suffix_of(image), []
    between = Path(os.path.relpath(image.parent, dataset)).parts
    for folder in (dataset.joinpath(*between[:depth]) for depth in range(len(between) + 1)):
        files = [file for file in _json_files(folder) if suffix_of(file) == suffix]
        applying = [file for file in files if entities_of(file) <= entities_of(image)]
        found += sorted(applying, key=lambda file: (len(entities_of(file)), file.name))
    return list(dict.fromkeys(found))  # an image right in the dataset: its folder comes twice


def last_change(path: Path) -> int | None:
    """When a file or folder changed, ns: while it is the same, what was read of it holds. None: it isn't told for sure.

    (A dataset's folder and its table of participants serve all of its images, each of which would read them anew.)
    """
    try:
        changed = path.stat().st_mtime_ns
    except OSError:
        return None
    return changed if is_settled(changed) else None


def _json_files(folder: Path) -> tuple[Path, ...]:
    changed = last_change(folder)
    return _listed.__wrapped__(folder, 0) if changed is None else _listed(folder, changed)


@lru_cache(maxsize=8)
def _listed(folder: Path, _: int) -> tuple[Path, ...]:
    return tuple(folder.glob("*.json"))


def read_metadata(file: Path) -> dict[str, Any]:
    """The fields of a JSON file.

    Raises:
        VolumeReadError: it can't be read, or holds no fields.
    """
    try:
        fields = json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        msg = f"{file.name}: expected a JSON file, got {error}; correct it"
        raise VolumeReadError(" ".join(msg.split())) from error
    if not isinstance(fields, dict):
        msg = f"{file.name}: expected a JSON object with fields, got {type(fields).__name__}; correct it"
        raise VolumeReadError(msg)
    return fields


def suffix_of(path: Path) -> str:
    """The last word of a name: ``sub-1_pet.nii.gz`` -> ``pet``."""
    return _stem(path).rpartition("_")[2]


def entities_of(path: Path) -> frozenset[str]:
    """The words of a name before its suffix: ``sub-1_run-2_pet.json`` -> ``sub-1``, ``run-2``."""
    return frozenset(_stem(path).split("_")[:-1])


def _stem(path: Path) -> str:
    extension = extension_of(path) or path.suffix
    return path.name[: len(path.name) - len(extension)]
