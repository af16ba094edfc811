import gzip
import tempfile
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tatcli.errors import GeometryError, UsageError, VolumeReadError
from tatcli.intensity import Units
from tatcli.volumes import Geometry, Volume, read_volume, write_volume
from tatcli.volumes.geometry import RAS_FROM_LPS
from tatcli.volumes.members import members_of

TYPES = ["int16", "uint16", "uint8", "int32", "float32", "float64"]
SLOPES = [(None, None), (1.0, -1024.0), (0.37, 12.5), (-2.0, 0.0), (1e-5, 3.0)]


def values(dtype: str, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        array = rng.normal(0, 1000, shape).astype(dtype)
        array.flat[:3] = [np.nan, np.inf, -np.inf]
        return array
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max, shape, dtype=dtype, endpoint=True)


def save(
    path: Path,
    stored: np.ndarray,
    affine: Any,
    *,
    slope: float | None = None,
    intercept: float | None = None,
    endianness: str = "<",
    **fields: Any,
) -> nib.Nifti1Header:
    """A NIfTI file with exactly these stored numbers and header fields, written without nibabel's image classes."""
    header = nib.Nifti1Header(endianness=endianness)
    header.set_data_shape(stored.shape)
    header.set_data_dtype(stored.dtype)
    header.set_qform(affine, code=1)
    header.set_sform(affine, code=2)
    header["scl_slope"] = np.nan if slope is None else slope
    header["scl_inter"] = np.nan if intercept is None else intercept
    header["vox_offset"] = 352
    header.set_xyzt_units("mm", "sec")
    for name, value in fields.items():
        header[name] = value
    body = stored.astype(stored.dtype.newbyteorder(endianness)).tobytes(order="F")
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "wb") as stream:
        stream.write(header.binaryblock + b"\0\0\0\0" + body)
    return header


def content(path: Path) -> bytes:
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


def test_all_orientations_come_back_byte_for_byte(orientation: np.ndarray, tmp_path: Path) -> None:
    affine = np.eye(4)
    affine[:3, :3] = orientation * [0.7, 1.3, 4.5]
    affine[:3, 3] = [-91.5, 126.25, -72.125]
    for dtype in TYPES:
        stored = values(dtype, (3, 4, 5))
        save(tmp_path / "in.nii", stored, affine)
        volume = read_volume(tmp_path / "in.nii")
        write_volume(volume, tmp_path / "out.nii", overwrite=True)
        assert content(tmp_path / "out.nii") == content(tmp_path / "in.nii")
        np.testing.assert_array_equal(volume.array, stored.T.astype(np.float32))
        loaded = nib.load(tmp_path / "in.nii")
        np.testing.assert_allclose(RAS_FROM_LPS @ volume.geometry.affine, loaded.affine, atol=1e-6)
        assert volume.geometry.shape == (5, 4, 3)
        # nibabel names the array's axes columns first, and towards where each index grows.
        assert volume.geometry.orientation == "".join(reversed(nib.aff2axcodes(loaded.affine)))


@settings(deadline=None, max_examples=60)
@given(
    dtype=st.sampled_from(TYPES),
    scaling=st.sampled_from(SLOPES),
    shape=st.sampled_from([(3, 4), (5, 4, 3), (4, 3, 1), (2, 3, 4, 5), (3, 2, 1, 4), (4, 3, 2, 1), (2, 3, 4, 1, 1)]),
    matrix=st.lists(st.floats(-3, 3), min_size=9, max_size=9),
    packing=st.sampled_from([(".nii", "<"), (".nii.gz", "<"), (".nii", ">"), (".nii.gz", ">")]),
    seed=st.integers(0, 1000),
)
def test_any_file_comes_back_byte_for_byte(
    dtype: str,
    scaling: tuple[float | None, float | None],
    shape: tuple[int, ...],
    matrix: list[float],
    packing: tuple[str, str],
    seed: int,
) -> None:
    extension, endianness = packing
    affine = np.eye(4)
    affine[:3, :3] = np.array(matrix).reshape(3, 3) + 10 * np.eye(3)  # oblique, sheared, anisotropic, invertible
    stored = values(dtype, shape, seed)
    slope, intercept = scaling
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / f"in{extension}", Path(folder) / f"out{extension}"
        save(source, stored, affine, slope=slope, intercept=intercept, endianness=endianness)
        volume = read_volume(source)
        write_volume(volume, target)
        assert content(target) == content(source)
        expected = nib.load(source).get_fdata(dtype=np.float64).T
    np.testing.assert_allclose(volume.array.ravel(), expected.ravel(), rtol=1e-6, atol=1e-30)
    assert volume.array.dtype == np.float32
    assert volume.frames == (shape[3] if len(shape) > 3 else 1)


def test_processing_keeps_type_scaling_and_header(tmp_path: Path) -> None:
    stored = values("int16", (4, 5, 6))
    fields = {"descrip": b"made by hand", "intent_code": 0, "cal_max": 400.0, "cal_min": -100.0, "aux_file": b"aux"}
    save(tmp_path / "in.nii.gz", stored, np.diag([1, 2, 3, 1]), slope=0.5, intercept=-7.0, **fields)
    volume = read_volume(tmp_path / "in.nii.gz")
    array = volume.array.copy()
    array[0, 0, 0] += 0.5
    array[0, 0, 1] = 1e9
    array[0, 0, 2] += 0.2  # less than half a step
    write_volume(volume.with_array(array, step="test"), tmp_path / "out.nii.gz")
    expected = stored.copy()
    expected[0, 0, 0] += 1
    expected[1, 0, 0] = 32767
    out = nib.load(tmp_path / "out.nii.gz")
    np.testing.assert_array_equal(out.dataobj.get_unscaled(), expected)
    assert content(tmp_path / "out.nii.gz")[:352] == content(tmp_path / "in.nii.gz")[:352]


def test_extensions_survive(tmp_path: Path) -> None:
    image = nib.Nifti1Image(values("int16", (3, 4, 5)), np.eye(4))
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"kept"))
    nib.save(image, tmp_path / "in.nii")
    write_volume(read_volume(tmp_path / "in.nii"), tmp_path / "out.nii")
    assert content(tmp_path / "out.nii") == content(tmp_path / "in.nii")
    assert nib.load(tmp_path / "out.nii").header.extensions[0].get_content() == b"kept"


@pytest.mark.parametrize(
    ("codes", "used"), [((1, 2), "sform"), ((0, 2), "sform"), ((1, 0), "qform"), ((0, 0), "pixdim")]
)
def test_sform_before_qform_before_pixdim(codes: tuple[int, int], used: str, tmp_path: Path) -> None:
    qform = nib.affines.from_matvec(np.diag([1.5, 2.0, 3.0]), [1, 2, 3])
    sform = nib.affines.from_matvec(np.array([[0, 1.5, 0], [2.0, 0, 0.5], [0, 0, 3.0]]), [7, 8, 9])
    header = nib.Nifti1Header()
    header.set_data_shape((4, 5, 6))
    header.set_qform(qform, code=codes[0])
    header.set_sform(sform, code=codes[1])
    header["vox_offset"] = 352
    stored = values("int16", (4, 5, 6))
    header.set_data_dtype(stored.dtype)
    (tmp_path / "in.nii").write_bytes(header.binaryblock + b"\0" * 4 + stored.tobytes(order="F"))
    volume = read_volume(tmp_path / "in.nii")
    expected = {"sform": sform, "qform": qform, "pixdim": header.get_base_affine()}[used]
    np.testing.assert_allclose(RAS_FROM_LPS @ volume.geometry.affine, expected, atol=1e-6)
    assert bool(volume.provenance.warnings) == (used == "pixdim")
    write_volume(volume, tmp_path / "out.nii")
    assert content(tmp_path / "out.nii") == content(tmp_path / "in.nii")


@pytest.mark.parametrize(("unit", "factor"), [("meter", 1000.0), ("mm", 1.0), ("micron", 0.001), ("unknown", 1.0)])
def test_lengths_are_millimetres(unit: str, factor: float, tmp_path: Path) -> None:
    code = nib.nifti1.unit_codes[unit]
    save(tmp_path / "in.nii", values("uint8", (3, 4, 5)), np.diag([1.0, 2.0, 3.0, 1.0]), xyzt_units=code)
    volume = read_volume(tmp_path / "in.nii")
    np.testing.assert_allclose(volume.geometry.spacing, np.array([3, 2, 1]) * factor)


def test_a_new_grid_moves_both_transforms(tmp_path: Path) -> None:
    """Zero-filling to twice the matrix: half the spacing, the field of view stays."""
    qform, sform = np.diag([2.0, 2.0, 3.0, 1.0]), nib.affines.from_matvec(np.diag([-2.0, 2.0, 3.0]), [10, 20, 30])
    header = save(tmp_path / "in.nii", values("int16", (4, 5, 6)), qform)
    header.set_sform(sform, code=4)
    body = content(tmp_path / "in.nii")[348:]
    (tmp_path / "in.nii").write_bytes(header.binaryblock + body)
    volume = read_volume(tmp_path / "in.nii")
    change = np.diag([0.5, 0.5, 1.0, 1.0])
    change[:2, 3] = -0.25
    grid = Geometry(volume.geometry.affine @ change, (6, 10, 8))
    upsampled = Volume(volume.array.repeat(2, 1).repeat(2, 2), grid, volume.units, volume.provenance)
    write_volume(upsampled, tmp_path / "out.nii")
    out = nib.load(tmp_path / "out.nii")
    np.testing.assert_allclose(out.get_sform(), sform @ change, atol=1e-6)
    np.testing.assert_allclose(out.get_qform(), qform @ change, atol=1e-6)
    assert (out.header["sform_code"], out.header["qform_code"]) == (4, 1)
    assert out.header.get_zooms() == (1.0, 1.0, 3.0)
    np.testing.assert_array_equal(np.asarray(out.dataobj), volume.array.repeat(2, 1).repeat(2, 2).T)


def test_a_volume_from_memory(orientation: np.ndarray, tmp_path: Path) -> None:
    affine = np.eye(4)
    affine[:3, :3] = orientation * [0.75, 1.25, 4.5]
    affine[:3, 3] = [-10.5, 20.25, 30]
    volume = Volume(values("float32", (3, 4, 5)), Geometry(affine, (3, 4, 5)), Units.HU)
    write_volume(volume, tmp_path / "out.nii.gz")
    back = read_volume(tmp_path / "out.nii.gz", units=Units.HU)
    assert back.array.tobytes() == volume.array.tobytes()
    np.testing.assert_allclose(back.geometry.affine, affine, atol=1e-6)
    assert back.units is Units.HU
    image = nib.load(tmp_path / "out.nii.gz")
    np.testing.assert_allclose(image.get_qform(), image.get_sform(), atol=1e-5)
    assert image.header.get_xyzt_units()[0] == "mm"


def test_a_tilted_gantry_fits_the_sform_alone(tmp_path: Path) -> None:
    affine = np.eye(4)
    affine[1, 2] = 0.4
    volume = Volume(values("float32", (3, 4, 5)), Geometry(affine, (3, 4, 5)))
    write_volume(volume, tmp_path / "out.nii")
    back = read_volume(tmp_path / "out.nii")
    np.testing.assert_allclose(back.geometry.affine, affine, atol=1e-6)
    assert back.geometry.is_sheared
    assert nib.load(tmp_path / "out.nii").header["qform_code"] == 0


def test_nifti2_and_wide_matrices(tmp_path: Path) -> None:
    nib.save(nib.Nifti2Image(values("int16", (3, 4, 5)), np.eye(4)), tmp_path / "in.nii")
    write_volume(read_volume(tmp_path / "in.nii"), tmp_path / "out.nii")
    assert content(tmp_path / "out.nii") == content(tmp_path / "in.nii")
    wide = Volume(np.zeros((1, 1, 40000), np.float32), Geometry(np.eye(4), (1, 1, 40000)))
    write_volume(wide, tmp_path / "wide.nii")
    assert nib.load(tmp_path / "wide.nii").shape == (40000, 1, 1)


def test_gzip_is_told_by_content_not_by_name(tmp_path: Path) -> None:
    stored = values("int16", (3, 4, 5))
    save(tmp_path / "in.nii.gz", stored, np.eye(4))
    (tmp_path / "in.nii.gz").rename(tmp_path / "in.nii")
    np.testing.assert_array_equal(read_volume(tmp_path / "in.nii").array, stored.T)


def test_the_same_volume_gives_the_same_bytes(tmp_path: Path) -> None:
    save(tmp_path / "in.nii", values("int16", (3, 4, 5)), np.eye(4))
    volume = read_volume(tmp_path / "in.nii")
    assert (
        write_volume(volume, tmp_path / "a.nii.gz").read_bytes()
        == write_volume(volume, tmp_path / "b.nii.gz").read_bytes()
    )


@pytest.mark.parametrize("kept", [0, 100, 350, 352, 400, 471])
@pytest.mark.parametrize("packed", [False, True])
def test_truncation_is_an_error_of_one_line(kept: int, packed: bool, tmp_path: Path) -> None:
    save(tmp_path / "in.nii", values("int16", (3, 4, 5)), np.eye(4))
    whole = (tmp_path / "in.nii").read_bytes()
    assert len(whole) == 472
    path = tmp_path / ("cut.nii.gz" if packed else "cut.nii")
    path.write_bytes(gzip.compress(whole[:kept]) if packed else whole[:kept])
    with pytest.raises(VolumeReadError, match=r"cut\.nii") as caught:
        read_volume(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("lost", [1, 4, 8, 20, 100])
def test_a_cut_or_damaged_gzip_stream_is_noticed(lost: int, tmp_path: Path) -> None:
    save(tmp_path / "in.nii", values("int16", (3, 4, 5)), np.eye(4))
    packed = gzip.compress((tmp_path / "in.nii").read_bytes())
    path = tmp_path / "cut.nii.gz"
    path.write_bytes(packed[:-lost])
    with pytest.raises(VolumeReadError, match="gzip stream"):
        read_volume(path)
    path.write_bytes(packed[: -lost - 1] + bytes([packed[-lost - 1] ^ 0xFF]) + packed[-lost:])
    with pytest.raises(VolumeReadError):
        read_volume(path)


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"datatype": 128, "bitpix": 24}, VolumeReadError, "RGB"),
        ({"datatype": 32, "bitpix": 64}, VolumeReadError, "complex64"),
        ({"datatype": 1536, "bitpix": 128}, VolumeReadError, "float128"),
        ({"datatype": 999}, VolumeReadError, "999"),
        ({"dim": [5, 3, 4, 5, 1, 3, 1, 1]}, GeometryError, "5-D"),
        ({"dim": [3, 3, 0, 5, 1, 1, 1, 1]}, GeometryError, "at least one voxel"),
        ({"dim": [3, 32767, 32767, 32767, 1, 1, 1, 1]}, VolumeReadError, "truncated"),
        ({"dim": [9, 3, 4, 5, 1, 1, 1, 1]}, VolumeReadError, "dim"),
        ({"magic": b"ni1"}, VolumeReadError, "hdr/.img pair; name it .hdr"),
        ({"magic": b""}, VolumeReadError, "Analyze"),
        ({"srow_x": [0, 0, 0, 0], "qform_code": 0}, GeometryError, "singular"),
        ({"scl_slope": 2.0, "scl_inter": np.nan}, VolumeReadError, "scl_inter"),
        ({"vox_offset": -5.0}, VolumeReadError, "vox_offset"),
        ({"vox_offset": 348.0}, VolumeReadError, "vox_offset 352 or more, got 348"),
    ],
)
def test_what_isnt_restored_is_refused_by_name(
    fields: dict[str, Any], error: type[Exception], message: str, tmp_path: Path
) -> None:
    save(tmp_path / "bad.nii", values("int16", (3, 4, 5)), np.eye(4), **fields)
    with pytest.raises(error, match=message) as caught:
        read_volume(tmp_path / "bad.nii")
    assert str(caught.value).startswith("bad.nii: expected ")
    assert "\n" not in str(caught.value)


def test_no_offset_is_the_smallest(tmp_path: Path) -> None:
    stored = values("int16", (3, 4, 5))
    save(tmp_path / "in.nii", stored, np.eye(4), vox_offset=0)
    np.testing.assert_array_equal(read_volume(tmp_path / "in.nii").array, stored.T)


def test_a_singular_sform_gives_way_to_the_qform(tmp_path: Path) -> None:
    save(tmp_path / "in.nii", values("int16", (3, 4, 5)), np.diag([2.0, 3, 4, 1]), srow_x=[0, 0, 0, 0])
    volume = read_volume(tmp_path / "in.nii")
    assert volume.geometry.spacing == (4, 3, 2)
    assert volume.provenance.warnings == ("the sform is singular and was passed over",)


@pytest.mark.parametrize(("stored", "handed"), [(0.0, 1.0), (7.0, 1.0), (np.nan, 1.0), (-1.0, -1.0), (-3.0, -1.0)])
def test_a_qfac_of_any_value(stored: float, handed: float, tmp_path: Path) -> None:
    """Zero, which many programs write, is 1 by the standard; its reference library goes by the sign."""
    pixdim = [stored, 2, 3, 4, 1, 1, 1, 1]
    header = save(tmp_path / "in.nii", values("int16", (3, 4, 5)), np.diag([2.0, 3, 4, 1]), sform_code=0, pixdim=pixdim)
    volume = read_volume(tmp_path / "in.nii")
    expected = header.get_sform() @ np.diag([1, 1, handed, 1])
    np.testing.assert_array_equal(RAS_FROM_LPS @ volume.geometry.affine, expected)
    write_volume(volume, tmp_path / "out.nii")
    assert content(tmp_path / "out.nii") == content(tmp_path / "in.nii")


@pytest.mark.parametrize("qform", [0, 1])
def test_negative_voxel_sizes_are_lengths(qform: int, tmp_path: Path) -> None:
    pixdim = [1, -2, 3, -4, 1, 1, 1, 1]
    path = tmp_path / "in.nii"
    save(path, values("int16", (3, 4, 5)), np.diag([2.0, 3, 4, 1]), sform_code=0, qform_code=qform, pixdim=pixdim)
    volume = read_volume(path)
    assert volume.geometry.spacing == (4, 3, 2)
    np.testing.assert_array_equal(RAS_FROM_LPS @ volume.geometry.affine, nib.load(path).affine)


@pytest.mark.parametrize(
    ("fields", "codes"),
    [
        ({"quatern_b": 1, "quatern_c": 1}, (2, 0)),  # no quaternion
        ({"srow_x": [0, 0, 0, 0]}, (0, 1)),
        ({"sform_code": 99}, (99, 1)),
        ({"qform_code": -1}, (2, 0)),
    ],
)
def test_a_transform_that_is_none_loses_its_code_with_a_new_grid(
    fields: dict[str, Any], codes: tuple[int, int], tmp_path: Path
) -> None:
    path = tmp_path / "in.nii"
    save(path, values("int16", (3, 4, 5)), np.diag([2.0, 3, 4, 1]), **fields)
    volume = read_volume(path)
    grid = volume.geometry.finer(2, 0)
    write_volume(Volume(np.zeros(grid.shape), grid, volume.units, volume.provenance), tmp_path / "out.nii")
    header = nib.Nifti1Header(content(tmp_path / "out.nii")[:348], check=False)
    assert (header["sform_code"], header["qform_code"]) == codes
    np.testing.assert_allclose(read_volume(tmp_path / "out.nii").geometry.affine, grid.affine, atol=1e-6)


@pytest.mark.parametrize("forms", ["qform", "sform"])
def test_a_2d_image_without_slice_thickness_on_a_new_grid(forms: str, tmp_path: Path) -> None:
    """The missing column isn't multiplied: rounding would leave a slice of 1e-17 mm."""
    turn = nib.affines.from_matvec(nib.eulerangles.euler2mat(0.3, 0.2, 0.1) @ np.diag([2.0, 3, 1]), [10, 20, 30])
    path = tmp_path / "in.nii"
    header = save(path, values("uint8", (3, 4)), turn, **{"sform_code" if forms == "qform" else "qform_code": 0})
    header["pixdim"][3] = 0
    for row in "xyz":
        header[f"srow_{row}"][2] = 0
    path.write_bytes(header.binaryblock + content(path)[348:])
    volume = read_volume(path)
    grid = volume.geometry.finer(2, 0)
    write_volume(Volume(np.zeros(grid.shape), grid, volume.units, volume.provenance), tmp_path / "out.nii")
    np.testing.assert_allclose(nib.load(tmp_path / "out.nii").header.get_zooms(), (1, 1.5, 1), atol=1e-6)
    np.testing.assert_allclose(read_volume(tmp_path / "out.nii").geometry.affine, grid.affine, atol=1e-6)


def test_a_2d_image_without_slice_thickness(tmp_path: Path) -> None:
    stored = values("uint8", (3, 4))
    save(tmp_path / "in.nii", stored, np.eye(4), pixdim=[1, 2, 3, 0, 0, 0, 0, 0], sform_code=0)
    volume = read_volume(tmp_path / "in.nii")
    assert volume.array.shape == (1, 4, 3)
    assert volume.geometry.spacing == (1, 3, 2)
    write_volume(volume, tmp_path / "out.nii")
    assert content(tmp_path / "out.nii") == content(tmp_path / "in.nii")


def test_text_named_nii(tmp_path: Path) -> None:
    (tmp_path / "notes.nii").write_text("these are no voxels" * 100)
    with pytest.raises(VolumeReadError, match="expected a NIfTI header"):
        read_volume(tmp_path / "notes.nii")


def test_series_are_a_matter_of_dicom(tmp_path: Path) -> None:
    save(tmp_path / "in.nii", values("int16", (3, 4, 5)), np.eye(4))
    with pytest.raises(UsageError, match="--series"):
        read_volume(tmp_path / "in.nii", series="3")


@pytest.mark.parametrize("kind", [nib.Nifti1Pair, nib.nifti2.Nifti2Pair])
@pytest.mark.parametrize("packed", [False, True])
def test_a_pair_reads_as_its_single_file(kind: type[Any], packed: bool, tmp_path: Path) -> None:
    stored = values("int16", (5, 4, 3))
    made = kind(stored, np.array([[0, -2.0, 0, 5], [1.5, 0, 0, -7], [0, 0, 3, 1], [0, 0, 0, 1]]))
    made.header.set_slope_inter(2.0, -3.0)
    made.header["descrip"] = b"kept"
    made.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"kept, too"))
    made.to_filename(tmp_path / "in.img")
    image = tmp_path / "in.img"
    image.write_bytes(bytes(64) + image.read_bytes())  # vox_offset counts in the .img
    header = bytearray((tmp_path / "in.hdr").read_bytes())
    at = made.header.template_dtype.fields["vox_offset"]
    header[at[1] : at[1] + at[0].itemsize] = np.array(64, dtype=at[0]).tobytes()
    (tmp_path / "in.hdr").write_bytes(header)
    if packed:
        image.with_name("in.img.gz").write_bytes(gzip.compress(image.read_bytes()))
        image.unlink()
    volume = read_volume(tmp_path / "in.hdr")
    raw = image.with_name("in.img.gz") if packed else image
    assert members_of(tmp_path / "in.hdr") == [tmp_path / "in.hdr", raw]
    back = nib.load(write_volume(volume, tmp_path / "out.nii"))
    np.testing.assert_array_equal(np.asarray(back.dataobj.get_unscaled()), np.asarray(made.dataobj))
    np.testing.assert_array_equal(volume.array, np.asarray(made.dataobj, np.float32).T * 2 - 3)
    np.testing.assert_array_equal(back.affine, made.affine)
    assert bytes(back.header["descrip"].tobytes())[:4] == b"kept"
    assert [extension.get_content() for extension in back.header.extensions] == [b"kept, too"]


def test_pairs_that_are_none(tmp_path: Path) -> None:
    made = nib.AnalyzeImage(values("int16", (5, 4, 3)), np.eye(4))
    made.to_filename(tmp_path / "old.img")
    with pytest.raises(
        VolumeReadError, match=r"old.hdr: expected NIfTI, got an Analyze 7.5 header, .* how the patient"
    ):
        read_volume(tmp_path / "old.hdr")
    nib.Nifti1Pair(values("int16", (5, 4, 3)), np.eye(4)).to_filename(tmp_path / "new.img")
    with pytest.raises(VolumeReadError, match=r"new.img: expected .*; name its header, new.hdr"):
        read_volume(tmp_path / "new.img")
    content = (tmp_path / "new.img").read_bytes()
    (tmp_path / "new.img").write_bytes(content[:-1])
    with pytest.raises(VolumeReadError, match="truncated"):
        read_volume(tmp_path / "new.hdr")
    (tmp_path / "new.img").unlink()
    with pytest.raises(VolumeReadError, match=r"new.hdr: expected its voxels in new.img beside it, got none"):
        read_volume(tmp_path / "new.hdr")


def test_gzip_in_several_members(tmp_path: Path) -> None:
    """As pigz and bgzip write it, and tapes pad it."""
    stored = values("int16", (3, 40, 50))
    save(tmp_path / "in.nii", stored, np.eye(4))
    content = (tmp_path / "in.nii").read_bytes()
    packed = b"".join(gzip.compress(content[start : start + 999]) for start in range(0, len(content), 999))
    for name, tail in (("a.nii.gz", b""), ("b.nii.gz", gzip.compress(b"")), ("c.nii.gz", bytes(511))):
        (tmp_path / name).write_bytes(packed + tail)
        np.testing.assert_array_equal(read_volume(tmp_path / name).array, stored.T)
    (tmp_path / "d.nii.gz").write_bytes(packed + b"garbage")
    with pytest.raises(VolumeReadError, match=r"d.nii.gz: expected a complete gzip stream, got a damaged one"):
        read_volume(tmp_path / "d.nii.gz")
