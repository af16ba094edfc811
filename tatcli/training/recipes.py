"""Named sets of options to start from."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from tatcli.errors import UsageError

__all__ = ["RECIPES", "find_recipe"]

RECIPES: Final[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
    {
        "default": {},
        "quick": {
            "preset": "tat-tiny",
            "steps": 200,
            "patch": (32,),
            "batch": (2,),
            "learning_rate": 2e-3,
            "warmup": 10,
            "ema": 0.98,
            "noise_fields": 2,
            "max_slices": 8,
            "validate_every": 200,
            "validation_slices": 1,
            "samples": 0,
        },
        "paper": {
            "network": "tat",
            "preset": "tat-base",
            "steps": 400_000,
            "patch": (128,),
            "batch": (4,),
            "milestones": (),
            "optimizer": "adamw",
            "learning_rate": 2e-4,
            "warmup": 0,
            "weight_decay": 0.01,
            "clip": 0.0,
            "ema": 0.999,
            "loss": "balanced",
            "augment": False,
            "default_share": (1.0,),
            "mri_range": "paper",
            "precision": "fp32",
        },
    }
)
"""``quick`` shows in a minute that everything works, and no more.

``paper``: Yang et al., MICCAI 2025: AdamW, lr 2e-4 to 1e-7 by a cosine over 400,000 steps, each with four 128x128
crops of every task; EMA 0.999; fp32; no augmentation; the published data's one strength for each task.
"""


def find_recipe(name: str) -> Mapping[str, Any]:
    """The options of this recipe.

    Raises:
        UsageError: no such recipe; the message lists the known ones.
    """
    if name not in RECIPES:
        msg = f"--recipe {name!r}: expected one of {', '.join(RECIPES)}"
        raise UsageError(msg)
    return RECIPES[name]
