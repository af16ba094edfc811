"""Which frames of a dynamic scan show something: before the injection, or where a pulse is missing, they are empty."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tatcli.volumes.slices import slices_along

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tatcli.volumes.volume import Volume

__all__ = ["FirstVarying", "telling_frame", "telling_slices", "varying_frames"]


class FirstVarying:
    """Looks for the first frame whose finite values differ, while the frames come in order.

    Attributes:
        frame: its index; 0 while none is found, as of a scan without any.
        found: whether there is one.
    """

    def __init__(self) -> None:
        self.frame, self.found = 0, False
        self._looked_at = -1
        self._level: np.float32 | None = None

    def add(self, frame: int, values: NDArray[np.float32]) -> None:
        """The next values of a frame, any shape."""
        if self.found:
            return
        if frame != self._looked_at:
            self._looked_at, self._level = frame, None
        finite = values[np.isfinite(values)]
        if not finite.size:
            return
        if self._level is None:
            self._level = finite[0]
        if (finite != self._level).any():
            self.frame, self.found = frame, True


def varying_frames(volume: Volume) -> list[bool]:
    """For each frame whether its finite values differ."""
    return [_search([frame]).found for frame in volume.iter_frames()]


def telling_frame(volume: Volume) -> int:
    """The frame that tells what a scan is like: the first whose values differ, or the first where none has such."""
    return _search(list(volume.iter_frames())).frame


def telling_slices(volume: Volume, axis: int) -> NDArray[np.float32]:
    """That frame's slices along an array axis, (n, rows, columns), a view."""
    return slices_along(list(volume.iter_frames())[telling_frame(volume)], axis)


def _search(frames: list[NDArray[np.float32]]) -> FirstVarying:
    """Plane by plane, so that nothing of a frame's size is made, and no further than needed."""
    search = FirstVarying()
    for index, frame in enumerate(frames):
        for plane in frame:
            search.add(index, plane)
            if search.found:
                return search
    return search
