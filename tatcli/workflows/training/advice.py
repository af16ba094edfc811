"""What to do about a scan that can't be read, where ``tat restore`` has an option for it and training has none."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["for_training"]

_INSTEAD: Final = {
    "units": "store the scan in the task's units, and say so in its header or sidecar",
    "pet": "add it to the header or sidecar, or store the scan in SUV",
    "series": "give each series a folder of its own",
    "ignore-modality": "correct the header",
}
_OPTION: Final = re.compile(rf"--({'|'.join(_INSTEAD)})\b")


def for_training(message: str) -> str:
    """The message; where it advises options that ``tat train`` and ``tat prepare`` lack, with what they can do."""
    named = list(dict.fromkeys(_OPTION.findall(message)))
    if not named:
        return message
    options = " and ".join(f"--{option}" for option in named)
    return f"{message} (only tat restore has {options}; here {'; '.join(_INSTEAD[option] for option in named)})"
