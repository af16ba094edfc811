"""DICOM in zip archives, on media with a DICOMDIR, and as Siemens mosaics without their CSA header."""

import gc
import shutil
import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.fileset import FileSet

from tatcli.errors import UsageError, VolumeReadError
from tatcli.volumes import describe, dicom_series, list_series, members, read_volume
from tatcli.volumes.pet_tags import PetTags

RNG = np.random.default_rng(5)


def pixels(shape: tuple[int, ...] = (4, 6, 8)) -> np.ndarray:
    return RNG.integers(0, 3000, shape).astype("int16")


def zipped(folder: Path, target: Path) -> Path:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, f"study/{path.name}")
        archive.writestr("study/readme.txt", "hello")
        archive.writestr("__MACOSX/study/._IM", b"x")
    return target


def test_a_zip_archive_reads_like_its_folder(series: Callable[..., Any], tmp_path: Path) -> None:
    maker = series()
    maker.add_stack(pixels())
    for name in ("scan.zip", "scan"):  # known by its content, too
        volume = read_volume(zipped(maker.folder, tmp_path / name))
        np.testing.assert_array_equal(volume.array, read_volume(maker.folder).array)
        assert volume.provenance.warnings == ("skipped 1 file that is not DICOM",)
    assert describe(tmp_path / "scan.zip").shape == (4, 6, 8)


def test_unpacked_files_live_as_long_as_the_volume(series: Callable[..., Any], tmp_path: Path) -> None:
    maker = series()
    maker.add_stack(pixels())
    volume = read_volume(zipped(maker.folder, tmp_path / "scan.zip"))
    files = [image.path for image in volume.provenance.header.frames[0]]
    restored = volume.with_array(volume.array, step="nothing")
    del volume
    gc.collect()
    assert all(path.is_file() for path in files)
    assert files[0].parents[1].stat().st_mode & 0o077 == 0  # nobody else's business
    del restored
    gc.collect()
    assert not files[0].parents[1].exists()


def test_members_cannot_climb_out(series: Callable[..., Any], tmp_path: Path) -> None:
    maker = series()
    path = maker.add(pixels((6, 8)), (0, 0, 0))
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
        archive.write(path, "../../../outside.dcm")
    volume = read_volume(tmp_path / "evil.zip")
    folder = volume.provenance.header.unpacked.folder
    assert [file.relative_to(folder).as_posix() for file in folder.rglob("*.dcm")] == ["000000/outside.dcm"]


def test_members_get_names_that_every_system_takes(series: Callable[..., Any], tmp_path: Path) -> None:
    path = series().add(pixels((6, 8)), (0, 0, 0))
    with zipfile.ZipFile(tmp_path / "scan.zip", "w") as archive:
        archive.write(path, 'study/T1 <3.0*1.0|"x">?:a.dcm')
    volume = read_volume(tmp_path / "scan.zip")
    folder = volume.provenance.header.unpacked.folder
    assert [file.relative_to(folder).as_posix() for file in folder.rglob("*.dcm")] == ["000000/T1 3.01.0xa.dcm"]


def test_archives_that_do_not_unpack(series: Callable[..., Any], tmp_path: Path) -> None:
    maker = series()
    maker.add_stack(pixels())
    whole = zipped(maker.folder, tmp_path / "scan.zip")
    data = bytearray(whole.read_bytes())
    data[60:90] = bytes(30)
    (tmp_path / "damaged.zip").write_bytes(data)
    with pytest.raises(VolumeReadError, match=r"damaged.zip: expected a complete zip archive"):
        read_volume(tmp_path / "damaged.zip")
    locked = bytearray(whole.read_bytes())
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = -1
        while (start := locked.find(signature, start + 1)) >= 0:
            locked[start + flags] |= 1  # the bit for encryption
    (tmp_path / "locked.zip").write_bytes(locked)
    with pytest.raises(VolumeReadError, match=r"locked.zip: expected .* without password, got .*; unpack it yourself"):
        read_volume(tmp_path / "locked.zip")
    with zipfile.ZipFile(tmp_path / "empty.zip", "w") as archive:
        archive.writestr("a.txt", "nothing")
    with pytest.raises(VolumeReadError, match="got no DICOM images among 1 files"):
        read_volume(tmp_path / "empty.zip")
    with pytest.raises(UsageError, match="together with --pet"):
        read_volume(whole, pet=PetTags(weight=70.0))


def test_an_archive_where_there_is_no_temporary_folder(
    series: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a container whose file system is read-only."""
    maker = series()
    maker.add_stack(pixels())
    archive = zipped(maker.folder, tmp_path / "scan.zip")
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr("tempfile._candidate_tempdir_list", lambda: [str(tmp_path / "absent")])
    with pytest.raises(VolumeReadError, match=r"temporary folder: expected one to unpack to, got No usable .* TMPDIR"):
        read_volume(archive)


def media(maker: Any, folder: Path) -> Path:
    """A DICOMDIR with the maker's files, as on a patient's disc."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # pydicom leaves temporary folders to the garbage collector
        files = FileSet()
        for path in sorted(maker.folder.iterdir()):
            dataset = pydicom.dcmread(path)
            dataset.PatientID, dataset.PatientName, dataset.StudyInstanceUID = "1", "Made^Up", "1.2.3"
            dataset.StudyDate, dataset.StudyTime, dataset.StudyID, dataset.AccessionNumber = "20200101", "1200", "1", ""
            files.add(dataset)
        files.write(folder)
        del files
        gc.collect()
    return folder / "DICOMDIR"


def test_a_dicomdir_reads_like_its_folder(series: Callable[..., Any], tmp_path: Path) -> None:
    maker, array = series(), pixels()
    maker.add_stack(array)
    directory = media(maker, tmp_path / "disc")
    renamed = shutil.copy(directory, directory.with_name("index"))
    for path in (directory, renamed, directory.parent):
        np.testing.assert_array_equal(read_volume(path).array, array.astype(np.float32) - 1024)
    assert [info.images for info in list_series(directory)] == [4]


def test_headers_that_a_dicomdir_names_are_read_once(
    series: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    maker, read = series(), []
    maker.add_stack(pixels())
    directory = media(maker, tmp_path / "disc")
    once = dicom_series.read_dataset
    monkeypatch.setattr(dicom_series, "read_dataset", lambda path: read.append(path) or once(path))
    monkeypatch.setattr(members, "_SETTLED", 0)
    assert [len(list_series(directory)) for _ in range(3)] == [1, 1, 1]
    assert len(read) == 4
    read[0].unlink()
    assert [info.images for info in list_series(directory)] == [3]


def test_files_that_a_dicomdir_names_in_vain(series: Callable[..., Any], tmp_path: Path) -> None:
    maker, array = series(), pixels()
    maker.add_stack(array)
    directory = media(maker, tmp_path / "disc")
    files = [path for path in directory.parent.rglob("*") if path.is_file() and path != directory]
    heights = {float(pydicom.dcmread(path).ImagePositionPatient[2]): path for path in files}
    heights[max(heights)].unlink()
    volume = read_volume(directory)
    np.testing.assert_array_equal(volume.array, array[:3].astype(np.float32) - 1024)
    assert volume.provenance.warnings == ("1 of the 4 files that DICOMDIR names are missing",)


def test_a_mosaic_without_its_csa_header(series: Callable[..., Any]) -> None:
    maker = series(modality="MR", common={"ImageType": ["ORIGINAL", "PRIMARY", "M", "MOSAIC"]})
    path = maker.add(pixels((12, 12)), (0, 0, 0))
    with pytest.raises(VolumeReadError, match="Siemens mosaic with its CSA header"):
        read_volume(path)


def csa(first: int, second: int) -> bytes:
    """A CSA header of one tag, whose single value is followed by another; lengths of both."""
    tag = struct.pack("<64si4s3i", b"NumberOfImagesInMosaic", 1, b"IS", 6, 2, 77)
    return b"SV10" + bytes(4) + struct.pack("<2I", 1, 77) + tag + struct.pack("<8i", 0, first, 77, 0, 0, second, 77, 0)


@pytest.mark.parametrize(
    "header",
    [csa(0, 4) + bytes(4), csa(0, 0)[4:], csa(0, 0)[:70], csa(0, 0)],
    ids=["two values", "no SV10", "cut off", "empty"],
)
def test_a_mosaic_with_a_damaged_csa_header(series: Callable[..., Any], header: bytes) -> None:
    path = series(modality="MR").add(np.zeros((8, 8), np.uint16), (0, 0, 0))
    dataset = pydicom.dcmread(path)
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "M", "MOSAIC"]
    dataset.private_block(0x0029, "SIEMENS CSA HEADER", create=True).add_new(0x10, "OB", header)
    dataset.save_as(path)
    with pytest.raises(VolumeReadError, match="Siemens mosaic with its CSA header"):
        read_volume(path)


def test_a_damaged_transfer_syntax(series: Callable[..., Any]) -> None:
    path = series().add(np.zeros((8, 8), np.uint16), (0, 0, 0))
    path.write_bytes(path.read_bytes().replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.1\\008.1.2.1\0", 1))
    with pytest.raises(VolumeReadError, match=r"expected pixel data in .* got data that don't decode"):
        read_volume(path)
