import bz2
import gzip
import re
import tempfile
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st

from tatcli.errors import GeometryError, OutputError, VolumeReadError
from tatcli.intensity import Units
from tatcli.volumes import Geometry, Provenance, Volume, read_volume, write_volume
from tatcli.volumes.members import members_of
from tatcli.volumes.reading import open_planes
from tatcli.volumes.scan_info import describe
from tatcli.volumes.volume import FrameStep

TYPES = ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64"]
EXTENSIONS = [".nrrd", ".mha", ".mhd"]


def values(dtype: str, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        array = rng.normal(0, 1000, shape).astype(dtype)
        array.flat[:2] = [np.nan, np.inf]
        return array
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max, shape, dtype=dtype, endpoint=True)


def image(array: np.ndarray, affine: np.ndarray | None = None) -> SimpleITK.Image:
    made = SimpleITK.GetImageFromArray(array, isVector=False)
    if affine is not None:
        spacing = np.linalg.norm(affine[:3, :3], axis=0)
        made.SetSpacing(spacing.tolist())
        made.SetDirection((affine[:3, :3] / spacing).ravel().tolist())
        made.SetOrigin(affine[:3, 3].tolist())
    return made


def test_all_orientations(orientation: np.ndarray, tmp_path: Path) -> None:
    affine = np.eye(4)
    affine[:3, :3] = orientation * [0.7, 1.3, 4.5]
    affine[:3, 3] = [-91.123456789, 126.3, 1 / 3]
    stored = values("int16", (3, 4, 5))
    for extension in EXTENSIONS:
        SimpleITK.WriteImage(image(stored, affine), tmp_path / f"in{extension}")
        volume = read_volume(tmp_path / f"in{extension}")
        np.testing.assert_allclose(volume.geometry.affine, affine, atol=1e-12)
        write_volume(volume, tmp_path / f"out{extension}")
        back = SimpleITK.ReadImage(tmp_path / f"out{extension}")
        np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(back), stored)
        again = read_volume(tmp_path / f"out{extension}")
        np.testing.assert_allclose(again.geometry.affine, affine, atol=1e-12)
        assert again.array.tobytes() == volume.array.tobytes()


@settings(deadline=None, max_examples=50)
@given(
    dtype=st.sampled_from(TYPES),
    extension=st.sampled_from(EXTENSIONS),
    shape=st.sampled_from([(3, 4), (5, 4, 3), (1, 4, 3), (2, 3, 4, 5), (4, 1, 2, 3)]),
    matrix=st.lists(st.floats(-3, 3), min_size=9, max_size=9),
    seed=st.integers(0, 1000),
)
def test_every_type_comes_back_bit_for_bit(
    dtype: str, extension: str, shape: tuple[int, ...], matrix: list[float], seed: int
) -> None:
    stored = values(dtype, shape, seed)
    affine = np.eye(4)
    affine[:3, :3] = np.array(matrix).reshape(3, 3) + 10 * np.eye(3)  # oblique, sheared, anisotropic
    made = image(stored, affine if len(shape) == 3 else None)
    if len(shape) == 4:
        made.SetSpacing((0.5, 0.7, 3.0, 1.5))
        made.SetOrigin((1.0, 2.0, 3.0, 100.0))
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / f"in{extension}", Path(folder) / f"out{extension}"
        SimpleITK.WriteImage(made, source)
        volume = read_volume(source)
        write_volume(volume, target)
        back = SimpleITK.ReadImage(target)
    assert SimpleITK.GetArrayFromImage(back).tobytes() == stored.tobytes()
    assert back.GetPixelID() == made.GetPixelID()
    np.testing.assert_allclose(back.GetDirection(), made.GetDirection(), atol=1e-12)
    np.testing.assert_allclose(back.GetSpacing(), made.GetSpacing(), rtol=1e-12)
    np.testing.assert_allclose(back.GetOrigin(), made.GetOrigin(), atol=1e-12)
    assert volume.frames == (shape[0] if len(shape) == 4 else 1)
    np.testing.assert_array_equal(volume.array.ravel(), stored.ravel().astype(np.float32))


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_free_fields_survive(extension: str, tmp_path: Path) -> None:
    made = image(values("int16", (3, 4, 5)))
    made.SetMetaData("Protocol", "low dose chest")
    SimpleITK.WriteImage(made, tmp_path / f"in{extension}")
    write_volume(read_volume(tmp_path / f"in{extension}"), tmp_path / f"out{extension}")
    assert SimpleITK.ReadImage(tmp_path / f"out{extension}").GetMetaData("Protocol") == "low dose chest"


def rescaled(path: Path, stored: np.ndarray, slope: str, offset: str, *, text: bool = False) -> None:
    """A MetaImage whose values are stored * slope + offset, as its header says and ITK doesn't heed."""
    SimpleITK.WriteImage(image(stored), path)
    header, _, body = path.read_bytes().partition(b"ElementDataFile = LOCAL\n")
    if text:
        header = header.replace(b"BinaryData = True", b"BinaryData = False")
        body = "".join(f"{number}\n" for number in stored.ravel()).encode()
    function = f"ElementToIntensityFunctionSlope = {slope}\nElementToIntensityFunctionOffset = {offset}\n"
    path.write_bytes(header + function.encode() + b"ElementDataFile = LOCAL\n" + body)


@pytest.mark.parametrize("text", [False, True])
def test_metaimage_with_an_intensity_function(text: bool, tmp_path: Path) -> None:
    stored = np.arange(455, 515, dtype=np.int16).reshape(3, 4, 5)
    rescaled(tmp_path / "in.mha", stored, "2", "-1000", text=text)
    volume = read_volume(tmp_path / "in.mha")
    np.testing.assert_array_equal(volume.array, stored * 2.0 - 1000.0)
    if not text:
        planes = list(open_planes(tmp_path / "in.mha").values())
        np.testing.assert_array_equal(np.concatenate([values for _, values in planes]), volume.array)
    told = describe(tmp_path / "in.mha", values=True)
    assert (told.slope, told.intercept, told.value_range) == (2.0, -1000.0, (-90.0, 28.0))
    changed = volume.with_array(volume.array + np.float32(20.0), step="brighter")
    for name in ("out.mha", "out.mhd"):
        back = read_volume(write_volume(changed, tmp_path / name))
        np.testing.assert_array_equal(back.array, changed.array)
        assert (back.provenance.slope, back.provenance.intercept) == (2.0, -1000.0)
        np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(tmp_path / name)), stored + 10)
    for name in ("out.nrrd", "out.nii"):  # without a rescale
        back = read_volume(write_volume(changed, tmp_path / name))
        np.testing.assert_array_equal(back.array, changed.array)
        assert back.provenance.dtype == np.int16
    turned = read_volume(write_volume(read_volume(tmp_path / "out.nii"), tmp_path / "again.mha"))
    np.testing.assert_array_equal(turned.array, changed.array)


def test_unchanged_numbers_of_an_intensity_function_come_back(tmp_path: Path) -> None:
    stored = values("int16", (3, 4, 5))
    rescaled(tmp_path / "in.mha", stored, "0.1", "1e-3")
    back = SimpleITK.ReadImage(write_volume(read_volume(tmp_path / "in.mha"), tmp_path / "out.mha"))
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(back), stored)


@pytest.mark.parametrize(("slope", "offset"), [("0", "0"), ("one", "0"), ("1", "nan")])
def test_impossible_intensity_functions(slope: str, offset: str, tmp_path: Path) -> None:
    rescaled(tmp_path / "in.mha", values("int16", (3, 4, 5)), slope, offset)
    with pytest.raises(VolumeReadError, match=rf"in.mha: expected numbers.* got {slope} and {offset}; repair"):
        read_volume(tmp_path / "in.mha")


def test_nrrd_in_ras_is_turned_to_lps(tmp_path: Path) -> None:
    header = (
        "NRRD0004\ntype: int16\ndimension: 3\nspace: right-anterior-superior\nsizes: 2 3 4\n"
        "space directions: (2,0,0) (0,3,0) (0,0,4)\nkinds: domain domain domain\nendian: little\n"
        "encoding: raw\nspace origin: (10,20,30)\n\n"
    )
    stored = values("int16", (4, 3, 2))
    (tmp_path / "ras.nrrd").write_bytes(header.encode() + stored.tobytes())
    volume = read_volume(tmp_path / "ras.nrrd")
    expected = np.diag([-2.0, -3.0, 4.0, 1.0])
    expected[:3, 3] = [-10, -20, 30]
    np.testing.assert_allclose(volume.geometry.affine, expected)
    write_volume(volume, tmp_path / "out.nrrd")
    np.testing.assert_allclose(read_volume(tmp_path / "out.nrrd").geometry.affine, expected)


@pytest.mark.parametrize("source", [".nrrd", ".mha", ".nii.gz"])
@pytest.mark.parametrize("target", [".nrrd", ".mha", ".mhd", ".nii", ".nii.gz"])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float32", "float64"])
def test_formats_turn_into_each_other(source: str, target: str, dtype: str, tmp_path: Path) -> None:
    affine = np.array([[0.5, 0, 0.1, -10], [0.02, -0.75, 0, 20], [0, 0.01, 3, 30], [0, 0, 0, 1]])
    stored = values(dtype, (3, 4, 5))
    memory = Volume(
        stored.astype(np.float32), Geometry(affine, (3, 4, 5)), provenance=Provenance(stored=stored, dtype=stored.dtype)
    )
    first = read_volume(write_volume(memory, tmp_path / f"first{source}"))
    second = read_volume(write_volume(first, tmp_path / f"second{target}"))
    assert second.provenance.dtype == stored.dtype
    kept = second.provenance.stored
    assert (second.array if kept is None else kept).tobytes() == (
        stored.astype(np.float32) if kept is None else stored
    ).tobytes()
    np.testing.assert_allclose(second.geometry.affine, affine, atol=1e-6)


def test_frames_in_an_nrrd_lie_in_the_patients_space(tmp_path: Path) -> None:
    """ITK names no space for four axes, and a world space without a name has no left."""
    affine = np.diag([0.9, 0.8, 3.0, 1.0])
    affine[:3, 3] = 10, 20, 30
    array = values("int16", (2, 4, 3, 5)).astype(np.float32)
    volume = Volume(
        array, Geometry(affine=affine, shape=(4, 3, 5)), Units.ARBITRARY, Provenance(dtype=np.dtype("int16"))
    )
    path = write_volume(volume, tmp_path / "out.nrrd")
    assert b"\nspace: left-posterior-superior-time\n" in path.read_bytes()
    back = read_volume(path)
    np.testing.assert_array_equal(back.geometry.affine, affine)
    np.testing.assert_array_equal(back.array, array)
    assert back.provenance.oriented
    assert back.provenance.warnings == ()
    image = SimpleITK.ReadImage(str(path))
    assert image.GetOrigin()[:3] == (10, 20, 30)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("dtype", ["int16", "float32"])
def test_frames_in_an_nrrd_list(last: bool, dtype: str, tmp_path: Path) -> None:
    """As 3D Slicer (list first) and dcm2niix (list last) write them."""
    frames = values(dtype, (2, 4, 3, 5))
    sizes, steps = ["5", "3", "4"], ["(1,0,0)", "(0,2,0)", "(0,0,3)"]
    kinds = ["domain"] * 3
    for axes, word in ((sizes, "2"), (steps, "none"), (kinds, "list")):
        axes.insert(3 if last else 0, word)
    header = (
        f"NRRD0005\ntype: {dtype.replace('float32', 'float')}\ndimension: 4\nspace: left-posterior-superior\n"
        f"sizes: {' '.join(sizes)}\nspace directions: {' '.join(steps)}\nkinds: {' '.join(kinds)}\nendian: little\n"
        "encoding: raw\nspace origin: (10,20,30)\nMultiVolume.FrameLabels:=1,2\n\n"
    )
    body = frames if last else np.moveaxis(frames, 0, -1)
    (tmp_path / "in.seq.nrrd").write_bytes(header.encode() + np.ascontiguousarray(body).tobytes())
    volume = read_volume(tmp_path / "in.seq.nrrd")
    np.testing.assert_array_equal(volume.array, frames)
    back = read_volume(write_volume(volume, tmp_path / "out.seq.nrrd"))
    assert back.array.tobytes() == volume.array.tobytes()
    np.testing.assert_array_equal(back.geometry.affine, volume.geometry.affine)
    np.testing.assert_array_equal(np.diag(back.geometry.affine), [1, 2, 3, 1])
    assert back.provenance.header.metadata["MultiVolume.FrameLabels"] == "1,2"
    assert back.provenance.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(read_volume(write_volume(volume, tmp_path / "out.nii")).array, frames)


@pytest.mark.parametrize(
    ("kinds", "steps", "needed"),
    [
        ("kinds: domain domain domain time\n", "(1,0,0) (0,2,0) (0,0,3) none", "domain domain domain list"),
        ("kinds: time space space space\n", "none (1,0,0) (0,2,0) (0,0,3)", "list domain domain domain"),
        ("", "(1,0,0) (0,2,0) (0,0,3) none", "domain domain domain list"),
    ],
)
def test_frames_of_a_kind_that_itk_doesn_t_read(kinds: str, steps: str, needed: str, tmp_path: Path) -> None:
    """The file is whole: it is its header's kinds that ITK refuses, and these are named."""
    frames = values("int16", (2, 4, 3, 5))
    header = (
        "NRRD0005\ntype: int16\ndimension: 4\nspace: left-posterior-superior\nendian: little\nencoding: raw\n"
        f"sizes: {'2 5 3 4' if steps.startswith('none') else '5 3 4 2'}\nspace directions: {steps}\n{kinds}\n"
    )
    body = np.ascontiguousarray(np.moveaxis(frames, 0, -1) if steps.startswith("none") else frames)
    path = tmp_path / "in.nrrd"
    path.write_bytes(header.encode() + body.tobytes())
    got = kinds.removeprefix("kinds: ").strip() or "none"
    with pytest.raises(VolumeReadError, match=f"^in.nrrd: expected kinds: {needed}, .* got {got}; write so"):
        read_volume(path)
    repaired = header.replace(kinds, "") if kinds else header
    path.write_bytes(repaired.removesuffix("\n").encode() + f"kinds: {needed}\n\n".encode() + body.tobytes())
    np.testing.assert_array_equal(read_volume(path).array, frames)


@pytest.mark.parametrize("extension", [".nrrd", ".mha"])
def test_the_step_between_frames_goes_to_other_formats(extension: str, tmp_path: Path) -> None:
    """Without a unit, which neither format names; a step that isn't known is none of a second."""
    made = image(values("int16", (2, 3, 4, 5)))
    made.SetSpacing((0.5, 0.7, 3.0, 2.5))
    SimpleITK.WriteImage(made, tmp_path / f"in{extension}")
    volume = read_volume(tmp_path / f"in{extension}")
    other = {".nrrd": "other.mha", ".mha": "other.nrrd"}[extension]
    assert SimpleITK.ReadImage(write_volume(volume, tmp_path / other)).GetSpacing() == (0.5, 0.7, 3.0, 2.5)
    header = nib.load(write_volume(volume, tmp_path / "out.nii")).header
    assert (header["pixdim"][4], header.get_xyzt_units()) == (2.5, ("mm", "unknown"))
    unknown = Volume(volume.array, volume.geometry, volume.units)
    header = nib.load(write_volume(unknown, tmp_path / "unknown.nii")).header
    assert (header["pixdim"][4], header.get_xyzt_units()) == (1.0, ("mm", "unknown"))


@pytest.mark.parametrize(
    ("unit", "length", "seconds"), [("sec", 2.2, 2.2), ("msec", 2200.0, 2.2), ("unknown", 7.0, 7.0)]
)
def test_nifti_frames_in_seconds(unit: str, length: float, seconds: float, tmp_path: Path) -> None:
    made = nib.Nifti1Image(values("int16", (5, 4, 3, 2)), np.eye(4))
    made.header.set_zooms((1.0, 1.0, 1.0, length))
    made.header.set_xyzt_units("mm", unit)
    made.to_filename(tmp_path / "in.nii")
    volume = read_volume(tmp_path / "in.nii")
    assert volume.provenance.frame_step == FrameStep(length, unit)
    back = SimpleITK.ReadImage(write_volume(volume, tmp_path / "out.nrrd"))
    assert back.GetSpacing() == pytest.approx((1.0, 1.0, 1.0, seconds), rel=1e-12)
    made.header["pixdim"][4] = 0.0
    made.to_filename(tmp_path / "none.nii")
    assert read_volume(tmp_path / "none.nii").provenance.frame_step is None


def test_a_changed_number_of_frames_is_a_new_grid(tmp_path: Path) -> None:
    made = image(values("int16", (2, 3, 4, 5)))
    made.SetSpacing((0.5, 0.7, 3.0, 1.5))
    SimpleITK.WriteImage(made, tmp_path / "in.nrrd")
    volume = read_volume(tmp_path / "in.nrrd")
    one = Volume(volume.array[1], volume.geometry, volume.units, volume.provenance)
    back = SimpleITK.ReadImage(write_volume(one, tmp_path / "out.nrrd"))
    assert back.GetSpacing() == (0.5, 0.7, 3.0)
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(back), volume.array[1])


@pytest.mark.parametrize("extension", EXTENSIONS)
@pytest.mark.parametrize("kind", ["rgb", "complex"])
def test_other_pixels_are_refused_by_name(extension: str, kind: str, tmp_path: Path) -> None:
    if kind == "rgb":
        made = SimpleITK.GetImageFromArray(values("uint8", (3, 4, 5, 3)), isVector=True)
    else:
        made = SimpleITK.GetImageFromArray(np.ones((3, 4, 5), np.complex64))
    path = tmp_path / f"in{extension}"
    SimpleITK.WriteImage(made, path)
    with pytest.raises(VolumeReadError, match="one real number per voxel") as caught:
        read_volume(path)
    assert str(caught.value).startswith(path.name)


@pytest.mark.parametrize("extension", EXTENSIONS)
@pytest.mark.parametrize("compressed", [False, True])
def test_truncation(extension: str, compressed: bool, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / f"in{extension}"
    SimpleITK.WriteImage(image(values("int16", (3, 40, 50))), path, useCompression=compressed)
    body = next((tmp_path / name for name in ("in.raw", "in.zraw") if (tmp_path / name).exists()), path)
    body.write_bytes(body.read_bytes()[:-500])
    with pytest.raises(VolumeReadError, match=f"in{extension}: expected a complete image") as caught:
        read_volume(path)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")  # ITK's own complaints would be a second message


def test_missing_raw_and_other_content(tmp_path: Path) -> None:
    SimpleITK.WriteImage(image(values("int16", (3, 4, 5))), tmp_path / "in.mhd")
    (tmp_path / "in.raw").unlink()
    with pytest.raises(VolumeReadError, match=r"in\.mhd"):
        read_volume(tmp_path / "in.mhd")
    for name in ("text.nrrd", "text.mha", "text.mhd"):
        (tmp_path / name).write_text("no image\n" * 50)
        with pytest.raises(VolumeReadError, match=name):
            read_volume(tmp_path / name)


def test_five_axes(tmp_path: Path) -> None:
    header = "NRRD0004\ntype: uint8\ndimension: 5\nsizes: 2 2 2 2 2\nencoding: raw\n\n"
    (tmp_path / "in.nrrd").write_bytes(header.encode() + bytes(32))
    with pytest.raises((GeometryError, VolumeReadError), match=r"in\.nrrd"):
        read_volume(tmp_path / "in.nrrd")


META = (
    "NDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\nCompressedData = False\nOffset = 10 20 30\n"
    "ElementSpacing = 1 2 3\nDimSize = 5 4 3\nElementType = MET_SHORT\n"
)
NRRD = "NRRD0005\ntype: int16\ndimension: 3\nsizes: 5 4 3\nendian: little\nencoding: raw\n"


def written(path: Path, header: str, body: bytes | np.ndarray, *, data: str = "LOCAL") -> Path:
    """A file of a header by hand."""
    last = "\n" if path.suffix == ".nrrd" else f"ElementDataFile = {data}\n"
    path.write_bytes((header + last).encode() + (body if isinstance(body, bytes) else body.tobytes()))
    return path


@pytest.mark.parametrize("true", ["True", "true", "T", "t", "1"])
def test_flags_count_by_their_first_letter(true: str, tmp_path: Path) -> None:
    """As MetaIO reads them."""
    stored = values("int16", (3, 4, 5))
    big = META.replace("MSB = False", f"MSB = {true}")
    packed = META.replace("CompressedData = False", f"CompressedData = {true}")
    for header, body in ((big, stored.astype(">i2")), (packed, zlib.compress(stored.tobytes()))):
        np.testing.assert_array_equal(read_volume(written(tmp_path / "in.mha", header, body)).array, stored)


def test_fields_in_other_letters_are_free_ones(tmp_path: Path) -> None:
    """MetaIO's names are case-sensitive."""
    path = written(tmp_path / "in.mha", META + "compresseddata = True\n", stored := values("int16", (3, 4, 5)))
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.array, stored)
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(path)), stored)
    np.testing.assert_array_equal(read_volume(write_volume(volume, tmp_path / "out.mha")).array, stored)


def test_gzip_in_a_metaimage(tmp_path: Path) -> None:
    stored = values("int16", (3, 4, 5))
    header = META.replace("CompressedData = False", "CompressedData = True")
    path = written(tmp_path / "in.mhd", header, b"", data="in.zraw")
    (tmp_path / "in.zraw").write_bytes(gzip.compress(stored.tobytes()))
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(path)), stored)
    np.testing.assert_array_equal(read_volume(path).array, stored)


def test_names_beyond_ascii(tmp_path: Path) -> None:
    stored = values("int16", (3, 4, 5))
    path = written(tmp_path / "größe.mhd", META, b"", data="größe.raw")
    (tmp_path / "größe.raw").write_bytes(stored.tobytes())
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.array, stored)
    np.testing.assert_array_equal(read_volume(write_volume(volume, tmp_path / "Ähre.mhd")).array, stored)
    with pytest.raises(OutputError, match="the input itself"):
        write_volume(volume, tmp_path / "größe.MHD", overwrite=True)


def test_what_a_metaimage_says_of_itself_is_kept(tmp_path: Path) -> None:
    said = ["Comment = low dose = 25 %, größer", "ID = 5", "Modality = MET_MOD_CT", "Name = chest"]
    path = written(tmp_path / "in.mha", "\n".join([*said, META]), values("int16", (3, 4, 5)))
    header = write_volume(read_volume(path), tmp_path / "out.mha").read_bytes().partition(b"ElementDataFile")[0]
    lines = header.decode().splitlines()
    assert sorted(line for line in lines if line.partition(" =")[0] in ("Comment", "ID", "Modality", "Name")) == said


@pytest.mark.parametrize(
    ("space", "frame"),
    [
        ("left-posterior-superior", "(0.0,1.0,0.0) (-1.0,0.0,0.0) (0.0,0.0,1.0)"),
        ("RAS", "(0.0,-1.0,0.0) (1.0,0.0,0.0) (0.0,0.0,1.0)"),
        ("left-anterior-superior", "(0.0,-1.0,0.0) (-1.0,0.0,0.0) (0.0,0.0,1.0)"),
    ],
)
def test_what_an_nrrd_says_in_numbers_is_kept(space: str, frame: str, tmp_path: Path) -> None:
    """SimpleITK has no text for them, and ITK wrote 0 and 666666 in their places."""
    header = (
        f"{NRRD}space: {space}\nspace directions: (1,0,0) (0,2,0) (0,0,3)\nspace origin: (1,2,3)\nold min: -5\n"
        "thicknesses: nan nan 2.5\nsample units: HU\nmeasurement frame: (0,1,0) (-1,0,0) (0,0,1)\n"
    )
    stored = values("int16", (3, 4, 5))
    volume = read_volume(written(tmp_path / "in.nrrd", header, stored))
    out = write_volume(volume, tmp_path / "out.nrrd")
    lines = out.read_bytes().partition(b"\n\n")[0].decode().splitlines()
    assert {"thicknesses: nan nan 2.5", "sample units: HU", f"measurement frame: {frame}"} <= set(lines)
    assert not any("old min" in line for line in lines)
    back = SimpleITK.ReadImage(out)
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(back), stored)
    assert back.GetOrigin() == SimpleITK.ReadImage(tmp_path / "in.nrrd").GetOrigin()


def test_an_nrrd_with_units_of_its_axes(tmp_path: Path) -> None:
    """NRRD has them for axes without a direction only; ITK refuses to write them."""
    stored = values("int16", (3, 4, 5))
    volume = read_volume(written(tmp_path / "in.nrrd", NRRD + 'spacings: 1 2 3\nunits: "mm" "mm" "mm"\n', stored))
    back = read_volume(write_volume(volume, tmp_path / "out.nrrd"))
    assert back.geometry.spacing == (3, 2, 1)
    np.testing.assert_array_equal(back.array, stored)


@pytest.mark.parametrize("name", ["in.nrrd", "in.mha"])
def test_negative_spacings_turn_the_axis(name: str, tmp_path: Path) -> None:
    header = NRRD + "spacings: -1 2 3\n" if name == "in.nrrd" else META.replace("Spacing = 1", "Spacing = -1")
    path = written(tmp_path / name, header, values("int16", (3, 4, 5)))
    volume, by_itk = read_volume(path), SimpleITK.ReadImage(path)
    for index in ((0, 0, 0), (4, 3, 2)):
        place = (volume.geometry.affine @ (*index, 1))[:3]
        np.testing.assert_allclose(place, by_itk.TransformIndexToPhysicalPoint(index))
        back = SimpleITK.ReadImage(write_volume(volume, tmp_path / f"out{path.suffix}", overwrite=True))
        np.testing.assert_allclose(back.TransformIndexToPhysicalPoint(index), place)


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("in.mha", META.replace("Spacing = 1", "Spacing = 0")),
        ("in.mha", META + "TransformMatrix = 1 0 0 1 0 0 0 0 1\n"),
        ("in.nrrd", NRRD + "space: LPS\nspace directions: (0,0,0) (0,1,0) (0,0,1)\n"),
        ("in.nrrd", NRRD + "space: LPS\nspace directions: (1,0,0) (1,0,0) (0,0,1)\n"),
    ],
)
def test_singular_grids(name: str, header: str, tmp_path: Path) -> None:
    path = written(tmp_path / name, header, values("int16", (3, 4, 5)))
    with pytest.raises(GeometryError, match=f"^{name}: expected an invertible affine, got a singular one; repair"):
        read_volume(path)


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_a_fourth_axis_of_one_frame_stays(extension: str, tmp_path: Path) -> None:
    made = image(values("int16", (1, 3, 4, 5)))
    SimpleITK.WriteImage(made, tmp_path / f"in{extension}")
    back = SimpleITK.ReadImage(write_volume(read_volume(tmp_path / f"in{extension}"), tmp_path / f"out{extension}"))
    assert back.GetSize() == (5, 4, 3, 1)
    assert back.GetSpacing() == made.GetSpacing()


def test_a_list_of_one_frame(tmp_path: Path) -> None:
    header = NRRD.replace("dimension: 3\nsizes: 5", "dimension: 4\nsizes: 1 5") + (
        "space: LPS\nspace directions: none (1,0,0) (0,2,0) (0,0,3)\nkinds: list domain domain domain\n"
    )
    volume = read_volume(written(tmp_path / "in.nrrd", header, stored := values("int16", (3, 4, 5))))
    np.testing.assert_array_equal(volume.array, stored)
    back = read_volume(write_volume(volume, tmp_path / "out.nrrd"))
    np.testing.assert_array_equal(back.array, stored)
    np.testing.assert_array_equal(back.geometry.affine, volume.geometry.affine)


def test_bzip2_which_itk_lacks(tmp_path: Path) -> None:
    empty = NRRD.replace("raw", "bzip2").replace("5 4 3", "1000 1000 5")
    path = written(tmp_path / "empty.nrrd", empty, bz2.compress(bytes(10_000_000)))  # a 200,000th
    assert not read_volume(path).array.any()
    stored = values("int16", (3, 4, 5))
    packed, header = bz2.compress(stored.tobytes()), NRRD.replace("raw", "bzip2")
    np.testing.assert_array_equal(read_volume(written(tmp_path / "in.nrrd", header, packed)).array, stored)
    with pytest.raises(VolumeReadError, match=r"^cut\.nrrd: expected a complete image"):
        read_volume(written(tmp_path / "cut.nrrd", header, packed[:-9]))


@pytest.mark.parametrize(
    ("data", "names", "missing"),
    [
        ("LIST", ["0\n", "1\n", "2\n"], None),
        ("LIST", ["0\n", "1\n", "2"], "3 data files of 2 axes, fewer than the image's 3, got 2"),
        ("LIST 2", ["0\r\n", "1\r\n", "2\r\n"], None),
        ("LIST 3", ["0\n"], "1 data files of 3 axes, fewer than the image's 3, got 1"),
        ("%d 0 2 1", [], None),
        ("%d 0 1 1", [], "got 2"),
        ("%d 0 2 2", [], "got 2"),
    ],
)
def test_slices_in_files_of_their_own(data: str, names: list[str], missing: str | None, tmp_path: Path) -> None:
    """ITK gives what memory happened to hold for slices whose files aren't named."""
    stored = values("int16", (3, 4, 5))
    for index, plane in enumerate(stored):
        (tmp_path / str(index)).write_bytes(plane.tobytes())
    path = written(tmp_path / "in.mhd", META, "".join(names).encode(), data=data)
    if missing is None:
        np.testing.assert_array_equal(read_volume(path).array, stored)
        return
    with pytest.raises(VolumeReadError, match=missing):
        read_volume(path)


def test_a_reason_is_the_same_in_every_run(tmp_path: Path) -> None:
    path = written(tmp_path / "in.nrrd", NRRD.replace("int16", "block\nblock size: 2"), bytes(120))
    with pytest.raises(VolumeReadError, match=r"read \(ReadImageInformation: Cannot currently handle nrrdTypeBlock\);"):
        read_volume(path)


@pytest.mark.parametrize(
    ("space", "signs"),
    [
        ("left-posterior-superior-time", (1, 1, 1)),
        ("right-anterior-superior-time", (-1, -1, 1)),
        ("RAST", (-1, -1, 1)),
        ("LAST", (1, -1, 1)),
        ("scanner-xyz-time", None),
    ],
)
def test_spaces_with_time_are_turned_to_lps(space: str, signs: tuple[int, ...] | None, tmp_path: Path) -> None:
    """ITK turns those without it."""
    header = NRRD.replace("dimension: 3\nsizes: 5 4 3", "dimension: 4\nsizes: 5 4 3 2") + (
        f"space: {space}\nspace directions: (2,0,0,0) (0,3,0.1,0) (0,0,4,0) (0,0,0,2.5)\nspace origin: (10,20,30,1)\n"
        "measurement frame: (1,0,0,0) (0,1,0,0) (0,0,1,0) (0,0,0,1)\nkinds: space space space time\n"
    )
    path = written(tmp_path / "in.nrrd", header, stored := values("int16", (2, 3, 4, 5)))
    expected = np.array([[2.0, 0, 0, 10], [0, 3, 0, 20], [0, 0.1, 4, 30], [0, 0, 0, 1]])
    expected[:3] *= np.reshape(signs or (1, 1, 1), (3, 1))
    volume = read_volume(path)
    assert volume.provenance.frame_step == FrameStep(2.5)
    for back in (volume, read_volume(write_volume(volume, tmp_path / "out.nrrd"))):
        np.testing.assert_allclose(back.geometry.affine, expected, atol=1e-12)
        np.testing.assert_array_equal(back.array, stored)
    np.testing.assert_allclose(
        nib.load(write_volume(volume, tmp_path / "out.nii")).affine, np.diag([-1, -1, 1, 1]) @ expected, atol=1e-6
    )


@pytest.mark.parametrize("name", ["in.mha", "in.nrrd"])
def test_text_in_an_older_encoding(name: str, tmp_path: Path) -> None:
    stored = values("int16", (3, 4, 5))
    header = META + "Patient = Müller\nGröße = 5\n" if name == "in.mha" else NRRD + "Patient:=Müller\nGröße:=5\n"
    path = tmp_path / name
    last = "ElementDataFile = LOCAL\n" if name == "in.mha" else "\n"
    path.write_bytes((header + last).encode("latin-1") + stored.tobytes())
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.array, stored)
    out = write_volume(volume, tmp_path / f"out{path.suffix}")
    assert re.search(rb"\nPatient(:=| = )M\xfcller\n", out.read_bytes())
    np.testing.assert_array_equal(read_volume(out).array, stored)


@pytest.mark.parametrize("encoding", ["raw", "gzip", "bzip2"])
@pytest.mark.parametrize("name", ["voxels.raw", "vöxels of this.dat"])
def test_nrrd_whose_voxels_lie_apart(encoding: str, name: str, tmp_path: Path) -> None:
    stored = values("int16", (3, 4, 5))
    packed = {"raw": bytes, "gzip": gzip.compress, "bzip2": bz2.compress}[encoding](stored.tobytes())
    (tmp_path / name).write_bytes(packed)
    header = tmp_path / "in.nhdr"
    header.write_bytes(f"{NRRD.replace('raw', encoding).rstrip()}\ndata file: {name}\n".encode())
    volume = read_volume(header)
    np.testing.assert_array_equal(volume.array, stored)
    assert members_of(header) == [header, tmp_path / name]
    assert [block.stored.tolist() for block in open_planes(header).blocks(0, 3)] == [stored.tolist()]
    np.testing.assert_array_equal(read_volume(write_volume(volume, tmp_path / "out.nrrd")).array, stored)
    (tmp_path / name).write_bytes(packed[:-3])
    with pytest.raises(VolumeReadError, match=r"in.nhdr: expected a complete image"):
        read_volume(header)


@pytest.mark.parametrize(
    ("name", "unit", "factor"),
    [
        ("in.nrrd", 'space units: "cm" "cm" "cm"\n', 10.0),
        ("in.nrrd", 'space units: "um" "um" "um"\n', 1e-3),
        ("in.nrrd", 'space units: "µm" "µm" "µm"\n', 1e-3),
        ("in.nrrd", 'space units: "???" "???" "???"\n', 1.0),
        ("in.nrrd", 'units: "m" "m" "m"\n', 1000.0),
        ("in.nrrd", 'units: "mm" "mm" "s"\n', 1.0),
        ("in.mha", "DistanceUnits = cm\n", 10.0),
        ("in.mha", "DistanceUnits = um\n", 1e-3),
        ("in.mha", "DistanceUnits = ?\n", 1.0),
    ],
)
def test_lengths_are_millimetres(name: str, unit: str, factor: float, tmp_path: Path) -> None:
    """ITK takes every unit for mm."""
    stored = values("int16", (3, 4, 5))
    space = "space: left-posterior-superior\nspace directions: (1,0,0) (0,2,0) (0,0,3)\nspace origin: (10,20,30)\n"
    grid = "spacings: 1 2 3\nthicknesses: NaN NaN 2.5\n" if unit.startswith("units") else space
    header = META.replace("ElementType", unit + "ElementType") if name == "in.mha" else NRRD + grid + unit
    volume = read_volume(written(tmp_path / name, header, stored))
    np.testing.assert_allclose(volume.geometry.spacing, np.array([3, 2, 1]) * factor)
    if grid == space:
        np.testing.assert_allclose(volume.geometry.affine[:3, 3], np.array([10, 20, 30]) * factor)
    for target in (".nrrd", ".mha", ".nii"):
        again = read_volume(write_volume(volume, tmp_path / f"out{target}"))
        np.testing.assert_allclose(again.geometry.affine, volume.geometry.affine, rtol=1e-6)
        if target == ".nrrd" and "thicknesses" in header and name == "in.nrrd":
            assert f"thicknesses: {'nan nan' if factor != 1 else 'NaN NaN'} {2.5 * factor:g}" in (
                (tmp_path / "out.nrrd").read_bytes().decode("latin-1")
            )


def test_units_that_differ_between_axes(tmp_path: Path) -> None:
    header = NRRD + 'spacings: 1 2 3\nunits: "mm" "mm" "cm"\n'
    with pytest.raises(GeometryError, match=r'in.nrrd: expected one unit of length, got "mm" "mm" "cm"; write'):
        read_volume(written(tmp_path / "in.nrrd", header, values("int16", (3, 4, 5))))


SPACE = "space directions: (1,0,0) (0,2,0) (0,0,3)\n"
NO_SPACING = ("no spacing of some axes in the header: 1 mm is assumed",)
NO_SPACE = "the header's space (none) isn't the patient's: left-posterior-superior is assumed"


@pytest.mark.parametrize(
    ("name", "grid", "expected"),
    [
        ("in.nrrd", "", (*NO_SPACING, NO_SPACE)),
        ("in.nrrd", "spacings: 1 2 NaN\n", (*NO_SPACING, NO_SPACE)),
        ("in.nrrd", "space: left-posterior-superior\n" + SPACE.replace("(0,0,3)", "none"), NO_SPACING),
        ("in.nrrd", "spacings: 1 2 3\n", (NO_SPACE,)),
        ("in.nrrd", "space: left-posterior-superior\n" + SPACE, ()),
        ("in.nrrd", "space: RAS\n" + SPACE, ()),
        (
            "in.nrrd",
            "space: scanner-xyz\n" + SPACE,
            ("the header's space scanner-xyz isn't the patient's: left-posterior-superior is assumed",),
        ),
        ("in.mha", "", NO_SPACING),
        ("in.mha", "ElementSize = 1 2 3\n", ()),
    ],
)
def test_what_itk_assumes_is_said(name: str, grid: str, expected: tuple[str, ...], tmp_path: Path) -> None:
    bare = META.replace("ElementSpacing = 1 2 3\n", grid) if name == "in.mha" else NRRD + grid
    path = written(tmp_path / name, bare, values("int16", (3, 4, 5)))
    assert read_volume(path).provenance.warnings == expected
    assert open_planes(path).header.provenance.warnings == expected
    assert describe(path).warnings == expected


@pytest.mark.parametrize("frames", [1, 2])
@pytest.mark.parametrize("axis", ["none", "(nan,nan,nan)"])
def test_a_list_of_frames_has_no_spacing_of_its_own(axis: str, frames: int, tmp_path: Path) -> None:
    grid = "space: left-posterior-superior\nkinds: list domain domain domain\nspace origin: (0,0,0)\n"
    grid += "thicknesses: NaN NaN NaN 2.5\n"
    header = f"{NRRD.replace('dimension: 3', 'dimension: 4').replace('sizes: 5 4 3', f'sizes: {frames} 5 4 3')}{grid}"
    stored = values("int16", (3, 4, 5, frames))
    path = written(tmp_path / "in.nrrd", header + SPACE.replace(": ", f": {axis} "), stored)
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.array.reshape(frames, 3, 4, 5), np.moveaxis(stored, -1, 0))
    assert volume.provenance.warnings == ()
    again = read_volume(write_volume(volume, tmp_path / "out.nrrd"))  # in which a list of one is no axis any more
    np.testing.assert_array_equal(again.array, volume.array)
    np.testing.assert_array_equal(again.geometry.affine, volume.geometry.affine)
