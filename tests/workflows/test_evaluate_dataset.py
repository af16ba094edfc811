"""Evaluation on a dataset: which slices, which ranges, which noise; what is tuned where; what the report says."""

from __future__ import annotations

import json
import math
import time
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from torch import nn

from tatcli.baselines import BASELINES
from tatcli.baselines.networks import ComparisonCard, save_comparison_weights
from tatcli.baselines.unet import UNet
from tatcli.degradation import simulate
from tatcli.errors import PartialFailure, UsageError, VolumeReadError, WeightsError
from tatcli.inference.options import VIEWS, RestoreOptions
from tatcli.inference.restorer import Restorer
from tatcli.intensity import FixedRange, RobustRange, Units, Window
from tatcli.metrics import PROTOCOLS, score_volume
from tatcli.model.config import PRESETS
from tatcli.model.views import turned, turned_back
from tatcli.model.weights import card_for_tasks
from tatcli.tasks import TASKS
from tatcli.volumes.geometry import Geometry
from tatcli.volumes.reading import read_volume
from tatcli.volumes.volume import Volume
from tatcli.workflows.evaluate import EvaluateConfig, evaluate
from tatcli.workflows.evaluation.cost import CostMeter
from tatcli.workflows.evaluation.degraded import mid_positions, scan_seed, simulate_slices
from tatcli.workflows.evaluation.network import EvaluatedNetwork, load_comparison, network_of
from tatcli.workflows.evaluation.page import html_of

MRI = TASKS["mri-sr"]
SHAPE = (6, 40, 32)


def head(seed: int, slices: int = SHAPE[0], level: float = 900.0) -> np.ndarray:
    """Something like a head, (slices, rows, columns); every slice is different."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-1 : 1 : SHAPE[1] * 1j, -1 : 1 : SHAPE[2] * 1j]
    volume = np.zeros((slices, *SHAPE[1:]))
    for index in range(slices):
        volume[index][x**2 + y**2 < 0.7] = level
        for _ in range(6):
            cx, cy, r = rng.uniform(-0.5, 0.5), rng.uniform(-0.5, 0.5), rng.uniform(0.08, 0.25)
            volume[index][(x - cx) ** 2 + (y - cy) ** 2 < r**2] = rng.uniform(0.2, 1.3) * level
    return volume.round()


def write(path: Path, array: np.ndarray) -> Path:
    """(slices, rows, columns) as NIfTI with thick slices."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image(array.T.astype(np.int16), np.diag([-1.0, -1.0, 4.0, 1.0]))
    nibabel.save(image, path)
    return path


@pytest.fixture
def root(tmp_path) -> Path:
    for index in range(2):
        write(tmp_path / "mri" / "val" / f"head{index}.nii.gz", head(index, level=900.0 * (index + 1)))
    for index in range(3):
        write(tmp_path / "mri" / "train" / f"other{index}.nii.gz", head(10 + index))
    return tmp_path


def config(root: Path, **options) -> EvaluateConfig:
    chosen = {"tasks": ("mri",), "baselines": (), "weights": "none"} | options
    tuning = {} if chosen["baselines"] == () else {"tune_slices": 4}
    return EvaluateConfig(data=root, **(tuning | chosen))


IDENTITY = EvaluatedNetwork("identity", lambda volume, task, window: volume)


def truths(root: Path) -> list[np.ndarray]:
    return [read_volume(path).array for path in sorted((root / "mri" / "val").iterdir())]


def test_doing_nothing_gains_nothing(root) -> None:
    report = evaluate(config(root), network=IDENTITY)
    (task,) = report.tasks
    assert [row.method for row in task.methods] == ["lq", "identity"]
    assert task.methods[0].score == task.methods[1].score
    assert task.methods[1].gain == 0.0
    assert task.verdict == {"psnr_over_lq": 0.0, "ssim_over_lq": 0.0}


def test_lq_scores_are_those_of_tat_simulate(root) -> None:
    """The scan's seed and strength repeat its LQ scan; a task's mean is over slices, then over scans."""
    report = evaluate(config(root, strength=3.0))
    (task,) = report.tasks
    expected = []
    for scan, path in zip(task.scans, sorted((root / "mri" / "val").iterdir()), strict=True):
        hq = read_volume(path)
        assert scan.seed == scan_seed(0, MRI, scan.name)
        assert scan.simulation is not None
        assert "k-space factor 3" in scan.simulation
        lq = simulate(hq, MRI, strength=3.0, seed=scan.seed)
        window = Window(0.0, float(np.percentile(hq.array[hq.array > 0], 99.5)))
        assert scan.window == (0.0, pytest.approx(window.upper))
        scores = score_volume(lq.array, hq.array, task=MRI, window=window, protocol=PROTOCOLS["paper"])
        assert scan.methods["lq"] == scores
        expected.append(scores.mean.psnr)
    assert task.methods[0].score.psnr == pytest.approx(np.mean(expected))
    assert task.strength == 3.0


def test_scans_of_equal_names_in_folders_are_told_apart(tmp_path) -> None:
    """By their places: in the report, in noise, in masks; and the folders are the subjects."""
    shape = (3, 128, 128)
    y, x = np.mgrid[-1:1:128j, -1:1:128j]
    body = np.where(np.hypot(x, y) < 0.8, 40 + 8 * np.random.default_rng(0).standard_normal(shape), -1000)
    for place in ("a/scan", "b/scan"):
        write(tmp_path / "ct" / "val" / f"{place}.nii.gz", body)
    mask = np.zeros(shape)
    mask[:, 40:80, 40:80] = 1
    write(tmp_path / "masks" / "a" / "scan.nii.gz", mask)
    with pytest.raises(PartialFailure) as nothing:
        evaluate(config(tmp_path, tasks=("ct",), mask=tmp_path / "masks" / "a"), network=IDENTITY)
    assert "a/scan: expected a mask at the same place below" in str(nothing.value)
    (task,) = evaluate(config(tmp_path, tasks=("ct",), mask=tmp_path / "masks"), network=IDENTITY).tasks
    assert [(scan.name, scan.subject) for scan in task.scans] == [("a/scan", "a")]
    assert list(task.failures) == ["b/scan"]
    (task,) = evaluate(config(tmp_path, tasks=("ct",)), network=IDENTITY).tasks
    assert [(scan.name, scan.subject) for scan in task.scans] == [("a/scan", "a"), ("b/scan", "b")]
    assert task.methods[0].subjects == 2
    assert len({scan.methods["lq"].mean.psnr for scan in task.scans}) == 2  # each has noise of its own


def test_evenly_spaced_slices_and_their_references(root) -> None:
    """A network that knows the chosen references is perfect: slices of LQ, HQ and output belong together."""
    known = iter(truths(root))

    def restore(volume, task, window):
        assert volume.geometry.shape == (2, *SHAPE[1:])
        return volume.with_array(next(known)[[1, 4]], step="cheated")

    report = evaluate(config(root, max_slices=2), network=EvaluatedNetwork("oracle", restore))
    (task,) = report.tasks
    assert task.network is not None
    assert task.network.score.psnr == math.inf
    assert task.network.gain == math.inf
    assert [scan.slices for scan in task.scans] == [(1, 4), (1, 4)]
    assert [score.index for score in task.scans[0].methods["oracle"].slices] == [1, 4]
    told = json.loads(report.to_json())
    assert told["tasks"][0]["methods"][1]["psnr"] == "inf"
    assert told["tasks"][0]["scans"][0]["methods"]["oracle"]["mean"]["rmse"] == 0.0
    assert told["settings"]["max_slices"] == 2


def test_the_networks_range_is_the_whole_lq_scans(root) -> None:
    rule = RobustRange(90.0)
    seen = []

    def restore(volume, task, window):
        seen.append(window)
        return volume

    report = evaluate(config(root, max_slices=1), network=EvaluatedNetwork("n", restore, lambda task: rule))
    for window, scan, truth in zip(seen, report.tasks[0].scans, sorted((root / "mri" / "val").iterdir()), strict=True):
        hq = read_volume(truth)
        lq = simulate(hq, MRI, strength=4.0, seed=scan.seed or 0)
        assert window == rule.window_for(lq.array)
        assert scan.window == (0.0, rule.window_for(hq.array).upper)


def test_a_restorer_works_in_the_range_it_is_given() -> None:
    """out = in + (net(clip(in)) - clip(in)): a network of ones shows the range's upper bound."""

    class Ones(nn.Module):
        def forward(self, x):
            return 0.0 * x + 1.0

    restorer = Restorer.from_network(Ones(), card_for_tasks("ones", PRESETS["tat-small"], ("mri-sr",)), device="cpu")
    network = network_of(restorer)
    volume = nifti_volume(head(0, slices=2) + 5.0)
    out = network.restore(volume, MRI, Window(0.0, 2000.0))
    np.testing.assert_allclose(out.array, 2000.0, rtol=1e-6)
    assert restorer.card.tasks["mri-sr"].intensity == MRI.intensity
    assert network.rule(MRI) == MRI.intensity
    with pytest.raises(WeightsError, match="trained for mri-sr, not for ct-denoise"):
        network.rule(TASKS["ct-denoise"])


def test_an_ensemble_is_evaluated_as_one() -> None:
    """A network that moves the image to one side moves it to all four by a quarter; the report says so."""

    class Leaning(nn.Module):
        def forward(self, x):
            return torch.roll(x, 1, dims=3)

    card = card_for_tasks("leaning", PRESETS["tat-small"], ("mri-sr",))
    restorer = Restorer.from_network(Leaning(), card, device="cpu")
    volume = nifti_volume(head(0, slices=2) + 5.0)
    moved = [np.roll(volume.array, step, axis) for axis in (1, 2) for step in (1, -1)]
    network = network_of(restorer, options=RestoreOptions(ensemble=True))
    out = network.restore(volume, MRI, Window(0.0, float(volume.array.max())))
    np.testing.assert_allclose(out.array, np.mean(moved, axis=0), atol=1e-3 * volume.array.max())
    assert network.identity["ensemble"] == "8 views"
    assert "ensemble" not in network_of(restorer).identity


def test_a_comparison_network_is_restored_in_eight_views_too(tmp_path) -> None:
    torch.manual_seed(0)
    unet = UNet(4).eval()
    window = Window(0.0, 1000.0)
    card = ComparisonCard(
        network="unet", config={"width": 4}, tasks=card_for_tasks("x", PRESETS["tat-small"], ("mri-sr",)).tasks
    )
    path = tmp_path / "unet.safetensors"
    save_comparison_weights(unet, path, card=card)
    volume = nifti_volume(head(0, slices=1) + 5.0)
    x = torch.from_numpy(window.normalise(window.clip(volume.array)).astype(np.float32))[:, None]
    with torch.no_grad():
        views = [turned_back(unet(turned(x, way)), way) for way in VIEWS]
    expected = window.denormalise(torch.stack(views).mean(0)[:, 0].numpy()) + volume.array - window.clip(volume.array)
    several, one = (
        load_comparison(
            "unet", str(path), device="cpu", precision="fp32", options=RestoreOptions(ensemble=wanted)
        ).restore(volume, MRI, window)
        for wanted in (True, False)
    )
    np.testing.assert_allclose(several.array, expected, atol=0.05)
    assert np.abs(one.array - expected).max() > 1.0


def nifti_volume(array: np.ndarray):
    """An MR volume; what lies above 0 is no padding."""
    from tatcli.volumes.geometry import Geometry
    from tatcli.volumes.volume import Volume

    return Volume(array, Geometry(np.diag([1.0, 1.0, 4.0, 1.0]), array.shape), Units.ARBITRARY)


def test_weights_that_dont_know_the_task_are_refused_before_the_work(root) -> None:
    def rule(task):
        msg = "not for it"
        raise WeightsError(msg)

    called = []
    network = EvaluatedNetwork("n", lambda *args: called.append(args), rule)
    with pytest.raises(WeightsError):
        evaluate(config(root), network=network, progress=lambda *args: called.append(args))
    assert not called


def test_the_same_seed_gives_the_same_report_another_doesnt(root) -> None:
    def run(seed: int) -> dict:
        told = evaluate(config(root, seed=seed, baselines=("unsharp",))).to_dict()
        told.pop("seconds")
        return told

    assert run(0) == run(0)
    assert run(0)["tasks"][0]["scans"][0]["seed"] != run(1)["tasks"][0]["scans"][0]["seed"]


def test_baselines_are_tuned_on_the_training_split_alone(root) -> None:
    first = evaluate(config(root, baselines=("unsharp", "gaussian"))).tasks[0]
    for path in (root / "mri" / "val").iterdir():
        write(path, head(77))
    second = evaluate(config(root, baselines=("unsharp", "gaussian"))).tasks[0]
    assert first.tuning == second.tuning
    assert first.methods != second.methods
    assert first.tuning["unsharp"]["slices"] == 4
    write(root / "mri" / "train" / "other0.nii.gz", head(99))
    write(root / "mri" / "train" / "other1.nii.gz", head(98))
    assert evaluate(config(root, baselines=("unsharp", "gaussian"))).tasks[0].tuning != first.tuning


def test_a_scan_of_two_files_is_tuned_on_as_often_as_one_of_one(root) -> None:
    """Its header alone is small: by that, it would hardly be drawn beside scans that are one file."""
    train = root / "mri" / "train"
    for path in sorted(train.iterdir()):
        nibabel.save(nibabel.load(path), path.with_suffix(""))
        path.unlink()
    files = evaluate(config(root, baselines=("gaussian", "unsharp"), tune_slices=8))
    for name in ("other0", "other1"):
        image = nibabel.load(train / f"{name}.nii")
        nibabel.save(nibabel.Nifti1Pair(image.dataobj, image.affine), train / f"{name}.hdr")
        (train / f"{name}.nii").unlink()
    pairs = evaluate(config(root, baselines=("gaussian", "unsharp"), tune_slices=8))
    assert pairs.tasks[0].tuning == files.tasks[0].tuning
    assert pairs.tasks[0].tuning["unsharp"]["slices"] == 8


def test_a_tuned_baselines_row(root) -> None:
    task = evaluate(config(root, baselines=("tv-kspace",)), network=IDENTITY).tasks[0]
    assert [(row.method, row.kind) for row in task.methods] == [
        ("lq", "input"), ("tv-kspace", "classical"), ("identity", "network"),
    ]  # fmt: skip
    row = task.best_classical
    assert row is not None
    assert row.gain is not None
    assert row.gain > 0.5  # the phantom is piecewise constant
    assert row.parameter == f"{task.tuning['tv-kspace']['parameter']:g} window widths"
    assert task.verdict["best_classical"] == "tv-kspace"
    assert task.verdict["psnr_over_classical"] == pytest.approx(-row.gain)


@pytest.mark.parametrize("name", ["lq", "gaussian", "reference"])
def test_a_network_called_as_another_method_has_a_row_of_its_own(root, name) -> None:
    """Results go by names: its scores and pictures took the place of the other's."""
    network = EvaluatedNetwork(name, lambda volume, task, window: volume.with_array(volume.array + 50.0, step="off"))
    alone = evaluate(config(root, baselines=("gaussian",), max_slices=2)).tasks[0]
    report = evaluate(config(root, baselines=("gaussian",), max_slices=2, pictures=1), network=network)
    task = report.tasks[0]
    assert [row.method for row in task.methods] == ["lq", "gaussian", f"{name} (network)"]
    assert [row.score for row in task.methods[:2]] == [row.score for row in alone.methods]
    assert task.methods[2].score.psnr < task.methods[0].score.psnr
    assert html_of(report, title="").count(f">{name} (network)</figcaption>") == 2


def test_the_usual_baselines_of_the_task(root) -> None:
    task = evaluate(config(root, baselines=None, max_slices=1, tune_slices=1)).tasks[0]
    assert [row.method for row in task.methods] == ["lq", "unsharp", "tv-kspace"]


def test_data_consistency_of_other_tasks_alone_is_refused(root) -> None:
    with pytest.raises(UsageError, match="--data-consistency: expected only with mri-sr, got pet-synthesis; leave it"):
        evaluate(EvaluateConfig(data=root, tasks=("pet",), baselines=(), data_consistency=True))


def test_planes_of_mri_alone_are_refused(root) -> None:
    with pytest.raises(UsageError, match="--planes 3: expected 1 with mri-sr"):
        evaluate(config(root, planes=3, weights=None), network=IDENTITY)


def test_lq_files_are_taken_as_they_are(tmp_path) -> None:
    for name in ("a", "b"):
        hq = head(1)
        write(tmp_path / "MRI" / "val" / "HQ" / f"{name}.nii.gz", hq)
        write(tmp_path / "MRI" / "val" / "LQ" / f"{name}.nii.gz", hq + 10)
    task = evaluate(config(tmp_path)).tasks[0]
    assert task.strength is None
    assert [scan.seed for scan in task.scans] == [None, None]
    first = task.scans[0].methods["lq"].slices[0]
    assert first.rmse == pytest.approx(10.0, rel=0.1)  # clipping at the window's upper bound hides some
    with pytest.raises(UsageError, match="tv-kspace: expected LQ scans of a known strength"):
        evaluate(config(tmp_path, baselines=("tv-kspace",)))
    with pytest.raises(UsageError, match="--strength: expected scans of mri-sr to degrade, got ones with LQ partners"):
        evaluate(config(tmp_path, strength=2.0))
    with pytest.raises(UsageError, match="--subjects 'q': expected a pattern that some scan's path has"):
        evaluate(config(tmp_path, subjects="q"))


def test_scans_that_cant_be_used_are_reported_and_the_others_scored(root) -> None:
    (root / "mri" / "val" / "broken.nii.gz").write_bytes(b"nothing")
    write(root / "mri" / "val" / "constant.nii.gz", np.full(SHAPE, 7))
    report = evaluate(config(root))
    (task,) = report.tasks
    assert [scan.name for scan in task.scans] == ["head0", "head1"]
    assert task.constant == ("constant",)
    assert list(report.failures) == ["mri-sr: broken"]
    assert report.failures["mri-sr: broken"].startswith("broken.nii.gz: expected a NIfTI header")
    for path in (root / "mri" / "val").glob("head*"):
        path.unlink()
    with pytest.raises(PartialFailure, match=r"scans that can be evaluated, got none \(broken.nii.gz: "):
        evaluate(config(root))


def test_a_task_without_a_scan_to_score_doesnt_cost_the_others_theirs(root) -> None:
    """Neither does a training split that can't be tuned on: it is refused before anything is scored."""
    for split in ("train", "val"):
        (root / "pet" / split).mkdir(parents=True)
        (root / "pet" / split / "broken.nii.gz").write_bytes(b"nothing")
    report = evaluate(config(root, tasks=("mri", "pet")))
    mri, pet = report.tasks
    assert [row.method for row in mri.methods] == ["lq"]
    assert (pet.methods, pet.scans, pet.tests, pet.verdict) == ((), (), (), {})
    assert list(report.failures) == ["pet-synthesis: broken"]
    assert "pet-synthesis" in html_of(report, title="of both")
    with pytest.raises(PartialFailure, match="expected pet-synthesis scans that can be evaluated, got none"):
        evaluate(config(root, tasks=("pet",)))
    told = []
    with pytest.raises(UsageError, match="expected train scans of pet-synthesis to tune baselines on, got none"):
        evaluate(
            config(root, tasks=("mri", "pet"), baselines=("gaussian",)), progress=lambda what, *_: told.append(what)
        )
    assert told == ["mri-sr: tuning gaussian"]


def test_filters_that_need_the_strength_need_it_of_the_training_scans_too(root) -> None:
    """Whose LQ partners, where there are some, were degraded by nobody knows how much."""
    for kind, shift in (("HQ", 0), ("LQ", 10)):
        write(root / "mri" / "paired" / kind / "a.nii.gz", head(1) + shift)
    task = evaluate(config(root, baselines=None, tune_split="paired")).tasks[0]
    assert [row.method for row in task.methods] == ["lq", "unsharp"]
    with pytest.raises(UsageError, match="tv-kspace: expected LQ scans of a known strength, got LQ files"):
        evaluate(config(root, baselines=("tv-kspace",), tune_split="paired"))


def test_a_training_partner_with_holes_costs_its_slices(root) -> None:
    """NaN where the reference has values can't be scored: of two scans, that one isn't tuned on."""
    for name, hole in (("a", np.nan), ("b", 10.0)):
        for kind in ("HQ", "LQ"):
            array = head(1).astype(np.float32)
            if kind == "LQ":
                array += 10.0
                array[:, 20, 16] = hole
            (root / "mri" / "paired" / kind).mkdir(parents=True, exist_ok=True)
            np.save(root / "mri" / "paired" / kind / f"{name}.npy", array)
    task = evaluate(config(root, baselines=("unsharp",), tune_split="paired", tune_slices=8)).tasks[0]
    assert 0 < task.tuning["unsharp"]["slices"] < 8
    (root / "mri" / "paired" / "HQ" / "b.npy").unlink()
    (root / "mri" / "paired" / "LQ" / "b.npy").unlink()
    with pytest.raises(
        UsageError, match=r"to tune baselines on, got none that can be used: a\.npy: expected values wher.* NaN"
    ):
        evaluate(config(root, baselines=("unsharp",), tune_split="paired"))


def test_a_training_scan_that_the_task_doesnt_take_costs_its_slices(root) -> None:
    """A phase map isn't trained on either: of two scans, filters are tuned on the other one alone."""
    (root / "mri" / "odd").mkdir()
    np.save(root / "mri" / "odd" / "a.npy", head(1).astype(np.float32))
    alone = evaluate(config(root, baselines=("gaussian",), tune_split="odd", tune_slices=6)).tasks[0].tuning
    np.save(root / "mri" / "odd" / "b.npy", (head(2) - 600.0).astype(np.float32))
    both = evaluate(config(root, baselines=("gaussian",), tune_split="odd", tune_slices=12)).tasks[0].tuning
    assert both["gaussian"]["slices"] <= alone["gaussian"]["slices"] == 6
    (root / "mri" / "odd" / "a.npy").unlink()
    with pytest.raises(UsageError, match=r"got none that can be used: b\.npy: .*too many below zero for MR magnitudes"):
        evaluate(config(root, baselines=("gaussian",), tune_split="odd"))


def test_partners_and_masks(tmp_path) -> None:
    for name in ("a", "b", "c"):
        write(tmp_path / "MRI" / "val" / "HQ" / f"{name}.nii.gz", head(1))
        write(tmp_path / "MRI" / "val" / "LQ" / f"{name}.nii.gz", head(1) + 10)
        write(tmp_path / "masks" / f"{name}.nii.gz", head(1) > 0)
    (tmp_path / "MRI" / "val" / "LQ" / "b.nii.gz").unlink()
    (tmp_path / "masks" / "c.nii.gz").unlink()
    (task,) = evaluate(config(tmp_path, mask=tmp_path / "masks", max_slices=2)).tasks
    assert [scan.name for scan in task.scans] == ["a"]
    assert task.failures["b"] == "b: expected a scan of equal name in LQ, found none"
    assert task.failures["c"] == f"c: expected a scan of equal name in {tmp_path / 'masks'}, found none"
    lq, hq = (np.clip(head(1)[1] + shift, 0.0, task.scans[0].window[1])[head(1)[1] > 0] for shift in (10, 0))
    first = task.scans[0].methods["lq"].slices[0]
    assert first.index == 1
    assert first.rmse == pytest.approx(np.sqrt(np.mean((lq - hq) ** 2)))


def test_memory_of_whichever_gpu_computes(monkeypatch) -> None:
    now, peak = [5, 7], [5, 107]  # bytes on the first GPU, and on the second, which works
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda _: None)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device=0: now[device])
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device=0: peak[device])
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    meter = CostMeter()
    with meter.measured(1, device="NVIDIA H200"):
        pass
    assert meter.peak == 100


def test_costs_and_pictures(root) -> None:
    def restore(volume, task, window):
        ballast = np.ones(2**23)  # 64 MiB
        time.sleep(0.02 * volume.geometry.shape[0])
        return volume.with_array(volume.array + 0 * ballast[0], step="slow")

    network = EvaluatedNetwork("slow", restore)
    chosen = config(root, max_slices=2, costs=True, pictures=1, baselines=("unsharp",))
    (task,) = evaluate(chosen, network=network).tasks
    row = task.network
    assert row is not None
    assert 0.02 <= row.cost.seconds < 0.2
    if row.cost.peak_bytes is not None:
        assert 60 * 2**20 < row.cost.peak_bytes < 90 * 2**20
    assert task.best_classical.cost.seconds < 0.02
    assert task.input.cost is None
    (picture,) = task.scans[0].pictures
    assert picture.index == 4
    np.testing.assert_array_equal(picture.reference, read_volume(root / "mri" / "val" / "head0.nii.gz").array[4])
    assert set(picture.images) == {"lq", "unsharp", "slow"}
    assert [(test.method, test.other) for test in task.tests[::3]] == [("slow", "lq"), ("slow", "unsharp")]


def test_constant_slices_are_skipped_and_counted(root) -> None:
    volume = head(5)
    volume[2] = 0.0
    write(root / "mri" / "val" / "head0.nii.gz", volume)
    scores = evaluate(config(root)).tasks[0].scans[0].methods["lq"]
    assert scores.skipped == 1
    assert [score.index for score in scores.slices] == [0, 1, 3, 4, 5]


def test_a_missing_partner_doesnt_cost_its_task_the_evaluation(root) -> None:
    """Of all tasks of the dataset, too: one HQ scan without its LQ scan took all of its task's away, unsaid."""
    for name in ("a", "b"):
        write(root / "CT" / "val" / "HQ" / f"{name}.nii.gz", head(1) - 1000)
    write(root / "CT" / "val" / "LQ" / "a.nii.gz", head(1) - 990)
    (root / "PET" / "val").mkdir(parents=True)  # (nothing in it: no task)
    ct, mri = evaluate(config(root, tasks=(), max_slices=1)).tasks
    assert (ct.task, [scan.name for scan in ct.scans], list(ct.failures)) == ("ct-denoise", ["a"], ["b"])
    assert mri.task == "mri-sr"
    (root / "CT" / "val" / "HQ").rename(root / "elsewhere")
    with pytest.raises(UsageError, match="expected val/HQ with a reference for each scan in LQ, found none for LQ/a"):
        evaluate(config(root, tasks=(), max_slices=1))


def test_all_tasks_of_the_dataset(root) -> None:
    report = evaluate(config(root, tasks=()))
    assert [task.task for task in report.tasks] == ["mri-sr"]
    with pytest.raises(UsageError, match="expected a folder CT/test"):
        evaluate(config(root, tasks=(), split="test"))
    with pytest.raises(UsageError, match=r"mri.*tuning|expected a folder MRI/tune"):
        evaluate(config(root, tune_split="tune", baselines=None))


def test_ct_and_pet(tmp_path) -> None:
    """Both simulators, the tuning's partial simulation of CT, filters in noise levels."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[-1:1:96j, -1:1:96j]
    body = x**2 + y**2 < 0.8
    for split in ("train", "val"):
        ct = np.where(body, 50.0, -1000.0) + body * rng.normal(0.0, 10.0, (4, 96, 96))
        pet = np.where(body, 1500.0, 20.0) + body * rng.normal(0.0, 100.0, (4, 96, 96))
        write(tmp_path / "ct" / split / "body.nii.gz", ct)
        path = write(tmp_path / "pet" / split / "body.nii.gz", pet)
        image = nibabel.Nifti1Image((pet.T / 1000.0).astype(np.float32), np.diag([-4.0, -4.0, 5.0, 1.0]))
        nibabel.save(image, path)
    report = evaluate(config(tmp_path, tasks=("ct", "pet"), baselines=("nlm",), max_slices=2, tune_slices=2))
    ct_report, pet_report = report.tasks
    for task in report.tasks:
        assert task.best_classical is not None
        assert task.best_classical.gain is not None
        assert task.best_classical.gain > 1.0
        assert not task.failures
    assert (ct_report.units, ct_report.strength, pet_report.units, pet_report.strength) == ("HU", 0.25, "SUVbw", 12.0)
    added = ct_report.methods[0].score.rmse  # sqrt(1 / 0.25 - 1) times the reference's 10 HU, in the body alone
    assert added == pytest.approx(10.0 * math.sqrt(3.0) * math.sqrt(body.mean()), rel=0.25)


def test_mid_positions() -> None:
    assert mid_positions(5, None) == mid_positions(5, 9) == (0, 1, 2, 3, 4)
    assert mid_positions(9, 3) == (1, 4, 7)
    assert mid_positions(10, 1) == (5,)
    assert mid_positions(100, 4) == (12, 37, 62, 87)


def test_scan_seeds_differ() -> None:
    seeds = {scan_seed(seed, task, name) for seed in (0, 1) for task in TASKS.values() for name in ("a", "b")}
    assert len(seeds) == 12


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "expected a restored scan with its --reference, or a dataset"),
        ({"data": Path(), "restored": Path(), "reference": Path()}, "and not both"),
        ({"restored": Path()}, "with its --reference"),
        ({"data": Path(), "reference": Path()}, "with its --reference"),
        ({"data": Path(), "input": Path()}, "--input"),
        ({"data": Path(), "strength": 0.25}, "--strength: expected exactly one task"),
        ({"data": Path(), "strength": 0.25, "tasks": ("ct", "pet")}, "--strength: expected exactly one task"),
        ({"data": Path(), "strength": 3.0, "tasks": ("ct",)}, "expected a dose fraction from 0.01 to 1, got 3"),
        ({"data": Path(), "strength": float("nan"), "tasks": ("mri",)}, "expected a k-space factor from 1 to 16"),
        ({"restored": Path(), "reference": Path(), "tasks": ("ct", "pet")}, "--tasks: expected one task"),
        ({"data": Path(), "max_slices": 0}, "--max-slices: expected a positive number"),
        ({"data": Path(), "seed": -1}, r"--seed: .* got -1"),
        ({"data": Path(), "protocol": "slow"}, "unknown protocol"),
        ({"data": Path(), "compare": Path()}, "--compare"),
        ({"data": Path(), "subjects": "("}, "--subjects .*: expected a regular expression"),
        ({"restored": Path(), "reference": Path(), "networks": (("unet", "x"),)}, "--networks"),
        ({"data": Path(), "pictures": -1}, r"--html-slices: .* got -1"),
        ({"data": Path(), "weights": "none", "ensemble": True}, "--ensemble: expected together with a network, got"),
        ({"data": Path(), "weights": "none", "device": "cuda"}, "--device: expected together with a network"),
        ({"data": Path(), "baselines": (), "tune_split": "x"}, "--tune-split: expected together with classical filt"),
        ({"data": Path(), "tasks": ("us",)}, "unknown task"),
    ],
)
def test_options_that_dont_fit(options, message) -> None:
    with pytest.raises(UsageError, match=message):
        EvaluateConfig(**options)


def test_aliases_are_settled() -> None:
    settled = EvaluateConfig(data=Path(), tasks=("ct", "ct-denoise", "MRI"), protocol="Paper")
    assert settled.tasks == ("ct-denoise", "mri-sr")
    assert settled.protocol == "paper"


def test_the_registry_is_not_changed_by_an_evaluation(root) -> None:
    before = {name: replace(baseline) for name, baseline in BASELINES.items()}
    evaluate(config(root, max_slices=1, tune_slices=1, baselines=("unsharp",)))
    assert before == BASELINES
    assert FixedRange.kind == "fixed"


def test_planes_across_the_slices_see_the_whole_scan(tmp_path) -> None:
    """Of PET two slices are scored, and restored from all: rows and columns of the planes that cross them are means."""

    class Smearing(nn.Module):
        def forward(self, x):
            return x.mean(dim=3, keepdim=True).expand_as(x).clone()

    rng = np.random.default_rng(0)
    hq = rng.gamma(4.0, 1.0, (20, 24, 28)).astype(np.float32)
    lq = np.maximum(hq + rng.normal(0.0, 1.0, hq.shape), 0.0).astype(np.float32)
    for kind, array in (("HQ", hq), ("LQ", lq)):
        folder = tmp_path / "PET" / "val" / kind
        folder.mkdir(parents=True)
        nibabel.save(nibabel.Nifti1Image(array.T, np.diag([-4.0, -4.0, 3.0, 1.0])), folder / "a.nii")
    pet = TASKS["pet-synthesis"]
    restorer = Restorer.from_network(Smearing(), card_for_tasks("smearing", PRESETS["tat-small"]), device="cpu")
    all_planes = (2 * lq.mean(2, keepdims=True) + lq.mean(1, keepdims=True)) / 3
    within = np.broadcast_to(lq.mean(2, keepdims=True), lq.shape)
    for planes, wanted in ((None, all_planes), (1, within)):
        asked = EvaluateConfig(data=tmp_path, tasks=("pet",), baselines=(), max_slices=2, planes=planes)
        (task,) = evaluate(asked, network=network_of(restorer, options=asked.options)).tasks
        chosen = list(mid_positions(20, 2))
        expected = score_volume(
            wanted[chosen], hq[chosen], task=pet, window=Window(0.0, 20.0), protocol=PROTOCOLS["paper"]
        ).mean
        assert expected is not None
        row = next(row for row in task.methods if row.method == "smearing")
        assert row.score.psnr == pytest.approx(expected.psnr, abs=1e-3)
    geometry = read_volume(folder / "a.nii").geometry
    crossed = network_of(restorer, options=RestoreOptions(planes=2))
    assert crossed.takes_whole(pet, geometry)
    assert not crossed.takes_whole(MRI, geometry)


def test_a_few_slices_get_the_noise_that_the_whole_scan_says_they_have() -> None:
    """Of noise that falls from 20 to 7 HU; slices that are no neighbours share none."""
    rng = np.random.default_rng(4)
    inside = np.hypot(*(np.mgrid[:160, :160] - 79.5)) < 60
    own = np.geomspace(20.0, 7.0, 16)
    scan = np.where(inside, 40 + own[:, None, None] * rng.normal(size=(16, 160, 160)), -1000).astype(np.float32)
    hq = Volume(scan, Geometry(np.diag([0.8, 0.8, 5.0, 1.0]), scan.shape), Units.HU)
    low = simulate_slices(hq, TASKS["ct-denoise"], [2, 13], strength=0.25, seed=0)
    core = np.hypot(*(np.mgrid[:160, :160] - 79.5)) < 50
    added = (low - scan[[2, 13]])[:, core]
    np.testing.assert_allclose(added.std(axis=1), np.sqrt(3) * own[[2, 13]], rtol=0.2)
    assert abs(np.corrcoef(added)[0, 1]) < 0.05
    empty = Volume(np.full_like(scan, -1000), hq.geometry, Units.HU)
    with pytest.raises(VolumeReadError, match="volume: expected homogeneous soft tissue to estimate the noise in"):
        simulate_slices(empty, TASKS["ct-denoise"], [2], strength=0.25, seed=0)
