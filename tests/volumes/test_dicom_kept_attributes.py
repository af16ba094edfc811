"""What a derived object keeps of private sequences and of real world values."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from tatcli.volumes import read_volume, write_volume
from tatcli.volumes.dicom_classic import _lift
from tatcli.volumes.dicom_coding import Coding
from tatcli.volumes.dicom_planes import Plane
from tatcli.volumes.dicom_units import describe_values

VENDOR, OTHER = "SIEMENS MR SDS 01", "OTHER VENDOR 1.0"


def group(creator: str | None, value: str, *, block: int = 0x10) -> Dataset:
    """Functional groups with a private sequence in a block."""
    made, item = Dataset(), Dataset()
    item.PatientComments = value
    if creator is not None:
        made.add_new((0x0021, block), "LO", creator)
    made.add_new((0x0021, (block << 8) | 0xFE), "SQ", [item])
    return made


def test_private_sequences_keep_their_creator() -> None:
    new = Dataset()
    new.private_block(0x0021, OTHER, create=True).add_new(0x01, "LO", "kept")
    _lift(group(VENDOR, "of all frames"), new)
    _lift(group("SIEMENS MR SDI 02", "of this frame"), new)  # the same block, there
    assert new.private_block(0x0021, OTHER)[0x01].value == "kept"
    assert 0xFE not in new.private_block(0x0021, OTHER)
    assert new.private_block(0x0021, VENDOR)[0xFE].value[0].PatientComments == "of all frames"
    assert new.private_block(0x0021, "SIEMENS MR SDI 02")[0xFE].value[0].PatientComments == "of this frame"
    _lift(group(VENDOR, "of this frame", block=0x33), new)
    assert new.private_block(0x0021, VENDOR)[0xFE].value[0].PatientComments == "of this frame"
    before = deepcopy(new)
    _lift(group(None, "nobody's"), new)
    assert new == before


@pytest.mark.parametrize("signed", [False, True])
def test_real_world_values_hold_for_all_numbers_that_are_stored_now(signed: bool) -> None:
    own = Coding(1.0, 0.0, 16, 12, signed=False)
    coding = Coding(1.0, 0.0, 16, 16, signed=signed)
    dataset, item, table = Dataset(), Dataset(), Dataset()
    item.RealWorldValueSlope, item.RealWorldValueIntercept = 2.0, 5.0
    for each in (item, table):
        each.add_new("RealWorldValueFirstValueMapped", "US", 0)
        each.add_new("RealWorldValueLastValueMapped", "US", 4095)
    table.RealWorldValueLUTData = [0.0] * 4096
    dataset.RealWorldValueMappingSequence = [item, table]
    describe_values(dataset, Plane(None, np.zeros((2, 2), np.uint16), coding, own))
    found, kept = dataset.RealWorldValueMappingSequence
    first, last = found["RealWorldValueFirstValueMapped"], found["RealWorldValueLastValueMapped"]
    assert (first.VR, first.value, last.value) == (("SS", -32768, 32767) if signed else ("US", 0, 65535))
    assert (found.RealWorldValueSlope, found.RealWorldValueIntercept) == (2.0, 5.0)
    assert kept.RealWorldValueLastValueMapped == 4095
    assert "RescaleSlope" not in dataset


@pytest.mark.parametrize("place", ["shared", "frame"])
@pytest.mark.parametrize(
    ("change", "expected"), [(0.0, ("US", 0, 4095)), (9000.0, ("US", 0, 65535)), (-200.0, ("SS", -32768, 32767))]
)
def test_real_world_values_of_frames_hold_for_all_numbers_too(
    enhanced: Callable[..., Path], tmp_path: Path, place: str, change: float, expected: tuple[str, int, int]
) -> None:
    """In enhanced objects, whose rescale stays where bits or a sign are added."""
    pixels = np.random.default_rng(6).integers(0, 4096, (2, 6, 8)).astype(np.uint16)
    path = enhanced(pixels, [{"position": [0, 0, 3.0 * index], "slope": 0.5} for index in range(2)])
    source, mapping = pydicom.dcmread(path), Dataset()
    mapping.RealWorldValueSlope, mapping.RealWorldValueIntercept = 2.0, 5.0
    mapping.add_new("RealWorldValueFirstValueMapped", "US", 0)
    mapping.add_new("RealWorldValueLastValueMapped", "US", 4095)
    source.BitsStored, source.HighBit = 12, 11
    groups = source.SharedFunctionalGroupsSequence if place == "shared" else source.PerFrameFunctionalGroupsSequence
    for group in groups:
        group.RealWorldValueMappingSequence = [mapping]
    source.save_as(path)
    volume = read_volume(path)
    changed = volume.with_array(volume.array + np.float32(change), step="restored: made up")
    write_volume(changed, tmp_path / "out.dcm")
    new = pydicom.dcmread(tmp_path / "out.dcm")
    for group in new.PerFrameFunctionalGroupsSequence:
        places = (group, new.SharedFunctionalGroupsSequence[0])
        ((found,),) = [part.RealWorldValueMappingSequence for part in places if "RealWorldValueMappingSequence" in part]
        first, last = found["RealWorldValueFirstValueMapped"], found["RealWorldValueLastValueMapped"]
        assert (first.VR, first.value, last.value) == expected
        assert (found.RealWorldValueSlope, found.RealWorldValueIntercept) == (2.0, 5.0)
        assert group.PixelValueTransformationSequence[0].RescaleSlope == 0.5


@pytest.mark.parametrize("change", [0.0, 1e6])
def test_a_mapping_without_its_slope_costs_no_scan(
    enhanced: Callable[..., Path], tmp_path: Path, change: float
) -> None:
    """It says nothing: kept while the numbers mean what they meant, dropped with them."""
    pixels = np.random.default_rng(6).integers(0, 4096, (2, 6, 8)).astype(np.uint16)
    path = enhanced(pixels, [{"position": [0, 0, 3.0 * index]} for index in range(2)])
    source, mapping = pydicom.dcmread(path), Dataset()
    mapping.RealWorldValueSlope, mapping.LUTLabel = None, "empty"
    source.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence = [mapping]
    source.save_as(path)
    volume = read_volume(path)
    changed = volume.with_array(volume.array + np.float32(change), step="restored: made up")
    write_volume(changed, tmp_path / "out.dcm")
    new = pydicom.dcmread(tmp_path / "out.dcm")
    labels = [element.value for element in new.iterall() if element.keyword == "LUTLabel"]
    assert labels == ([] if change else ["empty"])
    np.testing.assert_allclose(read_volume(tmp_path / "out.dcm").array, changed.array, atol=0.1)
