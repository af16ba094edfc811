"""What an evaluation found: per scan and slice, per method, per task."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from tatcli.metrics.scores import Score, VolumeScores, mean_score

__all__ = ["INPUT", "EvaluateReport", "MethodSummary", "ScanScores", "TaskReport", "summarise"]

INPUT: Final = "lq"
"""The method that does nothing: the LQ scan itself."""

Kind = Literal["input", "classical", "network"]


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
    """

    name: str
    window: tuple[float, float]
    slices: tuple[int, ...]
    methods: Mapping[str, VolumeScores]
    seed: int | None = None
    simulation: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "name": self.name,
            "window": list(self.window),
            "slices": list(self.slices),
            "seed": self.seed,
            "simulation": self.simulation,
            "methods": {method: scores.to_dict() for method, scores in self.methods.items()},
        }


@dataclass(frozen=True)
class MethodSummary:
    """A row of the table: a method's mean over the scans' means.

    Attributes:
        method: ``lq``, a baseline's name, or the weights' name.
        kind: ``input``, ``classical`` or ``network``.
        score: mean over scans.
        gain: PSNR above the LQ scans', dB; None without LQ scans.
        parameter: of a baseline, with its unit.
    """

    method: str
    kind: Kind
    score: Score
    gain: float | None = None
    parameter: str = ""

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        row = {"method": self.method, "kind": self.kind, **self.score.to_dict(), "gain": self.gain}
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
        failures: scan -> why it could not be evaluated.
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
                margins[f"psnr_over_{name}"] = network.score.psnr - other.score.psnr
                margins[f"ssim_over_{name}"] = network.score.ssim - other.score.ssim
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
            "verdict": self.verdict,
            "tuning": {name: dict(found) for name, found in self.tuning.items()},
            "scans": [scan.to_dict() for scan in self.scans],
            "constant": list(self.constant),
            "failures": dict(self.failures),
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


def summarise(
    scans: Iterable[ScanScores], kinds: Mapping[str, Kind], *, parameters: Mapping[str, str] | None = None
) -> tuple[MethodSummary, ...]:
    """A row for each method: the mean over scans of each scan's mean. Scans without a scored slice don't count.

    Args:
        scans: of one task.
        kinds: method -> kind, in the order of the table.
        parameters: of the tuned baselines, as text.
    """
    scored = [scan for scan in scans if all(scan.methods[method].mean is not None for method in kinds)]
    if not scored:
        return ()
    rows = {}
    for method in kinds:
        rows[method] = mean_score(mean for scan in scored if (mean := scan.methods[method].mean) is not None)
    base = rows[INPUT].psnr if INPUT in rows else None
    return tuple(
        MethodSummary(
            method=method,
            kind=kind,
            score=rows[method],
            gain=None if base is None else _difference(rows[method].psnr, base),
            parameter=(parameters or {}).get(method, ""),
        )
        for method, kind in kinds.items()
    )


def _difference(ours: float, base: float) -> float:
    """The gain in dB; two perfect matches gain nothing over each other."""
    return 0.0 if ours == base else ours - base


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_finite(entry) for entry in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
