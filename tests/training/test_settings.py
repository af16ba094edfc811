"""Options from flags, file and recipe: which one wins, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tatcli.errors import UsageError
from tatcli.training.config import TrainConfig
from tatcli.training.settings import read_settings, resolve, to_toml

PLACES = {"data": "DATA", "output": "RUN"}


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "c.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_flags_win_over_the_file_over_the_recipe(tmp_path: Path) -> None:
    file = written(tmp_path, 'recipe = "paper"\nbatch = [2]\nsteps = 7\n')
    found = resolve({**PLACES, "steps": 9}, file)
    assert (found.steps, found.batch, found.preset) == (9, (2,), "tat-base")
    assert (found.data, found.output) == (Path("DATA"), Path("RUN"))


def test_a_recipe_on_the_command_line_wins_over_the_file(tmp_path: Path) -> None:
    file = written(tmp_path, "batch = [2]\nnoise_fields = 3\n")
    found = resolve({**PLACES, "recipe": "paper"}, file)
    assert (found.batch, found.noise_fields) == ((4,), 3)


def test_none_takes_back_the_weights_that_the_file_names(tmp_path: Path) -> None:
    file = written(tmp_path, 'init = "a"\nteacher = "b,c"\nteacher_share = [0.5]\nsteps = 7\n')
    found = resolve({**PLACES, "init": "none"}, file)
    assert (found.init, found.preset, found.teacher, found.teacher_share) == (None, "tat-small", "b,c", (0.5,))
    found = resolve({**PLACES, "teacher": "none"}, file)
    assert (found.init, found.preset, found.teacher, found.teacher_share) == ("a", None, None, (0.8,))
    found = resolve({**PLACES, "init": "none", "teacher": "none"}, file)
    assert (found.init, found.teacher, found.steps) == (None, None, 7)
    with pytest.raises(UsageError, match="--teacher-share: expected together with --teacher"):
        resolve({**PLACES, "teacher": "none", "teacher_share": "0.5"}, file)
    assert read_settings(written(tmp_path, 'init = "none"\n')) == {"init": None}


def test_the_papers_recipe() -> None:
    found = resolve({**PLACES, "recipe": "paper"})
    assert (found.preset, found.steps, found.patch, found.batch) == ("tat-base", 400_000, (128,), (4,))
    assert (found.learning_rate, found.weight_decay, found.ema, found.clip) == (2e-4, 0.01, 0.999, 0.0)
    assert (found.loss, found.precision, found.augment, found.default_share) == ("balanced", "fp32", False, (1.0,))


def test_a_written_file_gives_the_same_run(make_config: Callable[..., TrainConfig], tmp_path: Path) -> None:
    config = make_config(
        patch=(32, 64), batch=(2, 1), milestones=(0.5,), learning_rate=1e-7, subjects=r'^(p\d+)_"x"',
        sample_values=True, also=(Path("a,b"), Path("c")),
    )  # fmt: skip
    assert resolve({}, written(tmp_path, to_toml(config))) == config
    assert TrainConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_hyphens_and_the_flags_own_names(tmp_path: Path) -> None:
    file = written(tmp_path, 'lr = 1e-3\ntask-weights = [1, 2]\ntasks = "ct,pet"\nweight-decay = 0\n')
    found = read_settings(file)
    expected = {"learning_rate": 1e-3, "task_weights": (1.0, 2.0), "tasks": ("ct", "pet"), "weight_decay": 0.0}
    assert found == expected


def test_the_mark_that_windows_editors_begin_a_file_with(tmp_path: Path) -> None:
    file = tmp_path / "options.toml"
    file.write_bytes(b"\xef\xbb\xbfsteps = 3\r\nlr = 0.5\r\n")

    assert read_settings(file) == {"steps": 3, "learning_rate": 0.5}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("lr = 0.1\nlearning_rate = 0.2", r"expected --lr once, got it again as 'learning_rate'"),
        ('data = ""', r"data '': expected a path"),
        ('cache = ""', r"cache '': expected a path"),
        ("patch = 16.5", r"patch 16.5: expected whole numbers separated by commas"),
        ("x = " + "[" * 5000, r"expected a TOML file with options of tat train, got RecursionError"),
        ("step = 3", r"expected options of tat train, got 'step'"),
        ("steps = 3.5", r"steps 3.5: expected a whole number"),
        ("steps = true", r"steps True: expected a whole number"),
        ('augment = "no"', r"augment 'no': expected true or false"),
        ('patch = ["a"]', r"patch \['a'\]: expected whole numbers separated by commas"),
        ("tasks = [1]", r"tasks \[1\]: expected names separated by commas, or a list of them"),
        ("also = [3]", r"also \[3\]: expected a path, or a list of paths"),
        ("loss = 1", r"loss 1: expected text"),
        ("steps = ", r"expected a TOML file with options of tat train, got TOMLDecodeError"),
        ('recipe = "none"', r"--recipe 'none': expected one of default, quick, paper"),
    ],
)
def test_files_that_are_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        resolve(PLACES, written(tmp_path, text))


def test_what_has_no_default_must_be_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected --output, on the command line or in the --config file"):
        resolve({"data": "DATA"}, written(tmp_path, "steps = 3"))
    with pytest.raises(UsageError, match=r"none.toml: expected a TOML file .*, got nothing there"):
        resolve(PLACES, tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"teacher_share": "0.5"}, "--teacher-share: expected together with --teacher"),
        ({"recipe": "quick", "sample_values": True}, "--sample-values: expected together with --samples"),
        ({"network": "unet", "preset": "tat-tiny"}, "--preset: expected with --network tat, .* --network-width"),
    ],
)
def test_what_would_change_nothing_is_refused(tmp_path: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        resolve(PLACES | options)
    assert resolve(PLACES | {"teacher": "x", "teacher_share": "0.5"}).teacher_share == (0.5,)
    unet = resolve(PLACES | {"network": "unet", "recipe": "quick"})  # the recipe's preset is nobody's word
    assert resolve({}, written(tmp_path, to_toml(unet))) == unet


@pytest.mark.parametrize("option", ["max_slices", "noise_fields"])
def test_what_a_prepared_set_decided_is_refused(tmp_path: Path, option: str) -> None:
    (tmp_path / "index.jsonl").touch()
    told = {"data": tmp_path, "output": "o"}
    with pytest.raises(UsageError, match=f"--{option.replace('_', '-')}: expected with scans that tat train prepares"):
        resolve(told | {option: 2})
    assert resolve(told | {"recipe": "quick"}).max_slices == 8  # nobody's word
    assert resolve(told | {option: 2, "also": (tmp_path / "scans",)}).also


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"weight_decay": float("nan")}, "--weight-decay"),
        ({"weight_decay": -1.0}, "--weight-decay"),
        ({"weight_decay": float("inf")}, "--weight-decay"),
        ({"clip": float("inf")}, "--clip"),
        ({"explode": float("inf")}, "--explode"),
        ({"checkpoint_minutes": float("inf")}, "--checkpoint-minutes"),
        ({"seed": 2**63}, "--seed"),
        ({"task_weights": (1.0, float("nan"), 1.0)}, "--task-weights"),
        ({"default_share": (0.3, float("nan"), 0.3)}, "--default-share"),
        ({"threads": -1}, "--threads"),
        ({"threads": 10**20}, "--threads"),
    ],
)
def test_numbers_out_of_range(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=f"train: {said}.*: value out of range, got "):
        resolve(PLACES | options)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"learning_rate": 5.0}, r"--lr \(above 0, below 1\): value out of range, got 5\.0$"),
        ({"network": "red-cnn", "patch": "16"}, r"--patch \(red-cnn: at least 24\): value out of range, got 16$"),
        ({"patch": "33,64", "batch": "1,1", "milestones": "0.5"}, r"--patch \(multiples of 8\): value .* got 33,64$"),
        ({"milestones": "0.5"}, r"one more patch and batch than milestones\): value out of range, got 128, 4, 0\.5$"),
        ({"network": "unet", "tasks": "ct", "patch": "16", "batch": "1"}, r"unet: 32.*: value out .* got 16, 1$"),
        ({"noise_fields": 1001}, r"--noise-fields \(1 to 1000\): value out of range, got 1001$"),
        ({"workers": 1025}, r"--workers \(1 to 1024\): value out of range, got 1025$"),
        ({"tasks": ","}, r"--tasks \(at least one\): value out of range, got none$"),
    ],
)
def test_what_was_expected_and_what_came(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        resolve(PLACES | options)


def test_a_run_that_was_moved_does_not_begin_anew_unnoticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    moved = tmp_path / "MOVED"
    moved.mkdir()
    file = moved / "config.toml"
    file.write_text('data = "DATA"\noutput = "RUN"\n')
    assert resolve({}, file).output == Path("RUN")  # a file of options, beside no run
    (moved / "checkpoint.pt").touch()
    told = r"MOVED/config\.toml: expected the run's own folder as its output, got RUN; name one: -o .*MOVED goes on"
    with pytest.raises(UsageError, match=told):
        resolve({}, file)
    assert resolve({"output": "AGAIN"}, file).output == Path("AGAIN")
    moved.rename(tmp_path / "RUN")
    assert resolve({}, Path("RUN/config.toml")).output == Path("RUN")
