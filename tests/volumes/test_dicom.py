import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import RLELossless, generate_uid

from tatcli.errors import GeometryError, UnitsError, UsageError, VolumeReadError
from tatcli.intensity import Units
from tatcli.volumes import list_series, read_volume, write_volume

RNG = np.random.default_rng(7)


def ct(shape: tuple[int, ...] = (5, 6, 8), dtype: str = "int16") -> np.ndarray:
    return RNG.integers(0, 3000, shape).astype(dtype)


def test_a_ct_series(series: Callable[..., Any]) -> None:
    maker, pixels = series(), ct()
    maker.add_stack(pixels)
    volume = read_volume(maker.folder)
    np.testing.assert_array_equal(volume.array, pixels.astype(np.float32) - 1024)
    expected = np.diag([0.5, 0.7, 2.0, 1.0])  # PixelSpacing gives the distance of rows first
    expected[:3, 3] = [-10, 20, 5]
    np.testing.assert_allclose(volume.geometry.affine, expected)
    assert volume.units is Units.HU
    assert volume.provenance.modality == "CT"
    assert volume.provenance.warnings == ()
    assert volume.provenance.dtype == np.int16
    assert (volume.provenance.slope, volume.provenance.intercept) == (1, -1024)
    np.testing.assert_array_equal(volume.provenance.stored, pixels)


@pytest.mark.parametrize("degrees", [0.0, 20.0, -70.0])
@pytest.mark.parametrize("downwards", [False, True])
def test_the_stack_follows_positions_not_names(series: Callable[..., Any], degrees: float, downwards: bool) -> None:
    """Oblique slices written in shuffled names and either direction agree with ITK's own series reader."""
    angle = np.deg2rad(degrees)
    row, column = (np.cos(angle), 0.0, -np.sin(angle)), (0.0, 1.0, 0.0)
    normal = np.cross(row, column)
    maker, pixels = series(orientation=(*row, *column)), ct((7, 6, 8))
    maker.add_stack(pixels, step=normal * (-3.0 if downwards else 3.0))
    volume = read_volume(maker.folder)
    names = SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(maker.folder))
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(names)
    image = reader.Execute()
    np.testing.assert_array_equal(volume.array, SimpleITK.GetArrayFromImage(image))
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    np.testing.assert_allclose(volume.geometry.affine, affine, atol=1e-6)
    np.testing.assert_array_equal(volume.array[:: -1 if downwards else 1], pixels.astype(np.float32) - 1024)


def test_a_tilted_gantry_keeps_its_shear(series: Callable[..., Any], tmp_path: Path) -> None:
    tilt = np.deg2rad(18.5)
    maker = series(orientation=(1, 0, 0, 0, np.cos(tilt), -np.sin(tilt)))
    maker.add_stack(ct(), step=(0, 0, 4.0))
    volume = read_volume(maker.folder)
    assert volume.geometry.is_sheared
    np.testing.assert_allclose(volume.geometry.affine[:3, 2], [0, 0, 4], atol=1e-6)
    for name in ("out.nii.gz", "out.nrrd", "out.mha"):
        back = read_volume(write_volume(volume, tmp_path / name))
        np.testing.assert_allclose(back.geometry.affine, volume.geometry.affine, atol=1e-6)
        np.testing.assert_array_equal(back.array, volume.array)
        assert back.provenance.dtype == np.int16


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "uint32"])
def test_stored_types(series: Callable[..., Any], dtype: str, tmp_path: Path) -> None:
    maker, pixels = series(modality="MR"), RNG.integers(0, np.iinfo(dtype).max, (3, 4, 5)).astype(dtype)
    maker.add_stack(pixels)
    volume = read_volume(maker.folder)
    np.testing.assert_array_equal(volume.array, pixels.astype(np.float32))
    assert volume.units is Units.ARBITRARY
    back = read_volume(write_volume(volume, tmp_path / "out.nii.gz"))
    assert back.provenance.dtype == np.dtype(dtype)


def test_bits_above_the_stored_ones_are_no_values(series: Callable[..., Any]) -> None:
    """Twelve of sixteen bits; old files keep overlays in the rest."""
    maker, pixels = series(modality="MR"), ct((2, 4, 5), "uint16") & 0x0FFF
    maker.add_stack(pixels | 0x9000, BitsStored=12, HighBit=11)
    np.testing.assert_array_equal(read_volume(maker.folder).array, pixels)


def test_negative_numbers_of_twelve_bits(series: Callable[..., Any]) -> None:
    maker, pixels = series(modality="MR"), RNG.integers(-2048, 2047, (2, 4, 5)).astype(np.int16)
    maker.add_stack(pixels & 0x0FFF, BitsStored=12, HighBit=11)
    np.testing.assert_array_equal(read_volume(maker.folder).array, pixels)


def test_compressed_pixels_keep_their_per_slice_rescale(series: Callable[..., Any]) -> None:
    maker, pixels = series(modality="MR"), ct((3, 6, 8), "uint16")
    for index, plane in enumerate(pixels):
        path = maker.add(plane, (0, 0, 2.0 * index), RescaleSlope=index + 0.5, RescaleIntercept=-index)
        dataset = pydicom.dcmread(path)
        dataset.compress(RLELossless)
        dataset.save_as(path)
    volume = read_volume(maker.folder)
    for index, plane in enumerate(pixels):
        np.testing.assert_allclose(volume.array[index], plane * (index + 0.5) - index, rtol=1e-6)
    assert volume.provenance.dtype == np.float32


@pytest.mark.parametrize(
    ("attributes", "units", "dtype", "warned"),
    [
        ({"RescaleType": "HU"}, Units.HU, "int16", False),
        ({"RescaleSlope": 2, "RescaleIntercept": -2048}, Units.HU, "int16", False),
        ({"RescaleSlope": 20, "RescaleIntercept": 0}, Units.HU, "int32", False),  # 60000 HU don't fit int16
        ({"RescaleSlope": 0.5}, Units.HU, "float32", False),
        ({"RescaleType": "US"}, Units.UNKNOWN, "int16", True),
        ({"RescaleSlope": None, "RescaleIntercept": None}, Units.UNKNOWN, "uint16", True),
        ({"RescaleIntercept": None}, Units.UNKNOWN, "uint16", True),  # 1024 HU too high, perhaps
    ],
)
def test_ct_units_and_the_type_in_another_format(
    series: Callable[..., Any], attributes: dict[str, Any], units: Units, dtype: str, warned: bool, tmp_path: Path
) -> None:
    maker, pixels = series(), ct(dtype="uint16")
    pixels[0, 0, 0] = 3000
    maker.add_stack(pixels, **attributes)
    volume = read_volume(maker.folder)
    assert volume.units is units
    assert bool(volume.provenance.warnings) == warned
    back = read_volume(write_volume(volume, tmp_path / "out.nii.gz"))
    assert back.provenance.dtype == np.dtype(dtype)
    assert back.array.tobytes() == volume.array.tobytes()


def test_units_of_the_header_outweigh_the_callers(series: Callable[..., Any]) -> None:
    maker = series()
    maker.add_stack(ct())
    assert read_volume(maker.folder, units=Units.HU).units is Units.HU
    with pytest.raises(UnitsError, match="expected units SUVbw, got HU"):
        read_volume(maker.folder, units=Units.SUVBW)
    shutil.rmtree(maker.folder)
    maker.add_stack(ct(), RescaleType="US")
    assert read_volume(maker.folder, units=Units.HU).units is Units.HU


def test_a_single_file_is_read_alone(series: Callable[..., Any]) -> None:
    maker, pixels = series(thickness=5.0), ct()
    maker.add_stack(pixels)
    path = maker.add(pixels[2], (1, 2, 3))
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.array[0], pixels[2].astype(np.float32) - 1024)
    assert volume.geometry.spacing == (5.0, 0.7, 0.5)
    assert volume.geometry.origin == (1, 2, 3)
    renamed = path.rename(path.with_name("IM0001"))  # without an extension, as scanners export
    np.testing.assert_array_equal(read_volume(renamed).array, volume.array)


def test_two_series_are_listed_and_chosen(series: Callable[..., Any]) -> None:
    first, second = series(), series(modality="MR", common={"SeriesNumber": 4, "SeriesDescription": "other"})
    first.add_stack(ct())
    second.count = 50
    second.add_stack(ct((2, 6, 8)))
    with pytest.raises(UsageError) as caught:
        read_volume(first.folder)
    message = str(caught.value)
    assert "\n" not in message
    assert "--series" in message
    for part in (first.uid, second.uid, "number 3", "number 4", "'made'", "'other'", "5 images", "2 images"):
        assert part in message
    for wanted in (second.uid, "4", "OTHER"):
        assert read_volume(first.folder, series=wanted).array.shape == (2, 6, 8)
    with pytest.raises(UsageError, match="expected one series '9', got 0"):
        read_volume(first.folder, series="9")
    listed = list_series(first.folder)
    assert [(info.number, info.modality, info.images) for info in listed] == [("3", "CT", 5), ("4", "MR", 2)]


def test_the_same_number_twice_asks_for_the_uid(series: Callable[..., Any]) -> None:
    first, second = series(), series()
    first.add_stack(ct())
    second.count = 50
    second.add_stack(ct())
    with pytest.raises(UsageError, match="expected one series '3', got 2"):
        read_volume(first.folder, series="3")
    assert read_volume(first.folder, series=second.uid).array.shape == (5, 6, 8)


def test_junk_is_skipped_and_counted(series: Callable[..., Any]) -> None:
    maker, pixels = series(), ct()
    maker.add_stack(pixels)
    (maker.folder / "notes.txt").write_text("hello")
    (maker.folder / "empty.dcm").write_bytes(b"")
    (maker.folder / ".hidden").write_text("hello")
    (maker.folder / "deeper").mkdir()
    next(maker.folder.glob("*.dcm")).rename(maker.folder / "deeper" / "slice")
    report = maker.header(pixels[0], None)
    report.Modality, report.SeriesInstanceUID = "SR", generate_uid()
    for keyword in ("Rows", "Columns", "BitsAllocated", "SamplesPerPixel"):
        delattr(report, keyword)
    report.save_as(maker.folder / "report.dcm", enforce_file_format=True)
    volume = read_volume(maker.folder)
    np.testing.assert_array_equal(volume.array, pixels.astype(np.float32) - 1024)
    assert volume.provenance.warnings == (
        "skipped 2 files that are not DICOM",
        "skipped 1 DICOM object without pixels",
    )


def test_folders_without_a_series(tmp_path: Path) -> None:
    with pytest.raises(VolumeReadError, match="got no DICOM images among 0 files"):
        read_volume(tmp_path)
    (tmp_path / "scan.nii.gz").write_bytes(b"x")
    with pytest.raises(VolumeReadError, match="got no DICOM images among 1 files"):
        read_volume(tmp_path)
    with pytest.raises(VolumeReadError, match="got nothing there"):
        read_volume(tmp_path / "missing")


def test_localizers_are_left_out(series: Callable[..., Any]) -> None:
    maker, pixels = series(), ct()
    maker.add_stack(pixels)
    scout = series(uid=maker.uid, orientation=(1, 0, 0, 0, 0, -1), count=80)
    scout.add(ct((20, 30)), (0, 0, 0), ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    alone = series(count=90)
    alone.add(ct((20, 30)), (0, 0, 0), ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    volume = read_volume(maker.folder)
    assert volume.array.shape == (5, 6, 8)
    assert volume.provenance.warnings == ("left out 1 localizer images",)
    assert read_volume(maker.folder, series=alone.uid).array.shape == (1, 20, 30)


def test_copies_of_an_instance_are_left_out(series: Callable[..., Any]) -> None:
    maker, pixels = series(), ct()
    maker.add_stack(pixels)
    for path in list(maker.folder.iterdir())[:2]:
        shutil.copy(path, path.with_name(f"copy{path.name}"))
    volume = read_volume(maker.folder)
    np.testing.assert_array_equal(volume.array, pixels.astype(np.float32) - 1024)
    assert volume.provenance.warnings == ("left out 2 further copies of the same SOP instances",)


@pytest.mark.parametrize(
    ("heights", "message"),
    [
        ([0, 2, 4, 8, 10], "1 missing slices"),
        ([0, 2, 4, 6, 12], "2 missing slices"),
        ([0, 2, 4, 7, 10, 13], "evenly spaced"),
        ([0, 2.0, 4.1, 6.0, 8.0], "evenly spaced"),
    ],
)
def test_irregular_stacks_are_refused(series: Callable[..., Any], heights: list[float], message: str) -> None:
    maker = series()
    for height in heights:
        maker.add(ct((6, 8)), (0, 0, height))
    with pytest.raises(GeometryError, match=message) as caught:
        read_volume(maker.folder)
    assert str(caught.value).startswith("dicom: expected ")
    volume = read_volume(maker.folder, uneven=True)  # for DICOM out, where each slice keeps its own position
    np.testing.assert_allclose(volume.geometry.spacing[0], (heights[-1] - heights[0]) / (len(heights) - 1))
    assert [image.position[2] for image in volume.provenance.header.frames[0]] == heights
    assert volume.provenance.header.uneven
    assert "every slice keeps its own position" in volume.provenance.warnings[0]


def test_rounded_positions_are_accepted(series: Callable[..., Any]) -> None:
    """A spacing of 0.625 mm written with two decimals, then with one (named in a warning)."""
    for decimals, warned, tolerance in ((2, False, 1e-9), (1, True, 5e-3)):
        maker = series()
        for index in range(9):
            maker.add(ct((6, 8)), (0, 0, round(index * 0.625 + 1e-9, decimals)))
        volume = read_volume(maker.folder)
        assert volume.geometry.spacing[0] == pytest.approx(0.625, rel=tolerance)
        assert bool(volume.provenance.warnings) == warned
        shutil.rmtree(maker.folder)


def test_a_sidestep_is_refused(series: Callable[..., Any]) -> None:
    maker = series()
    for index in range(6):
        maker.add(ct((6, 8)), (3.0 if index == 3 else 0.0, 0, 2.0 * index))
    with pytest.raises(GeometryError, match="slices on a line"):
        read_volume(maker.folder)


@pytest.mark.parametrize(
    ("dimension", "values"),
    [
        ("EchoTime", [4.92, 7.38, 9.0]),
        ("DiffusionBValue", [0.0, 500.0, 1000.0]),
        ("TemporalPositionIdentifier", [1, 2, 10]),
        ("AcquisitionNumber", [1, 2, 10]),
        ("TriggerTime", [0.0, 33.0, 660.0]),
        ("AcquisitionTime", ["095959", "100001", "100203.5"]),
    ],
)
def test_repeats_become_frames(series: Callable[..., Any], dimension: str, values: list[Any], tmp_path: Path) -> None:
    maker, pixels = series(modality="MR"), ct((3, 4, 6, 8))
    for slice_ in range(4):
        for frame in (2, 0, 1):
            maker.add(pixels[frame, slice_], (0, 0, 3.0 * slice_), **{dimension: values[frame]})
    volume = read_volume(maker.folder)
    np.testing.assert_array_equal(volume.array, pixels)
    assert volume.frames == 3
    back = read_volume(write_volume(volume, tmp_path / "out.nii.gz"))
    np.testing.assert_array_equal(back.array, pixels)
    assert back.provenance.dtype == np.int16


def test_frames_on_both_sides_of_midnight(series: Callable[..., Any]) -> None:
    maker, first = series(), ct()
    for date, time, plus in (("20200518", "000010", 7), ("20200517", "235950.5", 0)):
        maker.add_stack(first + np.int16(plus), AcquisitionDate=date, AcquisitionTime=time)
    volume = read_volume(maker.folder)
    np.testing.assert_array_equal(volume.array, np.stack([first, first + 7]).astype(np.float32) - 1024)


def test_repeats_that_nothing_tells_apart(series: Callable[..., Any]) -> None:
    maker = series()
    for numbers in ([1, 2, 3, 4, 8], [5, 6, 7, 9, 10]):  # neither one stack after the other nor slice by slice
        for height, (plane, number) in enumerate(zip(ct((5, 6, 8)), numbers, strict=True)):
            maker.add(plane, (0, 0, 2.0 * height), InstanceNumber=number)
    with pytest.raises(GeometryError, match="expected one image per position, got 2"):
        read_volume(maker.folder)
    for path in maker.folder.iterdir():
        dataset = pydicom.dcmread(path)
        del dataset.InstanceNumber
        dataset.save_as(path)
    with pytest.raises(GeometryError, match="expected one image per position, got 2"):
        read_volume(maker.folder)


@pytest.mark.parametrize("number", [lambda frame, slice_: 4 * frame + slice_, lambda frame, slice_: 2 * slice_ + frame])
@pytest.mark.parametrize(("slices", "first"), [((2, 0, 3, 1), 1), ((2, 0, 3, 1), 0), ((0,), 1)])
def test_repeats_that_only_their_numbers_tell_apart(
    series: Callable[..., Any], number: Callable[..., int], slices: tuple[int, ...], first: int
) -> None:
    maker, pixels = series(modality="MR"), ct((2, 4, 6, 8))
    for frame in (1, 0):
        for slice_ in slices:
            maker.add(pixels[frame, slice_], (0, 0, 3.0 * slice_), InstanceNumber=first + number(frame, slice_))
    volume = read_volume(maker.folder)
    np.testing.assert_array_equal(volume.array, pixels[:, : len(slices)])
    assert volume.provenance.warnings == (
        "2 images at every position differ in their InstanceNumber alone: taken for frames in its order",
    )


@pytest.mark.parametrize(
    ("keyword", "word", "origin"),
    [
        ("AcquisitionNumber", "acq", 6.0),  # two regions that overlap
        ("AcquisitionNumber", "acq", 1.0),  # slices between those of the other
        ("AcquisitionNumber", "acq", 0.3),
        ("TemporalPositionIdentifier", "t", 1.0),
    ],
)
def test_acquisitions_across_each_other_are_parts(
    series: Callable[..., Any], keyword: str, word: str, origin: float
) -> None:
    maker, first, second = series(), ct((6, 6, 8)), ct((5, 6, 8))
    maker.add_stack(first, origin=(0, 0, 0.0), **{keyword: 2})
    maker.add_stack(second, origin=(0, 0, origin), **{keyword: 3})
    with pytest.raises(UsageError, match=rf"got 2; .*number 3:{word}2 .*:{word}3 "):
        read_volume(maker.folder)
    for part, pixels in ((f"{word}2", first), (f"{word}3", second)):
        volume = read_volume(maker.folder, series=f"3:{part}")
        np.testing.assert_array_equal(volume.array, pixels.astype(np.float32) - 1024)
        assert volume.geometry.spacing[0] == 2.0


def test_acquisitions_that_make_one_stack_are_one(series: Callable[..., Any]) -> None:
    step_and_shoot, packages = series(), series(modality="MR", folder=series().folder.with_name("mr"))
    for height, plane in enumerate(ct((8, 6, 8))):
        step_and_shoot.add(plane, (0, 0, 2.0 * height), AcquisitionNumber=1 + height // 4)
        packages.add(plane, (0, 0, 2.0 * height), AcquisitionNumber=1 + height % 2)
    for maker in (step_and_shoot, packages):
        assert read_volume(maker.folder).geometry.spacing[0] == 2.0


def test_a_dynamic_that_was_cut_short_is_refused(series: Callable[..., Any]) -> None:
    maker = series(modality="MR")
    for time, slices in ((1, 5), (2, 5), (3, 3)):
        maker.add_stack(ct((slices, 6, 8)), TemporalPositionIdentifier=time)
    with pytest.raises(GeometryError, match="2 positions with 2, 3 positions with 3"):
        read_volume(maker.folder)


def test_incomplete_repeats(series: Callable[..., Any]) -> None:
    maker = series(modality="MR")
    maker.add_stack(ct((4, 6, 8)), TriggerTime=5.0)
    maker.add_stack(ct((3, 6, 8)), TriggerTime=9.0)
    with pytest.raises(GeometryError, match="1 positions with 1, 3 positions with 2"):
        read_volume(maker.folder)


def test_echoes_of_different_extent_are_parts(series: Callable[..., Any]) -> None:
    maker, short, long = series(modality="MR"), ct((4, 6, 8)), ct((3, 6, 8))
    maker.add_stack(short, EchoTime=5.0)
    maker.add_stack(long, EchoTime=9.25)
    with pytest.raises(UsageError, match=r"got 2; .*UID or NUMBER\[:PART\].*number 3:TE5 .*:TE9.25 "):
        read_volume(maker.folder)
    np.testing.assert_array_equal(read_volume(maker.folder, series="3:TE5").array, short)
    np.testing.assert_array_equal(read_volume(maker.folder, series=f"{maker.uid}:te9.25").array, long)
    with pytest.raises(UsageError, match="expected one series '3', got 2"):
        read_volume(maker.folder, series="3")


def test_two_half_echoes_are_no_volume(series: Callable[..., Any]) -> None:
    maker, pixels = series(modality="MR"), ct((6, 6, 8))
    for index in range(6):
        maker.add(pixels[index], (0, 0, index), EchoTime=5.0 + index % 2)
    assert [(info.part, info.images) for info in list_series(maker.folder)] == [("TE5", 3), ("TE6", 3)]
    volume = read_volume(maker.folder, series="3:TE6")
    np.testing.assert_array_equal(volume.array, pixels[1::2])
    assert volume.geometry.spacing[0] == 2.0


@pytest.mark.parametrize(
    ("other", "parts"),
    [
        ({"shape": (6, 9)}, ["8x6", "9x6"]),
        ({"orientation": (1, 0, 0, 0, 0, -1)}, ["axial", "coronal"]),
        ({"spacing": (0.9, 0.5)}, ["0.5x0.7mm", "0.5x0.9mm"]),
        ({"kind": ["ORIGINAL", "PRIMARY", "P", "ND"]}, ["M", "P"]),
        ({"kind": ["ORIGINAL", "PRIMARY", "P", "ND"], "shape": (6, 9)}, ["8x6", "9x6"]),
    ],
)
def test_mixed_images_are_parts(series: Callable[..., Any], other: dict[str, Any], parts: list[str]) -> None:
    maker = series(modality="MR", common={"ImageType": ["ORIGINAL", "PRIMARY", "M", "ND"]})
    pixels = ct((3, 6, 8))
    maker.add_stack(pixels)
    shape = other.pop("shape", (6, 8))
    kind = other.pop("kind", ["ORIGINAL", "PRIMARY", "M", "ND"])
    more, single = series(modality="MR", uid=maker.uid, count=70, **other), ct(shape)
    more.add(single, (-10, 20, 11), ImageType=kind)
    with pytest.raises(UsageError, match="expected one series, got 2"):
        read_volume(maker.folder)
    assert [info.part for info in list_series(maker.folder)] == parts
    np.testing.assert_array_equal(read_volume(maker.folder, series=f"3:{parts[0]}").array, pixels)
    np.testing.assert_array_equal(read_volume(maker.folder, series=f"3:{parts[1]}").array[0], single)


def test_positions_that_differ_in_their_last_digit_are_the_same(series: Callable[..., Any]) -> None:
    """Two echoes of one scan stay frames of one volume."""
    maker = series(modality="MR")
    for index in range(5):
        maker.add(ct((6, 8)), (0, 0, 2.005 * index), EchoTime=5.0)
        maker.add(ct((6, 8)), (0, 0, 2.005 * index + 4e-4), EchoTime=9.0)
    assert read_volume(maker.folder).array.shape == (2, 5, 6, 8)


def test_images_without_position(series: Callable[..., Any]) -> None:
    maker, pixels = series(), ct((2, 6, 8))
    path = maker.add(pixels[0], None, PixelSpacing=None)
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.array[0], pixels[0].astype(np.float32) - 1024)
    assert len(volume.provenance.warnings) == 2
    maker.add(pixels[1], None, PixelSpacing=None)
    with pytest.raises(GeometryError, match="can't be stacked"):
        read_volume(maker.folder)


@pytest.mark.parametrize(
    ("attributes", "error", "message"),
    [
        ({"ImageType": ["ORIGINAL", "PRIMARY", "M", "MOSAIC"]}, VolumeReadError, "mosaic"),
        ({"NumberOfFrames": 3}, VolumeReadError, "each of its 3 frames"),
        ({"ModalityLUTSequence": Sequence([Dataset()])}, VolumeReadError, "linear rescale, got a modality look-up"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, VolumeReadError, "PALETTE COLOR"),
        ({"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}, VolumeReadError, "RGB"),
        ({"Rows": 0}, GeometryError, "at least one pixel"),
        ({"BitsAllocated": 1}, VolumeReadError, "8, 16 or 32 bits"),
        ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, GeometryError, "orthogonal"),
        ({"ImageOrientationPatient": [0, 0, 0, 0, 0, 0]}, GeometryError, "orthogonal"),
        ({"ImagePositionPatient": [1, 2]}, GeometryError, "3 numbers in ImagePositionPatient"),
    ],
)
def test_what_isnt_restored_is_refused_by_name(
    series: Callable[..., Any], attributes: dict[str, Any], error: type[Exception], message: str
) -> None:
    maker = series()
    path = maker.add(ct((6, 8)), (0, 0, 0), **attributes)
    for place in (path, maker.folder):
        with pytest.raises(error, match=message) as caught:
            read_volume(place)
        assert "\n" not in str(caught.value)


def test_one_bad_file_spoils_its_own_series_only(series: Callable[..., Any]) -> None:
    good, bad = series(), series(modality="MR", count=60, common={"ImageType": ["ORIGINAL", "PRIMARY", "M", "MOSAIC"]})
    good.add_stack(ct())
    bad.add(ct((6, 8)), (0, 0, 0))
    assert read_volume(good.folder, series=good.uid).array.shape == (5, 6, 8)
    with pytest.raises(VolumeReadError, match="mosaic"):
        read_volume(good.folder, series=bad.uid)
    with pytest.raises(UsageError, match="expected one series, got 2"):
        read_volume(good.folder)


@pytest.mark.parametrize("kept", [0, 100, 140, 400, 0.9])
def test_truncation(series: Callable[..., Any], kept: float) -> None:
    maker = series()
    path = maker.add(ct((60, 80)), (0, 0, 0))
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data)) if isinstance(kept, float) else kept])
    with pytest.raises(VolumeReadError, match=path.name) as caught:
        read_volume(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("rubbish", [b"?!?! ", b"0.0  ", b"nan  "])
def test_rubbish_in_the_rescale(series: Callable[..., Any], rubbish: bytes) -> None:
    maker = series()
    path = maker.add(ct((6, 8)), (0, 0, 0), RescaleSlope=1.25)
    data = path.read_bytes()
    assert data.count(b"DS\x04\x001.25") == 1
    path.write_bytes(data.replace(b"DS\x04\x001.25", b"DS\x04\x00" + rubbish[:4]))
    with pytest.raises(VolumeReadError, match="RescaleSlope"):
        read_volume(path)


def test_files_without_preamble(series: Callable[..., Any]) -> None:
    maker, pixels = series(), ct((6, 8))
    path = maker.add(pixels, (0, 0, 0))
    dataset = pydicom.dcmread(path)
    old = path.with_name("old")
    del dataset.file_meta
    dataset.preamble = None
    dataset.save_as(old, implicit_vr=True, little_endian=True)
    assert old.read_bytes()[128:132] != b"DICM"
    np.testing.assert_array_equal(read_volume(old).array[0], pixels.astype(np.float32) - 1024)


def test_enhanced_frames_have_their_own_place_and_rescale(enhanced: Callable[..., Path]) -> None:
    pixels = ct((4, 6, 8), "uint16")
    heights = [6.0, 0.0, 9.0, 3.0]
    slopes = [1.0, 2.0, 0.5, 4.0]
    frames = [{"position": [1, 2, height], "slope": slope} for height, slope in zip(heights, slopes, strict=True)]
    volume = read_volume(enhanced(pixels, frames))
    order = np.argsort(heights)
    np.testing.assert_allclose(volume.array, [pixels[index] * slopes[index] for index in order])
    expected = np.diag([1.25, 1.5, 3.0, 1.0])
    expected[:3, 3] = [1, 2, 0]
    np.testing.assert_allclose(volume.geometry.affine, expected)
    assert volume.units is Units.ARBITRARY


def test_enhanced_echoes_become_frames(enhanced: Callable[..., Path]) -> None:
    pixels = ct((6, 6, 8), "uint16")
    frames = [{"position": [0, 0, 3.0 * (index // 2)], "echo": 20.0 - 10 * (index % 2)} for index in range(6)]
    volume = read_volume(enhanced(pixels, frames))
    np.testing.assert_array_equal(volume.array, [pixels[1::2], pixels[0::2]])  # shortest echo first


def test_enhanced_kinds_are_not_mixed(enhanced: Callable[..., Path]) -> None:
    frames = [{"position": [0, 0, 3.0 * index], "kind": "MP"[index % 2]} for index in range(4)]
    pixels = ct((4, 6, 8), "uint16")
    path = enhanced(pixels, frames)
    with pytest.raises(UsageError, match=r"number 3:M .*number 3:P "):
        read_volume(path)
    np.testing.assert_array_equal(read_volume(path, series="3:P").array, pixels[1::2])


def test_enhanced_objects_with_too_few_groups(enhanced: Callable[..., Path]) -> None:
    frames = [{"position": [0, 0, 3.0 * index]} for index in range(3)]
    with pytest.raises(VolumeReadError, match="functional groups for 4 frames, got 3"):
        read_volume(enhanced(ct((4, 6, 8), "uint16"), frames))
