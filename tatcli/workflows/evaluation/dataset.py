"""Evaluate a network and tuned classical baselines on a split of a dataset."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

import tatcli
from tatcli.baselines import BASELINES, SliceContext
from tatcli.errors import MissingPartnerError, PartialFailure, UsageError, VolumeReadError
from tatcli.metrics import find_protocol
from tatcli.tasks import TASKS, Task
from tatcli.training.pairs import find_pairs, find_scans
from tatcli.training.subjects import check_found
from tatcli.volumes.slices import slices_along
from tatcli.workflows.evaluation.config import NO_WEIGHTS
from tatcli.workflows.evaluation.cost import CostMeter
from tatcli.workflows.evaluation.degraded import degrade, mid_positions
from tatcli.workflows.evaluation.grids import read_mask, step_sizes
from tatcli.workflows.evaluation.network import EvaluatedNetwork, load_comparison, load_network
from tatcli.workflows.evaluation.report import INPUT, EvaluateReport, ScanScores, TaskReport, averaging
from tatcli.workflows.evaluation.scoring import ScanStacks, score_scan
from tatcli.workflows.evaluation.summary import compare_methods, summarise
from tatcli.workflows.evaluation.tuned import TuningData, chosen_baselines, tuned_baselines

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tatcli.baselines import TunedBaseline
    from tatcli.intensity import IntensityRule
    from tatcli.workflows.evaluation.config import EvaluateConfig
    from tatcli.workflows.evaluation.degraded import DegradedScan
    from tatcli.workflows.evaluation.report import Kind

__all__ = ["evaluate_dataset", "tasks_of"]

Progress = Callable[[str, int, int], None]

_OTHERS: Final = {INPUT, "input", "reference", *BASELINES}
"""What else tables and pictures show."""


def evaluate_dataset(
    config: EvaluateConfig,
    *,
    network: EvaluatedNetwork | None = None,
    progress: Progress = lambda *_: None,
) -> EvaluateReport:
    """Score LQ scans, baselines and network on the config's split.

    Scans that can't be read, degraded or masked, or lack their LQ partner, are reported, not fatal.

    Raises:
        UsageError: no dataset, no scans of a task, options that don't fit.
        WeightsError, DeviceError: the network can't be used.
        PartialFailure: no scan could be evaluated.
    """
    start = time.perf_counter()
    if config.data is None:
        msg = "evaluate: expected a dataset (--data)"
        raise UsageError(msg)
    root, tasks = config.data, tasks_of(config.data, config.tasks, config.split)
    if config.planes not in (None, 1) and all(task.modality == "MR" for task in tasks):
        msg = f"--planes {config.planes}: expected 1 with mri-sr, whose resolution was lost within slices; leave it out"
        raise UsageError(msg)
    names = ", ".join(task.name for task in tasks)
    if config.data_consistency and all(task.modality != "MR" for task in tasks):
        msg = f"--data-consistency: expected only with mri-sr, got {names}; leave it out"
        raise UsageError(msg)
    how = {
        "device": config.device,
        "precision": config.precision,
        "threads": config.threads,
        "options": config.options,
    }
    if network is None and config.weights != NO_WEIGHTS:
        network = load_network(config.weights, **how)  # type: ignore[arg-type]
    compared = [load_comparison(name, path, **how) for name, path in config.networks]  # type: ignore[arg-type]
    networks = _told_apart([network] if network else [], compared, [path for _, path in config.networks])
    evaluations = [_TaskEvaluation(config, root, task, networks, progress) for task in tasks]
    check_found(config.subjects, (place for evaluation in evaluations for place in evaluation.places))
    protocol = find_protocol(config.protocol)
    tuned = [evaluation.tuned() for evaluation in evaluations]  # all of them first: it may refuse the training split
    reports = tuple(evaluation.run(found) for evaluation, found in zip(evaluations, tuned, strict=True))
    if not any(report.methods for report in reports):
        reasons = (reason for report in reports for reason in report.failures.values())
        reason = next(reasons, "all are constant inside the evaluation window")
        msg = f"{root}: expected {names} scans that can be evaluated, got none ({reason})"
        raise PartialFailure(msg)
    return EvaluateReport(
        version=tatcli.__version__,
        protocol=protocol.name,
        protocol_summary=protocol.summary,
        averaging=averaging(protocol),
        settings=_settings(config),
        weights=dict(network.identity) if network else {},
        tasks=reports,
        seconds=time.perf_counter() - start,
    )


def _told_apart(
    main: list[EvaluatedNetwork], compared: list[EvaluatedNetwork], paths: Sequence[str]
) -> list[EvaluatedNetwork]:
    """All of them, those of a name that others have, too, by their files: a run's weights have their preset's name.

    One that is called as a filter, the input or the reference is told from these: results go by names.
    """
    names = Counter(found.name for found in (*main, *compared))
    named = [
        found if names[found.name] == 1 else replace(found, name=path.removesuffix(".safetensors"))
        for found, path in zip(compared, paths, strict=True)
    ]
    twice = [name for name, count in Counter(found.name for found in (*main, *named)).items() if count > 1]
    if twice:
        msg = f"--networks: expected each weights file once, got {', '.join(twice)} again"
        raise UsageError(msg)
    return [
        replace(found, name=f"{found.name} (network)") if found.name in _OTHERS else found for found in (*main, *named)
    ]


def tasks_of(root: Path, names: Sequence[str], split: str) -> list[Task]:
    """The tasks of these names; for none, all that the dataset has the split of.

    Raises:
        UsageError: it has none, or LQ scans alone of one.
    """
    if names:
        return [TASKS[name] for name in names]
    found = []
    for task in TASKS.values():
        try:
            find_pairs(root, task, split)
        except MissingPartnerError:
            raise
        except UsageError:
            continue
        found.append(task)
    if not found:
        find_scans(root, next(iter(TASKS.values())), split)  # says what is missing
    return found


def _settings(config: EvaluateConfig) -> dict[str, Any]:
    return {
        "data": str(config.data),
        "split": config.split,
        "seed": config.seed,
        "max_slices": config.max_slices,
        "ensemble": config.ensemble,
        "planes": config.planes,
        "data_consistency": config.data_consistency,
        "tune_split": config.tune_split,
        "tune_slices": config.tune_slices,
        "mask": None if config.mask is None else str(config.mask),
        "subjects": config.subjects,
        "networks": {
            name: ", ".join(path for other, path in config.networks if other == name) for name, _ in config.networks
        },
    }


class _TaskEvaluation:
    """One task: everything that can be refused is refused on construction, before the work."""

    def __init__(
        self,
        config: EvaluateConfig,
        root: Path,
        task: Task,
        networks: Sequence[EvaluatedNetwork],
        progress: Progress,
    ) -> None:
        self._config, self._task, self._networks, self._progress = config, task, networks, progress
        self._root = root
        rules: list[IntensityRule] = [network.rule(task) for network in networks]
        self._rule = rules[0] if rules else task.intensity
        self._ranges = rules
        self._strength = task.default_strength if config.strength is None else config.strength
        self._pairs, self._lonely = find_pairs(root, task, config.split)
        self._meters: dict[str, CostMeter] = {}
        simulated = all(pair.lq is None for pair in self._pairs)
        self._baselines = chosen_baselines(config, task, strength_known=simulated)
        tuned_on = find_scans(root, task, config.tune_split) if self._baselines else []
        if simulated and any(pair.lq is not None for pair in tuned_on):
            self._baselines = chosen_baselines(config, task, strength_known=False)
        if config.strength is not None and not any(pair.lq is None for pair in (*self._pairs, *tuned_on)):
            msg = f"--strength: expected scans of {task.name} to degrade, got ones with LQ partners alone; leave it out"
            raise UsageError(msg)

    @property
    def places(self) -> list[str]:
        """Of the scans."""
        return [pair.place for pair in self._pairs]

    def tuned(self) -> list[TunedBaseline]:
        """The baselines.

        Raises:
            UsageError: no training scan can be used.
        """
        data = TuningData(
            self._root, self._config.tune_split, self._config.tune_slices, self._strength, self._config.seed
        )
        return tuned_baselines(
            self._baselines,
            data,
            task=self._task,
            rule=self._rule,
            protocol=self._config.protocol,
            progress=self._progress,
        )

    def run(self, tuned: list[TunedBaseline]) -> TaskReport:
        """Every scan's scores; without a row where no scan could be evaluated."""
        task = self._task
        scans, constant = [], []
        failures = {name: f"{name}: expected a scan of equal name in LQ, found none" for name in self._lonely}
        for index, pair in enumerate(self._pairs):
            self._progress(f"{task.name}: {pair.place}", index, len(self._pairs))
            try:
                scan = degrade(pair, task, rule=self._rule, strength=self._strength, seed=self._config.seed)
                if scan is None:
                    constant.append(pair.place)
                    continue
                scans.append(self._scores(scan, tuned))
            except (UsageError, VolumeReadError) as error:
                failures[pair.place] = str(error)
        kinds: dict[str, Kind] = {INPUT: "input"}
        kinds |= {found.baseline.name: "classical" for found in tuned}
        kinds |= {network.name: "network" for network in self._networks}
        rows = summarise(
            scans,
            kinds,
            parameters={found.baseline.name: found.setting for found in tuned},
            costs={name: meter.cost for name, meter in self._meters.items() if meter.cost is not None},
        )
        first = self._networks[0].name if self._networks else None
        return TaskReport(
            task=task.name,
            units=task.units.value,
            strength=self._strength if any(pair.lq is None for pair in self._pairs) else None,
            strength_name=task.strength_name,
            methods=rows,
            scans=tuple(scans),
            tuning={found.baseline.name: found.to_dict() for found in tuned},
            constant=tuple(constant),
            failures=failures,
            tests=() if first is None else compare_methods(scans, first, [name for name in kinds if name != first]),
        )

    def _scores(self, scan: DegradedScan, tuned: list[TunedBaseline]) -> ScanScores:
        config = self._config
        mask = None if config.mask is None else read_mask(config.mask, scan.name, scan.hq, axis=scan.axis)
        chosen = mid_positions(scan.count, config.max_slices)
        lq, hq = scan.slices(chosen)
        known = None if scan.seed is None else self._strength
        results: dict[str, NDArray[np.float32]] = {INPUT: lq}
        for found in tuned:
            with self._meter(found.baseline.name).measured(len(chosen)):
                contexts = [SliceContext.of(slice_, window=scan.window, strength=known) for slice_ in lq]
                filtered = [
                    found.baseline(slice_, found.parameter, context=context)
                    for slice_, context in zip(lq, contexts, strict=True)
                ]
            results[found.baseline.name] = np.stack(filtered)
        part = scan.part(chosen)
        for network, rule in zip(self._networks, self._ranges, strict=True):
            network_range = rule.window_for(scan.lq.array)
            whole = network.takes_whole(self._task, scan.lq.geometry)
            given, count = (scan.lq, scan.count) if whole else (part, len(chosen))
            with self._meter(network.name).measured(count, device=network.identity.get("device", "cpu")):
                restored = network.restore(given, self._task, network_range)
            stack = slices_along(restored.array, scan.axis)
            results[network.name] = stack[list(chosen)] if whole else stack
        stacks = ScanStacks(
            name=scan.name,
            reference=hq,
            methods=results,
            window=scan.window,
            indices=chosen,
            geometry=part.geometry,
            axis=scan.axis,
            spacing=step_sizes(scan.hq, scan.axis),
            whole=len(chosen) == scan.count,
            mask=None if mask is None else mask[list(chosen)],
            extent=scan.extent,
        )
        return replace(score_scan(stacks, self._task, config), seed=scan.seed, simulation=scan.simulation)

    def _meter(self, method: str) -> CostMeter:
        """Adds up a method's time and memory; without ``costs`` one that nobody reads."""
        return self._meters.setdefault(method, CostMeter()) if self._config.costs else CostMeter()
