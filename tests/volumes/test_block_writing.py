"""Scans written block by block: the same bytes as when they are written whole, and all or nothing."""

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK

from tatcli.errors import OutputError, UsageError
from tatcli.volumes import Geometry, Provenance, Volume, read_volume, write_volume
from tatcli.volumes.block_writing import block_writer, takes_planes
from tatcli.volumes.overlap import read_ahead, written_behind
from tatcli.volumes.planes import HeldPlanes
from tatcli.volumes.reading import open_planes

TARGETS = [".nii", ".nii.gz", ".nrrd", ".mha", ".mhd"]
SOURCES = {
    "int16": ("int16", None),
    "uint16 rescaled to whole numbers": ("uint16", (1.0, -1024.0)),
    "uint16 rescaled beyond int16": ("uint16", (2.0, 0.0)),
    "int16 rescaled": ("int16", (0.37, -3.0)),
    "uint8": ("uint8", None),
    "int32": ("int32", None),
    "float32": ("float32", None),
    "float64": ("float64", None),
}


def source(path: Path, dtype: str, scale: tuple[float, float] | None, shape: tuple[int, ...] = (5, 4, 3)) -> Path:
    rng = np.random.default_rng(0)
    stored = rng.normal(500, 200, shape).astype(dtype)
    if dtype == "int32":
        stored += 2**25 + 1
    if path.suffix == ".nii":
        header = nib.Nifti1Header()
        header.set_data_shape(shape[::-1])
        header.set_data_dtype(stored.dtype)
        header.set_sform(np.array([[0, 0, 2.0, 5], [-1, 0, 0, 6], [0, 3.0, 0, 7], [0, 0, 0, 1]]), code=1)
        header["vox_offset"] = 352
        header["scl_slope"], header["scl_inter"] = scale or (1.0, 0.0)
        path.write_bytes(header.binaryblock + bytes(4) + stored.tobytes())
    else:
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(stored, isVector=False), path)
    return path


def changed(values: np.ndarray) -> np.ndarray:
    """Some voxels as they were, some moved, some far."""
    out = values.copy()
    out[np.abs(values) % 3 < 1] += np.float32(0.7)
    out[values > 700] *= 3
    return out


def content(folder: Path, name: str) -> list[bytes]:
    return [path.read_bytes() for path in sorted(folder.iterdir()) if path.stem.partition(".")[0] == name]


def write_both(path: Path, extension: str, axis: int, *, in_memory: bool = True, held: bool = False) -> None:
    """``whole``, written at once, and ``parts``, written in blocks."""
    volume = read_volume(path)
    write_volume(volume.with_array(changed(volume.array), step="x"), path.parent / f"whole{extension}")
    planes = open_planes(path)
    origin = planes.held() if held else planes
    target = path.parent / f"parts{extension}"
    with block_writer(origin.header, target, axis=axis, spool_in_memory=in_memory) as write:
        for block in origin.blocks(axis, 2):
            write(block, changed(block.values))


@pytest.mark.parametrize("extension", TARGETS)
@pytest.mark.parametrize(
    ("name", "kind"),
    [("x.nii", kind) for kind in SOURCES] + [("x.mha", kind) for kind, (_, scale) in SOURCES.items() if not scale],
)
def test_the_bytes_are_those_of_a_whole_volume(name: str, kind: str, extension: str, tmp_path: Path) -> None:
    dtype, scale = SOURCES[kind]
    for shape in ((5, 4, 3), (2, 5, 4, 3)):
        for axis in range(3):
            folder = tmp_path / f"{len(shape)}{axis}"
            folder.mkdir()
            path = source(folder / name, dtype, scale, shape)
            write_both(path, extension, axis, in_memory=axis < 2, held=axis == 1)
            whole, parts = content(folder, "whole"), content(folder, "parts")
            if extension == ".mhd":
                whole[0], parts[0] = (text.replace(b"whole.raw", b"parts.raw") for text in (whole[0], parts[0]))
            assert whole == parts
            assert len(parts) == (2 if extension == ".mhd" else 1)
            expected = {"whole", "parts", "x"}
            assert {entry.name.partition(".")[0] for entry in folder.iterdir()} == expected


def test_a_disk_spool_gathers_any_cut(tmp_path: Path) -> None:
    path = source(tmp_path / "x.nii", "int16", None, (3, 5, 7, 6))
    for axis in (1, 2):
        write_both(path, ".nii.gz", axis, in_memory=False)
        assert content(tmp_path, "whole") == content(tmp_path, "parts")
        (tmp_path / "whole.nii.gz").unlink()
        (tmp_path / "parts.nii.gz").unlink()


def test_values_decide_the_type_only_at_the_end(tmp_path: Path) -> None:
    """CT stored with an offset goes to int16, and to int32 where one voxel doesn't fit: only the last block knows."""
    path = source(tmp_path / "x.nii", "uint16", (1.0, -1024.0))
    planes = open_planes(path)
    for last, dtype in ((0.0, np.int16), (40000.0, np.int32), (3e9, np.float32)):
        with block_writer(planes.header, tmp_path / "y.nrrd", axis=0, overwrite=True) as write:
            for block in planes.blocks(0, 2):
                write(block, block.values + np.float32(last if block.start == 4 else 0.0))
        assert read_volume(tmp_path / "y.nrrd").provenance.dtype == dtype


@pytest.mark.parametrize("extension", TARGETS)
@pytest.mark.parametrize("axis", [0, 2])
def test_a_failure_leaves_nothing(extension: str, axis: int, tmp_path: Path) -> None:
    path = source(tmp_path / "x.nii", "int16", None)
    planes = open_planes(path)

    def write_some(failure: BaseException) -> None:
        with block_writer(planes.header, tmp_path / f"y{extension}", axis=axis, spool_in_memory=False) as write:
            for block in planes.blocks(axis, 2):
                write(block, block.values)
                if block.start:
                    raise failure

    for failure in (KeyboardInterrupt(), MemoryError(), SystemExit(143)):
        with pytest.raises(type(failure)):
            write_some(failure)
    nan = np.full((2, 4, 3), np.nan, np.float32)
    with (
        pytest.raises(OutputError, match="NaN"),
        block_writer(planes.header, tmp_path / f"y{extension}", axis=0) as write,
    ):
        write(next(planes.blocks(0, 2)), nan)
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.nii"]


def test_outputs_are_checked_first(tmp_path: Path) -> None:
    planes = open_planes(source(tmp_path / "x.nii", "int16", None))
    with pytest.raises(OutputError, match="the input itself"), block_writer(planes.header, tmp_path / "x.nii", axis=0):
        pytest.fail("the block must not run")
    (tmp_path / "y.raw").write_text("somebody's")
    with pytest.raises(OutputError, match=r"y\.raw.*exists"), block_writer(planes.header, tmp_path / "y.mhd", axis=0):
        pytest.fail("the block must not run")
    with pytest.raises(UsageError, match="plane by plane"), block_writer(planes.header, tmp_path / "y.npy", axis=0):
        pytest.fail("the block must not run")
    assert takes_planes("metaimage")
    assert not takes_planes("npy")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["x.nii", "y.raw"]


def test_a_volume_from_memory(tmp_path: Path) -> None:
    array = np.random.default_rng(0).normal(0, 1, (5, 4, 3)).astype(np.float32)
    volume = Volume(array, Geometry(np.diag([1.0, 2.0, 3.0, 1.0]), array.shape))
    for extension in TARGETS:
        write_volume(volume, tmp_path / f"whole{extension}")
        with block_writer(volume.header, tmp_path / f"parts{extension}", axis=0) as write:
            for block in HeldPlanes(volume.header, array).blocks(0, 2):
                write(block, block.values)
        assert read_volume(tmp_path / f"parts{extension}").array.tobytes() == array.tobytes()
    integers = replace(volume, provenance=Provenance(dtype=np.dtype(np.int16)))
    with pytest.raises(OutputError, match="NaN"):
        write_volume(integers.with_array(array * np.nan, step="x"), tmp_path / "nan.nrrd")


# --- threads ---------------------------------------------------------------------------------------------------------


def test_reading_ahead_is_one_item_ahead() -> None:
    made, used = [], []

    def items():
        for index in range(5):
            made.append(index)
            yield index

    with read_ahead(items()) as ahead:
        for item in ahead:
            used.append(item)
            assert len(made) <= len(used) + 1
    assert used == made == list(range(5))


def test_errors_cross_between_threads() -> None:
    def broken():
        yield 1
        msg = "damaged"
        raise OSError(msg)

    with pytest.raises(OSError, match="damaged"), read_ahead(broken()) as ahead:
        list(ahead)

    written = []

    def write(item: int) -> None:
        if item == 2:
            msg = "full"
            raise OSError(msg)
        written.append(item)

    with pytest.raises(OSError, match="full"), written_behind(write) as put:
        list(map(put, range(5)))
    assert written == [0, 1]
    with pytest.raises(OSError, match="full"), written_behind(write) as put:
        put(2)


def test_an_unfinished_reader_is_closed() -> None:
    closed = []

    def items():
        try:
            yield from range(100)
        finally:
            closed.append(True)

    with read_ahead(items()) as ahead:
        assert next(ahead) == 0
        assert not closed
    assert closed == [True]
