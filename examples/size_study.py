"""Which network size restores best per CPU second: trains each candidate for the same CPU time, scores and times it.

    python examples/size_study.py ROOT -o STUDY --minutes 10

ROOT holds training and validation scans as for `tat train`. Prints a row for each candidate as it is done: validation
gains (dB, PSNR by the paper's protocol, default strengths), CPU seconds for one 512x512 slice, parameters, steps.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from tatcli.model import PRESETS, Tat, TatConfig
from tatcli.tasks import TASKS
from tatcli.training.config import TrainConfig
from tatcli.training.loop import Trainer
from tatcli.training.references import prepare_references
from tatcli.workflows.usable_scans import usable_scan

SMALL = PRESETS["tat-small"]
CANDIDATES: dict[str, TatConfig] = {
    "tat-small (width 32, deep at 1/4)": SMALL,
    "as shallow at 1/4 as at 1/2": replace(SMALL, encoder_blocks=(1, 2, 2), latent_blocks=3, decoder_blocks=(1, 2, 2)),
    "one block a stage": replace(SMALL, encoder_blocks=(1, 1, 1), latent_blocks=1, decoder_blocks=(1, 1, 1)),
    "width 48, one block a stage": replace(
        SMALL, width=48, encoder_blocks=(1, 1, 1), latent_blocks=1, decoder_blocks=(1, 1, 1)
    ),
    "width 16, twice as deep": replace(
        SMALL, width=16, encoder_blocks=(2, 4, 8), latent_blocks=8, decoder_blocks=(2, 4, 10), refinement_blocks=2
    ),
    "no refinement": replace(SMALL, refinement_blocks=0),
    "TREN 4 times as wide": replace(SMALL, tren_width=64),
    "twice as deep at 1/4": replace(SMALL, encoder_blocks=(1, 2, 8), decoder_blocks=(1, 2, 8)),
}


def cpu_seconds(work: Callable[[], object], repeats: int = 3) -> float:
    """CPU time of one call, all threads together: the least of some."""
    times = []
    for _ in range(repeats + 1):  # the first one warms up
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times[1:])


def train(config: TatConfig, options: TrainConfig, minutes: float) -> Trainer:
    """A network trained for so many CPU minutes, with its learning rate's cosine over just these."""
    references = {task: prepare_references(TASKS[task], "train", options, check=usable_scan) for task in options.tasks}
    validation = {task: prepare_references(TASKS[task], "val", options, check=usable_scan) for task in options.tasks}
    torch.manual_seed(options.seed)
    network = Tat(config)
    nn.init.zeros_(network.output.weight)
    trial = Trainer(options, references, {}, network=copy.deepcopy(network))
    batches = iter(trial.sampler.batches(0, 100))
    each = cpu_seconds(lambda: trial.stepper.update(next(batches), 0), repeats=12)
    steps = max(1, round(60 * minutes / each))
    return Trainer(replace(options, steps=steps, checkpoint_every=steps), references, validation, network=network)


def main() -> None:
    """Train, score and time every candidate that the study's folder has no result of."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=10.0, help="CPU time of each training")
    parser.add_argument("--cache", type=Path, help="where prepared references are kept")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--tasks", default="ct,pet,mri")
    parser.add_argument("--optimizer", choices=("adamw", "muon"), default="adamw")
    parser.add_argument("--loss", choices=("psnr", "l1"), default="psnr")
    parser.add_argument("--patch", type=int, default=64)
    parser.add_argument("--batch", type=int, default=1, help="samples of each task in a step; MRI has twice as many")
    parser.add_argument("--only", default="", help="numbers of the candidates, 0 to 7, comma-separated; all by default")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    tasks = tuple(chosen.tasks.split(","))
    wanted = [int(number) for number in chosen.only.split(",")] if chosen.only else range(len(CANDIDATES))
    for number, (name, config) in enumerate(CANDIDATES.items()):
        if number not in wanted:
            continue
        folder = chosen.output / str(number)
        result = folder / "result.json"
        if not result.exists():
            folder.mkdir(parents=True, exist_ok=True)
            options = TrainConfig(
                data=chosen.data,
                output=folder,
                cache=chosen.cache or chosen.output / "cache",
                patch=(chosen.patch,),
                learning_rate=8e-4,
                warmup=50,
                batch=(chosen.batch,),
                task_multiples=tuple(2 if task == "mri" else 1 for task in tasks),
                tasks=tasks,
                default_share=(0.6,),
                loss=chosen.loss,
                optimizer=chosen.optimizer,
                precision=chosen.precision,
                validation_slices=2,
                threads=chosen.threads,
            )
            trainer = train(config, options, chosen.minutes)
            scores = trainer.run()
            network = trainer.averaged
            slice_ = torch.rand(1, 1, 512, 512)
            with torch.inference_mode():
                seconds = cpu_seconds(lambda net=network, x=slice_: net(x))
            facts = {
                "name": name,
                "gains": {task: score.gain for task, score in scores.items()},
                "cpu_seconds_512": seconds,
                "parameters": sum(p.numel() for p in network.parameters()),
                "steps": trainer.step,
            }
            result.write_text(json.dumps(facts, indent=2) + "\n")
        facts = json.loads(result.read_text())
        gains = ", ".join(f"{task} {gain:+.2f}" for task, gain in facts["gains"].items())
        print(
            f"{facts['name']}: {gains} dB; {facts['cpu_seconds_512']:.2f} CPU s a slice; "
            f"{facts['parameters'] / 1e6:.2f} M parameters; {facts['steps']} steps",
            flush=True,
        )


if __name__ == "__main__":
    main()
