"""DICOM pixels as stored numbers, for every transfer syntax that GDCM or pydicom decodes, without any rescale.

Uncompressed, deflated and RLE data are unpacked by pydicom (GDCM refuses RLE that came out longer than the pixels), and
so is High-Throughput JPEG 2000, which GDCM doesn't know, with pylibjpeg's OpenJPEG.
JPEG of every process, JPEG-LS and JPEG 2000 go through SimpleITK's GDCM, which needs no plug-ins: from a bare copy of
the image that holds its pixel description and nothing else, because GDCM would otherwise apply its own idea of the
rescale, and wrongly where it differs between frames.
"""

from __future__ import annotations

import math
import tempfile
from contextlib import nullcontext
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from tatcli.errors import VolumeReadError
from tatcli.volumes.dicom_files import LENIENCE, PARSING_FAILURES, read_dataset, tolerant
from tatcli.volumes.dicom_padding import padding_of
from tatcli.volumes.quiet import quiet_stderr

if TYPE_CHECKING:
    from pydicom.dataset import Dataset, FileDataset
    from pydicom.uid import UID

__all__ = ["declared_type", "read_stored", "stored_of"]

_PIXEL_DESCRIPTION: Final = (
    "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "SamplesPerPixel",
    "PhotometricInterpretation", "NumberOfFrames",
)  # fmt: skip
_PYDICOM_DECODES: Final = ("1.2.840.10008.1.2.5", *(f"1.2.840.10008.1.2.4.{number}" for number in (201, 202, 203)))
"""RLE; High-Throughput JPEG 2000: lossless, lossless with progressive resolution, lossy allowed."""
_TWELVE_BIT_JPEG: Final = tuple(f"1.2.840.10008.1.2.4.{process}" for process in (51, 53, 55))
"""JPEG Extended, Spectral Selection and Full Progression."""


def read_stored(path: Path) -> NDArray[Any]:
    """The stored numbers of a file, (frames, rows, columns), integers of the type that the header declares.

    Where voxels are padding beyond the stored bits (:class:`~tatcli.volumes.dicom_padding.Padding`), all are int16.

    Raises:
        VolumeReadError: no pixels, colour, a transfer syntax that can't be decoded, or damaged pixel data.
    """
    return stored_of(read_dataset(path, with_pixels=True), path)


def stored_of(dataset: FileDataset, path: Path) -> NDArray[Any]:
    """As :func:`read_stored`, of a file that was read already, with its pixel data.

    Raises:
        VolumeReadError: no pixels, colour, a transfer syntax that can't be decoded, or damaged pixel data.
    """
    from pydicom.uid import UID

    with tolerant(path):
        _check_greyscale(dataset, path)
        expected = (int(dataset.get("NumberOfFrames") or 1), int(dataset.Rows), int(dataset.Columns))
        syntax = UID(str(dataset.file_meta.TransferSyntaxUID))  # a damaged one may be a list
    try:
        with LENIENCE:  # pydicom warns of padding after the pixels
            stored = _unpacked(dataset) if _is_for_pydicom(syntax) else _through_gdcm(dataset)
    except (RuntimeError, *PARSING_FAILURES) as error:
        reason = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
        msg = f"{path.name}: expected pixel data in {syntax.name}, got data that don't decode ({reason}); get it again"
        raise VolumeReadError(msg) from error
    if stored.size != math.prod(expected):
        msg = f"{path.name}: expected {expected} pixels, got {stored.shape}; the file is damaged, get it again"
        raise VolumeReadError(msg)
    return stored.reshape(expected)


def _check_greyscale(dataset: Dataset, path: Path) -> None:
    if "PixelData" not in dataset:
        floating = "FloatPixelData" in dataset or "DoubleFloatPixelData" in dataset
        what = "floating-point ones; convert it to .nii.gz" if floating else "none; the file is truncated, get it again"
        msg = f"{path.name}: expected integer pixels, got {what}"
        raise VolumeReadError(msg)
    photometric, samples = str(dataset.get("PhotometricInterpretation", "")), int(dataset.get("SamplesPerPixel", 1))
    if samples != 1 or photometric not in ("MONOCHROME1", "MONOCHROME2"):
        msg = f"{path.name}: expected greyscale pixels, got {photometric or samples}; tat restores greyscale scans only"
        raise VolumeReadError(msg)
    if int(dataset.get("BitsAllocated", 0)) not in (8, 16, 32):
        msg = f"{path.name}: expected 8, 16 or 32 bits per pixel, got {dataset.get('BitsAllocated')}; convert it first"
        raise VolumeReadError(msg)


def declared_type(dataset: Dataset) -> np.dtype[Any]:
    """The type of the stored numbers, from the header alone."""
    kind = "i" if int(dataset.get("PixelRepresentation", 0)) else "u"
    return np.dtype(f"{kind}{int(dataset.BitsAllocated) // 8}")


def _is_for_pydicom(syntax: UID) -> bool:
    return not syntax.is_encapsulated or str(syntax) in _PYDICOM_DECODES


def _unpacked(dataset: Dataset) -> NDArray[Any]:
    """By pydicom: the machine's byte order, and only the stored bits (old files keep overlays above them).

    Padding that was written with all bits keeps them: what is left of it in the stored ones would pass for tissue.
    """
    dtype = declared_type(dataset)
    padding = padding_of(dataset)
    stray = padding is not None and padding.stray
    if stray:
        dataset.pixel_array_options(correct_unused_bits=False)  # which would drop what tells padding from tissue
    array = np.array(dataset.pixel_array).astype(dtype, copy=False)
    stored_bits = int(dataset.get("BitsStored") or dtype.itemsize * 8)
    high_bit = int(dataset.get("HighBit") or stored_bits - 1)
    above = dtype.itemsize * 8 - 1 - high_bit
    unused = dtype.itemsize * 8 - stored_bits
    if not 0 < unused < dtype.itemsize * 8 or not 0 <= above <= unused:
        return array
    strays = padding.strays_in(array, stored_bits) if padding is not None and stray and above == unused else None
    if strays is not None and strays.any():
        rest = np.where(strays, 0, array) << above >> unused
        return np.where(strays, array.view(np.int16), rest.astype(np.int16))
    # Up to drop what lies above, down to drop what lies below; the way down repeats the sign of signed numbers.
    array <<= above
    array >>= unused
    return array


def _through_gdcm(dataset: Dataset) -> NDArray[Any]:
    from pydicom.dataset import Dataset as NewDataset
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import CTImageStorage, MultiFrameGrayscaleWordSecondaryCaptureImageStorage, generate_uid

    sitk: Any = import_module("SimpleITK")  # which has no types
    bare = NewDataset()
    for keyword in _PIXEL_DESCRIPTION:
        if keyword in dataset:
            bare[keyword] = dataset[keyword]
    frames = int(dataset.get("NumberOfFrames") or 1)
    bare.SOPClassUID = MultiFrameGrayscaleWordSecondaryCaptureImageStorage if frames > 1 else CTImageStorage
    bare.SOPInstanceUID = generate_uid()
    bare["PixelData"] = dataset["PixelData"]
    bare.file_meta = FileMetaDataset()
    bare.file_meta.TransferSyntaxUID = dataset.file_meta.TransferSyntaxUID
    bare.file_meta.MediaStorageSOPClassUID = bare.SOPClassUID
    bare.file_meta.MediaStorageSOPInstanceUID = bare.SOPInstanceUID
    with tempfile.TemporaryDirectory(prefix="tat-") as folder:
        copy = Path(folder) / "pixels.dcm"
        bare.save_as(copy, enforce_file_format=True)
        reader = sitk.ImageFileReader()
        reader.SetImageIO("GDCMImageIO")  # by name: the others would be asked first, and talk to stderr
        reader.SetFileName(str(copy))
        # For 12-bit JPEG, GDCM tries its 8-bit decoder first, whose C library complains on stderr about every image.
        with quiet_stderr() if str(dataset.file_meta.TransferSyntaxUID) in _TWELVE_BIT_JPEG else nullcontext():
            array: NDArray[Any] = sitk.GetArrayFromImage(reader.Execute())
    return array.astype(declared_type(dataset), copy=False)
