"""Headers that claim more than a file holds, or than memory takes."""

from __future__ import annotations

import time
import tracemalloc
import zlib

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import CTImageStorage, DeflatedExplicitVRLittleEndian

from tatcli.errors import VolumeReadError
from tatcli.volumes import dicom_files
from tatcli.volumes.dicom_files import read_dataset
from tatcli.volumes.itk_fields import data_files_of, meta_fields, nrrd_fields
from tatcli.volumes.members import members_of


@pytest.mark.parametrize(
    "pattern", ["slice%d.raw 0 1000000000000", "slice%2000000000d.raw 0 3", "%s%s 0 1", "%c.raw 1 2"]
)
def test_a_header_that_counts_without_end(tmp_path, pattern):
    path = tmp_path / "scan.mhd"
    path.write_text(f"NDims = 3\nDimSize = 2 2 2\nElementDataFile = {pattern}\n")
    (tmp_path / "slice1.raw").write_bytes(b"x")
    start = time.monotonic()
    found = members_of(path)
    assert time.monotonic() - start < 10
    assert found in ([path], [path, tmp_path / "slice1.raw"])
    path.write_text("ElementDataFile = slice%03i.raw 1 5 2\n")
    assert [file.name for file in data_files_of(path)] == ["slice001.raw", "slice003.raw", "slice005.raw"]


@pytest.mark.parametrize("fields", [meta_fields, nrrd_fields])
def test_a_header_without_an_end_is_not_read_to_the_files(tmp_path, fields):
    path = tmp_path / "scan.mha"
    path.write_bytes(
        np.random.default_rng(0).integers(11, 256, 2**25, dtype=np.uint8).tobytes() + b"\nElementDataFile = LOCAL\n"
    )
    tracemalloc.start()
    try:
        found, _ = fields(path)
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()
    assert "ElementDataFile" not in found


def deflated(path, pixels: int):
    """A file of a few kilobytes that inflates to so many bytes of pixels."""
    meta, body = FileMetaDataset(), Dataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = DeflatedExplicitVRLittleEndian, CTImageStorage
    meta.MediaStorageSOPInstanceUID = "1.2.3"
    head = DicomBytesIO()
    write_file_meta_info(head, meta)
    body.SOPClassUID, body.SOPInstanceUID, body.Rows, body.Columns = CTImageStorage, "1.2.3", 8, 8
    plain = DicomBytesIO()
    plain.is_implicit_VR, plain.is_little_endian = False, True
    from pydicom.filewriter import write_dataset

    write_dataset(plain, body)
    element = b"\xe0\x7f\x10\x00OW\0\0" + pixels.to_bytes(4, "little") + bytes(pixels)
    pack = zlib.compressobj(wbits=-15)
    path.write_bytes(bytes(128) + b"DICM" + head.getvalue() + pack.compress(plain.getvalue() + element) + pack.flush())
    return path


def test_a_deflated_file_that_becomes_too_long_is_refused_before_it_is_inflated(tmp_path, monkeypatch):
    path = deflated(tmp_path / "bomb.dcm", 2**24)
    assert read_dataset(path).Rows == 8
    monkeypatch.setattr(dicom_files, "_MOST_INFLATED", 2**23)
    tracemalloc.start()
    try:
        with pytest.raises(VolumeReadError, match=r"bomb.dcm: expected at most \d+ bytes once inflated, got more"):
            read_dataset(path)
        assert tracemalloc.get_traced_memory()[1] < 2**23
    finally:
        tracemalloc.stop()
    monkeypatch.setattr(dicom_files, "_MOST_INFLATED", 2**24 + 2**10)
    assert read_dataset(path).Columns == 8
