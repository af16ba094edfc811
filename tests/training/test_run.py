"""Runs: learning, exact resumption, interruption, divergence, and the weights they leave."""

from __future__ import annotations

import copy
import hashlib
import json
import math
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
import torch
from PIL import Image
from torch import nn

from tatcli.baselines.networks import load_any_weights, load_comparison_weights
from tatcli.errors import OutputError, UsageError, WeightsError
from tatcli.model import LossBalancer, load_weights
from tatcli.model.config import PRESETS
from tatcli.model.weights import read_card
from tatcli.tasks import TASKS
from tatcli.training.checkpoints import CHECKPOINT, load_checkpoint, save_checkpoint
from tatcli.training.config import TrainConfig
from tatcli.training.distributed import World
from tatcli.training.log import LOG, read_log
from tatcli.training.loop import Progress
from tatcli.training.optimisers import is_matrix
from tatcli.training.references import prepare_references
from tatcli.training.sampler import Sampler
from tatcli.training.settings import resolve
from tatcli.training.steps import Stepper, TrainingDiverged
from tatcli.workflows.domain import DomainConfig, measure_domain
from tatcli.workflows.train import TrainReport, train
from tatcli.workflows.training.card_file import read_card_fields
from tatcli.workflows.training.curves import plot_run
from tatcli.workflows.training.network import make_network

Make = Callable[..., TrainConfig]


def state(report: TrainReport) -> dict[str, torch.Tensor]:
    loaded = torch.load(report.output / CHECKPOINT, weights_only=True)
    flat = {}
    for part in ("network", "loss", "ema"):
        flat |= {f"{part}.{key}": value for key, value in loaded[part].items()}
    return flat


def interrupt_at(step: int) -> Callable[[Progress], None]:
    def stop(progress: Progress) -> None:
        if progress.step == step:
            raise KeyboardInterrupt

    return stop


def test_resumed_run_equals_the_straight_one(make_config: Make) -> None:
    straight = train(make_config("straight"))
    with pytest.raises(KeyboardInterrupt):
        train(make_config("cut"), on_step=interrupt_at(3))
    resumed = train(make_config("cut"))
    assert resumed.steps == straight.steps == 4
    expected, found = state(straight), state(resumed)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


def test_a_log_whose_last_line_was_cut_off(make_config: Make) -> None:
    """As by a full disk or a power cut: the run goes on, and its curves are drawn."""
    config = make_config(tasks=("mri",), steps=2, log_every=1, validate_every=2)
    train(config)
    path = config.output / LOG
    whole = path.read_text()
    path.write_text(whole + '{"kind": "trai')
    assert [(line["kind"], line["step"]) for line in read_log(config.output)] == [
        ("train", 1),
        ("train", 2),
        ("validation", 2),
    ]
    assert train(config).steps == 2
    assert path.read_text() == whole


def test_the_log_has_the_rate_that_a_step_was_taken_with(make_config: Make) -> None:
    config = make_config(tasks=("mri",), steps=3, log_every=1, learning_rate=4e-3, warmup=2)
    train(config)
    rates = [line["lr"] for line in read_log(config.output) if line["kind"] == "train"]
    assert rates == pytest.approx([2e-3, 4e-3, 4e-3])


def test_data_that_go_away_while_it_trains(make_config: Make, dataset: Path, tmp_path: Path) -> None:
    """What is trained on was read before; the card tells it all the same."""
    shutil.copytree(dataset, tmp_path / "data")
    config = make_config(data=tmp_path / "data", tasks=("mri",), steps=2)
    report = train(config, on_step=lambda _: shutil.rmtree(tmp_path / "data", ignore_errors=True))
    assert [row["file"] for row in read_card(report.weights).training["data"]] == [
        "MRI/train/mri0.nii.gz", "MRI/train/mri1.nii.gz",
    ]  # fmt: skip


@pytest.mark.slow
def test_it_learns(make_config: Make) -> None:
    """Thirty steps on low-resolution MRI bring the validation scan closer to its reference."""
    config = make_config(
        tasks=("mri",), steps=30, batch=(4,), learning_rate=3e-3, ema=0.9, default_share=(1.0,), validate_every=30
    )
    score = train(config).validation["mri-sr"]
    assert score.slices == 1
    assert score.gain > 0.1


@pytest.mark.parametrize(
    "options",
    [
        {"loss": "l1", "clip": 0.0},
        {"precision": "bf16", "deterministic": True},
        {"precision": "fp16", "task_weights": (2.0,)},
    ],
)
def test_other_settings_run(make_config: Make, options: dict[str, object]) -> None:
    report = train(make_config(steps=1, tasks=("ct",), **options))
    assert np.isfinite(report.validation["ct-denoise"].psnr_restored)


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_on_a_gpu_runs_repeat_exactly(make_config: Make, precision: str) -> None:
    last = f"cuda:{torch.cuda.device_count() - 1}"  # not the current one, where there are several

    def interrupt(progress: Progress) -> None:
        if progress.step == 3:
            raise KeyboardInterrupt

    reports = []
    for name in ("whole", "resumed"):
        config = make_config(name, precision=precision, device=last, deterministic=True, optimizer="muon", accumulate=2)
        if name == "resumed":
            with pytest.raises(KeyboardInterrupt):
                train(config, on_step=interrupt)
        reports.append(train(config))
    for score in reports[0].validation.values():
        assert np.isfinite(score.psnr_restored)
    whole, resumed = (load_weights(report.weights)[0].state_dict() for report in reports)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


@pytest.mark.parametrize("matrix", [True, False])
def test_an_overflow_of_one_optimiser_moves_nothing(make_config: Make, *, matrix: bool) -> None:
    """Gradients of fp16 overflow in one weight, which only one of Muon and AdamW has: both wait, the scale falls."""
    config = make_config(tasks=("ct",), steps=2, precision="fp16", optimizer="muon")
    network = make_network(config).module
    references = {"ct-denoise": prepare_references(TASKS["ct-denoise"], "train", config)}
    batch = Sampler(references, config).batch(0)
    stepper = Stepper(network, config, world=World())
    assert len(stepper.optimisers) == 2
    weight = next(weight for weight in network.parameters() if is_matrix(weight) == matrix)
    before = copy.deepcopy(network.state_dict())
    scale = stepper.scaler.get_scale()
    overflow = weight.register_hook(lambda gradient: torch.full_like(gradient, math.inf))
    stepper.update(batch, 0)
    averaged = stepper.ema.network.state_dict()
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name
        assert torch.equal(averaged[name], before[name]), name
    assert stepper.scaler.get_scale() == scale / 2
    overflow.remove()
    stepper.update(batch, 1)
    after = network.state_dict()
    assert all(bool(value.isfinite().all()) for value in after.values())
    assert not torch.equal(after["output.weight"], before["output.weight"])


def test_log_holds_losses_and_sigma_of_every_task(make_config: Make) -> None:
    report = train(make_config())
    lines = [json.loads(line) for line in (report.output / LOG).read_text().splitlines()]
    trained = [line for line in lines if line["kind"] == "train"]
    assert [line["step"] for line in trained] == [2, 4]
    for line in trained:
        assert line["l1"].keys() == line["sigma"].keys() == {"ct-denoise", "mri-sr", "pet-synthesis"}
        assert all(value > 0 for value in line["l1"].values())
        assert line["sigma"]["ct-denoise"] == pytest.approx(1, abs=0.2)
    validated = [line for line in lines if line["kind"] == "validation"]
    assert [line["step"] for line in validated] == [2, 4]
    assert np.isfinite(validated[0]["tasks"]["pet-synthesis"]["gain"])


def test_weights_with_their_card(make_config: Make, tmp_path: Path) -> None:
    fields = tmp_path / "card.json"
    fields.write_text(json.dumps({"name": "mine", "limits": ["phantoms only"], "license": "CC0-1.0"}))
    theirs = tmp_path / "theirs" / "mri" / "train" / "theirs.npy"
    theirs.parent.mkdir(parents=True)
    np.save(theirs, np.random.default_rng(0).uniform(50, 900, (64, 64)).astype(np.float32))
    config = make_config(steps=1, also=(tmp_path / "theirs",))
    report = train(config, card=fields, command="tat train ...")
    network, card = load_weights(report.weights)
    averaged = torch.load(report.output / CHECKPOINT, weights_only=True)["ema"]
    for name, value in network.state_dict().items():
        assert torch.equal(value, averaged[name].half().float()), name
    assert report.weights.name == "mine.safetensors"
    assert card.limits == ("phantoms only",)
    assert card.license == "CC0-1.0"
    assert card.training["command"] == "tat train ..."
    assert card.training["steps"] == 1
    data = {row["file"]: row for row in card.training["data"]}
    assert data["CT/train/ct0.nii.gz"]["terms"] == "CC0"
    assert len(data["MRI/train/mri1.nii.gz"]["sha256"]) == 64
    assert data["mri/train/theirs.npy"]["sha256"] == hashlib.sha256(theirs.read_bytes()).hexdigest()
    assert not any("/val/" in name for name in data)


def test_starts_from_weights(make_config: Make) -> None:
    first = train(make_config("first", steps=2))
    second = train(make_config("second", steps=1, init=str(first.weights), learning_rate=1e-9))
    before, after = load_weights(first.weights)[0].state_dict(), load_weights(second.weights)[0].state_dict()
    for name, value in before.items():
        assert torch.allclose(after[name], value, atol=1e-5), name


@pytest.mark.parametrize("network", ["tat", "edsr"])
def test_a_run_goes_on_without_the_weights_it_started_from(
    make_config: Make, monkeypatch: pytest.MonkeyPatch, network: str
) -> None:
    """They were moved, or are others (of other windows, which no parameter shows) since tat was updated."""
    options = {"tasks": ("mri",), "network": network, "learning_rate": 1e-3, "explode": 0.0}
    first = train(make_config("first", steps=1, **options))
    theirs = first.output / "theirs.safetensors"
    for suffix in (".safetensors", ".json"):
        shutil.copy(first.weights.with_suffix(suffix), theirs.with_suffix(suffix))
    digest = hashlib.sha256(theirs.read_bytes()).hexdigest()
    straight = train(make_config("straight", init=str(theirs), **options))
    config = make_config("stopped", init=str(theirs), **options)
    with pytest.raises(KeyboardInterrupt):
        train(config, on_step=interrupt_at(2))
    card = json.loads(theirs.with_suffix(".json").read_text())
    if network == "tat":
        theirs.with_suffix(".json").write_text(
            json.dumps(card | {"config": card["config"] | {"windows": [0, 8, 8, 8]}})
        )
    else:
        theirs.unlink()
    found, told = load_any_weights(train(config).weights)
    for name, value in load_any_weights(straight.weights)[0].state_dict().items():
        assert torch.equal(found.state_dict()[name], value), name
    assert told.training["init"] == {"name": card["name"], "sha256": digest}
    if network == "tat":
        assert told.config == PRESETS["tiny"]
    assert "init" not in load_any_weights(first.weights)[1].training


def test_weights_of_another_range_to_start_from_are_told(make_config: Make) -> None:
    first = train(make_config("first", steps=1, tasks=("mri", "ct"), mri_range="paper"))
    warnings: list[str] = []
    options = {"steps": 1, "tasks": ("mri", "ct"), "init": str(first.weights)}
    train(make_config("same", mri_range="paper", **options), on_warning=warnings.append)
    assert warnings == []
    train(make_config("other", **options), on_warning=warnings.append)
    assert len(warnings) == 1
    told = "mri-sr was trained in the network range paper, and goes on in robust; see --mri-range"
    assert warnings[0] == f"--init {first.weights}: {told}"


def test_a_finished_run_keeps_what_its_card_tells_since(make_config: Make, dataset: Path, tmp_path: Path) -> None:
    """Called again, it writes only what is said anew; weights that are gone or damaged are written again."""
    config = make_config(tasks=("mri",), steps=1)
    path = train(config, command="first").weights
    measure_domain(DomainConfig(weights=str(path), data=dataset))
    kept = path.with_suffix(".json").read_bytes()
    assert read_card(path).tasks["mri-sr"].domain["spacing_mm"] == (1.0, 1.0)
    train(config, command="second")
    assert path.with_suffix(".json").read_bytes() == kept
    fields = tmp_path / "card.json"
    fields.write_text(json.dumps({"license": "CC0-1.0", "training": {"by": "us"}}))
    train(config, card=fields, command="third")
    card = read_card(path)
    assert card.license == "CC0-1.0"
    assert (card.training["by"], card.training["command"]) == ("us", "first")
    assert card.tasks["mri-sr"].domain["spacing_mm"] == (1.0, 1.0)
    weights = path.read_bytes()
    path.write_bytes(weights[:-1])
    train(config, command="fourth")
    assert path.read_bytes() == weights
    assert read_card(path).training["command"] == "fourth"


def test_the_size_is_that_of_the_weights_to_start_from(make_config: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A preset that says otherwise is refused; without one the output is named after what it holds."""
    first = train(make_config("first", steps=1, tasks=("mri",)))
    monkeypatch.setitem(PRESETS, "wider", replace(PRESETS["tiny"], width=16))
    with pytest.raises(UsageError, match=r"--preset wider: expected the size of --init .*, which is tiny; leave"):
        train(make_config("second", steps=1, tasks=("mri",), preset="wider", init=str(first.weights)))
    config = make_config("third", steps=1, tasks=("mri",), preset=None, init=str(first.weights))
    report = train(config)
    assert report.weights.name == "tiny.safetensors"
    assert load_weights(report.weights)[1].name == "tiny"
    assert resolve({}, report.output / "config.toml") == config
    assert train(config).steps == 1  # what it was is known where it goes on
    monkeypatch.delitem(PRESETS, "tiny")
    assert train(replace(config, output=config.output.with_name("x"))).weights.name == "tat.safetensors"


def test_a_recipes_size_gives_way_to_the_weights() -> None:
    told = {"data": "d", "output": "o", "init": "tat-small"}
    assert resolve(told | {"recipe": "quick"}).preset is None
    assert resolve(told | {"recipe": "quick", "preset": "tat-base"}).preset == "tat-base"
    assert resolve(told | {"recipe": "quick", "grow": True}).preset == "tat-tiny"
    assert resolve(told | {"recipe": "quick", "network": "routed"}).preset == "tat-tiny"
    assert resolve(told | {"grow": True}).preset == resolve({"data": "d", "output": "o"}).preset == "tat-small"


def test_a_run_that_goes_on_with_other_data_is_told(make_config: Make, dataset: Path, tmp_path: Path) -> None:
    """The card names what it was trained on before, too; where the same scans lie elsewhere, nothing is said."""
    config = make_config(tasks=("mri",), steps=4)
    told: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        train(config, on_step=interrupt_at(1))
    other = tmp_path / "other"
    shutil.copytree(dataset / "MRI", other / "MRI")
    with pytest.raises(KeyboardInterrupt):
        train(replace(config, data=other), on_step=interrupt_at(2), on_warning=told.append)
    assert not told
    (other / "MRI" / "train" / "mri1.nii.gz").rename(other / "MRI" / "train" / "mri2.nii.gz")
    changed = replace(config, data=other)
    with pytest.raises(KeyboardInterrupt):
        train(changed, on_step=interrupt_at(3), on_warning=told.append)
    expected = "other scans: 1 that it was trained on are gone or changed, 1 are new; its card will name both"
    assert [message.partition("goes on with ")[2] for message in told] == [expected]
    report = train(changed, on_warning=told.append)
    assert len(told) == 1
    report.weights.unlink()  # as where it was killed before it wrote them
    report = train(changed, on_warning=told.append)
    assert not report.other_data
    assert [row["file"] for row in read_card(report.weights).training["data"]] == [
        "MRI/train/mri0.nii.gz", "MRI/train/mri2.nii.gz", "MRI/train/mri1.nii.gz",
    ]  # fmt: skip


def test_a_finished_run_keeps_the_data_that_it_was_trained_on(make_config: Make, dataset: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(dataset / "MRI", data / "MRI")
    config = make_config(tasks=("mri",), steps=1, data=data)
    report = train(config, command="first")
    kept = {path: path.read_bytes() for path in report.output.iterdir() if path.suffix in (".toml", ".json")}
    new = data / "MRI" / "train" / "mri2.nii.gz"
    shutil.copy(dataset / "MRI" / "val" / "mri0.nii.gz", new)
    again = train(config, command="second")
    assert (report.other_data, again.other_data, again.weights) == (False, True, report.weights)
    assert {path: path.read_bytes() for path in kept} == kept
    with pytest.raises(UsageError, match=r"expected the scans that the run was trained on to write mine.safetensors"):
        train(config, card=_named(tmp_path, "mine"))
    state = torch.load(config.output / "checkpoint.pt", weights_only=True)
    del state["data"], state["former_data"]  # as before they were kept, so that the card alone says it
    torch.save(state, config.output / "checkpoint.pt")
    assert train(config, command="third").other_data
    assert {path: path.read_bytes() for path in kept} == kept
    new.unlink()
    assert not train(config).other_data
    assert train(config, card=_named(tmp_path, "mine")).weights.name == "mine.safetensors"


def test_the_data_of_a_card_are_known_by_all_of_their_files(make_config: Make, tmp_path: Path) -> None:
    """A header alone is the same for every scan of a series of examinations."""
    folder = tmp_path / "data" / "MRI" / "train"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in ("a.mhd", "b.mhd"):
        image = SimpleITK.GetImageFromArray(rng.integers(50, 900, (2, 48, 48)).astype(np.int16))
        SimpleITK.WriteImage(image, str(folder / name))
    (folder / "b.mhd").write_text((folder / "a.mhd").read_text().replace("a.raw", "b.raw"))
    config = make_config(tasks=("mri",), steps=1, data=tmp_path / "data")
    data = read_card(train(config).weights).training["data"]
    for row in data:
        files = [folder / Path(row["file"]).with_suffix(suffix).name for suffix in (".mhd", ".raw")]
        digests = sorted(hashlib.sha256(file.read_bytes()).digest() for file in files)
        assert row["sha256"] == hashlib.sha256(b"".join(digests)).hexdigest()
    assert not train(config).other_data
    voxels = bytearray((folder / "a.raw").read_bytes())
    voxels[100] ^= 1
    (folder / "a.raw").write_bytes(voxels)
    assert train(config).other_data
    state = torch.load(config.output / "checkpoint.pt", weights_only=True)
    for row in state["data"]:
        row["sha256"] = ""  # as a folder's was
    torch.save(state, config.output / "checkpoint.pt")
    assert not train(config).other_data


def _named(folder: Path, name: str) -> Path:
    path = folder / "card.json"
    path.write_text(json.dumps({"name": name}))
    return path


def test_growing_needs_a_network(make_config: Make) -> None:
    with pytest.raises(UsageError, match="--grow: expected --init"):
        train(make_config(steps=1, grow=True))


def test_grows_to_the_preset(make_config: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    first = train(make_config("first", steps=2))
    config = load_weights(first.weights)[0].config
    deeper = replace(config, latent_blocks=config.latent_blocks + 1)
    monkeypatch.setitem(PRESETS, make_config().preset, deeper)
    second = train(make_config("second", steps=1, init=str(first.weights), grow=True, learning_rate=1e-9))
    assert load_weights(second.weights)[0].config == deeper


def test_other_options_are_not_resumed(make_config: Make) -> None:
    train(make_config(steps=1))
    with pytest.raises(UsageError, match=r"learning_rate was 0\.0002, now 0\.001"):
        train(make_config(steps=1, learning_rate=1e-3))


def test_checkpoints_from_before_each_task_had_its_share_go_on(make_config: Make) -> None:
    config = make_config(tasks=("mri",), steps=1)
    train(config)
    state = torch.load(config.output / CHECKPOINT, weights_only=True)
    before = json.loads(state["config"])
    assert (before["default_share"], before["teacher_share"]) == ([0.3], [0.8])
    del before["crops"]
    before["teacher_share"] = 0.8
    for share, said in ((0.3, None), (0.6, r"default_share was \[0\.6\], now \[0\.3\]")):
        torch.save(state | {"config": json.dumps(before | {"default_share": share})}, config.output / CHECKPOINT)
        if said is None:
            assert load_checkpoint(config.output, config) is not None
        else:
            with pytest.raises(UsageError, match=said):
                load_checkpoint(config.output, config)


def test_damaged_checkpoint(make_config: Make) -> None:
    config = make_config()
    config.output.mkdir()
    (config.output / CHECKPOINT).write_bytes(b"not a checkpoint")
    with pytest.raises(WeightsError, match="expected a checkpoint of tat train"):
        load_checkpoint(config.output, config)


def test_a_checkpoint_with_another_bit_is_damaged(make_config: Make) -> None:
    """PyTorch reads it without a word."""
    config = make_config()
    config.output.mkdir()
    path = save_checkpoint(config.output, config, {"network": torch.arange(10_000)})
    content = bytearray(path.read_bytes())
    content[content.index(torch.arange(5000, 5010).numpy().tobytes())] ^= 1
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"got ValueError: other bytes in \S+ than were written; delete it to begin"):
        load_checkpoint(config.output, config)


@pytest.mark.skipif(sys.platform == "win32", reason="no limits of a file's size")
def test_a_full_disk_is_said_in_a_line(make_config: Make) -> None:
    import resource

    config = make_config()
    config.output.mkdir()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        with pytest.raises(OutputError, match=r"checkpoint\.pt: expected to write the output, got File too large"):
            save_checkpoint(config.output, config, {"network": torch.zeros(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(config.output.iterdir())
    save_checkpoint(config.output, config, {"network": torch.ones(3)})
    state = load_checkpoint(config.output, config)
    assert state is not None
    assert torch.equal(state["network"], torch.ones(3))


def test_divergence_names_the_sample(make_config: Make, tmp_path: Path) -> None:
    with pytest.raises(TrainingDiverged, match=r"in ct\d \(ct-denoise\)"):
        train(make_config(tasks=("ct",), steps=40, learning_rate=0.99, weight_decay=0.0, clip=0.0, loss="l1"))
    state = torch.load(tmp_path / "run" / CHECKPOINT, weights_only=True)
    told = read_log(tmp_path / "run")[-1]
    assert told["kind"] == "stopped"
    assert told["step"] == state["step"] > 0
    assert "ct-denoise" in told["why"]
    assert all(bool(value.isfinite().all()) for value in state["network"].values())


def test_an_exploding_error_stops_before_it_is_nan(make_config: Make) -> None:
    """A network whose last layer adds 1000 everywhere is far worse than nothing."""
    config = make_config(tasks=("ct",), steps=2)
    network = make_network(config).module
    references = {"ct-denoise": prepare_references(TASKS["ct-denoise"], "train", config)}
    batch = Sampler(references, config).batch(0)
    shifted = nn.Sequential(network, Shift(1000.0))
    with pytest.raises(
        TrainingDiverged, match=r"the loss became \d+\.?\d* at step 0, in ct\d \(ct-denoise\); lower --lr"
    ):
        Stepper(shifted, config, world=World()).update(batch, 0)
    assert Stepper(shifted, replace(config, explode=0.0), world=World()).update(batch, 0).loss > 100


def test_a_network_that_died_stops_the_run(make_config: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Features of zero behind a ReLU get no gradients: the run would give back its input to the last step."""
    config = make_config(tasks=("ct",), steps=9)
    references = {"ct-denoise": prepare_references(TASKS["ct-denoise"], "train", config)}
    sampler = Sampler(references, config)
    monkeypatch.setattr("tatcli.training.steps.IDLE_STEPS", 4)
    alive = Stepper(Gated(-1.0, after=3), config, world=World())
    for step in range(9):
        alive.update(sampler.batch(step), step)
    dead = Stepper(Gated(-1.0), config, world=World())
    for step in range(3):
        dead.update(sampler.batch(step), step)
    with pytest.raises(TrainingDiverged, match=r"as it was for 4 steps, up to step 3: its features died; .* --seed"):
        dead.update(sampler.batch(3), 3)


class Gated(nn.Module):
    """Adds what passes a ReLU: nothing, where its only weight is negative, but in every few calls."""

    def __init__(self, weight: float, after: int = 0) -> None:
        super().__init__()
        self.weight, self.after, self.calls = nn.Parameter(torch.tensor(weight)), after, 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        lives = self.after and self.calls % self.after == 0
        return x + (0.01 * self.weight if lives else torch.relu(self.weight * x.abs()))


class Shift(nn.Module):
    def __init__(self, by: float) -> None:
        super().__init__()
        self.by = nn.Parameter(torch.tensor(by))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.by


@pytest.mark.parametrize("name", ["static-tat", "routed", "unet", "red-cnn", "edsr"])
def test_comparison_networks_are_trained_alike(make_config: Make, name: str) -> None:
    """They start as the identity, learn, and leave weights that tat benchmark quality takes."""
    width = 4 if name in ("unet", "red-cnn", "edsr") else 0
    config = make_config(network=name, network_width=width, tasks=("mri",), steps=2, learning_rate=1e-2)
    x = torch.rand(1, 1, 32, 32)
    with torch.no_grad():
        assert torch.equal(make_network(config).module.eval()(x), x)
    fields = config.output.with_name("card.json")
    fields.write_text(json.dumps({"limits": ["phantoms only"], "license": "CC0-1.0"}))
    report = train(config, card=fields)
    assert report.weights.name == f"{name}.safetensors"
    network, card = load_comparison_weights(name, report.weights)
    assert (card.limits, card.license) == (("phantoms only",), "CC0-1.0")
    with torch.no_grad():
        assert float((network(x) - x).abs().max()) > 1e-4
    assert card.training["steps"] == 2
    assert card.training["recipe"]["network"] == name
    more = train(replace(config, output=config.output.with_name("more"), init=str(report.weights), learning_rate=1e-9))
    again, _ = load_comparison_weights(name, more.weights)
    for key, value in network.named_parameters():
        assert torch.allclose(again.get_parameter(key), value, atol=1e-6), key


def test_sizes_that_do_not_go_with_the_network(make_config: Make) -> None:
    with pytest.raises(UsageError, match="--network-width: expected with --network unet, red-cnn or edsr"):
        train(make_config(network_width=8))
    with pytest.raises(UsageError, match="unknown network 'resnet': expected one of tat, static-tat"):
        train(make_config(network="resnet"))


def test_restored_slices_are_kept(make_config: Make) -> None:
    report = train(make_config(tasks=("mri",), steps=2, samples=1, sample_values=True))
    (folder,) = (report.output / "samples").iterdir()
    assert folder.name == "mri-sr-mri0-1"
    assert sorted(path.name for path in folder.iterdir()) == ["0000002.npz", "0000002.png"]
    with np.load(folder / "0000002.npz") as values:
        assert values["hq"].shape == values["lq"].shape == (48, 64)
        score = report.validation["mri-sr"]
        mse = float(np.square(values["restored"].clip(0, values["hq"].max()) - values["hq"]).mean())
        assert 10 * np.log10(np.ptp(values["hq"]) ** 2 / mse) == pytest.approx(score.psnr_restored, abs=0.5)
    with Image.open(folder / "0000002.png") as picture:
        assert picture.height > 384


def test_fp32_on_a_gpu_is_no_tf32_before_any_validation(make_config: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)  # PyTorch's default, and put back
    monkeypatch.setattr("tatcli.workflows.train.check_it_computes", lambda _: None)  # (there is none here)
    config = make_config(device="cuda")
    with pytest.raises(UsageError, match="expected"):
        train(replace(config, data=config.output / "nothing"))
    assert not torch.backends.cudnn.allow_tf32


def test_curves_of_a_run(make_config: Make) -> None:
    report = train(make_config(tasks=("mri",), steps=2, samples=0))
    assert not (report.output / "samples").exists()
    path = plot_run(report.output)
    with Image.open(path) as picture:
        assert picture.size[1] > 4 * 260  # four panels
    with pytest.raises(OutputError, match="one that exists"):
        plot_run(report.output)
    with pytest.raises(UsageError, match="expected the log of a tat train run, got nothing there"):
        plot_run(report.output / "samples")


def test_options_are_written_as_a_file_to_repeat_the_run(make_config: Make) -> None:
    config = make_config(tasks=("mri",), steps=1)
    assert resolve({}, train(config).output / "config.toml") == config


def test_a_run_of_an_older_version_goes_on(make_config: Make) -> None:
    """Its checkpoint kept the balancer's parameters in the optimiser whatever the loss, and knew fewer options."""
    config = make_config(tasks=("mri",), steps=2, loss="psnr", sampling="voxels")
    train(replace(config, steps=1, output=config.output.with_name("half")))
    train(config, on_step=lambda progress: None)
    path = config.output / CHECKPOINT
    state = torch.load(path, weights_only=True)
    count = len(state["optimiser"]["param_groups"][0]["params"])
    state["optimiser"]["param_groups"][0]["params"] += [count, count + 1]
    options = json.loads(state["config"])
    for key in ("sampling", "planes", "network", "subjects"):
        del options[key]
    state["config"] = json.dumps(options)
    state["balancer"] = state.pop("loss") | LossBalancer().state_dict()
    del state["scaler"], state["passes"]
    torch.save(state | {"step": 1}, path)
    assert train(config).steps == 2
    with pytest.raises(UsageError, match="sampling was voxels, now subjects"):
        train(replace(config, sampling="subjects"))


def test_task_weights_scale_the_loss(make_config: Make) -> None:
    losses = []
    for weights in ((1.0,), (3.0,)):
        train(
            make_config(f"w{weights[0]}", steps=1, tasks=("ct",), task_weights=weights),
            on_step=lambda progress: losses.append(progress.loss),
        )
    assert losses[1] == pytest.approx(3 * losses[0], rel=1e-6)


def test_bad_card_fields(make_config: Make, tmp_path: Path) -> None:
    fields = tmp_path / "card.json"
    fields.write_text('{"nam": 1}')
    with pytest.raises(UsageError, match="expected an object with name"):
        train(make_config(), card=fields)
    with pytest.raises(UsageError, match="expected JSON"):
        train(make_config(), card=tmp_path / "none.json")


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"training": "text"}, 'training: expected an object, got "text"'),
        ({"training": ["a"]}, "training: expected an object"),
        ({"limits": 3}, "limits: expected a list of texts, got 3"),
        ({"limits": "text"}, 'limits: expected a list of texts, got "text"'),
        ({"limits": [1]}, "limits: expected a list of texts"),
        ({"license": None}, "license: expected text, got null"),
        *(
            ({"name": name}, "name: expected the name of a file")
            for name in ("", "../x", "a/b", "a\\b", ".x", "x" * 200)
        ),
        ({"name": 3}, "name: expected text, got 3"),
    ],
)
def test_card_fields_of_other_types(tmp_path: Path, fields: dict[str, object], told: str) -> None:
    """Said before the first step: afterwards it would cost the training, or write outside the run's folder."""
    path = tmp_path / "card.json"
    path.write_text(json.dumps(fields))
    with pytest.raises(UsageError, match=f"card.json: {re.escape(told)}"):
        read_card_fields(path)


def test_card_fields_that_are_right(tmp_path: Path) -> None:
    path = tmp_path / "card.json"
    fields = {"name": "Prüfling 2.1+x", "limits": ["a", "b"], "license": "CC0-1.0", "training": {"by": 1}}
    path.write_text(json.dumps(fields))
    assert read_card_fields(path) == fields
    assert read_card_fields(None) == {}


def test_tensorboard_sees_what_the_log_says(make_config: Make) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    report = train(make_config(tasks=("mri",), steps=2, tensorboard=True))
    events = EventAccumulator(str(report.output / "tensorboard"))
    events.Reload()
    trained, validated = read_log(report.output)
    (point,) = events.Scalars("train/l1/mri-sr")
    assert (point.step, point.value) == (2, pytest.approx(trained["l1"]["mri-sr"], rel=1e-6))
    (point,) = events.Scalars("validation/tasks/mri-sr/gain")
    assert point.value == pytest.approx(validated["tasks"]["mri-sr"]["gain"], rel=1e-6)


def test_without_tensorboard_it_is_an_extra(make_config: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(UsageError, match=r"pip install 'tatcli\[tensorboard\]'"):
        train(make_config(tasks=("mri",), steps=1, tensorboard=True))


@pytest.mark.parametrize("place", ["output", "cache"])
def test_a_file_is_no_folder_of_a_run(make_config: Make, tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=rf"--{place} .*file: expected a folder, or a name for one, got File exists"):
        train(make_config(**{place: tmp_path / "file"}))
