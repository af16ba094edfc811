"""The project's own promises: public names, quick start-up, layout, and documents that say what the code does."""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import tatcli
from tatcli import errors
from tatcli.tasks import TASKS

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "tatcli"
HEAVY = ("torch", "numpy", "SimpleITK", "nibabel", "pydicom", "scipy", "skimage")
SOURCES = sorted(PACKAGE.rglob("*.py"))
MODULES = [".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in SOURCES]


def in_fresh_python(code: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# --- public names ----------------------------------------------------------------------------------------------------


def test_the_public_names_load():
    assert set(tatcli.__all__) == {
        "TASKS", "Restorer", "__version__", "evaluate", "read_volume", "simulate", "write_volume",
    }  # fmt: skip
    for name in tatcli.__all__:
        assert getattr(tatcli, name) is not None
    assert tatcli.TASKS is TASKS
    assert set(tatcli.__all__) <= set(dir(tatcli))


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'tatcli' has no attribute 'restorer'"):
        tatcli.restorer  # noqa: B018


def test_the_installed_version_is_the_package_version():
    assert importlib.metadata.version("tatcli") == tatcli.__version__
    assert f"## [{tatcli.__version__}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", MODULES)
def test_every_module_says_what_it_is_and_what_it_offers(name):
    if name == "tatcli.model.triton_kernel":
        pytest.importorskip("triton", reason="Triton comes with PyTorch's CUDA builds")
    module = importlib.import_module(name)
    assert module.__doc__
    if not name.endswith("__main__"):
        for public in getattr(module, "__all__", []):
            assert hasattr(module, public), f"{name}.__all__ names {public}, which isn't there"


# --- start-up --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", ["tatcli", "tatcli.cli.app"])
def test_start_up_loads_no_heavy_library(module):
    loaded = in_fresh_python(f"import sys, {module}; print(*sorted(sys.modules))").split()
    assert not set(HEAVY) & set(loaded)


def test_the_package_runs_as_the_command_does():
    """Where ``tat`` is on no path, as after ``pip install --user``."""
    command = [sys.executable, "-m", "tatcli"]
    done = subprocess.run([*command, "--version"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"tat {tatcli.__version__}\n", "")
    done = subprocess.run([*command, "info"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.endswith("; see tat info --help\n")


def test_help_and_version_load_no_heavy_library():
    for arguments in (["--help"], ["restore", "--help"], ["--version"]):
        code = (
            f"import sys; sys.argv = ['tat', *{arguments}]\n"
            "from tatcli.cli.app import main\n"
            "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
            "print('\\nloaded', *sorted(sys.modules))\n"
        )
        loaded = in_fresh_python(code).rpartition("\nloaded ")[2].split()
        assert not set(HEAVY) & set(loaded), arguments


def test_restoring_a_small_file_loads_what_it_needs_and_no_more(tmp_path):
    """Next to torch nothing counts: no scipy but what nibabel takes, no reader of other formats, no simulators."""
    code = f"""
import pathlib, sys
import numpy as np
from torch import nn
from tatcli.inference.options import RestoreOptions
from tatcli.inference.restorer import Restorer
from tatcli.model.config import PRESETS
from tatcli.model.weights import card_for_tasks
from tatcli.workflows.benchmark.volume import make_scan
from tatcli.workflows.restore import RestoreConfig, restore
scan = pathlib.Path({str(tmp_path)!r}) / sys.argv[1]
make_scan(scan, slices=2, size=16)
restorer = Restorer.from_network(nn.Identity(), card_for_tasks("none", PRESETS["tat-small"]), device="cpu")
restore(RestoreConfig(input=scan, task="ct", options=RestoreOptions(check_values=False)), restorer=restorer)
print(*sorted(sys.modules))
"""
    never = {"skimage", "scipy.fft", "scipy.ndimage", "torch._dynamo", "tatcli.degradation", "tatcli.baselines", "rich"}
    unused = {"small.nii.gz": {"SimpleITK"}, "small.mha": {"nibabel", "pydicom", "scipy"}}
    for name, others in unused.items():
        loaded = set(in_fresh_python(code, name).split())
        assert not (never | others) & loaded


def imports_at_module_level(tree: ast.Module) -> set[str]:
    """Top-level packages that importing the module imports: everything outside functions and `if TYPE_CHECKING`."""
    found = set()
    waiting: list[ast.AST] = list(tree.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").partition(".")[0])
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting += node.orelse
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            waiting += ast.iter_child_nodes(node)
    return found


@pytest.mark.parametrize("source", [path for path in SOURCES if "cli" in path.relative_to(PACKAGE).parts])
def test_the_cli_names_no_heavy_library_at_module_level(source):
    assert not imports_at_module_level(ast.parse(source.read_text(encoding="utf-8"))) & set(HEAVY)


# --- layout ----------------------------------------------------------------------------------------------------------


def test_the_top_level_holds_only_what_it_may():
    listing = subprocess.run(["git", "-C", ROOT, "ls-files"], capture_output=True, text=True, check=False)
    if listing.returncode:
        pytest.skip("not a git checkout")
    top = {line.partition("/")[0] for line in listing.stdout.splitlines()}
    allowed = {
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "LICENSE",
        "README.md",
        "examples",
        "pyproject.toml",
        "tatcli",
        "tests",
        "weights",
    }
    assert not {name for name in top if not name.startswith(".")} - allowed


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_modules_are_short_and_named_after_one_idea(source):
    assert len(source.read_text(encoding="utf-8").splitlines()) <= 300
    assert source.stem not in {"utils", "util", "common", "helpers", "misc"}


def test_a_wheel_carries_the_weights():
    config = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert config["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"] == {"weights": "tatcli/weights"}


# --- documents -------------------------------------------------------------------------------------------------------


def readme() -> str:
    return (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("package", "version"),
    [
        ("pydicom", "3.0.0"),  # fetches its example scans on import: minutes of trying where there is no Internet
        ("typer", "0.15.0"),  # takes any click, and with today's any --help of a command ends in a traceback
        ("typer", "0.17.3"),  # so it does without rich.markup, which nothing imported
        ("SimpleITK", "2.5.5"),  # doesn't say which axis of a NRRD is a list, so that sequences of frames aren't read
        ("numpy", "1.26.4"),  # pylibjpeg-openjpeg of the version that is asked for takes numpy 2 alone
    ],
)
def test_versions_that_do_not_work_are_not_taken(package, version):
    config = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wanted = {found.name: found.specifier for found in map(Requirement, config["project"]["dependencies"])}
    assert version not in wanted[package]


def test_the_readme_lists_every_task():
    for task in TASKS.values():
        assert f"`{task.name}`" in readme()


def commands_in(text: str) -> list[list[str]]:
    """The `tat ...` lines of a text, continued lines joined, split as a shell would, comments dropped."""
    lines = re.findall(r"^(?:\.venv/bin/)?(tat [a-z].*)$", text.replace("\\\n", " "), flags=re.MULTILINE)
    return [shlex.split(line, comments=True) for line in lines]


def documented_commands() -> list[list[str]]:
    shell = "".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "examples").glob("*.sh")))
    return commands_in(readme()) + commands_in(shell)


@pytest.mark.parametrize("words", documented_commands(), ids=" ".join)
def test_documented_commands_exist_with_their_options(words):
    from typer.main import get_command

    from tatcli.cli.app import app

    command = get_command(app)
    words = words[1:]
    while getattr(command, "commands", None) and not words[0].startswith("-"):
        assert words[0] in command.commands, f"no command {words[0]}"
        command = command.commands[words[0]]
        words = words[1:]
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    assert {word.partition("=")[0] for word in words if re.match("--?[a-zA-Z]", word)} <= known


def test_the_readme_gives_every_exit_code():
    in_readme = {int(code) for code in re.findall(r"^\| (\d+) \|", readme(), flags=re.MULTILINE)}
    in_code = {getattr(errors, name).exit_code for name in errors.__all__ if name[0].isupper()}
    assert in_readme == in_code | {0, 129, 130, 143}


def test_the_licence_is_apache_2():
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in text
    assert "Version 2.0, January 2004" in text
