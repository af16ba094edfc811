"""Siemens mosaics: all slices of a time point side by side in one image, taken apart and put together again.

The standard doesn't know mosaics; number and direction of the slices stand in Siemens' private CSA header, which
nibabel reads. ImagePositionPatient is that of a slice as large as the whole mosaic (nibabel, "Siemens mosaic format").
"""

from __future__ import annotations

import math
import warnings
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tatcli.errors import VolumeReadError
from tatcli.volumes.dicom_files import PARSING_FAILURES

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

    from tatcli.volumes.dicom_images import DicomImage

__all__ = ["mosaic_images", "tile_of"]


def mosaic_images(image: DicomImage, dataset: Dataset) -> list[DicomImage]:
    """The slices of a mosaic, in its order.

    Args:
        image: the mosaic as one image.
        dataset: its header.

    Raises:
        VolumeReadError: the CSA header is gone or doesn't fit the image.
    """
    count, direction = _csa_facts(dataset, image.path)
    side = math.ceil(math.sqrt(count))
    if image.rows % side or image.columns % side:
        msg = f"{image.path.name}: expected a mosaic of {side} x {side} slices, got {image.columns} x {image.rows}"
        raise VolumeReadError(msg + " pixels; the header is damaged, get it again")
    rows, columns = image.rows // side, image.columns // side
    if image.orientation is None or image.pixel_spacing is None or image.position is None or not image.slice_spacing:
        msg = f"{image.path.name}: expected position, orientation and spacing of a mosaic, got none; get it again"
        raise VolumeReadError(msg)
    across, down = np.array(image.orientation[:3]), np.array(image.orientation[3:])
    first = (
        np.array(image.position)
        + across * image.pixel_spacing[1] * (image.columns - columns) / 2
        + down * image.pixel_spacing[0] * (image.rows - rows) / 2
    )
    normal = np.cross(across, down)
    step = normal * math.copysign(image.slice_spacing, float(normal @ direction))
    places = [(float(x), float(y), float(z)) for x, y, z in first + np.arange(count)[:, None] * step]
    return [
        replace(
            image,
            instance=f"{image.instance}.{index}",
            rows=rows,
            columns=columns,
            position=places[index],
            tile=(index // side * rows, index % side * columns),
        )
        for index in range(count)
    ]


def tile_of(image: DicomImage, frame: NDArray[Any]) -> NDArray[Any]:
    """The part of a file's frame (rows, columns) that is this image: a view; all of it but for mosaics."""
    if image.tile is None:
        return frame
    row, column = image.tile
    return frame[row : row + image.rows, column : column + image.columns]


def _csa_facts(dataset: Dataset, path: Path) -> tuple[int, NDArray[np.float64]]:
    """Number of slices, and the direction in which they follow each other."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nibabel calls its DICOM readers experimental on every import
        csareader: Any = import_module("nibabel.nicom.csareader")  # which has no types
        try:
            found = csareader.get_csa_header(dataset, "image")
            tags = found["tags"] if found else {}
            (count,) = tags["NumberOfImagesInMosaic"]["items"]
            direction = np.array(tags["SliceNormalVector"]["items"], dtype=np.float64)
        except (csareader.CSAReadError, AssertionError, NameError, *PARSING_FAILURES):  # all that it raises on rubbish
            count, direction = 0, np.zeros(0)
    if int(count) < 1 or direction.shape != (3,):
        msg = f"{path.name}: expected a Siemens mosaic with its CSA header, which says how its slices lie, got none"
        raise VolumeReadError(msg + "; export it with private tags, or one slice per file")
    return int(count), direction
