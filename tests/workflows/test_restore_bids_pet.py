"""PET in BIDS: from Bq/ml to SUV, restored, and back, for one image, a dataset and a folder."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest
from torch import nn

from tatcli.errors import OutputError, TaskMismatchError, UnitsError
from tatcli.inference import RestoreOptions, Restorer
from tatcli.model.config import PRESETS
from tatcli.model.weights import card_for_tasks
from tatcli.volumes import read_volume
from tatcli.volumes.pet_tags import PetTags
from tatcli.workflows.batch.config import BatchConfig, Endurance, Selection
from tatcli.workflows.batch.planning import plan
from tatcli.workflows.batch.run import run_batch
from tatcli.workflows.batch.sidecar import Sidecar, request_of, sidecar_of
from tatcli.workflows.batch.vetting import vet
from tatcli.workflows.restore import RestoreConfig, restore
from tatcli.workflows.simulate import SimulateConfig, simulate_scan

FDG = {
    "Units": "Bq/mL",
    "TracerRadionuclide": "F18",
    "InjectedRadioactivity": 350,
    "InjectedRadioactivityUnits": "MBq",
    "InjectionStart": 0,
    "ImageDecayCorrected": True,
    "ImageDecayCorrectionTime": 6586.2,
    "AttenuationCorrection": "CT-based",
}
"""70 kg, one half-life after 350 MBq: SUV 4e-4 for each Bq/ml."""
PARTICIPANTS = "participant_id\tbody_weight\nsub-01\t70\nsub-02\tn/a\n"


def uptake(shape=(24, 20, 3), seed=0):
    """Bq/ml of a round body of SUV 1 with a spot of SUV 4 (2,500 and 10,000 Bq/ml) and noise; columns, rows, slices."""
    x, y = np.meshgrid(np.linspace(-1, 1, shape[0]), np.linspace(-1, 1, shape[1]), indexing="ij")
    body = 2500.0 * (np.hypot(x, y) < 0.8) + 7500.0 * (np.hypot(x - 0.3, y) < 0.15)
    noise = np.random.default_rng(seed).gamma(4.0, 0.25, shape)
    return body.reshape(*body.shape, *[1] * (len(shape) - 2)) * noise


def write_image(path, values, *, dtype=np.int16, slope=1.0):
    path.parent.mkdir(parents=True, exist_ok=True)
    made = nib.Nifti1Image((values / slope).astype(dtype), np.diag([-4.0, 4.0, 4.0, 1.0]))
    header = made.header.copy()
    header["scl_slope"], header["scl_inter"], header["vox_offset"], header["magic"] = slope, 0.0, 352, b"n+1"
    raw = header.structarr.tobytes() + bytes(4) + np.asarray(made.dataobj).tobytes(order="F")
    path.write_bytes(raw)
    return path


class Identity(nn.Module):
    def forward(self, x):
        return x.clone()


class Brighter(nn.Module):
    """Adds a hundredth of the network's range."""

    def forward(self, x):
        return x + 0.01


@pytest.fixture
def restorer():
    card = card_for_tasks("made-up", PRESETS["tat-small"])
    return lambda network: Restorer.from_network(network, card, device="cpu", precision="fp32")


@pytest.fixture
def dataset(tmp_path):
    """Two subjects' PET: int16 with a slope, and floats of which no one knows the weight."""
    root = tmp_path / "study"
    write_image(root / "sub-01/pet/sub-01_pet.nii", uptake(), slope=0.75)
    write_image(root / "sub-02/pet/sub-02_pet.nii", uptake(seed=1), dtype=np.float32)
    texts = {
        "dataset_description.json": '{"Name": "Study", "BIDSVersion": "1.11.0"}',
        "participants.tsv": PARTICIPANTS,
        "participants.json": '{"body_weight": {"Units": "kg"}}',
        "pet.json": json.dumps(FDG),
        "sub-01/pet/sub-01_pet.json": '{"Manufacturer": "X"}',
    }
    for name, text in texts.items():
        (root / name).write_text(text, encoding="utf-8")
    return root


@pytest.mark.parametrize("options", [RestoreOptions(), RestoreOptions(axis="coronal")], ids=["axial", "coronal"])
@pytest.mark.parametrize(
    ("dtype", "slope", "frames"), [(np.int16, 0.75, 1), (np.int16, 1.0, 2), (np.float32, 1.0, 1), (np.float64, 1.0, 1)]
)
def test_an_identity_network_gives_back_the_file_and_a_sidecar(restorer, tmp_path, options, dtype, slope, frames):
    shape = (24, 20, 3) if frames == 1 else (24, 20, 3, frames)
    source = write_image(tmp_path / "sub-01_pet.nii", uptake(shape), dtype=dtype, slope=slope)
    told = FDG | {"PatientWeight": 70}
    (tmp_path / "sub-01_pet.json").write_text(json.dumps(told), encoding="utf-8")
    report = restore(RestoreConfig(input=source, options=options), restorer=restorer(Identity()))
    assert (report.task, report.scan.units, report.scan.modality) == ("pet-synthesis", "SUVbw", "PT")
    assert report.steps[0].startswith("SUVbw from Bq/mL x 0.0004 by sub-01_pet.json")
    assert report.change.fraction == 0.0
    assert (tmp_path / "sub-01_pet_restored.nii").read_bytes() == source.read_bytes()
    beside = json.loads((tmp_path / "sub-01_pet_restored.json").read_text(encoding="utf-8"))
    assert beside == told | {"Description": "restored by tat", "Sources": ["sub-01_pet.nii"]}
    again = read_volume(tmp_path / "sub-01_pet_restored.nii")
    assert again.units == "SUVbw"
    np.testing.assert_array_equal(again.array, read_volume(source).array)


def test_what_the_network_changes_is_changed_in_the_input_s_units(restorer, tmp_path):
    source = write_image(tmp_path / "sub-01_pet.nii", uptake() / 1000.0, dtype=np.float32)
    told = FDG | {"PatientWeight": 70, "Units": "kBq/mL"}
    (tmp_path / "sub-01_pet.json").write_text(json.dumps(told), encoding="utf-8")
    network = restorer(Brighter())
    width = network.card.tasks["pet-synthesis"].intensity.window.width
    for name, options in (("whole.nii", RestoreOptions()), ("across.nii", RestoreOptions(axis="sagittal"))):
        restore(RestoreConfig(input=source, output=tmp_path / name, options=options), restorer=network)
        before, after = (np.asarray(nib.load(path).dataobj) for path in (source, tmp_path / name))
        inside = before > 0
        # a hundredth of the range is width / 100 SUV, which is 2.5 kBq/ml for each SUV
        np.testing.assert_allclose((after - before)[inside], width / 100 * 2.5, rtol=1e-4)
        assert json.loads((tmp_path / name).with_suffix(".json").read_text(encoding="utf-8"))["Units"] == "kBq/mL"


def test_another_format_is_suv_and_has_no_sidecar(restorer, dataset, tmp_path):
    source, output = dataset / "sub-01/pet/sub-01_pet.nii", tmp_path / "pet.nrrd"
    restore(RestoreConfig(input=source, output=output), restorer=restorer(Identity()))
    np.testing.assert_array_equal(read_volume(output).array, read_volume(source).array)
    assert float(read_volume(output).array.max()) == pytest.approx(np.floor(uptake() / 0.75).max() * 3e-4, rel=1e-6)
    assert not output.with_suffix(".json").exists()


def test_the_sidecar_is_not_replaced_unasked(restorer, dataset, tmp_path):
    source, output = dataset / "sub-01/pet/sub-01_pet.nii", tmp_path / "out.nii"
    output.with_suffix(".json").write_text("mine", encoding="utf-8")
    config = {"input": source, "output": output}
    with pytest.raises(OutputError, match=r"out\.json"):
        restore(RestoreConfig(**config), restorer=restorer(Identity()))
    assert (output.exists(), output.with_suffix(".json").read_text(encoding="utf-8")) == (False, "mine")
    with pytest.raises(OutputError, match="apart from the output's sidecar"):
        restore(
            RestoreConfig(**config, report=output.with_suffix(".json"), overwrite=True), restorer=restorer(Identity())
        )
    restore(RestoreConfig(**config, overwrite=True), restorer=restorer(Identity()))
    assert json.loads(output.with_suffix(".json").read_text(encoding="utf-8"))["PatientWeight"] == 70


def test_what_is_missing_is_refused_before_the_network_and_supplied_by_the_caller(restorer, dataset, tmp_path):
    source, output = dataset / "sub-02/pet/sub-02_pet.nii", tmp_path / "out.nii"
    with pytest.raises(UnitsError, match=r"sub-02_pet.nii: .* no body_weight in participants.tsv; .*--pet weight=KG"):
        restore(RestoreConfig(input=source, output=output), restorer=restorer(Identity()))
    pet = PetTags.parse("weight=35")
    report = restore(RestoreConfig(input=source, output=output, pet=pet), restorer=restorer(Identity()))
    assert output.read_bytes() == source.read_bytes()
    assert "x 0.0002 by pet.json: 35 kg (--pet)" in report.steps[0]
    # the output's sidecar passes the caller's weight on
    np.testing.assert_array_equal(read_volume(output).array, read_volume(source, pet=pet).array)
    with pytest.raises(TaskMismatchError, match="expected CT for ct-denoise, got PT"):
        restore(RestoreConfig(input=source, pet=pet, task="ct"), restorer=restorer(Identity()))


def test_a_simulated_scan_can_be_restored(restorer, dataset, tmp_path):
    source, low = dataset / "sub-01/pet/sub-01_pet.nii", tmp_path / "low.nii"
    simulate_scan(SimulateConfig(input=source, output=low, strength=12.0))
    assert json.loads(low.with_suffix(".json").read_text(encoding="utf-8"))["Description"] == "simulated by tat"
    # as of a file that holds SUV itself, but for the rounding to 0.75 Bq/ml
    plain = write_image(tmp_path / "suv.nii", read_volume(source).array.T, dtype=np.float32)
    simulate_scan(SimulateConfig(input=plain, output=tmp_path / "low_suv.nii", task="pet-synthesis", strength=12.0))
    expected = read_volume(tmp_path / "low_suv.nii").array
    assert float(np.abs(expected - read_volume(source).array).max()) > 0.5
    stored = np.minimum(expected, 32767 * 0.75 * 4e-4)  # what int16 can hold with the file's own slope
    np.testing.assert_allclose(read_volume(low).array, stored, atol=0.51 * 0.75 * 4e-4)
    restore(RestoreConfig(input=low, output=tmp_path / "again.nii"), restorer=restorer(Identity()))
    assert (tmp_path / "again.nii").read_bytes() == low.read_bytes()


@pytest.fixture
def batch(tiny_weights, monkeypatch, tmp_path):
    """Run a batch with tiny weights."""
    monkeypatch.setenv("TAT_WEIGHTS_DIR", str(tiny_weights))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("TAT_NATIVE", "0")

    def run(folder, output=None, **others):
        scan = RestoreConfig(input=folder, task="pet-synthesis", output=output, device="cpu", **others)
        endurance = Endurance(timeout=120.0, retries=0)
        selection, failures = Selection(inputs=(str(folder),)), tmp_path / "failures.csv"
        config = BatchConfig(scan=scan, selection=selection, endurance=endurance, failures=failures)
        return run_batch(config, watch=lambda event: None, read_stdin=str)

    return run


def test_a_dataset_from_end_to_end(batch, dataset, tmp_path):
    report = batch(dataset)
    assert (report.scans, report.done, report.failed) == (2, 1, 1)
    failures = (tmp_path / "failures.csv").read_text(encoding="utf-8")
    assert "no body_weight in participants.tsv" in failures
    source = dataset / "sub-01/pet/sub-01_pet.nii"
    made = dataset / "derivatives/tat/sub-01/pet/sub-01_desc-restored_pet.nii"
    before, after = nib.load(source), nib.load(made)
    assert after.header.binaryblock == before.header.binaryblock  # int16, 0.75 Bq/ml
    old, new = (np.asarray(image.dataobj, dtype=np.float64) for image in (before, after))
    assert not np.array_equal(old, new)
    assert np.median(new[old > 1000]) == pytest.approx(np.median(old[old > 1000]), rel=0.5)  # still Bq/ml, not SUV
    told = json.loads(made.with_name("sub-01_desc-restored_pet.json").read_text(encoding="utf-8"))
    assert (told["Units"], told["Manufacturer"], told["PatientWeight"]) == ("Bq/mL", "X", 70)
    assert told["Sources"] == ["bids:raw:sub-01/pet/sub-01_pet.nii"]
    # the derivative's own sidecar leads to SUV
    assert (
        read_volume(made).provenance.steps[0].startswith("SUVbw from Bq/mL x 0.0004 by sub-01_desc-restored_pet.json")
    )
    recorded = Sidecar.read(sidecar_of(made))
    assert recorded.report["scan"]["units"] == "SUVbw"
    # a weight that is corrected makes what hangs on it to be redone, and what was missing to be done
    (dataset / "participants.tsv").write_text(PARTICIPANTS.replace("70", "80").replace("n/a", "60"), encoding="utf-8")
    report = batch(dataset)
    assert (report.done, report.finished, report.failed) == (2, 0, 0)


def test_a_dataset_s_derivatives_in_another_format_say_suv(batch, dataset, tmp_path):
    (dataset / "participants.tsv").write_text(PARTICIPANTS.replace("n/a", "60"), encoding="utf-8")
    report = batch(dataset, tmp_path / "derived", format="nrrd")
    assert report.done == 2
    made = tmp_path / "derived/sub-01/pet/sub-01_desc-restored_pet.nrrd"
    assert json.loads(made.with_suffix(".json").read_text(encoding="utf-8"))["Units"] == "g/mL"
    assert float(read_volume(made).array.max()) < 100.0


def test_a_folder_that_is_no_dataset(batch, tmp_path):
    source = write_image(tmp_path / "in/a_pet.nii", uptake())
    sidecar = source.with_suffix(".json")
    sidecar.write_text(json.dumps(FDG | {"PatientWeight": 70}), encoding="utf-8")
    out = tmp_path / "out"
    assert batch(tmp_path / "in", out).done == 1
    assert json.loads((out / "a_pet.json").read_text(encoding="utf-8"))["Units"] == "Bq/mL"
    # finished while the image and what is said of it stay the same
    config = BatchConfig(
        scan=RestoreConfig(input=source, task="pet-synthesis", output=out, device="cpu"),
        selection=Selection(inputs=(str(tmp_path / "in"),)),
    )
    (work,) = plan(config, read_stdin=str).works
    made = Sidecar.read(sidecar_of(out / "a_pet.nii"))
    assert made.request == request_of(work, made.request["weights"])
    sidecar.write_text(json.dumps(FDG | {"PatientWeight": 71}), encoding="utf-8")
    assert made.request != request_of(work, made.request["weights"])
    # what lies in the sidecar's place and isn't tat's is never replaced
    for file in out.glob("a_pet.nii*"):
        file.unlink()
    with pytest.raises(OutputError, match=r"a_pet\.json"):
        vet(work, "sha")
