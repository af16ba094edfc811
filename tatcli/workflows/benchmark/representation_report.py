"""What points of the task representation Z say: how well tasks separate, and a picture of two components."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

import tatcli
from tatcli.errors import UsageError

__all__ = ["CLEAN", "DEGRADED", "Point", "RepresentationReport", "TaskRow", "summarise_points"]

DEGRADED: Final = "degraded"
CLEAN: Final = "clean"

Vector = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Point:
    """One slice.

    Attributes:
        task, scan, kind: kind is ``degraded`` or ``clean``.
        z: its representation.
    """

    task: str
    scan: str
    kind: str
    z: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class TaskRow:
    """One task's degraded slices among those of all tasks.

    Attributes:
        task: which.
        scans, slices: how many.
        recognised: share of slices whose nearest task mean is their own's, means taken without the slice's own scan (in
            a task of one scan: without the slice).
        silhouette: mean over slices of (b - a) / max(a, b), a the mean distance to slices of the own task, b to those
            of the nearest other one; 1: far apart, 0: mixed. NaN for a single task.
        spread: root mean square distance from the task's mean.
        clean_shift: distance between the means of clean and degraded slices, in units of ``spread``.
    """

    task: str
    scans: int
    slices: int
    recognised: float
    silhouette: float
    spread: float
    clean_shift: float


@dataclass(frozen=True, kw_only=True)
class RepresentationReport:
    """Everything.

    Attributes:
        version: of tat.
        weights: name and SHA-256.
        size: of Z.
        between: share of the degraded slices' variance that lies between the tasks' means.
        explained: share of all points' variance along the two principal components.
        rows: tasks.
        points: slices with their place along the two components.
        picture: the PNG.
        failures: task and scan -> why it could not be used.
    """

    version: str
    weights: dict[str, str]
    size: int
    between: float
    explained: tuple[float, float]
    rows: tuple[TaskRow, ...]
    points: tuple[dict[str, Any], ...]
    picture: str | None = None
    failures: Mapping[str, str] = field(default_factory=dict)

    @property
    def scans(self) -> int:
        """How many there are points of."""
        return sum(row.scans for row in self.rows)

    def to_json(self) -> str:
        """All of it."""
        from tatcli.reporting.run_report import to_json

        return to_json(self)


def summarise_points(
    points: Sequence[Point],
    *,
    weights: dict[str, str],
    picture: Path | None = None,
    overwrite: bool = False,
    failures: Mapping[str, str] = MappingProxyType({}),
) -> RepresentationReport:
    """Numbers, and the picture, of points.

    Args:
        points: all slices.
        weights: name and SHA-256.
        picture: a PNG to draw.
        overwrite: whether it may exist.
        failures: task and scan -> why it could not be used.

    Raises:
        UsageError: fewer than three degraded slices.
        OutputError: the picture can't be written.
    """
    degraded = [point for point in points if point.kind == DEGRADED]
    if len(degraded) < 3:
        msg = f"representation: expected at least 3 slices that aren't constant, got {len(degraded)}"
        raise UsageError(msg + "".join(f" ({reason})" for reason in list(failures.values())[:1]))
    tasks = list(dict.fromkeys(point.task for point in degraded))
    everything = np.array([point.z for point in points])
    centred = everything - everything.mean(axis=0)
    _, lengths, axes = np.linalg.svd(centred, full_matrices=False)
    axes = axes[:2] * np.sign(axes[:2][np.arange(2), np.abs(axes[:2]).argmax(axis=1)])[:, None]  # whichever machine
    places = centred @ axes.T
    total = float((lengths**2).sum()) or 1.0
    z = np.array([point.z for point in degraded])
    means = {task: z[_is(degraded, task)].mean(axis=0) for task in tasks}
    around = ((z - z.mean(axis=0)) ** 2).sum()
    within = sum(((z[_is(degraded, task)] - means[task]) ** 2).sum() for task in tasks)
    first, second = (float(length**2 / total) for length in lengths[:2])
    if picture is not None:
        _draw(picture, points, places, (first, second), overwrite=overwrite)
    return RepresentationReport(
        version=tatcli.__version__,
        weights=weights,
        size=z.shape[1],
        between=float(1.0 - within / around) if around else 0.0,
        explained=(first, second),
        rows=tuple(_row(task, degraded, z, clean=_clean(task, points)) for task in tasks),
        points=tuple(
            {"task": point.task, "scan": point.scan, "kind": point.kind, "place": [float(x), float(y)]}
            for point, (x, y) in zip(points, places, strict=True)
        ),
        picture=None if picture is None else str(picture),
        failures=dict(failures),
    )


def _is(points: Sequence[Point], task: str) -> NDArray[np.bool_]:
    return np.array([point.task == task for point in points])


def _clean(task: str, points: Sequence[Point]) -> Vector:
    return np.array([point.z for point in points if point.task == task and point.kind == CLEAN])


def _row(task: str, degraded: Sequence[Point], z: Vector, *, clean: Vector) -> TaskRow:
    tasks = list(dict.fromkeys(point.task for point in degraded))
    own = _is(degraded, task)
    members = np.flatnonzero(own).tolist()
    mean = z[own].mean(axis=0)
    spread = float(np.sqrt(((z[own] - mean) ** 2).sum(axis=1).mean()))
    shift = float(np.linalg.norm(clean.mean(axis=0) - mean)) if len(clean) else float("nan")
    return TaskRow(
        task=task,
        scans=len({point.scan for point in degraded if point.task == task}),
        slices=int(own.sum()),
        recognised=float(np.mean([_recognised(number, degraded, z) for number in members])),
        silhouette=float(np.mean([_silhouette(number, degraded, z, tasks) for number in members])),
        spread=spread,
        clean_shift=shift / spread if spread else float("nan"),
    )


def _recognised(number: int, points: Sequence[Point], z: Vector) -> bool:
    """Whether the nearest task mean is the own one, without the slice's scan where its task has others."""
    point = points[number]
    means = {}
    for task in dict.fromkeys(other.task for other in points):
        members = np.flatnonzero(_is(points, task)).tolist()
        others = [member for member in members if (points[member].scan, task) != (point.scan, point.task)]
        others = others or [member for member in members if member != number]
        if others:
            means[task] = z[others].mean(axis=0)
    return min(means, key=lambda task: float(np.linalg.norm(z[number] - means[task]))) == point.task


def _silhouette(number: int, points: Sequence[Point], z: Vector, tasks: Sequence[str]) -> float:
    """Rousseeuw 1987, equation 1; 0 for a slice that is alone in its task."""
    distances = np.linalg.norm(z - z[number], axis=1)
    own = _is(points, points[number].task)
    own[number] = False
    others = [distances[_is(points, task)].mean() for task in tasks if task != points[number].task]
    if not others:
        return float("nan")
    if not own.any():
        return 0.0
    near, far = float(distances[own].mean()), float(min(others))
    return (far - near) / max(near, far) if max(near, far) else 0.0


def _draw(
    picture: Path, points: Sequence[Point], places: Vector, explained: tuple[float, float], *, overwrite: bool
) -> None:
    from tatcli.reporting.figures import write_png
    from tatcli.reporting.scatter_picture import Cloud, draw_scatter

    clouds = []
    for colour, task in enumerate(dict.fromkeys(point.task for point in points)):
        for kind in (DEGRADED, CLEAN):
            chosen = [point.task == task and point.kind == kind for point in points]
            if any(chosen):
                clouds.append(Cloud(f"{task}, {kind}", places[chosen], colour, hollow=kind == CLEAN))
    labels = tuple(f"component {number} ({share:.0%})" for number, share in enumerate(explained, start=1))
    image = draw_scatter(clouds, title="task representation Z", labels=(labels[0], labels[1]))
    write_png(image, picture, overwrite=overwrite)
