"""The network and the loss reproduce the authors' numbers (../shared/parity)."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch

from tatcli.model import LossBalancer, Tat, from_official, to_official
from tatcli.model.fused import without_kernels
from tatcli.model.native_library import native_library, why_not_native
from tatcli.model.official import official_name

_SPEC = importlib.util.spec_from_file_location("formula", Path(__file__).with_name("formula.py"))
assert _SPEC is not None
assert _SPEC.loader is not None
formula = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(formula)

pytestmark = pytest.mark.real_data


@pytest.fixture(scope="module")
def parity(shared: Path) -> Path:
    return shared / "parity"


@pytest.fixture(scope="module")
def state_dict(parity: Path) -> dict[str, torch.Tensor]:
    return formula.formula_weights(parity / "official_keys.json")


@pytest.fixture(scope="module")
def network(state_dict: dict[str, torch.Tensor]) -> Tat:
    return from_official(state_dict)


def test_base_has_the_papers_size(network: Tat) -> None:
    assert not network.training
    assert round(sum(p.numel() for p in network.parameters()) / 1e6, 2) == 41.69
    assert round(sum(p.numel() for p in network.tren.parameters()) / 1e6, 2) == 15.41


WAYS = ("kernels", "operations")
CASES = ("128x128_1", "64x96_2", "136x200_3", "256x256_4")


@pytest.fixture
def way(request: pytest.FixtureRequest) -> Iterator[None]:
    """Through the fused kernels, and through PyTorch's operations."""
    if request.param == "kernels" and native_library() is None:
        pytest.skip(f"no fused kernels: {why_not_native()}")
    with nullcontext() if request.param == "kernels" else without_kernels():
        yield


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(
    ("way", "case"), [*((way, case) for way in WAYS for case in CASES[:3]), ("kernels", CASES[3])], indirect=["way"]
)
def test_output(network: Tat, parity: Path, case: str) -> None:
    vectors = np.load(parity / "network.npz")
    with torch.inference_mode():
        output = network(torch.from_numpy(vectors[f"x_{case}"]))
    assert np.abs(output.numpy() - vectors[f"y_{case}"]).max() <= 2e-3


@pytest.mark.slow
def test_gradients(state_dict: dict[str, torch.Tensor], parity: Path) -> None:
    """Through the fused kernels where they are; that operations have the same is test_fused's."""
    network = from_official(state_dict).train()
    vectors = np.load(parity / "gradients_input.npz")
    expected = json.loads((parity / "gradients.json").read_text())
    output = network(torch.from_numpy(vectors["x"]))
    assert np.abs(output.detach().numpy() - vectors["y"]).max() <= 2e-3
    loss = (output - torch.from_numpy(vectors["target"])).square().mean()
    loss.backward()
    assert float(loss.detach()) == pytest.approx(expected["loss"], rel=1e-5)
    seen = set()
    for name, parameter in network.named_parameters():
        official = official_name(name)
        norm, product = expected["gradients"][official]
        assert parameter.grad is not None, name
        gradient = parameter.grad.double().numpy().ravel()
        assert np.linalg.norm(gradient) == pytest.approx(norm, rel=1e-3), name
        probe = formula.normal(official + "#grad", gradient.size)
        assert abs(gradient @ probe - product) <= 1e-3 * norm * np.sqrt(gradient.size), name
        seen.add(official)
    assert seen == set(expected["gradients"])


def test_names_map_both_ways(network: Tat, state_dict: dict[str, torch.Tensor]) -> None:
    exported = to_official(network)
    assert exported.keys() == state_dict.keys()
    for name, value in exported.items():
        assert torch.equal(value, state_dict[name]), name


def test_loss_and_its_gradients(parity: Path) -> None:
    vectors = np.load(parity / "loss.npz")
    weights = formula.formula_weights(parity / "official_loss_keys.json")
    renamed = {
        "fc_in": "weight_estimator.fc_in",
        "fc1": "weight_estimator.res_block.fc1",
        "fc2": "weight_estimator.res_block.fc2",
        "norm": "weight_estimator.res_block.norm",
        "fc_out": "weight_estimator.fc_out",
    }
    names = {f"{ours}.{leaf}": f"{theirs}.{leaf}" for ours, theirs in renamed.items() for leaf in ("weight", "bias")}
    balancer = LossBalancer()
    balancer.load_state_dict({ours: weights[theirs] for ours, theirs in names.items()})
    restored = torch.from_numpy(vectors["restored"]).requires_grad_()
    hq, lq = torch.from_numpy(vectors["hq"]), torch.from_numpy(vectors["lq"])
    features, _ = balancer.features(restored, hq, lq)
    np.testing.assert_allclose(features.numpy(), vectors["features"], rtol=1e-4)
    result = balancer(restored, hq, lq)
    result.loss.backward()
    np.testing.assert_allclose(result.sigma.numpy(), vectors["sigma"], rtol=1e-4)
    assert float(result.loss.detach()) == pytest.approx(float(vectors["loss"]), rel=1e-4)
    assert restored.grad is not None
    _assert_close(restored.grad, vectors["grad_restored"])
    for ours, theirs in names.items():
        gradient = balancer.get_parameter(ours).grad
        assert gradient is not None
        _assert_close(gradient, vectors[f"grad::{theirs}"])


def _assert_close(gradient: torch.Tensor, expected: np.ndarray) -> None:
    """Within 1e-4 of the gradient's norm."""
    assert np.linalg.norm(gradient.numpy() - expected) <= 1e-4 * np.linalg.norm(expected)
