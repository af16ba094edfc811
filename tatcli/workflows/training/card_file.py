"""Fields of the weights' card that people write: their name, limits, licence, and what else is to be told of them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final

from tatcli.errors import UsageError, reason_of

__all__ = ["read_card_fields"]

_FIELDS: Final[dict[str, tuple[type, str]]] = {
    "name": (str, "text"),
    "limits": (list, "a list of texts"),
    "license": (str, "text"),
    "training": (dict, "an object"),
}
_NAME: Final = re.compile(r"\w[\w .+-]{0,99}")
"""A file's name without its extension, in RUN and nowhere else."""


def read_card_fields(card: Path | None) -> dict[str, Any]:
    """Further fields of the weights' card, from a JSON file.

    Raises:
        UsageError: it can't be read, or holds other fields than name, limits, license, training, or other types.
    """
    if card is None:
        return {}
    try:
        fields = json.loads(card.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        msg = f"{card}: expected JSON with fields of a weights card, got {reason_of(error)}"
        raise UsageError(msg) from error
    if not isinstance(fields, dict) or not fields.keys() <= _FIELDS.keys():
        msg = f"{card}: expected an object with name, limits, license or training"
        raise UsageError(msg)
    for name, value in fields.items():
        kind, wanted = _FIELDS[name]
        texts = value if name == "limits" and isinstance(value, list) else []
        if not isinstance(value, kind) or not all(isinstance(text, str) for text in texts):
            msg = f"{card}: {name}: expected {wanted}, got {json.dumps(value)}"
            raise UsageError(msg)
    if not _NAME.fullmatch(fields.get("name", "mine")):
        msg = f"{card}: name: expected the name of a file, of letters, digits, spaces, '-', '+' and '.', got "
        raise UsageError(msg + json.dumps(fields["name"]))
    return fields
