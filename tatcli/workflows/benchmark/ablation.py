"""``tat benchmark ablation``: trains TAT's variants on the same data, steps and seeds, and scores them alike."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from tatcli.errors import PartialFailure, UsageError
from tatcli.training.config import TrainConfig
from tatcli.training.steps import TrainingDiverged
from tatcli.workflows.benchmark.ablation_arms import Arm, find_arms
from tatcli.workflows.benchmark.ablation_report import AblationReport, Scored, summarise_arms
from tatcli.workflows.benchmark.ablation_scans import Scans, check_alike, digest_of_scans

__all__ = ["AblationConfig", "ablate"]

RESULT: Final = "result.json"

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, kw_only=True)
class AblationConfig:
    """Options of ``tat benchmark ablation``.

    Attributes:
        training: what all arms share; its output is the study's folder, its network, loss and seed are the arms'.
        arms: names, see ``ablation_arms``; empty: all.
        seeds: each arm is trained with every one of them.
        split: that is scored, at the tasks' default strengths.
        max_slices: evenly spaced slices of each scan that are scored; 0: all.
        interference: batches that the cosines between the tasks' gradients are measured on; 0: not measured.
    """

    training: TrainConfig
    arms: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (0, 1)
    split: str = "val"
    max_slices: int = 6
    interference: int = 128

    def __post_init__(self) -> None:
        find_arms(self.arms)
        object.__setattr__(self, "seeds", tuple(dict.fromkeys(self.seeds)))
        if not self.seeds or min(*self.seeds, self.max_slices) < 0 or self.interference == 1 or self.interference < 0:
            msg = "ablation: expected --seeds (at least one) and --max-slices from 0 on, --interference 0 or at least 2"
            raise UsageError(msg)


@dataclass(frozen=True)
class _Run:
    """One training: an arm, a seed, and its tasks."""

    arm: Arm
    seed: int
    config: TrainConfig

    @property
    def name(self) -> str:
        return self.config.output.name


def ablate(config: AblationConfig, *, progress: Progress = lambda *_: None) -> AblationReport:
    """Train what isn't trained yet, score it, and compare.

    A training that was stopped goes on from its checkpoint; one that has its ``result.json`` is not touched. One that
    diverges ends no study: its arm has no row for the tasks that it was to learn.

    Args:
        config: the study.
        progress: is called with (what is being done, done, in all): arms, and within a training its steps.

    Raises:
        UsageError: the folder holds results of other options, arms that were trained or scored on other scans than the
            rest, or weights to start from where arms have networks that can't.
        TrainingDiverged: the first arm's loss exploded, or its network died: there is nothing to compare with.
        PartialFailure: no scan of a task can be scored.
    """
    runs = list(_runs(config))
    others = sorted({run.config.network for run in runs} - {"tat"})
    if config.training.init and others:
        msg = f"init {config.training.init}: expected none, or arms of the network tat alone, got {', '.join(others)}"
        raise UsageError(msg + "; leave the weights out, or arms by --arms")
    results: list[Scored] = []
    scans: dict[str, Scans] = {}
    failed: dict[str, str] = {}
    for number, run in enumerate(runs):
        progress(run.name, number, len(runs))
        try:
            scored, scans[run.name] = _result(run, config, progress)
        except TrainingDiverged as error:
            if run.arm == runs[0].arm:
                raise
            failed[run.name] = str(error)
            continue
        results.append(scored)
        check_alike(scans, run.config.output.parent)
    progress("done", len(runs), len(runs))
    report = summarise_arms(results, config.training, seeds=config.seeds, arms=find_arms(config.arms))
    return replace(report, failed=failed)


def _runs(config: AblationConfig) -> Iterator[_Run]:
    shared = config.training
    cache = shared.cache or shared.output / "cache"
    for seed in config.seeds:
        for arm in find_arms(config.arms):
            for tasks in [(task,) for task in shared.tasks] if arm.separate else [shared.tasks]:
                name = f"{arm.name}-seed{seed}" + (f"-{tasks[0]}" if arm.separate else "")
                options = dict(arm.options) | {"tasks": tasks, "seed": seed, "cache": cache}
                if arm.separate:
                    options |= _of_task(shared, tasks[0])
                yield _Run(arm, seed, replace(shared, output=shared.output / name, **options))


def _of_task(shared: TrainConfig, task: str) -> dict[str, Any]:
    """A single task's share of the options that name one value for each."""
    taught = shared.taught(task)
    return {
        "default_share": (shared.share(task),),
        "teacher_share": (taught,) if taught else TrainConfig.default("teacher_share"),
        "teacher": _teachers_of(shared, task) if taught else None,
        "task_weights": (shared.weight(task),) if shared.task_weights else (),
        "task_multiples": (shared.multiple(task),) if shared.task_multiples else (),
    }


def _teachers_of(shared: TrainConfig, task: str) -> str | None:
    """Those whose card names the task."""
    from tatcli.model.weights import card_fields, find_weights
    from tatcli.workflows.training.teachers import teacher_names

    return ",".join(name for name in teacher_names(shared) if task in card_fields(find_weights(name))["tasks"]) or None


def _result(run: _Run, config: AblationConfig, progress: Progress) -> tuple[Scored, Scans]:
    """The run's scores, from its file where it has one, and what they are of."""
    path = run.config.output / RESULT
    places = [str(root.resolve()) for root in (run.config.data, *run.config.also)]
    own = {"split": config.split, "scored_slices": config.max_slices, "interference": config.interference}
    settings = run.config.fixed() | own | {"data": places}
    if path.exists():
        told = json.loads(path.read_text(encoding="utf-8"))
        before = {"data": places} | told["settings"]  # (older results don't say)
        changed = [key for key, value in settings.items() if before.get(key) != value]
        if changed:
            msg = f"{path}: expected a result of the same options, {', '.join(changed)} differ; use another folder"
            raise UsageError(msg)
    else:
        told = {"settings": settings, **_train_and_score(run, config, progress)}
        from tatcli.reporting.run_report import write_json

        write_json(json.dumps(told, indent=2), path)
    trained = told.get("trained_on")
    scored = Scored(
        arm=run.arm.name,
        seed=run.seed,
        tasks=told["tasks"],
        parameters=told["parameters"],
        seconds=told["seconds"],
        cosines=told["cosines"],
    )
    return scored, Scans(run.config.tasks, None if trained is None else frozenset(trained), told.get("scored_on"))


def _train_and_score(run: _Run, config: AblationConfig, progress: Progress) -> dict[str, Any]:
    from tatcli.model.weights import card_fields
    from tatcli.tasks import TASKS
    from tatcli.training.loop import Progress as Step
    from tatcli.training.pairs import find_pairs
    from tatcli.workflows.train import train

    def on_step(state: Step) -> None:
        progress(run.name, state.step, run.config.steps)

    for task in run.config.tasks:
        find_pairs(run.config.data, TASKS[task], config.split)  # says before the training where nothing could be scored
    done = train(run.config, on_step=on_step)
    if done.other_data:
        msg = f"{run.config.output}: expected the scans that this arm was trained on, got others; use another folder"
        raise UsageError(msg)
    return {
        "parameters": done.parameters,
        "seconds": round(done.seconds, 1),
        "tasks": _scores(run.config, done.weights, config),
        "cosines": _cosines(run.config, done.weights, config.interference),
        "trained_on": sorted(f"{row['file']} {row['sha256']}" for row in card_fields(done.weights)["training"]["data"]),
        "scored_on": {task: digest_of_scans(run.config.data, task, config.split) for task in run.config.tasks},
    }


def _cosines(training: TrainConfig, weights: Path, batches: int) -> dict[str, dict[str, float]]:
    """How the tasks' gradients agree in the trained network; nothing where there is but one task."""
    if not batches or len(training.tasks) < 2:
        return {}
    from tatcli.baselines.networks import load_any_weights
    from tatcli.tasks import TASKS
    from tatcli.training.interference import task_interference
    from tatcli.training.references import prepare_references
    from tatcli.training.sampler import Sampler
    from tatcli.workflows.usable_scans import usable_scan

    network, _ = load_any_weights(weights)
    references = {
        task: prepare_references(TASKS[task], "train", training, check=usable_scan) for task in training.tasks
    }
    return task_interference(network.to(training.device), Sampler(references, training), batches=batches)


def _scores(training: TrainConfig, weights: Path, config: AblationConfig) -> dict[str, Any]:
    """Task -> subject -> scores before and after, as ``tat evaluate`` finds them, with the same noise for all.

    They are of the network's own output in one plane: that is what the arms differ in.
    """
    from tatcli.inference.options import RestoreOptions
    from tatcli.workflows.evaluate import EvaluateConfig, evaluate
    from tatcli.workflows.evaluation.network import load_comparison
    from tatcli.workflows.evaluation.report import INPUT
    from tatcli.workflows.evaluation.summary import TESTED, per_subject, score_of

    network = load_comparison(
        training.network,
        str(weights),
        device=training.device,
        threads=training.threads or None,
        options=RestoreOptions(planes=1, data_consistency=False),
    )
    report = evaluate(
        EvaluateConfig(
            data=training.data,
            split=config.split,
            tasks=training.tasks,
            baselines=(),
            max_slices=config.max_slices or None,
            subjects=training.subjects,
            physical=False,
        ),
        network=network,
    )
    found: dict[str, Any] = {}
    for task in report.tasks:
        if not task.methods:
            reason = next(iter(task.failures.values()), "all are constant")
            msg = f"{training.data}: expected {task.task} scans in {config.split} to score, got none ({reason})"
            raise PartialFailure(msg)
        subjects: dict[str, dict[str, float]] = {}
        found[task.task] = subjects
        for method, prefix in ((INPUT, "lq_"), (network.name, "")):
            for quantity in TESTED:
                for subject, score in per_subject(task.scans, score_of(method, quantity)).items():
                    subjects.setdefault(subject, {})[prefix + quantity] = score
    return found
