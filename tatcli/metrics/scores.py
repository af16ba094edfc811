"""Scores of a restored volume: slice by slice, and their mean."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np

from tatcli.metrics.image_quality import mae, psnr_from_mse, rmse, ssim_map
from tatcli.metrics.protocols import FIXED_RANGES, Protocol

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tatcli.intensity import Window
    from tatcli.tasks import Task

__all__ = ["QUANTITIES", "Score", "SliceScore", "VolumeScores", "mean_score", "score_volume"]

QUANTITIES: Final = ("psnr", "ssim", "rmse", "mae")
"""What is scored, in the order of tables."""


@dataclass(frozen=True)
class Score:
    """One image's or volume's scores, or a mean of such.

    Attributes:
        psnr: dB; infinite for identical images.
        ssim: -1 to 1.
        rmse: in the task's units.
        mae: in the task's units.
    """

    psnr: float
    ssim: float
    rmse: float
    mae: float

    def to_dict(self) -> dict[str, float]:
        """The four numbers by name."""
        return {name: getattr(self, name) for name in QUANTITIES}


@dataclass(frozen=True)
class SliceScore(Score):
    """A slice's scores.

    Attributes:
        index: its position along the slice axis.
        data_range: what PSNR and SSIM refer to, in the task's units.
    """

    index: int
    data_range: float

    def to_dict(self) -> dict[str, float]:
        """All fields by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True)
class VolumeScores:
    """A volume's scores.

    Attributes:
        protocol: its name.
        mean: of the slices; by the protocol ``volume``, PSNR, RMSE and MAE of the whole volume and the mean SSIM of its
            slices. None where no slice could be scored.
        slices: those scored, in order.
        skipped: number of slices left out because their HQ slice is constant inside the window, without a voxel of
            the mask, or clipped to one bound of the window wherever the mask is.
    """

    protocol: str
    mean: Score | None
    slices: tuple[SliceScore, ...]
    skipped: int

    def numbered(self, indices: Sequence[int]) -> Self:
        """The same scores with the slices' positions in the volume that the scored slices were taken from."""
        return replace(self, slices=tuple(replace(score, index=indices[score.index]) for score in self.slices))

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "mean": self.mean.to_dict() if self.mean else None,
            "slices": [score.to_dict() for score in self.slices],
            "skipped": self.skipped,
        }


def score_volume(  # noqa: PLR0913 - two volumes, the protocol, and what of them counts
    restored: NDArray[np.floating[Any]],
    reference: NDArray[np.floating[Any]],
    *,
    task: Task,
    window: Window,
    protocol: Protocol,
    mask: NDArray[np.bool_] | None = None,
    extent: Window | None = None,
) -> VolumeScores:
    """Score a restored volume against its reference.

    Both are clipped to the window, so that infinite voxels take its bounds. A voxel that is NaN in the reference has no
    true value and takes the lower bound in both. A slice that is constant in the clipped reference has nothing to
    restore and, in the paper's protocol, no data range: the slice-wise protocols skip and count it.

    With a mask, errors are those of its voxels and SSIM is the mean of the similarity map over them; data ranges stay
    those of the whole slice or volume, so that they don't depend on the mask. Where the reference is clipped to one
    bound of the window in all voxels of the mask, nothing is left to restore in it: such a slice (by the protocol
    ``volume``: a whole volume of such) is skipped and counted too.

    Args:
        restored: (slices, rows, columns), the task's units.
        reference: the same shape.
        task: decides the data range of the protocol ``fixed`` and whether ``volume`` takes the window's width.
        window: the evaluation window, from :func:`~tatcli.metrics.protocols.evaluation_window`.
        protocol: one of :data:`~tatcli.metrics.protocols.PROTOCOLS`.
        mask: the voxels that count, the same shape; None: all.
        extent: lowest and highest value of the whole reference volume, where ``reference`` has some of its slices:
            what the protocol ``volume`` takes MRI's data range from.

    Raises:
        ValueError: the shapes differ, the arrays are not 3-D, or the restored one is NaN where the reference isn't.
    """
    if restored.ndim != 3 or restored.shape != reference.shape:
        msg = f"expected two volumes of equal (slices, rows, columns), got {restored.shape} and {reference.shape}"
        raise ValueError(msg)
    if mask is not None and mask.shape != reference.shape:
        msg = f"expected a mask of the volumes' shape {reference.shape}, got {mask.shape}"
        raise ValueError(msg)
    whole = _volume_range(reference, extent, task=task, window=window) if protocol.per == "volume" else None
    scores: list[SliceScore] = []
    voxels: list[int] = []
    skipped = 0
    if whole is not None and mask is not None and _is_cut_off(_clipped(reference[mask], window), window):
        return VolumeScores(protocol.name, None, (), len(reference))
    for index, (ours, truth) in enumerate(zip(restored, reference, strict=True)):
        inside = None if mask is None else mask[index]
        x, y = _clipped_pair(ours, truth, window)
        own = float(y.max() - y.min())
        empty = inside is not None and (not inside.any() or (whole is None and _is_cut_off(y[inside], window)))
        if (whole is None and own == 0.0) or empty:
            skipped += 1
            continue
        data_range = whole or (FIXED_RANGES[task.name] if protocol.name == "fixed" else own)
        scores.append(_score_slice(x, y, index=index, data_range=data_range, mask=inside))
        voxels.append(x.size if inside is None else int(inside.sum()))
    if not scores:
        return VolumeScores(protocol.name, None, (), skipped)
    mean = mean_score(scores)
    if whole is not None:  # the volume's mean errors are those of its slices, by their voxels
        square = float(np.average([score.rmse**2 for score in scores], weights=voxels))
        absolute = float(np.average([score.mae for score in scores], weights=voxels))
        mean = Score(psnr_from_mse(square, data_range=whole), mean.ssim, float(np.sqrt(square)), absolute)
    return VolumeScores(protocol.name, mean, tuple(scores), skipped)


def mean_score(scores: Iterable[Score]) -> Score:
    """The arithmetic mean of each quantity (PSNR in dB; one infinite PSNR makes the mean infinite).

    Raises:
        ValueError: no scores.
    """
    table = np.array([[getattr(score, name) for name in QUANTITIES] for score in scores], dtype=np.float64)
    if not table.size:
        msg = "mean_score: expected at least one score, got none"
        raise ValueError(msg)
    return Score(*(float(value) for value in table.mean(axis=0)))


def _score_slice(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    *,
    index: int,
    data_range: float,
    mask: NDArray[np.bool_] | None,
) -> SliceScore:
    similarity = ssim_map(x, y, data_range=data_range)
    if mask is not None:
        x, y, similarity = x[mask], y[mask], similarity[mask]
    error = rmse(x, y)
    return SliceScore(
        psnr=psnr_from_mse(error**2, data_range=data_range),
        ssim=float(np.mean(similarity)),
        rmse=error,
        mae=mae(x, y),
        index=index,
        data_range=data_range,
    )


def _is_cut_off(values: NDArray[np.float64], window: Window) -> bool:
    """Whether clipping left one bound of the window of all values, or there are none."""
    return bool((values == window.lower).all() or (values == window.upper).all())


def _clipped(reference: NDArray[np.floating[Any]], window: Window) -> NDArray[np.float64]:
    values = window.clip(np.asarray(reference, dtype=np.float64))
    return np.where(np.isnan(values), window.lower, values)


def _clipped_pair(
    restored: NDArray[np.floating[Any]], reference: NDArray[np.floating[Any]], window: Window
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    x, y = window.clip(np.asarray(restored, dtype=np.float64)), _clipped(reference, window)
    unknown = np.isnan(reference)
    if unknown.any():
        x = np.where(unknown, window.lower, x)
    if np.isnan(x).any():
        msg = "expected restored values wherever the reference has some, got NaN"
        raise ValueError(msg)
    return x, y


def _volume_range(reference: NDArray[np.floating[Any]], extent: Window | None, *, task: Task, window: Window) -> float:
    """The data range of the protocol ``volume``; a constant MRI has none of its own and takes the window's width."""
    if task.evaluation_window is not None:
        return window.width
    known = reference[~np.isnan(reference)] if extent is None else np.array([extent.lower, extent.upper])
    spread = float(window.clip(known.max()) - window.clip(known.min())) if known.size else 0.0
    return spread if spread > 0.0 else window.width
