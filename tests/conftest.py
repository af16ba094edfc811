"""What every test shares: jaxtyping's shapes are checked, threads are few, real scans are optional."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from jaxtyping import install_import_hook

if TYPE_CHECKING:
    from kept_processes import KeptProcesses

PACKAGE = Path(__file__).resolve().parents[1] / "tatcli"
THREADS = 1 if "PYTEST_XDIST_WORKER" in os.environ else 2
"""Processes that share the cores take one each: threads that wait for each other's turn are many times slower."""
SHARED = Path(__file__).resolve().parents[2] / "shared"


def modules_with_shapes() -> list[str]:
    """The modules whose annotations give array shapes."""
    sources = (path for path in PACKAGE.rglob("*.py") if "from jaxtyping import" in path.read_text(encoding="utf-8"))
    return [".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts) for path in sources]


os.environ["OMP_NUM_THREADS"] = str(THREADS)  # of the programs that tests start, too

# Before anything imports them: their annotations are executed under pytest and cost nothing elsewhere.
install_import_hook(modules_with_shapes(), "beartype.beartype")


@pytest.hookimpl(optionalhook=True)  # pytest-xdist's
def pytest_xdist_auto_num_workers() -> int:
    """One process more than cores: many tests wait, for a scan to hang or a peer to come back."""
    return len(os.sched_getaffinity(0)) + 1 if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1) + 1


def pytest_configure(config: pytest.Config) -> None:
    """Values are held against a CPU's, so ``auto`` must not find a GPU, but where nothing else is asked for."""
    if config.getoption("markexpr") != "gpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # for deterministic runs; cuBLAS reads it once, in any test


@pytest.fixture(scope="session", autouse=True)
def few_threads() -> None:
    """The same threads everywhere, so that timings and the order of sums don't depend on the machine."""
    import torch

    torch.set_num_threads(THREADS)


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with untrained weights of a tiny network, named tat-small."""
    import torch

    from tatcli.model.tat import Tat
    from tatcli.model.weights import card_for_tasks, save_weights
    from tiny_networks import TINY

    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    save_weights(Tat(TINY), card_for_tasks("tat-small", TINY), folder / "tat-small.safetensors")
    return folder


@pytest.fixture(scope="session")
def idle_processes() -> Iterator[KeptProcesses]:
    """Children of batches that ended."""
    from kept_processes import KeptProcesses

    kept = KeptProcesses()
    yield kept
    kept.end()


@pytest.fixture
def kept_processes(idle_processes: KeptProcesses, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches in this process go on with the child processes of earlier ones, where they would start the same."""
    idle_processes.use(monkeypatch)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real scans and parity vectors beside the repository; without it the test is skipped."""
    if not SHARED.is_dir():
        pytest.skip(f"needs real scans and parity vectors in {SHARED}")
    return SHARED


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first, so that no process is left alone with one; what needs a CUDA device is skipped.

    Those that mostly wait alternate with those that compute.
    """
    slow = dict.fromkeys(item.path for item in items if item.get_closest_marker("slow"))
    waiting = [path for path in slow if any(item.path == path and item.get_closest_marker("waits") for item in items)]
    computing = [path for path in slow if path not in waiting]
    pairs = zip_longest(waiting, computing)
    turn = {path: place for place, path in enumerate(path for pair in pairs for path in pair if path is not None)}
    items.sort(key=lambda item: turn.get(item.path, len(turn)))
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device, and pytest -m gpu"))
