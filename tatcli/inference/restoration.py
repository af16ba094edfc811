"""One scan's restoration: slices in physical units in, restored ones out."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tatcli.inference.holes import filled
from tatcli.inference.passes import Passes
from tatcli.inference.value_summary import ValueSummary
from tatcli.intensity import Window
from tatcli.volumes.padding import padded

if TYPE_CHECKING:
    from tatcli.inference.data_consistency import KnownLines, MeasuredLines

__all__ = ["Restoration"]


class Restoration:
    """Restores the slices of one scan, however many at a time.

    Args:
        passes: the network; their batch is how many slices go through it at once.
        windows: the network's range for each frame.
        summary: of the scan's values.
        slices: in all, for progress.
        known: lines of k-space that are put back after the network, unless they were altered; None: none.
        progress: is called with (slices done, slices in all).

    Attributes:
        warnings: what was odd, one line each.
        steps: what is done to the scan beside the network, for its history.
    """

    def __init__(
        self,
        passes: Passes,
        windows: Sequence[Window],
        summary: ValueSummary,
        *,
        slices: int,
        known: KnownLines | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self.steps = () if known is None else (known.step,)
        self._put_back = None if known is None or known.altered else _measured(known)
        self.warnings: list[str] = []
        self._passes = passes
        self._passes.on_shrink = self.warnings.append
        self._windows = windows
        self._padding = summary.padding
        self._all, self._done = slices, 0
        self._progress = progress
        if summary.nonfinite:
            words = "NaN or infinite voxels: restored around them, kept as they were"
            self.warnings.append(f"{summary.nonfinite} {words}")

    def restore(self, source: NDArray[np.float32], target: NDArray[np.float32], *, frame: int) -> None:
        """Restore slices of one frame.

        Args:
            source: (n, rows, columns), physical units.
            target: the same shape; is overwritten.
            frame: which one.
        """
        window = self._windows[frame]
        under_way: deque[tuple[int, int, Callable[[], NDArray[np.float32]]]] = deque()

        def collect() -> None:
            start, stop, restored = under_way.popleft()
            target[start:stop] = restored()
            self._done += stop - start
            if self._progress is not None:
                self._progress(self._done, self._all)

        start = 0
        while start < len(source):
            stop = min(start + self._passes.settings.batch, len(source))
            restored = self._started(source[start:stop], window)
            under_way.append((start, stop, restored))
            if len(under_way) > self._passes.ahead:
                collect()
            start = stop
        while under_way:
            collect()

    def _started(self, slices: NDArray[np.float32], window: Window) -> Callable[[], NDArray[np.float32]]:
        """Start restoring (n, rows, columns) in physical units; the function that is returned waits for the result."""
        whole = [filled(slice_, fallback=window.lower) for slice_ in slices]
        # A constant slice is padding: there is nothing to restore, and nothing to invent.
        varied = [index for index, slice_ in enumerate(whole) if slice_.min() != slice_.max()]
        if not varied:
            return slices.copy
        corrections = self._passes.start(np.stack([window.normalise(window.clip(whole[index])) for index in varied]))

        def restored() -> NDArray[np.float32]:
            out = slices.copy()
            for index, correction in zip(varied, corrections() * np.float32(window.width), strict=True):
                self._correct(out[index], correction, whole[index], window)
            return out

        return restored

    def _correct(
        self, slice_: NDArray[np.float32], correction: NDArray[np.float32], whole: NDArray[np.float32], window: Window
    ) -> None:
        """Restore a slice in place.

        Args:
            slice_: the input; is overwritten.
            correction: the network's, in physical units; is overwritten.
            whole: the slice without holes.
            window: the network's range. A padding value below it marks what wasn't measured, and is kept; so are whole
                regions of one value at its lower end.
        """
        # Nothing lies below the range: no uptake and no magnitude is negative.
        np.maximum(correction, np.float32(window.lower) - window.clip(whole), out=correction)
        if self._put_back is not None and correction.any():
            correction = self._put_back(whole + correction, whole) - whole
        correction[~np.isfinite(slice_)] = 0.0
        if self._padding is not None and self._padding < window.lower:
            correction[slice_ == self._padding] = 0.0
        correction[padded(whole, window.lower)] = 0.0
        # Where nothing changes, not even the sign of a zero does.
        np.add(slice_, correction, out=slice_, where=correction != 0.0)


def _measured(known: KnownLines) -> MeasuredLines:
    from tatcli.inference.data_consistency import MeasuredLines  # its Fourier transforms take long to load

    return MeasuredLines(known)
