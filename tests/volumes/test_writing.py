import errno
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tatcli.errors import OutputError, UsageError
from tatcli.volumes import Geometry, Provenance, Volume, check_output, nifti, read_volume, write_volume
from tatcli.volumes.members import members_of

EXTENSIONS = [".nii", ".nii.gz", ".nrrd", ".mha", ".mhd", ".npy"]


@pytest.fixture
def volume() -> Volume:
    array = np.random.default_rng(0).normal(0, 1, (3, 4, 5)).astype(np.float32)
    return Volume(array, Geometry(np.eye(4), (3, 4, 5)))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_nothing_but_the_output_appears(extension: str, volume: Volume, tmp_path: Path) -> None:
    target = tmp_path / f"out{extension}"
    assert write_volume(volume, target) == target
    assert names(tmp_path) == (["out.mhd", "out.raw"] if extension == ".mhd" else [target.name])
    assert read_volume(target).array.tobytes() == volume.array.tobytes()


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_an_existing_file_is_replaced_only_on_demand(extension: str, volume: Volume, tmp_path: Path) -> None:
    target = write_volume(volume, tmp_path / f"out{extension}")
    before = target.read_bytes()
    other = volume.with_array(volume.array + 1, step="test")
    with pytest.raises(OutputError, match="exists"):
        write_volume(other, target)
    assert target.read_bytes() == before
    write_volume(other, target, overwrite=True)
    assert read_volume(target).array.tobytes() == other.array.tobytes()


@pytest.mark.parametrize("extension", EXTENSIONS)
@pytest.mark.parametrize("overwrite", [False, True])
def test_the_input_is_never_overwritten(extension: str, overwrite: bool, volume: Volume, tmp_path: Path) -> None:
    source = write_volume(volume, tmp_path / f"in{extension}")
    scan = read_volume(source)
    before = source.read_bytes()
    (tmp_path / f"link{extension}").symlink_to(source)
    os.link(source, tmp_path / f"hard{extension}")
    for name in (f"in{extension}", f"link{extension}", f"hard{extension}", f"../{tmp_path.name}/in{extension}"):
        with pytest.raises(OutputError, match="the input itself"):
            write_volume(scan, tmp_path / name, overwrite=overwrite)
    assert source.read_bytes() == before


def test_the_voxels_of_an_mhd_input_are_never_overwritten(volume: Volume, tmp_path: Path) -> None:
    write_volume(volume, tmp_path / "voxels.mhd")
    header = (tmp_path / "voxels.mhd").rename(tmp_path / "scan.mhd")
    scan = read_volume(header)
    before = (tmp_path / "voxels.raw").read_bytes()
    with pytest.raises(OutputError, match="the input itself"):
        write_volume(scan, tmp_path / "voxels.mhd", overwrite=True)
    assert (tmp_path / "voxels.raw").read_bytes() == before
    assert names(tmp_path) == ["scan.mhd", "voxels.raw"]


@pytest.mark.parametrize(
    ("name", "header", "files"),
    [
        ("scan.nrrd", "data file: voxels.raw\n", ["voxels.raw"]),
        ("scan.nrrd", "datafile: LIST 2\n0.raw\nvoxels.raw\n", ["0.raw", "voxels.raw"]),
        ("scan.nrrd", "data file: %d.raw 0 2 2\n", ["0.raw", "2.raw"]),
        ("scan.mhd", "ElementDataFile = %d.raw 0 1 1\n", ["0.raw", "1.raw"]),
        ("scan.mha", "ElementDataFile = LIST\n0.raw\r\nvoxels.raw\r\n", ["0.raw", "voxels.raw"]),
        ("scan.mha", "ElementDataFile = LOCAL\n", []),
        ("scan.nrrd", "encoding: raw\n\ndata file: 0.raw", []),
        ("scan.nrrd", "data file: %s.raw a b c\n", []),
    ],
)
def test_all_files_of_a_scan_count(name: str, header: str, files: list[str], volume: Volume, tmp_path: Path) -> None:
    """A batch redoes what any of them changed, and none of them is overwritten."""
    for file in ("0.raw", "1.raw", "2.raw", "voxels.raw"):
        (tmp_path / file).write_bytes(b"voxels")
    source = tmp_path / name
    source.write_text(header, newline="")
    assert members_of(source) == [source, *(tmp_path / file for file in files)]
    scan = replace(volume, provenance=replace(volume.provenance, path=source))
    for file in files:
        with pytest.raises(OutputError, match="the input itself"):
            write_volume(scan, (tmp_path / file).with_suffix(".mhd"), overwrite=True)
        assert (tmp_path / file).read_bytes() == b"voxels"


def test_a_raw_file_of_somebody_else_is_kept(volume: Volume, tmp_path: Path) -> None:
    (tmp_path / "out.raw").write_text("not ours")
    with pytest.raises(OutputError, match=r"out\.raw.*exists"):
        write_volume(volume, tmp_path / "out.mhd")
    assert names(tmp_path) == ["out.raw"]


@pytest.mark.parametrize("extension", EXTENSIONS)
@pytest.mark.parametrize("failure", [KeyboardInterrupt(), MemoryError(), OSError(errno.ENOSPC, "No space left")])
def test_a_failure_leaves_no_partial_file(
    extension: str, failure: BaseException, volume: Volume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = write_volume(volume, tmp_path / f"out{extension}")
    before, listed = target.read_bytes(), names(tmp_path)

    def fail(self: Path, other: Path) -> None:
        raise failure

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OutputError if isinstance(failure, OSError) else type(failure)):
        write_volume(volume, target, overwrite=True)
    assert names(tmp_path) == listed
    assert target.read_bytes() == before


def test_a_failure_in_the_midst_of_the_voxels(volume: Volume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def planes(*args: object, **options: object) -> object:
        yield volume.array[0]
        raise KeyboardInterrupt

    monkeypatch.setattr(nifti, "encoded_slices", planes)
    with pytest.raises(KeyboardInterrupt):
        write_volume(volume, tmp_path / "out.nii.gz")
    assert names(tmp_path) == []


def test_nan_in_an_integer_volume_leaves_nothing(volume: Volume, tmp_path: Path) -> None:
    array = volume.array.copy()
    array[2, 0, 0] = np.nan
    scan = Volume(array, volume.geometry, provenance=Provenance(dtype=np.dtype(np.int16)))
    for extension in EXTENSIONS:
        with pytest.raises(OutputError, match="NaN"):
            write_volume(scan, tmp_path / f"out{extension}")
    assert names(tmp_path) == []


def test_no_folder_no_file(volume: Volume, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="expected an existing folder"):
        write_volume(volume, tmp_path / "missing" / "out.nii")
    (tmp_path / "folder.nii").mkdir()
    with pytest.raises(OutputError, match="got a folder"):
        write_volume(volume, tmp_path / "folder.nii", overwrite=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="expected an existing folder"):
        write_volume(volume, tmp_path / "file" / "out.nii")


def test_a_read_only_folder(volume: Volume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write anywhere
    with pytest.raises(OutputError, match="writable"):
        write_volume(volume, tmp_path / "out.nii")


@pytest.mark.parametrize(
    ("name", "message"),
    [("out.IMA", r"\.dcm, got '\.IMA'"), ("out.png", r"\.nii, \.nii\.gz"), ("o.gz", r"\.gz")],
)
def test_other_formats(name: str, message: str, volume: Volume, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        write_volume(volume, tmp_path / name)
    with pytest.raises(UsageError, match=message):
        check_output(tmp_path / name)
    assert names(tmp_path) == []


@pytest.mark.parametrize("name", ["out.dcm", "out"])
def test_dicom_needs_a_source_in_dicom(name: str, volume: Volume, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="expected a scan read from DICOM to write DICOM from, got memory"):
        write_volume(volume, tmp_path / name)
    assert names(tmp_path) == []


def test_extensions_in_capitals(volume: Volume, tmp_path: Path) -> None:
    for name in ("OUT.NII", "OUT.NII.GZ", "OUT.MHA", "OUT.NRRD"):
        assert read_volume(write_volume(volume, tmp_path / name)).array.tobytes() == volume.array.tobytes()


def test_check_output_before_the_work(volume: Volume, tmp_path: Path) -> None:
    check_output(tmp_path / "out.nii.gz", source=tmp_path / "in.nii.gz")
    (tmp_path / "out.nii.gz").write_text("")
    with pytest.raises(OutputError, match="exists"):
        check_output(tmp_path / "out.nii.gz")
    check_output(tmp_path / "out.nii.gz", overwrite=True)
    with pytest.raises(OutputError, match="the input itself"):
        check_output(tmp_path / "out.nii.gz", source=tmp_path / "out.nii.gz", overwrite=True)


@pytest.mark.parametrize(("length", "refused"), [(255, False), (256, True), (300, True)])
def test_a_name_that_is_too_long_is_refused_before_the_work(
    length: int, refused: bool, volume: Volume, tmp_path: Path
) -> None:
    target = tmp_path / ("o" * (length - 7) + ".nii.gz")
    if not refused:
        check_output(target)
        assert read_volume(write_volume(volume, target)).array.shape == volume.array.shape
        return
    for path in (target, tmp_path / "to be made" / target.name):
        with pytest.raises(OutputError, match=rf"a name that the file system takes, got one of {length} bytes"):
            check_output(path, makes_folders=True)
