"""Scans plane by plane: what comes is what reading the whole file gives."""

import gzip
import tracemalloc
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK

from tatcli.errors import GeometryError, VolumeReadError
from tatcli.intensity import Units
from tatcli.volumes import read_volume
from tatcli.volumes.planes import FilePlanes, Unstreamable
from tatcli.volumes.reading import open_planes

TYPES = ["uint8", "int16", "uint16", "int32", "int64", "float32", "float64"]
SHAPES = {"3-D": (5, 4, 3), "4-D": (2, 5, 4, 3), "2-D": (4, 3)}
TEXT = b"NDims = 2\nBinaryData = False\nDimSize = 2 2\nElementType = MET_UCHAR\nElementDataFile = LOCAL\n1 2 3 4\n"
FILES = [".nii", ".nii.gz", "raw.nrrd", "gzip.nrrd", "raw.mha", "zlib.mha", "raw.mhd", "zlib.mhd"]


def numbers(dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    rng = np.random.default_rng(0)
    if np.dtype(dtype).kind == "f":
        array = rng.normal(0, 1000, shape).astype(dtype)
        array.flat[:2] = [np.nan, np.inf]
        return array
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max, shape, dtype=dtype, endpoint=True)


def save(stored: np.ndarray, path: Path, *, scale: tuple[float, float] | None = None) -> Path:
    """A file with these stored numbers, by nibabel or ITK."""
    if ".nii" in path.name:
        made = nib.Nifti1Image(stored.T, np.diag([-1.0, 2.0, 3.0, 1.0]), dtype=stored.dtype)
        if scale:
            made.header.set_slope_inter(*scale)
        made.to_filename(path)
        return path
    made = SimpleITK.GetImageFromArray(stored, isVector=False)
    SimpleITK.WriteImage(made, path, useCompression=not path.name.startswith("raw"))
    return path


def together(planes: FilePlanes, axis: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """(stored, values) put together from blocks, (frames, slices, rows, columns)."""
    header = planes.header
    whole = (header.frames, *header.geometry.shape)
    stored, values = np.zeros(whole, planes.dtype.newbyteorder("=")), np.zeros(whole, np.float32)
    for block in planes.blocks(axis, length):
        assert block.values.dtype == np.float32
        assert block.stored.shape == block.values.shape
        assert block.stop - block.start == block.stored.shape[axis] <= length
        cut = (block.frame, *(slice(None),) * axis, slice(block.start, block.stop))
        stored[cut], values[cut] = block.stored, block.values
    return stored, values


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_every_block_of_every_format(name: str, dtype: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    stored = numbers(dtype, shape)
    path = save(stored, tmp_path / (f"x{name}" if name[0] == "." else name))
    volume = read_volume(path)
    planes = open_planes(path, units=Units.HU)
    assert planes.header.units is Units.HU
    assert planes.header.shape == volume.array.shape
    assert planes.stored_bytes == stored.nbytes
    np.testing.assert_array_equal(planes.header.geometry.affine, volume.geometry.affine)
    origin = planes.header.provenance
    assert (origin.format, origin.path, origin.dtype) == (volume.provenance.format, path, volume.provenance.dtype)
    for source in (planes, planes.held()):
        for axis in range(3):
            for length in (1, 2, 100):
                found = together(source, axis, length)
                assert found[0].tobytes() == stored.tobytes()
                assert found[1].tobytes() == volume.array.tobytes()
        passed = list(source.values())
        assert np.concatenate([values for _, values in passed]).tobytes() == volume.array.tobytes()
        assert sorted({frame for frame, _ in passed}) == list(range(volume.frames))


def test_rescale_and_byte_order(tmp_path: Path) -> None:
    header = nib.Nifti1Header(endianness=">")
    stored = numbers("int16", (5, 4, 3))
    header.set_data_shape((3, 4, 5))
    header.set_data_dtype(np.int16)
    header.set_sform(np.eye(4), code=1)
    header["scl_slope"], header["scl_inter"], header["vox_offset"] = 0.37, -3.0, 352
    path = tmp_path / "big.nii"
    path.write_bytes(header.binaryblock + bytes(4) + stored.astype(">i2").tobytes())
    volume, planes = read_volume(path), open_planes(path)
    for source in (planes, planes.held()):
        found = together(source, 1, 3)
        np.testing.assert_array_equal(found[0][0], stored)
        assert found[1].tobytes() == volume.array.tobytes()
    np.testing.assert_allclose(volume.array, stored * 0.37 - 3.0, rtol=1e-5, atol=1e-3)

    head = "NRRD0004\ntype: int16\ndimension: 3\nsizes: 3 4 5\nendian: big\nencoding: {}\nnote:=encoding: ascii\n\n"
    meta = (
        "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = True\nCompressedData = {}\n"
        "DimSize = 3 4 5\nElementSpacing = 1 1 1\nElementType = MET_SHORT\nElementDataFile = LOCAL\n"
    )
    body = stored.astype(">i2").tobytes()
    for name, content in {
        "raw.nrrd": head.format("raw").encode() + body,
        "gz.nrrd": head.format("gz").encode() + gzip.compress(body),
        "raw.mha": meta.format("False").encode() + body,
        "zlib.mha": meta.format("True").encode() + zlib.compress(body),
    }.items():
        (tmp_path / name).write_bytes(content)
        np.testing.assert_array_equal(read_volume(tmp_path / name).array, stored)
        np.testing.assert_array_equal(together(open_planes(tmp_path / name), 0, 2)[0][0], stored)


@pytest.mark.parametrize("name", FILES)
def test_truncation_is_noticed_by_every_pass(name: str, tmp_path: Path) -> None:
    path = save(numbers("int16", (6, 40, 50)), tmp_path / (f"x{name}" if name[0] == "." else name))
    body = next((found for found in (path.with_suffix(".raw"), path.with_suffix(".zraw")) if found.exists()), path)
    body.write_bytes(body.read_bytes()[:-700])
    for axis in (0, 2):
        with pytest.raises(VolumeReadError, match=path.name) as caught:
            together(open_planes(path), axis, 3)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", [".nii.gz", "gzip.nrrd", "zlib.mha"])
def test_damage_is_noticed_at_the_end_of_a_pass(name: str, tmp_path: Path) -> None:
    """A flipped bit in the checksum: every voxel unpacks."""
    path = save(numbers("int16", (6, 40, 50)), tmp_path / (f"x{name}" if name[0] == "." else name))
    content = bytearray(path.read_bytes())
    content[-6 if name != "zlib.mha" else -2] ^= 1
    path.write_bytes(content)
    for axis in (0, 1):
        with pytest.raises(VolumeReadError, match=path.name):
            together(open_planes(path), axis, 100)
    with pytest.raises(VolumeReadError, match=path.name):
        open_planes(path).held()


@pytest.mark.parametrize("name", [".nii", ".nii.gz", "gzip.nrrd", "zlib.mha", "raw.mhd"])
def test_holding_a_scan_takes_no_second_copy(name: str, tmp_path: Path) -> None:
    stored = np.random.default_rng(0).integers(-1000, 1000, (40, 512, 512), dtype=np.int16)
    path = save(stored, tmp_path / (f"x{name}" if name[0] == "." else name))
    planes = open_planes(path)
    tracemalloc.start()
    held = planes.held()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < stored.nbytes + 6 * 2**20  # of 20 MiB: the buffers of the library that unpacks
    np.testing.assert_array_equal(held.stored, stored)


def test_headers_that_promise_too_much(tmp_path: Path) -> None:
    path = tmp_path / "x.nrrd"
    path.write_bytes(
        b"NRRD0004\ntype: int16\ndimension: 3\nsizes: 30000 30000 30000\nendian: little\nencoding: raw\n\n" + bytes(8)
    )
    with pytest.raises(VolumeReadError, match="8 bytes instead of 54000000000000"):
        open_planes(path)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        (
            "a.nrrd",
            b"NRRD0004\ntype: uint8\ndimension: 2\nsizes: 2 2\nencoding: ascii\n\n1 2 3 4\n",
            "encoded as ascii",
        ),
        (
            "b.nrrd",
            b"NRRD0004\ntype: uint8\ndimension: 2\nsizes: 2 2\nencoding: raw\nbyte skip: 2\n\n......",
            "after a gap",
        ),
        (
            "c.nrrd",
            b"NRRD0004\ntype: uint8\ndimension: 2\nsizes: 2 2\nencoding: raw\ndata file: LIST 2\nc.raw\n",
            "several",
        ),
        (
            "d.mha",
            b"ObjectType = Image\n" + TEXT,
            "its voxels are text",
        ),
        ("f.npy", None, "bare array"),
    ],
)
def test_what_can_only_be_read_as_a_whole(name: str, content: bytes | None, reason: str, tmp_path: Path) -> None:
    path = tmp_path / name
    (tmp_path / "c.raw").write_bytes(b"....")
    if content is None:
        np.save(path, np.ones((2, 2)))
    else:
        path.write_bytes(content)
    assert read_volume(path).array.shape == (1, 2, 2)
    with pytest.raises(Unstreamable, match=reason):
        open_planes(path)


def test_dicom_and_lists_can_only_be_read_as_a_whole(tmp_path: Path) -> None:
    with pytest.raises(Unstreamable, match="DICOM"):
        open_planes(tmp_path)
    made = SimpleITK.GetImageFromArray(np.zeros((3, 4, 5, 2), np.int16), isVector=True)
    SimpleITK.WriteImage(made, tmp_path / "x.nrrd")
    content = (tmp_path / "x.nrrd").read_bytes()
    (tmp_path / "x.nrrd").write_bytes(content.replace(b"kinds: vector", b"kinds: list"))
    with pytest.raises(Unstreamable, match="beside each other"):
        open_planes(tmp_path / "x.nrrd")


def test_bad_headers_are_refused_as_ever(tmp_path: Path) -> None:
    (tmp_path / "x.nii").write_text("no image" * 100)
    with pytest.raises(VolumeReadError, match="expected a NIfTI header"):
        open_planes(tmp_path / "x.nii")
    with pytest.raises(VolumeReadError, match="got nothing there"):
        open_planes(tmp_path / "y.nii")
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(np.zeros((3, 4, 5))), tmp_path / "x.mhd")
    (tmp_path / "x.raw").unlink()
    with pytest.raises(VolumeReadError, match=r"x\.mhd"):
        open_planes(tmp_path / "x.mhd")
    (tmp_path / "five.nrrd").write_bytes(
        b"NRRD0004\ntype: uint8\ndimension: 5\nsizes: 2 2 2 2 2\nencoding: raw\n\n" + bytes(32)
    )
    with pytest.raises((GeometryError, VolumeReadError), match=r"five\.nrrd"):
        open_planes(tmp_path / "five.nrrd")
