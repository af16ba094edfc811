"""What an output's voxel type can't hold is said: values beyond it are stored as its limit."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tatcli.volumes.block_writing import encoding_for, takes_planes
from tatcli.volumes.encoding import Encoding

if TYPE_CHECKING:
    from tatcli.reporting.statistics import IntensityStatistics
    from tatcli.volumes.volume import ScanHeader

__all__ = ["beyond_type"]


def beyond_type(
    scan: ScanHeader, output: Path, kind: str, values: IntensityStatistics, *, made: str
) -> tuple[str, ...]:
    """A warning for each end of the voxel type's range that values lie beyond.

    No magnitude or activity is below 0, where unsigned types begin: nothing is lost there. DICOM is given wider types.

    Args:
        scan: the input, by which the output is encoded.
        output: the file.
        kind: its format.
        values: that were made.
        made: how, as a participle.
    """
    dtype = scan.provenance.dtype
    if takes_planes(kind):
        encoding = encoding_for(scan, output)
    else:
        encoding = Encoding(dtype) if kind == "npy" and dtype is not None else None
    if encoding is None:
        return ()
    lower, upper = encoding.limits
    step = abs(encoding.slope) / 2  # which rounding brings back
    beyond = [(values.maximum, upper, "most")] if values.maximum > upper + step else []
    if values.minimum < lower - step and lower < 0:
        beyond.append((values.minimum, lower, "least"))
    remedy = "is stored for what lies beyond; convert the input to float32 to keep it"
    return tuple(
        f"{made} values reach {value:.6g}, {limit:.6g} is the {end} that {encoding.dtype} holds and {remedy}"
        for value, limit, end in beyond
    )
