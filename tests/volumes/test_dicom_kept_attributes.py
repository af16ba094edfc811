"""What a derived object keeps of private sequences and of real world values."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import pytest
from pydicom.dataset import Dataset

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
