"""Number, description and character set of derived series, read back by pydicom and byte by byte."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from tatcli.errors import UsageError
from tatcli.volumes import read_volume, write_volume
from tatcli.volumes.dicom_options import DicomOptions

FOREIGN = " restauré 復元"
PIXELS = np.arange(48, dtype=np.int16).reshape(6, 8)


def derived(source: Path, target: Path, **options: Any) -> pydicom.FileDataset:
    """The one derived object."""
    write_volume(read_volume(source), target, dicom=DicomOptions(**options))
    (path,) = target.iterdir()
    return pydicom.dcmread(path)


@pytest.mark.parametrize(
    ("given", "expected"),
    [(3, 1003), (0, 1000), (-5, 995), (2**31 - 1, 2**31 - 1001), (2**31 - 1001, 2**31 - 1), (None, 1000)],
)
def test_numbers_stay_within_integer_strings(
    series: Callable[..., Any], tmp_path: Path, given: int | None, expected: int
) -> None:
    path = series(common={"SeriesNumber": given}).add(PIXELS, (0, 0, 0))
    assert derived(path, tmp_path / "out").SeriesNumber == expected


@pytest.mark.parametrize("number", [2**31, -(2**31) - 1])
def test_numbers_of_one_s_own_do_too(number: int) -> None:
    with pytest.raises(UsageError, match=rf"--series-number {number}: expected -2147483648 to 2147483647"):
        DicomOptions(series_number=number)


def test_a_backslash_in_a_description_stays_one(series: Callable[..., Any], tmp_path: Path) -> None:
    """It makes several values of the text, which are no list of Python's."""
    path = series(common={"SeriesDescription": ["T1", "FS"]}).add(PIXELS, (0, 0, 0))
    assert read_volume(path).provenance.header.series.description == r"T1\FS"
    assert list(derived(path, tmp_path / "out").SeriesDescription) == ["T1", "FS restored"]
    assert rb"T1\FS restored" in (tmp_path / "out" / "00001.dcm").read_bytes()


def test_a_long_suffix_leaves_no_crumbs(series: Callable[..., Any], tmp_path: Path) -> None:
    path = series(common={"SeriesDescription": "d" * 40}).add(PIXELS, (0, 0, 0))
    assert derived(path, tmp_path / "out", suffix="*" * 70).SeriesDescription == "*" * 64


@pytest.mark.parametrize(
    ("before", "name", "suffix", "after"),
    [
        (None, "Made^Up", " restored", None),
        (None, "Made^Up", " restauré", "ISO_IR 192"),
        (None, "Made^Up", FOREIGN, "ISO_IR 192"),
        ("ISO_IR 6", "Made^Up", " restauré", "ISO_IR 192"),
        ("ISO_IR 100", "Müller^Jürgen", " restored", "ISO_IR 100"),
        ("ISO_IR 100", "Müller^Jürgen", " restauré", "ISO_IR 100"),
        ("ISO_IR 100", "Müller^Jürgen", FOREIGN, "ISO_IR 192"),
        ("ISO_IR 192", "山田^太郎", FOREIGN, "ISO_IR 192"),
        ("ISO_IR 13", "Yamada^Tarou", " 復元", "ISO_IR 192"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎", " 復元", ["", "ISO 2022 IR 87"]),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎", FOREIGN, "ISO_IR 192"),
    ],
)
def test_texts_are_written_in_a_set_that_holds_them(
    series: Callable[..., Any], tmp_path: Path, before: Any, name: str, suffix: str, after: Any
) -> None:
    maker = series(common={"SpecificCharacterSet": before} if before else {})
    request, other, plain = Dataset(), Dataset(), name.replace("^", " ")
    request.RequestedProcedureDescription = other.RequestedProcedureDescription = plain
    if before == "ISO_IR 100":
        other.SpecificCharacterSet = "ISO_IR 101"  # an item may have its own, in which ü is the same byte
    attributes = {"PatientName": name, "RequestAttributesSequence": [request, other]}
    new = derived(maker.add(PIXELS, (0, 0, 0), **attributes), tmp_path / "out", suffix=suffix)
    assert new.get("SpecificCharacterSet") == after
    assert new.SeriesDescription == f"made{suffix}"
    assert new.PatientName == name
    assert {item.RequestedProcedureDescription for item in new.RequestAttributesSequence} == {plain}
    (path,) = (tmp_path / "out").iterdir()
    if after == "ISO_IR 192":
        data = path.read_bytes()
        assert data.count(name.encode()) == 1
        assert data.count(plain.encode()) == 2
        assert f"made{suffix}".encode() in data


@pytest.mark.parametrize("named", ["", "ISO_IR 6", None])
def test_bytes_of_a_set_that_is_not_named_stay(series: Callable[..., Any], tmp_path: Path, named: str | None) -> None:
    """Systems of one country write their own: other text in their place is another patient's name to them."""
    path = series(common={} if named is None else {"SpecificCharacterSet": named}).add(PIXELS, (0, 0, 0))
    dataset = pydicom.dcmread(path)
    name, description = "王^小东".encode("gb18030"), "胸部CT平扫".encode("gb18030")
    for keyword, vr, value in (("PatientName", "PN", name), ("SeriesDescription", "LO", description)):
        tag = Tag(keyword)
        padded = value + b" " * (len(value) % 2)
        dataset[tag] = RawDataElement(tag, vr, len(padded), padded, 0, False, True)
    dataset.save_as(path)
    new = derived(path, tmp_path / "out")
    data = (tmp_path / "out" / "00001.dcm").read_bytes()
    assert name in data
    assert "胸部CT平扫 restored".encode("gb18030") in data
    assert new.get("SpecificCharacterSet") == named


def test_weights_of_foreign_names_count_too(series: Callable[..., Any], tmp_path: Path) -> None:
    path = series().add(PIXELS, (0, 0, 0))
    new = derived(path, tmp_path / "out", software=("weights größer", "ab" * 32))
    assert new.SpecificCharacterSet == "ISO_IR 192"
    assert new.ContributingEquipmentSequence[0].SoftwareVersions[0] == "weights größer"
    assert "weights größer" in new.DerivationDescription


def test_enhanced_objects_too(enhanced: Callable[..., Path], tmp_path: Path) -> None:
    path = enhanced(np.ones((2, 6, 8), np.uint16), [{"position": [0, 0, 3.0 * index]} for index in range(2)])
    dataset = pydicom.dcmread(path)
    dataset.SpecificCharacterSet, dataset.PatientName = "ISO_IR 100", "Müller^Jürgen"
    for group in dataset.PerFrameFunctionalGroupsSequence:
        group.FrameContentSequence = [Dataset()]
        group.FrameContentSequence[0].FrameComments = "größer"
    dataset.save_as(path)
    new = derived(path, tmp_path / "out", suffix=FOREIGN)
    assert (new.SpecificCharacterSet, new.PatientName) == ("ISO_IR 192", "Müller^Jürgen")
    comments = [group.FrameContentSequence[0].FrameComments for group in new.PerFrameFunctionalGroupsSequence]
    assert comments == ["größer"] * 2
