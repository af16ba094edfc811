"""Whether two scans lie on one grid."""

from __future__ import annotations

import numpy as np

from tatcli.errors import GeometryError
from tatcli.volumes.volume import BARE, Volume

__all__ = ["check_grid"]


def check_grid(volume: Volume, reference: Volume, name: str) -> None:
    """Refuse a scan that doesn't lie on its reference's grid (to half a voxel at the corners).

    Args:
        volume: the scan.
        reference: where it must lie.
        name: of the scan, for the error.

    Raises:
        GeometryError: another shape or place; of bare arrays the shape alone is known.
    """
    ours, expected = volume.geometry, reference.geometry
    if (volume.frames, ours.shape) != (reference.frames, expected.shape):
        msg = f"{name}: expected the reference's shape {reference.array.shape}, got {volume.array.shape}"
        raise GeometryError(msg)
    if BARE & {volume.provenance.format, reference.provenance.format}:
        return
    corners = np.array([[x, y, z, 1.0] for x in (0, 1) for y in (0, 1) for z in (0, 1)])
    corners[:, :3] *= np.array(expected.shape[::-1]) - 1.0
    apart = np.linalg.norm((corners @ (ours.affine - expected.affine).T)[:, :3], axis=1).max()
    if apart > 0.5 * min(expected.spacing):
        msg = f"{name}: expected the reference's grid, got one whose corners lie up to {apart:.3g} mm away; resample it"
        raise GeometryError(msg)
