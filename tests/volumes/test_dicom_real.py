"""Every real series in ../shared/data/dicom is read right or refused by name."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK

from tatcli.errors import GeometryError, TatError, UsageError, VolumeReadError
from tatcli.intensity import Units
from tatcli.volumes import describe, read_volume, write_volume

pytestmark = pytest.mark.real_data

READ = {
    # folder: (shape, units, orientation, spacing, least and greatest value, type in NIfTI)
    "ct_ge_abdomen": ((12, 512, 512), Units.HU, "SPL", (5, 0.796875, 0.796875), (-3024, 1252), "int16"),
    "ct_jpeg2000": ((20, 512, 512), Units.HU, "SPL", (2, 0.9765625, 0.9765625), (-1024, 1839), "int16"),
    "mr_ge_oblique_signed16": ((16, 256, 256), Units.ARBITRARY, "SPL", (1.2, 0.9375, 0.9375), (0, 5467), "int16"),
    "mr_implicit_vr_oblique": ((20, 384, 274), Units.ARBITRARY, "SPL", (0.6667, 0.6667, 0.7), (0, 179), "int16"),
    "mr_philips_rawdata_without_pixels": (
        (12, 256, 256), Units.ARBITRARY, "SPL", (5, 1, 1), (0, 1812 * 1.29304029304029), "float32",
    ),
    "mr_philips_slope2.36": (
        (24, 256, 256), Units.ARBITRARY, "RIP", (1, 1, 1), (0, 1152 * 2.36166056166056), "float32",
    ),
    "mr_siemens_enhanced_4d": ((4, 6, 64, 64), Units.ARBITRARY, "SPL", (2.4, 3.375, 3.375), (0, 1199), "uint16"),
    "mr_siemens_enhanced_multiframe": ((96, 128, 128), Units.ARBITRARY, "RIP", (2, 2, 2), (0, 2927), "uint16"),
    "mr_siemens_phase_slope2_intercept-4096": (
        (36, 64, 64), Units.ARBITRARY, "SPL", (3.6, 3, 3), (-4096, 4092), "int16",
    ),
    "mr_siemens_mosaic": (
        (2, 36, 64, 64), Units.ARBITRARY, "SPL", (3.6, 3.203125, 3.203125), (0, 1546), "uint16",
    ),
    "oblique": ((3, 50, 100), Units.UNKNOWN, "SPL", (4.5, 3.5, 2.5), (-10, 9.999), "float32"),
    "pet_ge_jpegls_bqml": ((135, 128, 128), Units.SUVBW, "SPL", (3.27, 4.6875, 4.6875), (0, 51.0933), "float32"),
}  # fmt: skip
REFUSED = {
    "ct_15_transfer_syntaxes": (GeometryError, "expected one image per position, got 7"),
    "ct_ge_gantry_tilt_variable_spacing": (GeometryError, "gaps of 1.081 to 6.999 mm"),
    "ct_wg04_transfer_syntaxes": (UsageError, "expected one series, got 4"),
    "mr_9_transfer_syntaxes": (GeometryError, "expected one image per position, got 9"),
    "mr_philips_enhanced_mixed_content": (UsageError, "801:FIELD_MAP"),
    "mr_siemens_multiecho_one_series": (UsageError, "3:TE20 .*3:TE40 .*3:TE60 "),
    "mr_siemens_two_echoes": (UsageError, "2:TE4.92 .*2:TE7.38 "),
    "single_files": (UsageError, "expected one series, got 7"),
}


@pytest.fixture(scope="module")
def dicom(shared: Path) -> Path:
    return shared / "data" / "dicom"


@contextmanager
def quiet() -> Iterator[None]:
    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)  # ITK on uneven sampling
    try:
        yield
    finally:
        SimpleITK.ProcessObject.SetGlobalWarningDisplay(True)


def test_every_folder_is_known_here(dicom: Path) -> None:
    assert {path.name for path in dicom.iterdir()} == {*READ, *REFUSED}


@pytest.mark.parametrize("name", READ)
def test_read(name: str, dicom: Path, tmp_path: Path) -> None:
    shape, units, orientation, spacing, bounds, dtype = READ[name]
    volume = read_volume(dicom / name)
    assert volume.array.shape == shape
    assert volume.units is units
    assert volume.geometry.orientation == orientation
    np.testing.assert_allclose(volume.geometry.spacing, spacing, rtol=1e-4)
    np.testing.assert_allclose([volume.array.min(), volume.array.max()], bounds, rtol=1e-5)
    assert not volume.geometry.is_sheared
    back = read_volume(write_volume(volume, tmp_path / "out.nii.gz"))
    assert back.array.tobytes() == volume.array.tobytes()
    assert back.provenance.dtype == np.dtype(dtype)
    np.testing.assert_allclose(back.geometry.affine, volume.geometry.affine, rtol=1e-6, atol=1e-6)
    info = describe(dicom / name)
    assert (info.shape, info.units, info.orientation) == (volume.geometry.shape, units, orientation)


@pytest.mark.parametrize(
    "name", [name for name in READ if not any(word in name for word in ("enhanced", "rawdata", "pet", "mosaic"))]
)
def test_itks_own_series_reader_agrees(name: str, dicom: Path) -> None:
    volume = read_volume(dicom / name)
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(dicom / name)))
    with quiet():
        image = reader.Execute()
    # ITK multiplies per slice in float64 or integers; tat's values are the nearest float32.
    np.testing.assert_allclose(volume.array, SimpleITK.GetArrayFromImage(image), rtol=1e-6)
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    np.testing.assert_allclose(volume.geometry.affine, affine, atol=1e-6)


@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_name(name: str, dicom: Path) -> None:
    error, message = REFUSED[name]
    with pytest.raises(error, match=message) as caught:
        read_volume(dicom / name)
    assert "\n" not in str(caught.value)


def test_suv_agrees_with_an_independent_conversion(dicom: Path, shared: Path) -> None:
    """The same series, turned into SUVbw by whoever prepared the validation data."""
    ours = read_volume(dicom / "pet_ge_jpegls_bqml")
    theirs = read_volume(shared / "data" / "pet" / "val" / "acrin-nsclc-042_thorax_SUV.nii.gz")
    np.testing.assert_allclose(ours.array, theirs.array, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(ours.geometry.origin, theirs.geometry.origin, atol=1e-3)


CT15 = "ct_15_transfer_syntaxes"


def test_fifteen_transfer_syntaxes(dicom: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The same slice: bit-identical where the syntax is lossless, near it where it is not."""
    files = sorted((dicom / CT15).iterdir())
    assert len(files) == 15
    reference = read_volume(next(path for path in files if "LittleEndianExplicit" in path.name)).array
    for path in files:
        volume = read_volume(path)
        lossless = any(word in path.name for word in ("Endian", "Deflated", "RLE", "Lossless", "Process14"))
        if lossless:
            assert volume.array.tobytes() == reference.tobytes(), path.name
        else:
            body = reference > -1000
            error = np.abs(volume.array - reference)[body].mean()
            assert error < (20 if "Process1T" in path.name else 6), (path.name, error)
    assert capfd.readouterr() == ("", "")  # the decoders' chatter


def test_two_slices_in_six_syntaxes(dicom: Path) -> None:
    for scan in ("CT1", "CT2"):
        arrays = {
            name: read_volume(dicom / "ct_wg04_transfer_syntaxes" / f"{scan}_{name}").array
            for name in ("J2KI", "J2KR", "JLSL", "JLSN", "JPLL", "RLE")
        }
        for name in ("J2KR", "JLSL", "JPLL"):
            assert arrays[name].tobytes() == arrays["RLE"].tobytes()
        for name, error in (("J2KI", 30), ("JLSN", 3)):  # the one is lossy, the other nearly lossless
            assert np.abs(arrays[name] - arrays["RLE"]).mean() < error


def test_enhanced_frames_agree_with_the_raw_pixels(dicom: Path) -> None:
    path = next((dicom / "mr_siemens_enhanced_multiframe").iterdir())
    dataset = pydicom.dcmread(path)
    volume = read_volume(path)
    normal = np.array([-1.0, 0.0, 0.0])
    heights = [
        np.array(group.PlanePositionSequence[0].ImagePositionPatient, float) @ normal
        for group in dataset.PerFrameFunctionalGroupsSequence
    ]
    np.testing.assert_array_equal(volume.array, dataset.pixel_array[np.argsort(heights)])


def test_time_points_are_in_order(dicom: Path) -> None:
    volume = read_volume(dicom / "mr_siemens_enhanced_4d")
    for index in range(4):
        alone = read_volume(dicom / "mr_siemens_enhanced_4d" / f"6_{index + 1}.dcm")
        np.testing.assert_array_equal(volume.array[index], alone.array)


def test_single_files(dicom: Path) -> None:
    facts = {
        "693_J2KI.dcm": (Units.HU, (-3995, 1812)),
        "CT_small.dcm": (Units.HU, (-896, 1167)),
        "JPEG2000.dcm": (Units.UNKNOWN, (-30, 245)),
        "MR_small_bigendian.dcm": (Units.ARBITRARY, (127, 2145)),
        "eCT_Supplemental.dcm": (Units.UNKNOWN, (-1024, 172)),
    }
    for path in sorted((dicom / "single_files").iterdir()):
        if path.name in facts:
            volume = read_volume(path)
            assert (volume.units, (volume.array.min(), volume.array.max())) == facts[path.name]
        else:
            with pytest.raises(VolumeReadError, match=path.name):
                read_volume(path)


def test_every_file_of_the_nine_syntaxes_is_the_same_mosaic(dicom: Path) -> None:
    files = sorted((dicom / "mr_9_transfer_syntaxes").iterdir())
    volumes = [read_volume(path) for path in files]
    assert len(files) == 9
    for path, volume in zip(files, volumes, strict=True):
        assert volume.array.shape == (35, 64, 64)
        lossy = volume.array.tobytes() != volumes[0].array.tobytes()
        assert np.abs(volume.array - volumes[0].array).mean() < 8, path.name
        syntax = pydicom.dcmread(path, stop_before_pixels=True).file_meta.TransferSyntaxUID
        assert not lossy or syntax.name.startswith(("JPEG 2000 Image Compression", "JPEG Extended", "JPEG-LS Lossy"))


def test_a_slice_of_a_series(dicom: Path) -> None:
    whole = read_volume(dicom / "ct_ge_abdomen")
    alone = read_volume(dicom / "ct_ge_abdomen" / "1-10.dcm")
    index = round((alone.geometry.origin[2] - whole.geometry.origin[2]) / 5)
    np.testing.assert_array_equal(alone.array[0], whole.array[index])


def test_a_half_of_the_tilted_series_is_read_with_its_tilt(dicom: Path, tmp_path: Path) -> None:
    for index in range(1, 15):
        (tmp_path / f"{index:02d}.dcm").symlink_to(dicom / "ct_ge_gantry_tilt_variable_spacing" / f"{index:02d}.dcm")
    volume = read_volume(tmp_path)
    np.testing.assert_allclose(volume.geometry.affine[:3, 2], [0, 0, 4.22], atol=1e-6)
    normal = np.cross(volume.geometry.direction[:, 0], volume.geometry.direction[:, 1])
    tilt = math.degrees(math.acos(volume.geometry.direction[:, 2] @ normal))
    assert tilt == pytest.approx(18.5, abs=0.01)
    assert volume.geometry.is_sheared


def refusal(path: Path) -> str:
    """Why a file isn't read, or nothing."""
    try:
        read_volume(path)
    except TatError as error:
        return str(error)
    return ""


def test_nothing_but_our_own_errors(dicom: Path, tmp_path: Path) -> None:
    """Files cut or damaged anywhere: read or refused, never a crash."""
    rng = np.random.default_rng(0)
    sources = [dicom / "single_files" / "CT_small.dcm", dicom / "single_files" / "emri_small_RLE.dcm"]
    sources += [next((dicom / CT15).glob(f"*{name}*")) for name in ("JPEGLSLossless", "Process14SV1")]
    for source in sources:
        data = source.read_bytes()
        for _ in range(12):
            damaged = bytearray(data[: rng.integers(1, len(data))] if rng.random() < 0.5 else data)
            for position in rng.integers(0, min(len(damaged), 3000), 5):
                damaged[position] = rng.integers(256)
            (tmp_path / "x.dcm").write_bytes(damaged)
            assert "\n" not in refusal(tmp_path / "x.dcm")
