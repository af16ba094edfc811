"""Measuring the training's domain into a card."""

from __future__ import annotations

import json

import nibabel
import numpy as np
import pytest
from typer.testing import CliRunner

from tatcli.baselines.networks import NETWORKS, ComparisonCard, load_comparison_weights, save_comparison_weights
from tatcli.cli.app import app
from tatcli.errors import UsageError
from tatcli.model.config import TatConfig
from tatcli.model.tat import Tat
from tatcli.model.weights import card_for_tasks, load_weights, read_card, save_weights
from tatcli.workflows import domain
from tatcli.workflows.domain import DomainConfig, measure_domain

TINY = TatConfig(
    width=8, encoder_blocks=(1, 1, 1), latent_blocks=1, decoder_blocks=(1, 1, 1), refinement_blocks=1, tren_width=4
)


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "tiny.safetensors"
    save_weights(Tat(TINY), card_for_tasks("tiny", TINY, ("ct-denoise", "pet-synthesis")), path)
    return path


def write(path, array, spacing):
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array.T.astype(np.float32), np.diag([-spacing, -spacing, 5.0, 1.0])), path)


def test_ranges_of_training_scans(tmp_path, weights) -> None:
    """LQ files are taken as they are: the range is that of their noise and pixel sizes."""
    rng = np.random.default_rng(0)
    for name, sigma, spacing in (("a", 10.0, 0.7), ("b", 40.0, 0.9), ("c", 20.0, 0.8)):
        truth = np.full((3, 64, 64), 40.0)
        truth[:, 0] = 100.0
        write(tmp_path / "CT" / "train" / "HQ" / f"{name}.nii", truth, spacing)
        write(tmp_path / "CT" / "train" / "LQ" / f"{name}.nii", truth + rng.normal(0, sigma, truth.shape), spacing)
    before = json.loads(weights.with_suffix(".json").read_text(encoding="utf-8"))
    path, card = measure_domain(DomainConfig(weights=str(weights), data=tmp_path))
    assert path == weights.with_suffix(".json")
    low, high = card.tasks["ct-denoise"].domain["noise"]
    assert low == pytest.approx(10.0, rel=0.15)
    assert high == pytest.approx(40.0, rel=0.15)
    assert card.tasks["ct-denoise"].domain["spacing_mm"] == (0.7, 0.9)
    assert card.tasks["ct-denoise"].domain["beyond"] == (0.0, 0.0)
    assert card.tasks["pet-synthesis"].domain == {}
    assert read_card(weights).tasks == card.tasks
    after = json.loads(path.read_text(encoding="utf-8"))
    assert {key: value for key, value in after.items() if key != "tasks"} == {
        key: value for key, value in before.items() if key != "tasks"
    }
    load_weights(weights)  # the hash is the weights' own


def test_strengths_of_simulated_scans(tmp_path, weights) -> None:
    """Both ends of the card's strengths: the strongest noise is a multiple of the weakest."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[-1:1:96j, -1:1:96j]
    body = x**2 + y**2 < 0.8
    write(
        tmp_path / "ct" / "train" / "a.nii", np.where(body, 50.0, -1000.0) + body * rng.normal(0, 10, (4, 96, 96)), 2.0
    )
    _, card = measure_domain(DomainConfig(weights=str(weights), data=tmp_path, slices=2))
    low, high = card.tasks["ct-denoise"].domain["noise"]
    # variances 1 / dose of the reference's: doses 0.6 and 0.05
    assert high / low == pytest.approx(np.sqrt(0.6 / 0.05), rel=0.35)


def test_patients_whose_files_have_one_name_get_noise_of_their_own(tmp_path, weights, monkeypatch) -> None:
    seeds = []
    monkeypatch.setattr(domain, "scan_seed", lambda *words: seeds.append(words) or 0)
    for patient in ("sub-01", "sub-02"):
        write(tmp_path / "ct" / "train" / patient / "ct.nii", np.random.default_rng(0).normal(0, 100, (3, 64, 64)), 2.0)
    monkeypatch.setattr(domain, "stack_statistics", lambda *_, **__: {"noise": 1.0})
    measure_domain(DomainConfig(weights=str(weights), data=tmp_path, slices=2))
    assert [words[2] for words in seeds] == ["sub-01/ct", "sub-02/ct"]


def test_scans_that_are_none_of_the_training_tell_nothing(tmp_path, weights) -> None:
    """Partners on another grid stop a training, and PET in Bq/ml is left out of it."""
    rng = np.random.default_rng(0)
    for name, sigma in (("a", 10.0), ("other", 90.0), ("short", 90.0)):
        truth = np.full((3, 64, 64), 40.0)
        truth[:, 0] = 100.0
        noisy = truth + rng.normal(0, sigma, truth.shape)
        write(tmp_path / "CT" / "train" / "HQ" / f"{name}.nii", truth, 0.7)
        write(tmp_path / "CT" / "train" / "LQ" / f"{name}.nii", noisy[: 1 if name == "short" else 3], 0.7)
    other = nibabel.load(tmp_path / "CT" / "train" / "LQ" / "other.nii")
    nibabel.save(
        nibabel.Nifti1Image(other.get_fdata().astype(np.float32), np.diag([-1.4, -1.4, 5.0, 1.0])),
        tmp_path / "CT" / "train" / "LQ" / "other.nii",
    )
    body = 0.1 + 2.0 * rng.random((3, 64, 64))
    for name, scale in (("suv", 1.0), ("bqml", 5000.0)):
        write(tmp_path / "PET" / "train" / "HQ" / f"{name}.nii", scale * body, 4.0)
        write(tmp_path / "PET" / "train" / "LQ" / f"{name}.nii", scale * (body + rng.normal(0, 0.1, body.shape)), 4.0)
    _, card = measure_domain(DomainConfig(weights=str(weights), data=tmp_path))
    low, high = card.tasks["ct-denoise"].domain["noise"]
    assert (low, high) == (high, pytest.approx(10.0, rel=0.15))
    assert card.tasks["pet-synthesis"].domain["beyond"] == (0.0, 0.0)
    assert card.tasks["pet-synthesis"].domain["noise"][1] < 1.0
    assert list(card.left_out) == ["ct-denoise: other", "ct-denoise: short", "pet-synthesis: bqml"]
    assert "expected SUVbw for pet-synthesis, got values" in card.left_out["pet-synthesis: bqml"]


def test_what_was_not_measured_is_told(tmp_path, weights) -> None:
    """The table has the card's other tasks, too, with what stood there before."""
    flat = 10.0 * np.arange(3.0)[:, None, None] + np.full((3, 64, 64), 40.0)
    rough = flat + np.random.default_rng(0).normal(0, 20, flat.shape)
    for name, truth in (("flat", flat), ("rough", rough)):
        write(tmp_path / "CT" / "train" / "HQ" / f"{name}.nii", truth, 0.7)
        write(tmp_path / "CT" / "train" / "LQ" / f"{name}.nii", rough, 0.7)
    words = ["weights", "domain", str(weights), "--data", str(tmp_path)]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    told = " ".join(done.output.split())
    assert "warning: ct-denoise: flat: left out: flat.nii: expected slices with structure inside the window" in told
    assert "warning: pet-synthesis: not measured, the card says what it said:" in told
    for kind in ("HQ", "LQ"):
        (tmp_path / "CT" / "train" / kind / "rough.nii").unlink()
    with pytest.raises(UsageError, match=r"got none that can be used: flat\.nii: expected slices with structure"):
        measure_domain(DomainConfig(weights=str(weights), data=tmp_path))


def test_no_scans(tmp_path, weights) -> None:
    (tmp_path / "mri" / "train").mkdir(parents=True)
    with pytest.raises(
        UsageError, match=r"of ct-denoise, pet-synthesis, got none that can be used: .*expected a folder CT/train"
    ):
        measure_domain(DomainConfig(weights=str(weights), data=tmp_path))
    with pytest.raises(UsageError, match="--slices"):
        DomainConfig(weights=str(weights), data=tmp_path, slices=0)


def test_nothing_else_in_the_card_changes(tmp_path, weights) -> None:
    """A comparison network's card stays one, and what a newer version of tat wrote is kept."""
    rng = np.random.default_rng(0)
    for quality in ("HQ", "LQ"):
        write(tmp_path / "CT" / "train" / quality / "a.nii", rng.normal(40, 10, (3, 64, 64)), 0.7)
    unet = tmp_path / "unet.safetensors"
    tasks = dict(read_card(weights).tasks)
    known = ComparisonCard(network="unet", config={"width": 4}, tasks=tasks, training={"steps": 3})
    save_comparison_weights(NETWORKS["unet"].build({"width": 4}), unet, card=known)
    newer = json.loads(weights.with_suffix(".json").read_text(encoding="utf-8"))
    newer["from the future"] = {"a": 1}
    newer["tasks"]["ct-denoise"]["more"] = [1, 2]
    weights.with_suffix(".json").write_text(json.dumps(newer), encoding="utf-8")
    for path in (unet, weights):
        before = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        measure_domain(DomainConfig(weights=str(path), data=tmp_path))
        after = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        assert after["tasks"]["ct-denoise"].pop("domain")["spacing_mm"] == [0.7, 0.7]
        assert after == before
    load_comparison_weights("unet", unet)
    load_weights(weights)
