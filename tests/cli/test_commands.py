"""What the commands do when all is well."""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import json
import os
import signal
import subprocess
import sys
import time
import tomllib

import nibabel as nib
import numpy as np
import pydicom
import pytest
import torch

import tatcli
from tatcli.baselines.networks import NETWORKS, ComparisonCard, save_comparison_weights
from tatcli.cli.app import _terminated, main
from tatcli.cli.train import _NETWORKS, train
from tatcli.model import TatConfig, to_official
from tatcli.model.tat import Tat
from tatcli.model.weights import card_for_tasks, load_weights
from tatcli.tasks import TASKS
from tatcli.training.config import TrainConfig
from tatcli.volumes import read_volume

CT = ("--task", "ct-denoise")


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def tiny(tiny_weights):
    """The config of the tiny network."""
    return load_weights(tiny_weights / "tat-small.safetensors")[1].config


# --- restore ---------------------------------------------------------------------------------------------------------


def test_restore_writes_beside_the_input_and_says_so_on_stderr(tat, ct):
    result = tat("restore", ct, *CT)
    assert result.exit_code == 0
    output = ct.with_name("ct_restored.nii.gz")
    assert result.stdout == ""
    assert result.stderr.startswith(f"{output}: ct-denoise with tat-small in ")
    before, after = nib.load(ct), nib.load(output)
    assert after.get_data_dtype() == np.int16
    np.testing.assert_array_equal(after.affine, before.affine)
    assert not np.array_equal(after.dataobj, before.dataobj)


def test_restore_gives_what_the_python_api_gives(tat, ct):
    tat("restore", ct, "--task", "ct", "-o", ct.with_name("out.mha"), "-q")
    volume = read_volume(ct)
    expected = tatcli.Restorer("tat-small")(volume, "ct").array
    np.testing.assert_array_equal(read_volume(ct.with_name("out.mha")).array, np.rint(expected))


def test_the_report_tells_what_was_done(tat, ct, tiny_weights):
    report = ct.with_name("run.json")
    words = (
        "--mode",
        "patch",
        "--tile",
        "32",
        "--overlap",
        "4",
        "--threads",
        "1",
        "--device",
        "cpu",
        "--precision",
        "fp32",
    )
    threads = torch.get_num_threads()
    assert tat("restore", ct, *CT, "--report", report, *words).exit_code == 0
    torch.set_num_threads(threads)
    told = json.loads(report.read_text(encoding="utf-8"))
    printed = json.loads(tat("restore", ct, *CT, "--report", "-", *words, "--overwrite", "-q").stdout)
    torch.set_num_threads(threads)
    assert printed.keys() == told.keys()
    output = ct.with_name("ct_restored.nii.gz")
    assert told["input"] == {"path": str(ct), "sha256": sha256(ct), "bytes": ct.stat().st_size, "files": 1}
    assert told["output"]["sha256"] == sha256(output)
    assert told["weights"] == {"name": "tat-small", "sha256": sha256(tiny_weights / "tat-small.safetensors")}
    assert told["versions"]["tat"] == tatcli.__version__
    assert told["versions"]["torch"] == torch.__version__
    assert told["task"] == "ct-denoise"
    assert (told["device"], told["precision"], told["threads"]) == ("cpu", "fp32", 1)
    assert told["options"] == {
        "mode": "patch", "tile": 32, "overlap": 4, "batch": None, "ensemble": False, "axis": "auto", "scale": 1,
        "planes": None, "data_consistency": None, "kspace_factor": None,
        "check_values": True, "ignore_modality": False,
    }  # fmt: skip
    assert told["scan"]["shape"] == [3, 32, 40]
    assert told["scan"]["dtype"] == "int16"
    assert set(told["seconds"]) == {"read", "load", "restore", "write", "report", "total"}
    assert told["seconds"]["total"] >= told["seconds"]["restore"]
    assert told["peak_rss_bytes"] > 2**20
    array = np.asarray(nib.load(ct).dataobj, dtype=np.float64)
    assert told["before"]["minimum"] == array.min()
    assert told["before"]["maximum"] == array.max()
    assert told["before"]["mean"] == pytest.approx(array.mean(), rel=1e-6)
    assert told["before"]["deviation"] == pytest.approx(array.std(), rel=1e-6)
    assert told["before"]["nonfinite"] == 0
    assert 0 < told["change"]["rms"] <= told["change"]["largest"]
    assert told["change"]["mean"] == pytest.approx(told["after"]["mean"] - told["before"]["mean"], abs=1e-3)


def test_a_dicom_folder_names_its_task_and_series(tat, dicom, tmp_path):
    dicom(number=4)
    folder = dicom(number=7)
    out, report = tmp_path / "out.nii.gz", tmp_path / "run.json"
    result = tat("restore", folder, "--series", "made 7", "-o", out, "--report", report)
    assert result.exit_code == 0, result.output
    told = json.loads(report.read_text(encoding="utf-8"))
    digests = sorted(hashlib.sha256(path.read_bytes()).digest() for path in folder.glob("7-*.dcm"))
    assert told["input"]["sha256"] == hashlib.sha256(b"".join(digests)).hexdigest()
    assert told["input"]["files"] == 3
    assert told["task"] == "ct-denoise"
    assert read_volume(out).array.shape == (3, 32, 40)


def test_a_dicom_folder_becomes_a_derived_series_beside_it(tat, dicom):
    folder = dicom()
    result = tat("restore", folder, "--series-suffix", " (tat)", "--series-number", 9, "--uid-root", "1.2.3")
    assert result.exit_code == 0, result.output
    out = folder.with_name("series_restored")
    files = sorted(out.iterdir())
    assert [path.name for path in files] == ["00001.dcm", "00002.dcm", "00003.dcm"]
    first = pydicom.dcmread(files[0])
    assert first.SeriesDescription.endswith(" (tat)")
    assert (first.SeriesNumber, first.SeriesInstanceUID[:6]) == (9, "1.2.3.")
    assert first.ContributingEquipmentSequence[0].SoftwareVersions[0] == "weights tat-small"
    assert len(first.ContributingEquipmentSequence[0].SoftwareVersions[1]) == 64
    before, after = read_volume(folder), read_volume(out)
    np.testing.assert_allclose(after.geometry.affine, before.geometry.affine)
    assert after.array.tobytes() != before.array.tobytes()
    nifti = tat("restore", folder, "--format", "nifti")
    assert nifti.exit_code == 0, nifti.output
    # what DICOM stores is the nearest whole HU
    restored = read_volume(folder.with_name("series_restored.nii.gz"))
    np.testing.assert_allclose(after.array, restored.array, atol=0.51)


def test_a_single_dicom_file_becomes_one_beside_it(tat, dicom):
    path = dicom() / "1-0.dcm"
    result = tat("restore", path)
    assert result.exit_code == 0, result.output
    assert read_volume(path.with_name("1-0_restored.dcm")).array.shape == (1, 32, 40)


def test_what_a_pet_header_lacks_is_supplied(tat, dicom, tmp_path):
    folder = dicom(modality="PT", Units="BQML", DecayCorrection="ADMIN", CorrectedImage=["ATTN", "DECY"])
    refused = tat("info", folder, "--header-only")
    assert refused.exit_code == 3
    assert "--pet weight=KG,dose=MBQ,half-life=SECONDS" in refused.stderr
    told = tat("info", folder, "--pet", "weight=70,dose=350,half-life=6586", "--json", "--header-only")
    assert json.loads(told.stdout)["units"] == "SUVbw"


def test_what_a_pet_sidecar_says_and_lacks(tat, refused, nifti, tmp_path):
    uptake = np.random.default_rng(0).gamma(2.0, 1500.0, (40, 32, 3)).astype(np.float32)
    path = nifti(uptake, "sub-01_pet.nii.gz")
    assert "put its BIDS sidecar beside it" in refused(
        "restore", path, "--task", "pet", code=3, match="look like Bq/ml"
    )
    sidecar = {
        "Units": "Bq/mL", "TracerRadionuclide": "C11", "InjectedRadioactivity": 350, "InjectionStart": 0,
        "InjectedRadioactivityUnits": "MBq", "ImageDecayCorrected": True, "ImageDecayCorrectionTime": 1223.4,
    }  # fmt: skip
    (tmp_path / "sub-01_pet.json").write_text(json.dumps(sidecar), encoding="utf-8")
    refused("restore", path, "--task", "pet", code=3, match="supply it with --pet weight=KG")
    refused("info", path, code=3, match="supply it with --pet weight=KG")
    told = tat("info", path, "--pet", "weight=70")
    assert "SUVbw, from Bq/mL x 0.0004 by sub-01_pet.json" in " ".join(told.stdout.split())
    assert "warning: sub-01_pet.nii.gz: AttenuationCorrection is absent" in told.stderr
    result = tat("restore", path, "--pet", "weight=70", "--device", "cpu")
    assert result.exit_code == 0, result.output
    restored = nib.load(tmp_path / "sub-01_pet_restored.nii.gz").get_fdata()
    assert np.median(restored) == pytest.approx(np.median(uptake), rel=0.5)
    assert json.loads((tmp_path / "sub-01_pet_restored.json").read_text(encoding="utf-8"))["PatientWeight"] == 70


def test_nan_is_warned_about(tat, nifti, ct_array):
    array = ct_array.astype(np.float32)
    array[3, 4, 1] = np.nan
    path = nifti(array)
    result = tat("restore", path, *CT)
    assert "warning: scan.nii.gz: 1 NaN or infinite voxels: restored around them" in result.stderr
    restored = nib.load(path.with_name("scan_restored.nii.gz")).get_fdata()
    np.testing.assert_array_equal(np.isnan(restored), np.isnan(array))


def test_quiet_says_nothing_and_verbose_more(tat, ct):
    result = tat("restore", ct, *CT, "--quiet")
    assert (result.exit_code, result.output) == (0, "")
    result = tat("restore", ct, *CT, "--overwrite", "--verbose", "--precision", "fp32")
    assert "cpu, fp32" in result.stderr
    assert "peak memory" in result.stderr
    assert "change " in result.stderr


def test_scale_refines_the_grid(tat, nifti):
    path = nifti(np.random.default_rng(0).gamma(2.0, 100, (20, 16, 2)).astype(np.float32))
    report = path.with_name("run.json")
    assert tat("restore", path, "--task", "mri", "--scale", "2", "--report", report).exit_code == 0
    assert read_volume(path.with_name("scan_restored.nii.gz")).array.shape == (2, 32, 40)
    assert json.loads(report.read_text(encoding="utf-8"))["change"] is None


# --- simulate and info -----------------------------------------------------------------------------------------------


def test_simulate_is_seeded(tat, nifti, tmp_path):
    path = nifti(np.random.default_rng(0).gamma(2.0, 100, (20, 16, 2)).astype(np.float32))
    for name, seed in (("a", 1), ("b", 1)):
        words = ("--task", "mri", "--strength", "2", "--seed", seed, "-o", tmp_path / f"{name}.nii.gz")
        result = tat("simulate", path, *words)
        assert result.exit_code == 0, result.output
        assert result.stdout == ""
        assert "k-space factor 2" in result.stderr
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()
    expected = tatcli.simulate(read_volume(path), "mri-sr", strength=2, seed=1).array
    np.testing.assert_array_equal(read_volume(tmp_path / "a.nii.gz").array, expected)


@pytest.mark.parametrize(
    ("name", "match"),
    [("out.npy", "out.npy: expected a format that keeps the scan's grid"), ("out", "out: expected an output ending")],
)
def test_an_output_that_cannot_hold_the_scan_is_refused_before_the_work(refused, ct, monkeypatch, name, match):
    monkeypatch.setattr("tatcli.volumes.reading.read_volume", None)  # nothing is read
    refused("simulate", ct, *CT, "-o", ct.with_name(name), code=2, match=match)
    monkeypatch.setattr("tatcli.phantoms.whole_body_pet", None)
    refused("phantom", "-o", ct.with_name(name), code=2, match=match)


def test_simulate_takes_the_units_from_the_task(refused, tat, ct):
    out = ct.with_name("low.nii.gz")
    words = ("simulate", ct, *CT, "--reference-noise", "10", "--kernel", "standard", "-o", out)
    assert tat(*words).exit_code == 0
    assert np.std(read_volume(out).array - read_volume(ct).array) > 5
    refused(*words, code=2, match="got one that exists")


def test_info_of_the_current_folder_names_it_in_warnings(tat, dicom, monkeypatch):
    folder = dicom()
    (folder / "notes.txt").write_text("no DICOM")
    monkeypatch.chdir(folder)
    assert ".: skipped 1 file that is not DICOM" in tat("info", ".").stderr


def test_info_tells_the_facts_and_which_task_fits(tat, ct):
    result = tat("info", ct)
    assert result.exit_code == 0
    array = np.asarray(nib.load(ct).dataobj)
    for fact in (
        "nifti",
        "40 columns x 32 rows x 3 slices",
        "0.7 x 0.7 x 3 mm",
        "int16",
        f"{array.min()} to {array.max()}",
    ):
        assert fact in result.stdout
    told = json.loads(tat("info", ct, "--json").stdout)
    assert told["shape"] == [3, 32, 40]
    assert told["value_range"] == [array.min(), array.max()]
    fits = {fit["task"]: fit for fit in told["tasks"]}
    assert [fits[task]["fits"] for task in TASKS] == [None, False, False]
    assert fits["pet-synthesis"]["reason"].startswith("expected SUVbw for pet-synthesis, got values from -10")
    assert json.loads(tat("info", ct, "--json", "--header-only").stdout)["value_range"] is None


def test_info_tells_the_rescale_with_its_sign(tat, tmp_path):
    image = nib.Nifti1Image(np.arange(24, dtype=np.int16).reshape(4, 3, 2), np.eye(4))
    image.header.set_slope_inter(2.0, -1024.0)
    nib.save(image, tmp_path / "scan.nii")
    assert "int16, value = stored x 2 - 1024" in tat("info", tmp_path / "scan.nii").stdout


def test_info_says_why_a_series_fits_or_does_not(tat, dicom):
    fits = {fit["task"]: fit for fit in json.loads(tat("info", dicom(), "--json").stdout)["tasks"]}
    assert [fits[task]["fits"] for task in TASKS] == [True, False, False]
    assert fits["mri-sr"]["reason"] == "takes MR, the scan is CT"


def test_info_warns_of_uneven_slices(tat, dicom):
    folder = dicom()
    last = pydicom.dcmread(folder / "1-2.dcm")
    last.ImagePositionPatient = [0.0, 0.0, 20.0]
    last.save_as(folder / "1-2.dcm")
    for words in ((), ("--header-only",)):
        told = tat("info", folder, *words)
        assert told.exit_code == 0
        assert "every slice keeps its own position" in " ".join(told.stderr.split())
        assert "10 mm (column, row, slice)" in told.stdout


def test_info_lists_the_series_to_choose_from(tat, dicom):
    dicom(number=4)
    result = tat("info", dicom(number=7))
    assert result.exit_code == 0
    assert "choose with --series" in result.stdout
    assert "problem" not in result.stdout  # none has any
    assert "made 4" in result.stdout
    assert "made 7" in result.stdout


def test_info_of_nothing(refused, tmp_path):
    refused("info", tmp_path / "none.nii", code=3, match="got nothing there")


# --- weights ---------------------------------------------------------------------------------------------------------


def test_weights_list_show_verify(tat, tiny_weights):
    assert "ct-denoise, pet-synthesis, mri-sr" in tat("weights", "list").stdout
    listed = {card["name"]: card for card in json.loads(tat("weights", "list", "--json").stdout)}
    assert listed["tat-small"]["path"] == str(tiny_weights / "tat-small.safetensors")
    shown = json.loads(tat("weights", "show", "tat-small").stdout)
    assert shown["sha256"] == sha256(tiny_weights / "tat-small.safetensors")
    assert tat("weights", "verify", "tat-small").stdout == "tat-small: ok\n"


def test_weights_of_comparison_networks(tat, refused, tiny_weights, ct, tmp_path, monkeypatch):
    """They are listed, shown as their card says, and verified; what only TAT's can do is refused in a word."""
    tasks = card_for_tasks("unet", TatConfig(), ("ct-denoise",)).tasks
    unet = ComparisonCard(network="unet", config={"width": 4}, tasks=tasks)
    save_comparison_weights(NETWORKS["unet"].build({"width": 4}), tmp_path / "unet.safetensors", card=unet)
    monkeypatch.setenv("TAT_WEIGHTS_DIR", str(tmp_path))
    assert "unet" in tat("weights", "list").stdout
    shown = json.loads(tat("weights", "show", "unet").stdout)
    assert (shown["network"], shown["config"]) == ("unet", {"width": 4})
    assert tat("weights", "verify", "unet", tiny_weights / "tat-small.safetensors").exit_code == 0
    assert tat("weights", "verify").stdout.startswith("unet: ok\n")
    match = "expected weights of TAT, got those of unet; see tat benchmark quality --networks unet="
    refused("restore", ct, *CT, "--weights", "unet", code=4, match=match)
    (tmp_path / "unet.safetensors").write_bytes(b"x")
    assert "damaged or not the card's" in tat("weights", "verify", "unet").stderr


def test_weights_verify_tells_of_each(tat, tiny_weights, tmp_path):
    good = tiny_weights / "tat-small.safetensors"
    result = tat("weights", "verify", good, tmp_path / "none.safetensors", "nameless")
    assert result.exit_code == 4
    assert result.stdout == f"{good}: ok\n"
    assert "none.safetensors: expected a weights file, found none; weights 'nameless'" in result.stderr


def test_weights_verify_finds_damage(tat, tiny_weights, tmp_path):
    for path in tiny_weights.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "tat-small.safetensors").write_bytes(b"x")
    result = tat("weights", "verify", tmp_path / "tat-small.safetensors")
    assert result.exit_code == 4
    assert "damaged or not the card's" in result.stderr


@pytest.mark.parametrize(
    "wrap", [lambda state: state, lambda state: {"params": {f"module.{k}": v for k, v in state.items()}}]
)
def test_weights_import_an_official_checkpoint(tat, ct, tiny, tmp_path, wrap):
    torch.manual_seed(1)
    network = Tat(tiny)
    torch.save(wrap(to_official(network)), tmp_path / "net.pth")
    result = tat("weights", "import", tmp_path / "net.pth", "-o", tmp_path / "mine.safetensors")
    assert result.exit_code == 0, result.output
    card = json.loads((tmp_path / "mine.json").read_text(encoding="utf-8"))
    assert card["name"] == "mine"
    assert card["tasks"]["mri-sr"]["intensity"] == {"kind": "fixed", "lower": 0.0, "upper": 4095.0}
    assert tat("restore", ct, *CT, "--weights", tmp_path / "mine.safetensors").exit_code == 0
    again = tat("weights", "import", tmp_path / "net.pth", "-o", tmp_path / "mine.safetensors")
    assert again.exit_code == 2


class Runs:
    """A pickle that would run code."""

    def __reduce__(self):
        return (os.system, ("touch pwned",))


def test_weights_import_refuses_what_is_no_checkpoint(refused, tiny, tmp_path):
    torch.save({"state": Runs()}, tmp_path / "evil.pth")
    refused("weights", "import", tmp_path / "evil.pth", code=4, match="needs code to load")
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pth")
    refused("weights", "import", tmp_path / "other.pth", code=4, match="other.pth: official checkpoint: expected")
    torch.save([1, 2], tmp_path / "list.pth")
    refused("weights", "import", tmp_path / "list.pth", code=4, match="expected a checkpoint of named tensors")
    (tmp_path / "text.pth").write_text("hello", encoding="utf-8")
    refused("weights", "import", tmp_path / "text.pth", code=4, match="text.pth: expected")
    refused("weights", "import", tmp_path / "none.pth", code=4, match="found none")
    refused(
        "weights", "import", tmp_path / "other.pth", "--mri-range", "x", code=2, match="expected one of paper, robust"
    )
    official = to_official(Tat(tiny))
    official.pop("output.weight")
    torch.save(official, tmp_path / "short.pth")
    refused("weights", "import", tmp_path / "short.pth", code=4, match="missing output.weight")


# --- evaluate and train ----------------------------------------------------------------------------------------------


def test_evaluate_scores_files(tat, ct):
    noisy = ct.with_name("noisy.nii.gz")
    image = nib.load(ct)
    noise = np.random.default_rng(1).normal(0, 30, image.shape)
    nib.Nifti1Image((np.asarray(image.dataobj) + noise).round().astype(np.int16), image.affine).to_filename(noisy)
    table = tat("evaluate", noisy, ct, *CT)
    assert table.exit_code == 0, table.output
    assert "protocol paper" in table.stdout
    report = ct.with_name("scores.json")
    told = json.loads(tat("evaluate", noisy, "--reference", ct, *CT, "--json", "-").stdout)
    tables = ct.with_name("tables")
    done = tat("evaluate", noisy, "--reference", ct, *CT, "--json", report, "--csv", tables, "--subjects", "^(.)")
    assert done.exit_code == 0, done.output
    assert json.loads(report.read_text(encoding="utf-8")).keys() == told.keys()
    assert (tables / "slices.csv").is_file()
    assert "beyond the protocol" in done.stdout
    (row,) = [row for row in told["tasks"][0]["methods"] if row["kind"] == "network"]
    assert f"{row['psnr']:.2f}" in table.stdout
    assert 15 < row["rmse"] < 31  # the noise, less what the window [-160, 240] cuts


@pytest.mark.parametrize("words", [("--json", "t"), ("--html", "t"), ("--json", "./t"), ("--html", "t/slices.csv")])
def test_an_evaluations_files_are_not_its_tables(refused, ct, monkeypatch, words):
    monkeypatch.chdir(ct.parent)
    (ct.parent / "t").mkdir() if "/s" in words[1] else None
    refused("evaluate", ct, ct, *CT, "--csv", "t", *words, code=2, match="expected a name of its own, got that of the")
    assert not (ct.parent / "t").is_file()


def test_dicom_of_another_task_is_told_to_choose_it(refused, dicom):
    """Nobody had said units, which the advice was to leave to the header."""
    advice = "expected units a.u., got HU from its header; choose the task that takes it, or leave the units out"
    refused("evaluate", dicom(), dicom(), "--tasks", "mri", code=3, match=advice)


def test_no_slices_at_most_means_all_of_them(refused, tmp_path):
    """As in every other command: what is refused is the folder."""
    refused("evaluate", "--data", tmp_path / "none", "--max-slices", "0", code=2, match="expected a dataset folder")


def test_scans_without_anything_to_score_are_told(tat, tmp_path, nifti, ct_array):
    """They count nowhere, so the table's title doesn't count them either."""
    air = np.full_like(ct_array, -1000)
    for folder in ("hq", "restored"):
        (tmp_path / folder).mkdir()
        for name, array in (("body", ct_array), ("air", air)):
            nifti(array, f"{folder}/{name}.nii.gz")
    done = tat("evaluate", tmp_path / "restored", tmp_path / "hq", *CT, "--json", tmp_path / "a.json")
    assert done.exit_code == 0, done.output
    assert "ct-denoise: 1 scan of 1 subject" in done.stdout
    assert "warning: ct-denoise: 1 scan constant inside the evaluation window, not scored: air" in done.stderr


def test_results_never_replace_a_scan(refused, ct, nifti, ct_array):
    """Not one that is scored, and nothing that is named like one, --overwrite or not."""
    score = ("evaluate", nifti(ct_array, "restored.nii.gz"), ct, *CT, "--overwrite")
    for option in ("--json", "--html"):
        refused(*score, option, ct, code=2, match="ct.nii.gz: expected a name for results, got a scan's")
    slice_ = ct.with_name("IM0001")
    slice_.write_bytes(b"DICOM without extension")
    refused(*score, "--mask", slice_, "--json", slice_, code=2, match="got the input itself")
    other = ct.with_name("IM0002")  # of no command
    other.write_bytes(bytes(128) + b"DICM" + bytes(100))
    refused(*score, "--json", other, code=2, match="IM0002: expected a name for results, got a scan's")
    refused("restore", ct, *CT, "--report", other, "--overwrite", code=2, match="IM0002: expected a name for results")
    page = ct.with_name("page")
    refused(*score, "--json", page, "--html", page, code=2, match="page: expected a file of its own for each result")
    refused("benchmark", "speed", "--json", ct, "--overwrite", code=2, match="expected a name for results")


def test_evaluate_wants_one_reference(refused, ct):
    refused("evaluate", ct, *CT, code=2, match="expected a restored scan with its --reference, or a dataset")
    refused("evaluate", ct, ct, "--reference", ct, *CT, code=2, match="expected one reference, got two")


def test_train_and_restore_with_the_result(tat, tmp_path):
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        folder = tmp_path / "data" / "MRI" / split
        folder.mkdir(parents=True)
        np.save(folder / "scan.npy", rng.gamma(2.0, 100, (2, 48, 48)).astype(np.float32))
    words = ("--task", "mri", "--steps", "2", "--patch", "32", "--batch", "1", "--threads", "2", "--device", "cpu")
    run = tmp_path / "run"
    words = (*words, "--validation-slices", "1", "--validate-every", "1")
    result = tat("train", "--data", tmp_path / "data", "-o", run, *words)
    assert result.exit_code == 0, result.output
    assert "mri-sr" in result.stdout
    log = [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    gains = [entry["tasks"]["mri-sr"]["gain"] for entry in log if entry["kind"] == "validation"]
    assert len(gains) == 2
    told = [line for line in result.stderr.splitlines() if line.startswith("step ")]
    assert told == [f"step 1 of 2: mri-sr {gains[0]:+.2f} dB"]  # the last one is the table
    card = json.loads((run / "tat-small.json").read_text(encoding="utf-8"))
    assert list(card["tasks"]) == ["mri-sr"]
    assert card["training"]["steps"] == 2
    assert tat("weights", "verify", run / "tat-small.safetensors").exit_code == 0


def test_train_from_a_file_and_plot(tat, refused, tmp_path):
    folder = tmp_path / "data" / "MRI" / "train"
    folder.mkdir(parents=True)
    np.save(folder / "scan.npy", np.random.default_rng(0).gamma(2.0, 100, (1, 40, 40)).astype(np.float32))
    file, run = tmp_path / "mine.toml", tmp_path / "run"
    file.write_text(
        f'data = "{tmp_path / "data"}"\noutput = "{run}"\ntasks = "mri"\nnetwork = "red-cnn"\nnetwork-width = 2\n'
        'patch = 24\nbatch = 1\nsteps = 9\nthreads = 2\ndevice = "cpu"\n',
        encoding="utf-8",
    )
    result = tat("train", "--config", file, "--steps", "1", "--lr", "1e-3")
    assert result.exit_code == 0, result.output
    kept = tomllib.loads((run / "config.toml").read_text(encoding="utf-8"))
    assert (kept["steps"], kept["learning_rate"], kept["network"], kept["patch"]) == (1, 1e-3, "red-cnn", [24])
    assert json.loads((run / "red-cnn.json").read_text(encoding="utf-8"))["config"] == {"width": 2}
    drawn = tat("train", "plot", run)
    assert drawn.stdout.strip() == str(run / "curves.png")
    assert (run / "curves.png").read_bytes().startswith(b"\x89PNG")
    refused("train", "plot", run, code=2, match="curves.png: expected a new file, got one that exists")
    log = run / "log.jsonl"
    refused("train", "plot", run, "-o", log, "--overwrite", code=2, match="log.jsonl: expected a name ending in .png")
    refused("train", "--data", tmp_path, code=2, match="expected --output, on the command line or in the --config file")


def test_networks_that_can_be_trained_are_those_that_are_known():
    from tatcli.baselines.networks import NETWORKS

    assert _NETWORKS == ("tat", *NETWORKS)


def test_ablation_from_the_command_line(tat, refused, tmp_path):
    for split in ("train", "val"):
        folder = tmp_path / "data" / "MRI" / split
        folder.mkdir(parents=True)
        np.save(folder / "scan.npy", np.random.default_rng(0).gamma(2.0, 100, (1, 40, 40)).astype(np.float32))
    words = ("--data", tmp_path / "data", "-o", tmp_path / "study", "--task", "mri", "--steps", "1", "--patch", "16")
    words += ("--batch", "1", "--arms", "l1", "--seeds", "0", "--device", "cpu", "--threads", "2", "-q", "--lr", "1e-4")
    done = tat("benchmark", "ablation", *words, "--json", tmp_path / "a.json")
    assert done.exit_code == 0, done.output
    assert "less l1 (dB)" in done.stdout
    told = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    assert told["arms"] == {"l1": "adaptive kernels only: plain L1"}
    assert told["training"]["preset"] == "tat-tiny"
    assert told["training"]["learning_rate"] == 1e-4
    assert f"{told['rows'][0]['psnr']:.2f}" in done.stdout
    refused("benchmark", "ablation", *words, "--arms", "none", code=2, match="--arms: unknown none")


def test_every_option_of_a_training_run_has_a_flag():
    flags = set(inspect.signature(train).parameters) - {"context", "config", "card", "quiet"}
    assert flags == {field.name for field in dataclasses.fields(TrainConfig)}


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (["--patch", "a,b"], "--patch 'a,b': expected whole numbers separated by commas"),
        (["--patch", "20"], "--patch (multiples of 8)"),
        (["--loss", "l2"], "expected one of balanced, l1"),
        (["--tasks", "ct,xray"], "unknown task 'xray'"),
        (["--preset", "huge"], "unknown preset 'huge'"),
    ],
)
def test_train_options_that_do_not_fit(refused, tmp_path, words, match):
    refused("train", "--data", tmp_path, "-o", tmp_path / "run", *words, code=2, match=match)


# --- the command itself ----------------------------------------------------------------------------------------------


def test_version_and_help(tat):
    assert tat("--version").stdout == f"tat {tatcli.__version__}\n"
    assert tat("--help").exit_code == 0
    bare = tat()
    assert bare.exit_code == 2
    for command in ("restore", "simulate", "evaluate", "train", "info", "weights"):
        assert command in bare.stdout
        assert tat(command, "--help").exit_code == 0


@pytest.mark.parametrize("group", [(), ("train",), ("weights",), ("benchmark",)])
def test_lists_of_commands_say_what_each_does_in_full(tat, group, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    _, commands = tat(*group, "--help").stdout.split("Commands:\n")
    assert commands.strip()
    assert all(line.endswith(".") and not line.endswith("...") for line in commands.splitlines())


def test_the_default_weights_are_what_the_help_says(tat):
    from tatcli.model.weights import DEFAULT_WEIGHTS

    for command in ("restore", "evaluate"):
        assert f"({DEFAULT_WEIGHTS})" in tat(command, "--help").stdout


def test_the_shell_completes_tasks(tat):
    environment = os.environ | {
        "_TAT_COMPLETE": "complete_bash",
        "COMP_WORDS": "tat restore --task ",
        "COMP_CWORD": "3",
    }
    code = "from tatcli.cli.app import main; main()"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert set(done.stdout.split()) == {*TASKS, "auto"}


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
@pytest.mark.parametrize("command", ["simulate", "restore"])
def test_signals_end_the_installed_command_without_traces(nifti, tmp_path, number, code, command):
    """With a write (a pass of the network) that takes for ever: the signal comes while the temporary file is there."""
    scan = nifti(np.random.default_rng(0).gamma(2.0, 100, (20, 16, 2)).astype(np.float32))
    program = (
        "import signal, sys, time\n"
        # A shell's background jobs ignore SIGINT and hand that down, whoever runs the tests.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"
        "from tatcli.cli.app import main\n"
        "from tatcli.volumes import nifti\n"
        "def slow(*_, **options):\n"
        "    print('writing', flush=True)\n"
        "    time.sleep(60)\n"
        f"if {command!r} == 'simulate':\n"
        "    nifti._put = slow\n"
        "else:\n"
        "    from tatcli.inference.restoration import Restoration\n"
        "    Restoration.restore = slow\n"
        f"sys.argv = ['tat', {command!r}, {str(scan)!r}, '--task', 'mri', '-o', {str(tmp_path / 'out.nii.gz')!r}]\n"
        "main()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "writing\n"
    assert len(list(tmp_path.iterdir())) == 2
    time.sleep(0.05)
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == code
    assert "Traceback" not in errors
    assert list(tmp_path.iterdir()) == [scan]


def test_a_closed_terminal_is_ignored_where_nohup_says_so(monkeypatch):
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    monkeypatch.setattr("tatcli.cli.app.app", lambda: None)
    try:
        for handler, expected in ((signal.SIG_IGN, signal.SIG_IGN), (signal.SIG_DFL, _terminated)):
            signal.signal(signal.SIGHUP, handler)
            main()
            assert signal.getsignal(signal.SIGHUP) is expected
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@pytest.mark.parametrize("option", ["grow", "deterministic", "sample_values", "tensorboard", "augment"])
def test_a_flag_wins_over_the_file_either_way(tat, tmp_path, monkeypatch, option):
    seen = []
    monkeypatch.setattr("tatcli.cli.train._run", lambda options, **_: seen.append(options))
    monkeypatch.setattr("tatcli.cli.train._show", lambda done: None)
    for kept, word in ((True, "--no-"), (False, "--")):
        (tmp_path / "config.toml").write_text(f'data = "d"\noutput = "r"\n{option} = {str(kept).lower()}\n')
        flag = word + option.replace("_", "-")
        assert tat("train", "--config", tmp_path / "config.toml", "--device", "cpu", flag).exit_code == 0
        assert getattr(seen[-1], option) is not kept
