"""Padding beside the image (PS3.3 C.7.5.1.1.2): never restored, never moved, and never taken for tissue."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import RLELossless

from tatcli.volumes import read_volume, write_volume
from tatcli.volumes.dicom_options import DicomOptions
from tatcli.volumes.dicom_padding import padding_of

RNG = np.random.default_rng(4)


def described(value: int, limit: int | None = None, *, signed: bool, stored: int = 16, vr: str = "SS") -> Dataset:
    """A header with padding."""
    dataset = Dataset()
    dataset.BitsAllocated, dataset.BitsStored, dataset.PixelRepresentation = 16, stored, int(signed)
    dataset.add_new("PixelPaddingValue", vr, value)
    if limit is not None:
        dataset.add_new("PixelPaddingRangeLimit", vr, limit)
    return dataset


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (described(-2000, signed=True), (-2000, -2000, False)),
        (described(63536, signed=True, vr="US"), (-2000, -2000, False)),  # read with the wrong sign
        (described(-2000, signed=False), (63536, 63536, False)),
        (described(-2000, -1500, signed=True), (-2000, -1500, False)),
        (described(-1500, -2000, signed=True), (-2000, -1500, False)),
        (described(-2000, 10, signed=False), (63536, 63536, False)),  # a range that the wrong sign turns inside out
        (described(0, 5, signed=False, stored=12, vr="US"), (0, 5, False)),
        (described(63536, signed=False, stored=12, vr="US"), (-2000, -2000, True)),
        (described(-2000, signed=False, stored=12), (-2000, -2000, True)),
        (described(-2000, -1500, signed=False, stored=12), (-2000, -1500, True)),
        (described(-2000, signed=True, stored=12), (-2000, -2000, False)),
        (described(2096, signed=True, stored=12), (-2000, -2000, False)),  # its 12 bits, without the repeated sign
        (described(-4000, signed=True, stored=12), (-4000, -4000, True)),
        (described(8192, signed=False, stored=12), (8192, 8192, True)),
    ],
)
def test_what_padding_is_stored_as(header: Dataset, expected: tuple[int, int, bool]) -> None:
    padding = padding_of(header)
    assert (padding.first, padding.last, padding.stray) == expected


def test_headers_without_a_usable_value() -> None:
    assert padding_of(Dataset()) is None
    header = described(-2000, signed=False)
    header.BitsAllocated = header.BitsStored = 8  # has no place for it
    assert padding_of(header) is None
    header.PixelPaddingValue = None
    assert padding_of(header) is None


def changed(source: Path, target: Path, change: float, **options: Any) -> list[pydicom.FileDataset]:
    """The derived objects after every value was changed."""
    volume = read_volume(source)
    moved = volume.with_array(volume.array + np.float32(change), step="restored: made up")
    write_volume(moved, target, dicom=DicomOptions(**options))
    return [pydicom.dcmread(path) for path in sorted(target.iterdir())]


@pytest.mark.parametrize("ends", [(-2000, -1500), (-1500, -2000)])
def test_the_whole_range_stays(series: Callable[..., Any], tmp_path: Path, ends: tuple[int, int]) -> None:
    maker = series(common={"PixelPaddingValue": ends[0], "PixelPaddingRangeLimit": ends[1]})
    pixels = RNG.integers(-1499, 3000, (3, 6, 8)).astype(np.int16)
    pixels[:, :2], pixels[:, 2, :3] = RNG.integers(-2000, -1499, (3, 2, 8)), (-2001, -1500, -1499)
    maker.add_stack(pixels)
    padding = (pixels >= -2000) & (pixels <= -1500)
    assert padding.sum() >= 3 * 17
    for index, dataset in enumerate(changed(maker.folder, tmp_path / "out", 3.0)):
        found = dataset.pixel_array
        np.testing.assert_array_equal(found, np.where(padding[index], pixels[index], pixels[index] + 3))
        assert (dataset.PixelPaddingValue, dataset.PixelPaddingRangeLimit) == ends


@pytest.mark.parametrize("form", ["keep", "classic"])
def test_the_whole_range_stays_in_enhanced_objects(enhanced: Callable[..., Path], tmp_path: Path, form: str) -> None:
    pixels = RNG.integers(10, 3000, (2, 6, 8)).astype(np.uint16)
    pixels[:, 0], pixels[:, 1] = 2, 5
    path = enhanced(pixels, [{"position": [0, 0, 3.0 * index]} for index in range(2)])
    dataset = pydicom.dcmread(path)
    dataset.add_new("PixelPaddingValue", "US", 1)
    dataset.add_new("PixelPaddingRangeLimit", "US", 4)
    dataset.save_as(path)
    expected = pixels + 7
    expected[:, 0] = 2
    new = changed(path, tmp_path / "out", 7.0, enhanced=form)
    np.testing.assert_array_equal(np.concatenate([one.pixel_array.reshape(-1, 6, 8) for one in new]), expected)
    assert {(one.PixelPaddingValue, one.PixelPaddingRangeLimit) for one in new} == {(1, 4)}


def twelve_bits(maker: Any, word: int | None, *, vr: str, encoding: str = "plain") -> np.ndarray:
    """A series of unsigned 12-bit numbers whose rim is padded in 16 bits, but for the last file; its words."""
    words = RNG.integers(0, 4096, (3, 6, 8)).astype(np.uint16)
    words[0, 5] = 2096  # what is left of 63536 in 12 bits
    if word is not None:
        words[:2, :2] = word
    for index, plane in enumerate(words):
        path = maker.add(plane, (0, 0, 2.0 * index), BitsStored=12, HighBit=11)
        dataset = pydicom.dcmread(path)
        dataset.add_new("PixelPaddingValue", vr, 63536 if vr == "US" else -2000)
        if encoding == "RLE":
            dataset.compress(RLELossless)
        dataset.save_as(path)
    return words


@pytest.mark.parametrize(("vr", "encoding"), [("US", "plain"), ("SS", "plain"), ("US", "RLE")])
@pytest.mark.parametrize("change", [0.0, 6.0, 1200.0])
def test_padding_above_the_stored_bits(
    series: Callable[..., Any], tmp_path: Path, vr: str, encoding: str, change: float
) -> None:
    """63536 in 12 bits is -2000 written in 16: air, not 2096; the derived objects hold 16 bits and say so."""
    maker = series()
    words = twelve_bits(maker, 63536, vr=vr, encoding=encoding)
    numbers = words.astype(np.int16)
    np.testing.assert_array_equal(read_volume(maker.folder).array, numbers.astype(np.float32) - 1024)
    expected = np.where(words == 63536, -2000, numbers + np.int16(change))
    for index, dataset in enumerate(changed(maker.folder, tmp_path / "out", change)):
        np.testing.assert_array_equal(dataset.pixel_array, expected[index])
        assert (dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation) == (16, 15, 1)
        assert (dataset["PixelPaddingValue"].VR, dataset.PixelPaddingValue) == ("SS", -2000)
        assert float(dataset.RescaleIntercept) == -1024
    np.testing.assert_array_equal(read_volume(tmp_path / "out").array, expected - np.float32(1024))


def test_values_that_hide_padding_below_them(series: Callable[..., Any], tmp_path: Path) -> None:
    """The objects hold the padding's number even where the volume's values don't ask for it."""
    maker = series()
    words = twelve_bits(maker, 63536, vr="US")
    volume = read_volume(maker.folder)
    write_volume(volume.with_array(np.maximum(volume.array, -1000), step="restored: made up"), tmp_path / "out")
    expected = np.where(words == 63536, -2000, np.maximum(words.astype(np.int16), 24))
    for index, path in enumerate(sorted((tmp_path / "out").iterdir())):
        np.testing.assert_array_equal(pydicom.dcmread(path).pixel_array, expected[index])


def test_a_value_that_no_voxel_has_changes_nothing(series: Callable[..., Any], tmp_path: Path) -> None:
    maker = series()
    words = twelve_bits(maker, None, vr="US")
    for index, dataset in enumerate(changed(maker.folder, tmp_path / "out", 0.0)):
        np.testing.assert_array_equal(dataset.pixel_array, words[index])
        assert (dataset.BitsStored, dataset.PixelRepresentation, dataset.PixelPaddingValue) == (12, 0, 63536)


def test_padding_is_named_in_the_new_type(series: Callable[..., Any], tmp_path: Path) -> None:
    maker = series(common={"PixelPaddingValue": 3, "BitsStored": 12, "HighBit": 11})
    pixels = RNG.integers(10, 3000, (2, 6, 8)).astype(np.uint16)
    pixels[:, 0] = 3
    maker.add_stack(pixels)
    for index, dataset in enumerate(changed(maker.folder, tmp_path / "out", -500.0)):
        assert (dataset["PixelPaddingValue"].VR, dataset.PixelPaddingValue) == ("SS", 3)
        expected = pixels[index].astype(np.int16) - 500
        expected[0] = 3
        np.testing.assert_array_equal(dataset.pixel_array, expected)


@pytest.mark.parametrize("change", [0.0, 0.25])
def test_padding_above_the_stored_bits_of_pet(series: Callable[..., Any], tmp_path: Path, change: float) -> None:
    """PET is stored with a slope for each slice, which must hold the padding too."""
    header = {"Units": "GML", "SUVType": "BW", "CorrectedImage": ["DECY", "ATTN"], "RescaleIntercept": 0}
    maker = series(modality="PT", common={**header, "RescaleSlope": 0.01})
    words = twelve_bits(maker, 63536, vr="US")
    volume = read_volume(maker.folder)
    np.testing.assert_allclose(volume.array, words.astype(np.int16) * 0.01, rtol=1e-6)
    changed(maker.folder, tmp_path / "out", change)
    expected = np.where(words == 63536, -20.0, words * 0.01 + change)
    np.testing.assert_allclose(read_volume(tmp_path / "out").array, expected, atol=0.001)


@pytest.mark.parametrize(
    ("value", "limit", "rescale", "expected"),
    [
        (63000, None, {}, ((61976.0, 61976.0),)),
        (5, 2, {}, ((-1022.0, -1019.0),)),
        (0, None, {"RescaleIntercept": 0}, ((0.0, 0.0),)),
        (None, None, {}, ()),
    ],
)
def test_what_padding_is_in_the_volume(
    series: Callable[..., Any], value: int, limit: int | None, rescale: dict[str, Any], expected: tuple[Any, ...]
) -> None:
    """For other formats than DICOM, whose writers don't know the header."""
    named = {"PixelPaddingValue": value, "PixelPaddingRangeLimit": limit}
    maker = series(common={key: number for key, number in named.items() if number is not None} | rescale)
    maker.add_stack(RNG.integers(0, 3000, (2, 6, 8)).astype(np.uint16))
    assert read_volume(maker.folder).provenance.padding == expected


@pytest.mark.parametrize(
    ("modality", "value", "intercept"), [("CT", 0, 0), ("CT", 0, -1024), ("MR", 0, None), ("MR", 5, None)]
)
def test_single_voxels_of_the_padding_s_number_are_tissue(
    series: Callable[..., Any], tmp_path: Path, modality: str, value: int, intercept: float | None
) -> None:
    """As other formats take them: of 0 HU there is water, of 0 a.u. cerebrospinal fluid; padding comes in squares."""
    rescale = {} if intercept is None else {"RescaleIntercept": intercept}
    maker = series(modality=modality, common={"PixelPaddingValue": value, **rescale})
    pixels = RNG.integers(10, 3000, (2, 16, 16)).astype(np.int16)
    pixels[:, 3:10, 3:10] = pixels[:, :, 15] = value  # a square, and a column beside which the image ends
    padding = pixels == value
    pixels[0, 12, 4], pixels[1, 1, 6] = value, value
    maker.add_stack(pixels)
    for index, dataset in enumerate(changed(maker.folder, tmp_path / "out", 7.0)):
        expected = np.where(padding[index], value, pixels[index] + 7)
        np.testing.assert_array_equal(dataset.pixel_array, expected)
        assert dataset.PixelPaddingValue == value
