"""What Z tells apart: the numbers on points whose answer is known, and Z itself on made-up scans."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tatcli.degradation import simulate
from tatcli.errors import DeviceError, OutputError, UsageError
from tatcli.model import load_weights
from tatcli.tasks import TASKS
from tatcli.volumes import read_volume
from tatcli.workflows.benchmark.representation import RepresentationConfig, represent
from tatcli.workflows.benchmark.representation_report import Point, summarise_points
from tatcli.workflows.evaluation.degraded import scan_seed

NAMES = {"name": "w", "sha256": "0" * 64}


def points(**tasks: list[tuple[float, float]]) -> list[Point]:
    return [
        Point(task=task, scan=f"{task}{number}", kind="degraded", z=z)
        for task, places in tasks.items()
        for number, z in enumerate(places)
    ]


def test_tasks_that_lie_apart() -> None:
    made = points(a=[(0, 0), (0, 2)], b=[(10, 0), (10, 2)])
    made += [Point(task="a", scan="a0", kind="clean", z=(0, 4)), Point(task="a", scan="a1", kind="clean", z=(0, 6))]
    report = summarise_points(made, weights=NAMES)
    assert report.between == pytest.approx(100 / 104)  # variances along the axes: 25 and 1, times four
    a, b = report.rows
    assert (a.scans, a.slices, a.recognised, b.recognised) == (2, 2, 1.0, 1.0)
    far = (10 + np.hypot(10, 2)) / 2
    assert a.silhouette == pytest.approx((far - 2) / far)
    assert a.spread == pytest.approx(1.0)
    assert a.clean_shift == pytest.approx(4.0)
    assert np.isnan(b.clean_shift)


def test_tasks_that_are_mixed() -> None:
    report = summarise_points(points(a=[(0, 0), (4, 0)], b=[(1, 0), (3, 0)]), weights=NAMES)
    a, b = report.rows
    assert a.recognised == 0.0  # without itself its mean is at the other end
    assert b.recognised == 0.0
    assert a.silhouette == pytest.approx((2 - 4) / 4)
    assert report.between == pytest.approx(0.0)


def test_components_of_a_line() -> None:
    report = summarise_points(points(a=[(0, 0), (3, 4), (6, 8)], b=[(9, 12)]), weights=NAMES)
    assert report.explained == pytest.approx((1.0, 0.0))
    assert [point["place"][0] for point in report.points] == pytest.approx([-7.5, -2.5, 2.5, 7.5])


def test_a_single_task_and_too_few_slices() -> None:
    report = summarise_points(points(a=[(0, 0), (1, 0), (2, 1)]), weights=NAMES)
    assert report.rows[0].recognised == 1.0
    assert np.isnan(report.rows[0].silhouette)
    with pytest.raises(UsageError, match="expected at least 3 slices that aren't constant, got 2"):
        summarise_points(points(a=[(0, 0), (1, 0)]), weights=NAMES)


class Doubles(TorchDispatchMode):
    """Keeps what makes tensors in float64, which Apple's GPUs haven't."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), named: Any = None) -> Any:
        made = function(*arguments, **(named or {}))
        if isinstance(made, torch.Tensor) and made.dtype is torch.float64:
            self.found.append(str(function))
        return made


def test_z_of_scans(tmp_path: Path, tiny_weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "data" / "MRI" / "val"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    np.save(folder / "scan.npy", rng.gamma(2.0, 100, (3, 40, 36)).astype(np.float32))
    weights = str(tiny_weights / "tat-small.safetensors")
    picture = tmp_path / "z.png"
    config = RepresentationConfig(data=tmp_path / "data", weights=weights, max_slices=0, threads=1, picture=picture)
    with Doubles() as doubles:
        report = represent(config)
    assert doubles.found == []
    assert [(point["task"], point["scan"], point["kind"]) for point in report.points] == [
        ("mri-sr", "scan", kind) for kind in ("degraded",) * 3 + ("clean",) * 3
    ]
    assert picture.exists()

    network, card = load_weights(weights)
    task = TASKS["mri-sr"]
    hq = read_volume(folder / "scan.npy", units=task.units)
    lq = simulate(hq, task, strength=task.default_strength, seed=scan_seed(0, task, "scan"))
    window = card.intensity_rule(task).window_for(lq.array)
    seen = []
    network.tren.represent.register_forward_hook(lambda *told: seen.append(told[-1]))
    with torch.inference_mode():
        for volume in (lq, hq):
            for slice_ in volume.array:
                network(torch.from_numpy(window.normalise(window.clip(slice_)).astype(np.float32))[None, None])
    z = torch.cat(seen).double().numpy()
    places = np.array([point["place"] for point in report.points])
    found = np.linalg.norm(places[:, None] - places[None], axis=-1)
    lengths = np.linalg.svd(z - z.mean(axis=0), compute_uv=False)
    expected = np.linalg.norm(z[:, None] - z[None], axis=-1)
    assert (found <= expected + 1e-6).all()  # a projection
    np.testing.assert_allclose((places**2).sum(axis=0), lengths[:2] ** 2, rtol=1e-4)

    def refuse(_: object, device: torch.device) -> None:
        msg = f"{device} computes otherwise"
        raise DeviceError(msg)

    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr("tatcli.inference.runtime.check_against_cpu", refuse)
    with pytest.raises(DeviceError, match="mps computes otherwise"):
        represent(replace(config, device="mps", picture=None))
    with pytest.raises(OutputError, match="exists"):
        represent(config)
    with pytest.raises(UsageError, match=r"z\.jpg: expected a name ending in \.png"):
        represent(replace(config, picture=tmp_path / "z.jpg"))
