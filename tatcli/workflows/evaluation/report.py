"""What an evaluation found: per scan and slice, per method, per task."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

from tatcli.metrics.scores import Score, VolumeScores

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tatcli.metrics import Interval, PhysicalScores, Protocol
    from tatcli.metrics.noise_power import NoiseSpectrum
    from tatcli.workflows.evaluation.cost import Cost
    from tatcli.workflows.evaluation.summary import PairedTest

__all__ = [
    "INPUT",
    "EvaluateReport",
    "MethodSummary",
    "ScanScores",
    "SlicePicture",
    "TaskReport",
    "averaging",
    "difference",
]

INPUT: Final = "lq"
"""The method that does nothing: the LQ scan itself."""

Kind = Literal["input", "classical", "network"]


@dataclass(frozen=True, eq=False)
class SlicePicture:
    """One slice by every method, the way radiologists look at it.

    Attributes:
        index: its position in the scan.
        reference: (rows, columns), the task's units.
        images: method -> the same.
        spacing: (row, column), mm.
    """

    index: int
    reference: NDArray[np.float32]
    images: Mapping[str, NDArray[np.float32]]
    spacing: tuple[float, float]


@dataclass(frozen=True)
class ScanScores:
    """A scan's scores by every method.

    Attributes:
        name: of the scan.
        window: lower and upper bound of the evaluation window, in the task's units.
        slices: positions of the slices that were taken.
        methods: method -> scores.
        seed: of the simulated noise; None where the LQ scan came from a file.
        simulation: what the simulator did, in its words.
        subject: whom the scan is of.
        physical: method -> scores beyond the protocol's.
        reference_spectrum: the reference's noise power.
        pictures: some slices, for the HTML report.
    """

    name: str
    window: tuple[float, float]
    slices: tuple[int, ...]
    methods: Mapping[str, VolumeScores]
    seed: int | None = None
    simulation: str | None = None
    subject: str = ""
    physical: Mapping[str, PhysicalScores] = field(default_factory=dict)
    reference_spectrum: NoiseSpectrum | None = None
    pictures: tuple[SlicePicture, ...] = field(default=(), compare=False, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        fields: dict[str, Any] = {
            "name": self.name,
            "subject": self.subject or self.name,
            "window": list(self.window),
            "slices": list(self.slices),
            "seed": self.seed,
            "simulation": self.simulation,
            "methods": {method: scores.to_dict() for method, scores in self.methods.items()},
        }
        return fields | {"physical": {method: scores.to_dict() for method, scores in self.physical.items()}}


@dataclass(frozen=True)
class MethodSummary:
    """A row of the table: a method's mean over the subjects' means.

    Attributes:
        method: ``lq``, a baseline's name, or the weights' name.
        kind: ``input``, ``classical`` or ``network``.
        score: mean over subjects.
        gain: PSNR above the LQ scans', dB; None without LQ scans.
        parameter: of a baseline, with its unit.
        subjects: how many.
        intervals: quantity -> 95 % bootstrap interval of the mean; None where subjects are too few.
        physical: quantity -> mean over the subjects that have it; None where none has.
        cost: time and memory, where they were measured.
    """

    method: str
    kind: Kind
    score: Score
    gain: float | None = None
    parameter: str = ""
    subjects: int = 0
    intervals: Mapping[str, Interval | None] = field(default_factory=dict)
    physical: Mapping[str, float | None] = field(default_factory=dict)
    cost: Cost | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        row: dict[str, Any] = {"method": self.method, "kind": self.kind, **self.score.to_dict(), "gain": self.gain}
        row["subjects"] = self.subjects
        row["intervals"] = {name: found and found.to_list() for name, found in self.intervals.items()}
        row["physical"] = dict(self.physical)
        row |= self.cost.to_dict() if self.cost else {}
        return row | ({"parameter": self.parameter} if self.parameter else {})


@dataclass(frozen=True, kw_only=True)
class TaskReport:
    """One task's result.

    Attributes:
        task: its name.
        units: of RMSE and MAE.
        strength: of the simulated degradation; None where every LQ scan came from a file.
        strength_name: what the strength means.
        methods: the table's rows, the LQ scans first, the network last.
        scans: every scan's scores.
        tuning: how each baseline's parameter was chosen.
        constant: scans left out because they are constant inside the evaluation window.
        failures: scan -> the error's name, and why it could not be evaluated.
        unused: references without a restored scan.
        tests: paired, of the network against the other methods.
    """

    task: str
    units: str
    strength: float | None
    strength_name: str
    methods: tuple[MethodSummary, ...]
    scans: tuple[ScanScores, ...]
    tuning: Mapping[str, Mapping[str, Any]]
    constant: tuple[str, ...] = ()
    failures: Mapping[str, str] = field(default_factory=dict)
    unused: tuple[str, ...] = ()
    tests: tuple[PairedTest, ...] = ()

    @property
    def scored(self) -> tuple[ScanScores, ...]:
        """The scans that count: those with something to score."""
        return tuple(scan for scan in self.scans if any(found.mean for found in scan.methods.values()))

    @property
    def empty(self) -> tuple[str, ...]:
        """Scans that count nowhere, as nothing is to be seen inside the evaluation window."""
        counted = {scan.name for scan in self.scored}
        return (*self.constant, *(scan.name for scan in self.scans if scan.name not in counted))

    @property
    def input(self) -> MethodSummary | None:
        """The row of the LQ scans."""
        return next((row for row in self.methods if row.kind == "input"), None)

    @property
    def network(self) -> MethodSummary | None:
        """The row of the network, or of the restored files."""
        return next((row for row in self.methods if row.kind == "network"), None)

    @property
    def best_classical(self) -> MethodSummary | None:
        """The row of the classical baseline with the highest PSNR."""
        rows = [row for row in self.methods if row.kind == "classical"]
        return max(rows, key=lambda row: row.score.psnr, default=None)

    @property
    def verdict(self) -> dict[str, float | str]:
        """The network's margins: PSNR (dB) and SSIM above the LQ scans and above the best classical baseline."""
        network, margins = self.network, {}
        for name, other in (("lq", self.input), ("classical", self.best_classical)):
            if network is not None and other is not None:
                margins[f"psnr_over_{name}"] = difference(network.score.psnr, other.score.psnr)
                margins[f"ssim_over_{name}"] = difference(network.score.ssim, other.score.ssim)
        best = self.best_classical
        return {**margins, **({"best_classical": best.method} if best else {})}

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "task": self.task,
            "units": self.units,
            "strength": self.strength,
            "strength_name": self.strength_name,
            "methods": [row.to_dict() for row in self.methods],
            "tests": [test.to_dict() for test in self.tests],
            "verdict": self.verdict,
            "tuning": {name: dict(found) for name, found in self.tuning.items()},
            "scans": [scan.to_dict() for scan in self.scans],
            "constant": list(self.constant),
            "failures": dict(self.failures),
            "unused": list(self.unused),
        }


@dataclass(frozen=True, kw_only=True)
class EvaluateReport:
    """An evaluation, with all that is needed to repeat it.

    Attributes:
        version: of tat.
        protocol: its name.
        protocol_summary: its data range and averaging, in words.
        averaging: how a table's row comes from slices, in words.
        settings: data, split, seed, slices per scan and other options that decide the numbers.
        weights: name and SHA-256 of the network, device and precision that it ran on; empty without one.
        tasks: one report each.
        seconds: wall time.
    """

    version: str
    protocol: str
    protocol_summary: str
    averaging: str
    settings: Mapping[str, Any]
    weights: Mapping[str, str]
    tasks: tuple[TaskReport, ...]
    seconds: float

    @property
    def failures(self) -> dict[str, str]:
        """``task: scan`` -> why it could not be evaluated."""
        return {f"{task.task}: {scan}": reason for task in self.tasks for scan, reason in task.failures.items()}

    def to_dict(self) -> dict[str, Any]:
        """JSON form; infinite PSNR (identical images) still a float."""
        return {
            "version": self.version,
            "protocol": self.protocol,
            "protocol_summary": self.protocol_summary,
            "averaging": self.averaging,
            "settings": dict(self.settings),
            "weights": dict(self.weights),
            "tasks": [task.to_dict() for task in self.tasks],
            "seconds": round(self.seconds, 1),
        }

    def to_json(self) -> str:
        """The run report. JSON has no infinity: the PSNR of identical images is the string ``inf``."""
        return json.dumps(_finite(self.to_dict()), indent=2, allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_finite(entry) for entry in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def difference(ours: float, base: float) -> float:
    """Ours less the base; two perfect matches, infinite in dB, gain nothing over each other."""
    return 0.0 if ours == base else ours - base


def averaging(protocol: Protocol) -> str:
    """How a table's row comes from slices, in words."""
    return f"per {protocol.per}, mean over a scan, over a subject's scans, then over subjects"
