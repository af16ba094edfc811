"""Write a restored DICOM series: one derived object for each source object, in a series of their own.

Patient, study, frame of reference and geometry stay the source's; UIDs, image type, derivation and pixels are new. What
the source's header says of the acquisition stays as well, times included: SUV and the order of frames depend on them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import tatcli
from tatcli.errors import VolumeReadError
from tatcli.volumes.dicom import DicomHeader
from tatcli.volumes.dicom_checks import dicom_header
from tatcli.volumes.dicom_classic import as_classic, check_class
from tatcli.volumes.dicom_coding import as_ds
from tatcli.volumes.dicom_files import tolerant
from tatcli.volumes.dicom_frames import drop_acquisition, update_frames
from tatcli.volumes.dicom_mosaic import tile_of
from tatcli.volumes.dicom_naming import fit_character_set, name_series
from tatcli.volumes.dicom_options import DicomOptions, UidMaker
from tatcli.volumes.dicom_origin import Derivation, derived_type, evidence, mark_derived, source_image
from tatcli.volumes.dicom_padding import restate_padding
from tatcli.volumes.dicom_planes import Plane, SourceObject, source_objects
from tatcli.volumes.dicom_stale import drop_stale, flag_lossy
from tatcli.volumes.dicom_units import describe_values, set_rescale
from tatcli.volumes.dicom_words import settle_words
from tatcli.volumes.pet_header import rests_on_private
from tatcli.volumes.volume import Volume

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

__all__ = ["write_dicom_file", "write_dicom_folder"]


def write_dicom_folder(volume: Volume, folder: Path, options: DicomOptions | None = None) -> int:
    """Write the derived series into an existing, empty folder, as 00001.dcm and so on; returns how many files.

    Args:
        volume: what passed :func:`~tatcli.volumes.dicom_checks.check_dicom_output`.
        folder: where to.
        options: how.

    Raises:
        OutputError: voxels without a number.
        VolumeReadError: a source file has gone since it was read.
    """
    count = 0
    for count, dataset in enumerate(_derived(volume, options or DicomOptions()), start=1):
        _save(dataset, folder / f"{count:05d}.dcm")
    return count


def write_dicom_file(volume: Volume, path: Path, options: DicomOptions | None = None) -> None:
    """Write the only derived object of a volume; as :func:`write_dicom_folder`."""
    (dataset,) = _derived(volume, options or DicomOptions())
    _save(dataset, path)


@dataclass(frozen=True)
class _NewSeries:
    """What all derived objects have in common; ``study`` is for sources that name none."""

    header: DicomHeader
    uid: str
    study: str
    uids: UidMaker
    derivation: Derivation
    options: DicomOptions

    def instance(self, source: str, *frame: str) -> str:
        """UID of an object by its source's; anonymised sources may have none."""
        return self.uids.new("instance", source or self.header.series.uid, *frame)


def _derived(volume: Volume, options: DicomOptions) -> Iterator[Dataset]:
    """The derived objects, one after the other."""
    header = dicom_header(volume.provenance)
    steps = volume.provenance.steps
    units = () if header.factor == 1.0 else (f"SUV {header.factor!r}",)  # the caller's word may have changed it
    uids = UidMaker(options, (*steps, header.series.part, *units))
    series = _NewSeries(
        header=header,
        uid=uids.new("series", header.series.uid),
        study=uids.new("study", header.series.uid),
        uids=uids,
        derivation=Derivation(
            steps=steps,
            software=options.software,
            resampled=volume.geometry.shape != header.geometry.shape,
            moment=None if options.reproducible else datetime.now(UTC).astimezone(),
        ),
        options=options,
    )
    finish = _finisher(series)
    before = 0  # frames, in the files so far
    for source in source_objects(volume, header, in_suv=_loses_units(header, options)):
        path = source.planes[0].image.path
        with tolerant(path):
            for dataset in _objects_of(source, series, before):
                yield finish(dataset)
        before += len(source.canvas)


def _finisher(series: _NewSeries) -> Callable[[Dataset], Dataset]:
    """The last step of every object: anonymisation, or nothing."""
    if not series.options.anonymise:
        return lambda dataset: dataset
    from tatcli.volumes.dicom_privacy import Anonymiser

    return Anonymiser(series.derivation, series.options)


def _loses_units(header: DicomHeader, options: DicomOptions) -> bool:
    """Whether SUV couldn't be computed from the output any more, for want of weight, times or private attributes."""
    headers = [image.pet for frame in header.frames for image in frame if image.pet is not None]
    if header.factor == 1.0 or not headers:
        return False
    return options.anonymise or (options.private == "drop" and rests_on_private(headers))


def _objects_of(source: SourceObject, series: _NewSeries, before: int) -> Iterator[Dataset]:
    dataset = source.dataset
    meta = dataset.file_meta
    sop_class = str(dataset.get("SOPClassUID") or meta.get("MediaStorageSOPClassUID") or "")
    instance = str(dataset.get("SOPInstanceUID") or meta.get("MediaStorageSOPInstanceUID") or "")
    first = source.planes[0]
    flag_lossy(dataset, compressed=len(dataset.PixelData))
    del dataset.PixelData
    settle_words(dataset)
    study = _common(dataset, series, sop_class, fits=first.spacing is None)
    enhanced = "PerFrameFunctionalGroupsSequence" in dataset
    if enhanced:
        update_frames(dataset, source.planes, series.derivation, (sop_class, instance))
    if not enhanced or series.options.enhanced == "classic":
        yield from _classic_objects(source, series, (sop_class, instance), before=before if enhanced else None)
        return
    _describe_pixels(dataset, *source.planes)
    drop_acquisition(dataset)
    dataset.SourceImageEvidenceSequence = [evidence(study, first.image.series, sop_class, [instance])]
    dataset.SOPInstanceUID = series.instance(instance)
    _set_pixels(dataset, np.stack([plane.pixels for plane in source.planes]))
    yield dataset


def _classic_objects(
    source: SourceObject, series: _NewSeries, identity: tuple[str, str], *, before: int | None
) -> Iterator[Dataset]:
    """Of an enhanced source one object for each frame; else one for the file, mosaics put together again.

    Args:
        source: the file.
        series: what its objects go to.
        identity: its SOP class and instance.
        before: frames in the enhanced files before it; None: it isn't enhanced.
    """
    resampled = series.derivation.resampled
    sop_class, instance = identity
    if before is None:
        plane = source.planes[0]
        dataset: Dataset = source.dataset
        if instance:
            dataset.SourceImageSequence = [source_image(sop_class, instance, resampled=resampled)]
        _describe_pixels(dataset, plane)
        describe_values(dataset, plane)
        _place(dataset, plane)
        dataset.SOPInstanceUID = series.instance(instance)
        _set_pixels(dataset, plane.pixels if plane.image.tile is None else _mosaic(source))
        yield dataset
        return
    check_class(sop_class, source.planes[0].image.path)
    for index, plane in enumerate(source.planes):
        dataset = as_classic(source.dataset, index, image=plane.image, frames=series.header.frames)
        frame = plane.image.frame
        dataset.SourceImageSequence = [source_image(sop_class, instance, frame=frame, resampled=resampled)]
        dataset.ImageType = derived_type(dataset.get("ImageType"), str(dataset.SOPClassUID))
        dataset.InstanceNumber = before + frame + 1
        _describe_pixels(dataset, plane)
        _place(dataset, plane)
        set_rescale(dataset, plane)
        dataset.SOPInstanceUID = series.instance(instance, str(frame))
        _set_pixels(dataset, plane.pixels)
        yield dataset


def _common(dataset: Dataset, series: _NewSeries, sop_class: str, *, fits: bool) -> str:
    """Everything but pixels and the instance's own UID; returns the study's UID."""
    options = series.options
    if options.private == "drop":
        dataset.remove_private_tags()
    drop_stale(dataset, overlays=fits)
    dataset.SOPClassUID = sop_class
    if not dataset.get("StudyInstanceUID"):
        dataset.StudyInstanceUID = series.study
    dataset.SeriesInstanceUID = series.uid
    name_series(dataset, options)
    fit_character_set(dataset, (options.suffix, series.derivation.description))
    mark_derived(dataset, series.derivation)
    return str(dataset.StudyInstanceUID)


def _describe_pixels(dataset: Dataset, *planes: Plane) -> None:
    """Matrix and bits of the planes that an object holds."""
    plane, coding = planes[0], planes[0].coding
    recoded, retyped = any(one.recoded for one in planes), bool(dataset.get("PixelRepresentation")) != coding.signed
    if recoded:  # their numbers meant the source's
        _drop(dataset, "PixelPaddingValue", "PixelPaddingRangeLimit")
    elif retyped:
        restate_padding(dataset, coding)
    if recoded or retyped:
        _drop(dataset, "VOILUTSequence")
    dataset.Rows, dataset.Columns = plane.pixels.shape if plane.image.tile is None else (dataset.Rows, dataset.Columns)
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = coding.allocated, coding.stored, coding.stored - 1
    dataset.PixelRepresentation = int(coding.signed)
    dataset.SamplesPerPixel = 1


def _drop(dataset: Dataset, *keywords: str) -> None:
    for keyword in keywords:
        if keyword in dataset:
            del dataset[keyword]


def _place(dataset: Dataset, plane: Plane) -> None:
    if plane.position is not None:
        dataset.ImagePositionPatient = [as_ds(value) for value in plane.position]
    if plane.spacing is not None:
        dataset.PixelSpacing = [as_ds(value) for value in plane.spacing]


def _mosaic(source: SourceObject) -> NDArray[Any]:
    """The tiles in their places; what lies beside the slices stays as it was."""
    canvas: NDArray[Any] = source.canvas[0].astype(source.planes[0].coding.dtype)
    for plane in source.planes:
        tile_of(plane.image, canvas)[...] = plane.pixels
    return canvas


def _set_pixels(dataset: Dataset, pixels: NDArray[Any]) -> None:
    data = np.ascontiguousarray(pixels, dtype=pixels.dtype.newbyteorder("<")).tobytes()
    dataset.add_new("PixelData", "OB" if pixels.dtype.itemsize == 1 else "OW", data + b"\0" * (len(data) % 2))


def _save(dataset: Dataset, path: Path) -> None:
    """Uncompressed and little-endian: what every reader takes.

    Raises:
        VolumeReadError: a value that doesn't parse.
        OSError: the system refuses to write.
    """
    from pydicom.dataset import Dataset as NewDataset
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import PYDICOM_IMPLEMENTATION_UID, ExplicitVRLittleEndian

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = dataset.SOPClassUID, dataset.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = PYDICOM_IMPLEMENTATION_UID
    meta.ImplementationVersionName = f"TAT_{tatcli.__version__}"[:16]
    try:
        with tolerant(path):
            fresh = NewDataset()
            for element in dataset:  # decoded, whatever the encoding of the source was
                if element.tag.element != 0 and element.tag.group > 0x0006:
                    fresh[element.tag] = element
            file = FileDataset(path, fresh, preamble=bytes(128), file_meta=meta, is_implicit_VR=False)
            file.save_as(path, enforce_file_format=True)
    except VolumeReadError as error:
        refusal: BaseException | None = error.__cause__
        while isinstance(refusal, OSError) and refusal.errno is None:  # pydicom's, around the system's
            refusal = refusal.__context__
        if isinstance(refusal, OSError):
            raise OSError(refusal.errno, refusal.strerror, str(path)) from error
        raise
