"""Options of a run from a recipe, a TOML file and the command line, and the file that they are kept in.

What is said later wins: defaults, the recipe, the file, the command line. A recipe that the command line names comes
after the file. The file is flat; its keys are the options of ``tat train`` with underscores or hyphens.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Final, Literal, get_args, get_origin, get_type_hints

from tatcli.errors import UsageError, reason_of
from tatcli.training.config import WITH_WIDTH, TrainConfig, flag
from tatcli.training.recipes import find_recipe

__all__ = ["SETTINGS_FILE", "read_settings", "resolve", "to_toml"]

SETTINGS_FILE: Final = "config.toml"

_HINTS: Final = get_type_hints(TrainConfig)
_OTHER_NAMES: Final = {flag(option).lstrip("-").replace("-", "_"): option for option in _HINTS}
_NONE: Final = "none"
_OPTIONAL_WEIGHTS: Final = ("init", "teacher")
"""Options that the word ``none`` takes back: a file, or a run's own options, may name some."""
_OF_A_SET: Final = ("max_slices", "noise_fields")
"""What is decided when a set is prepared."""
_SECTIONS: Final = {
    "data": "what is trained on, and where it goes",
    "tasks": "tasks and network",
    "steps": "steps and batches",
    "optimizer": "optimiser and loss",
    "sampling": "samples",
    "precision": "how it is computed, logged and kept",
}
"""The option that starts a section of the written file -> its comment."""


def resolve(given: Mapping[str, Any], file: Path | None = None) -> TrainConfig:
    """The options of a run.

    Args:
        given: what the command line names: option -> value; lists may be text with commas.
        file: TOML.

    Raises:
        UsageError: the file can't be read, an option is unknown, of another type or out of range, or missing; the file
            is of a run whose folder was moved, and no other is named.
    """
    told = {option: _typed(option, value, flag(option)) for option, value in given.items()}
    kept = read_settings(file) if file is not None else {}
    recipe = str(told.get("recipe", kept.get("recipe", "default")))
    layers = [kept, find_recipe(recipe), told] if "recipe" in told else [find_recipe(recipe), kept, told]
    options: dict[str, Any] = {"device": "auto"}
    for layer in layers:
        options |= layer
    if "teacher" in told and told["teacher"] is None and "teacher_share" not in told:
        options.pop("teacher_share", None)  # goes with the teacher
    if options.get("init") and options.get("network", "tat") == "tat" and not options.get("grow"):
        options["preset"] = told.get("preset", kept.get("preset"))  # a recipe's gives way to the weights' own size
    for option in ("data", "output"):
        if option not in options:
            msg = f"train: expected {flag(option)}, on the command line or in the --config file"
            raise UsageError(msg)
    config = TrainConfig(**options)
    if file is not None and "output" not in told:
        _check_place(file, config)
    _check_use(config, told)
    return config


def read_settings(path: Path) -> dict[str, Any]:
    """The options in a TOML file, each of its right type.

    Raises:
        UsageError: it can't be read, isn't TOML, or holds something that is no option.
    """
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        msg = f"{path}: expected a TOML file with options of tat train, got {reason_of(error)}"
        raise UsageError(msg) from error
    options = {}
    for key, value in found.items():
        name = key.replace("-", "_")
        option = _OTHER_NAMES.get(name, name)
        if option not in _HINTS:
            msg = f"{path}: expected options of tat train, got {key!r}; tat train --help lists them"
            raise UsageError(msg)
        if option in options:
            msg = f"{path}: expected {flag(option)} once, got it again as {key!r}; take one of them out"
            raise UsageError(msg)
        options[option] = _typed(option, value, f"{path}: {key}")
    return options


def to_toml(config: TrainConfig) -> str:
    """All options as a TOML file that :func:`read_settings` reads; those that are None are left out."""
    lines: list[str] = []
    for option, value in config.to_dict().items():
        if option in _SECTIONS:
            lines += [*([""] if lines else []), f"# {_SECTIONS[option]}"]
        if value is not None:
            # JSON's strings, numbers, booleans and lists are TOML's (but for a DEL, which TOML wants escaped)
            text = json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
            lines.append(f"{option} = {text}")
    return "\n".join(lines) + "\n"


def _check_place(file: Path, config: TrainConfig) -> None:
    """Refuse to begin anew, unnoticed, where the folder of a run to go on with was moved, or named from elsewhere.

    Raises:
        UsageError: the file lies in the folder of a run, and names another one for it.
    """
    from tatcli.training.checkpoints import CHECKPOINT  # (takes torch, which the command line starts without)

    folder = file.parent
    if (folder / CHECKPOINT).exists() and folder.resolve() != config.output.resolve():
        msg = f"{file}: expected the run's own folder as its output, got {config.output}; name one: -o {folder} goes on"
        raise UsageError(msg + " with the run")


def _check_use(config: TrainConfig, told: Mapping[str, Any]) -> None:
    """Refuse what would change nothing.

    Raises:
        UsageError: an option without the one that it belongs to.
    """
    idle = {
        "teacher_share": (
            not config.teacher and config.teacher_share != TrainConfig.default("teacher_share"),
            "teacher",
        ),
        "sample_values": (config.sample_values and not config.samples, "samples"),
    }
    for option, (is_idle, home) in idle.items():
        if is_idle:
            msg = f"{flag(option)}: expected together with {flag(home)}, got none; leave it out, or add that"
            raise UsageError(msg)
    if "preset" in told and config.network in WITH_WIDTH:
        msg = f"--preset: expected with --network tat, static-tat or routed, got {config.network}, whose size is"
        raise UsageError(msg + " --network-width")
    for option in _OF_A_SET:
        if option in told and _all_prepared(config):
            msg = f"{flag(option)}: expected with scans that tat train prepares itself, got a set of tat prepare, which"
            raise UsageError(msg + " decided it; leave it out, or prepare another")


def _all_prepared(config: TrainConfig) -> bool:
    from tatcli.training.prepared_set import is_prepared  # (takes numpy, which the command line starts without)

    return all(is_prepared(root) for root in (config.data, *config.also))


def _typed(option: str, value: Any, told: str) -> Any:
    """The value as the option's type.

    Raises:
        UsageError: it isn't one.
    """
    hint = _HINTS[option]
    if option in _OPTIONAL_WEIGHTS and value == _NONE:
        return None
    try:
        return _converted(value, hint)
    except (TypeError, ValueError):
        wanted = _words(hint)
        msg = f"{told} {value!r}: expected {wanted}"
        raise UsageError(msg) from None


def _converted(value: Any, hint: Any) -> Any:
    if get_origin(hint) is tuple:
        kind = get_args(hint)[0]
        parts = [part.strip() for part in value.split(",")] if isinstance(value, str) else value
        parts = parts if isinstance(parts, list | tuple) else [parts]
        return tuple(_from_text(part, kind) for part in parts if part != "")
    if get_origin(hint) is UnionType:
        kinds = [kind for kind in get_args(hint) if kind is not NoneType]
        return None if value is None else _converted(value, kinds[0])
    if hint is Path:
        return Path(_exactly(value or None, str | Path))  # (an empty word would be the current folder)
    if get_origin(hint) is Literal or hint is str:
        return _exactly(value, str)
    if hint is float:
        return float(_exactly(value, int | float))
    return _exactly(value, hint)


def _from_text(part: Any, kind: type) -> Any:
    if isinstance(part, str):
        return kind(part)
    return float(_exactly(part, int | float)) if kind is float else _exactly(part, kind)


def _exactly(value: Any, kind: Any) -> Any:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise TypeError
    return value


def _words(hint: Any) -> str:
    if get_origin(hint) is tuple:
        of = {
            str: "names separated by commas, or a list of them",
            Path: "a path, or a list of paths",
            int: "whole numbers separated by commas",
        }
        return of.get(get_args(hint)[0], "numbers separated by commas")
    names = {int: "a whole number", float: "a number", bool: "true or false", Path: "a path"}
    hint = next((kind for kind in get_args(hint) if kind in names), hint)
    return names.get(hint, "text")
