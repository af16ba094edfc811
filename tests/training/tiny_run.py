"""``tat train`` in a process of its own, with the tests' tiny network as a preset; a signal or several processes need it.

python tiny_run.py [--kill-after STEP] OPTION...
"""

from __future__ import annotations

import os
import signal
import sys

import torch

from tatcli.model import config as model_config
from tatcli.model.config import TatConfig
from tatcli.training.settings import resolve
from tatcli.workflows.train import train

TINY = TatConfig(
    width=8, encoder_blocks=(1, 1, 1), latent_blocks=1, decoder_blocks=(1, 1, 1), refinement_blocks=1, tren_width=4
)


def main(words: list[str]) -> None:
    """Train with options given as NAME=VALUE; signal=N@STEP sends the process a signal after a step."""
    torch.set_num_threads(1)
    model_config.PRESETS["tiny"] = TINY
    given = dict(word.split("=", 1) for word in words)
    number, _, step = given.pop("signal", "0@-1").partition("@")
    kinds = {"steps": int, "accumulate": int, "checkpoint_every": int, "learning_rate": float}
    options = {name: kinds.get(name, str)(value) for name, value in given.items()}
    config = resolve({"preset": "tiny", "device": "cpu", **options})

    def on_step(progress: object) -> None:
        if getattr(progress, "step", 0) == int(step):
            os.kill(os.getpid(), int(number))

    train(config, on_step=on_step)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    main(sys.argv[1:])
