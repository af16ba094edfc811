"""Every bad input: one line, the right exit code, nothing written."""

from __future__ import annotations

import errno
import gzip
import json
import os

import nibabel as nib
import numpy as np
import pytest
import torch

from tatcli.cli.app import _known
from tatcli.inference.restorer import Restorer
from tatcli.tasks import TASKS
from tatcli.volumes import read_volume, write_volume

CT = ("--task", "ct-denoise")
rng = np.random.default_rng(0)


def raw_nifti(path, dims, dtype=np.int16):
    """A header alone with these dimensions: nibabel won't write them."""
    header = nib.Nifti1Header()
    header.set_data_dtype(dtype)
    data = header.structarr
    data["dim"][:] = [len(dims), *dims, *[1] * (7 - len(dims))]
    data["pixdim"][1:4] = 1
    data["vox_offset"] = 352
    data["magic"] = b"n+1"
    path.write_bytes(data.tobytes() + bytes(4) + bytes(1024))
    return path


# --- the input itself ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [("",), (" ",), ("scan.nii.gz", ""), ("", "--dry-run"), ("", "--list", "x.txt")])
def test_an_empty_word_is_not_the_current_folder(refused, ct, monkeypatch, words):
    """As a shell makes of an unset "$SCAN"."""
    monkeypatch.chdir(ct.parent)
    refused("restore", *words, *CT, "-o", "out", code=2, match="expected a path, got an empty word")


@pytest.mark.parametrize(
    "command", [("info",), ("simulate", "-o", "x.nii.gz"), ("train", "plot"), ("weights", "import")]
)
def test_an_empty_word_is_no_path_of_other_commands_either(refused, ct, monkeypatch, command):
    monkeypatch.chdir(ct.parent)
    refused(*command, "", code=2, match="expected a path, got an empty word")


@pytest.mark.parametrize(
    ("command", "option"),
    [
        (("restore", "SCAN", "--task", "ct", "-o", "-"), "-o"),
        (("restore", "SCAN", "--task", "ct", "--output=-"), "--output"),
        (("simulate", "SCAN", "--task", "ct", "--output", "-"), "--output"),
        (("phantom", "-o", "-"), "-o"),
        (("evaluate", "SCAN", "SCAN", "--task", "ct", "--html", "-"), "--html"),
        (("evaluate", "SCAN", "SCAN", "--task", "ct", "--csv", "-"), "--csv"),
        (("prepare", "SCAN", "-o", "-"), "-o"),
    ],
)
def test_a_dash_is_no_name_of_an_output(refused, ct, monkeypatch, command, option):
    """Which would be a folder of that name for a batch, and a page."""
    monkeypatch.chdir(ct.parent)
    words = [str(ct) if word == "SCAN" else word for word in command]
    refused(*words, code=2, match=f"{option} -: expected the name of a file or folder, as it isn't written to stdout")
    assert not (ct.parent / "-").exists()


@pytest.mark.parametrize("words", [("-o", ""), ("--output=",), ("--report", "")])
def test_an_option_s_value_is_no_empty_word(refused, ct, words):
    option = words[0].rstrip("=")
    refused(
        "restore", ct, *CT, *words, code=2, match=f"{option}: expected a value, got an empty word (an unset variable"
    )


def test_an_option_s_value_is_an_empty_word_where_that_means_something(refused, tmp_path):
    refused("restore", tmp_path / "absent.nii.gz", *CT, "--series-suffix", "", code=3, match="absent.nii.gz")


def test_missing_file(refused, tmp_path):
    refused("restore", tmp_path / "none.nii.gz", *CT, code=3, match="got nothing there")


def test_empty_file(refused, tmp_path):
    (tmp_path / "x.nii.gz").touch()
    refused("restore", tmp_path / "x.nii.gz", *CT, code=3, match="got an empty file")


@pytest.mark.parametrize("share", [0.02, 0.5, 0.999])
def test_truncated_file(refused, ct, share):
    content = ct.read_bytes()
    ct.write_bytes(content[: int(len(content) * share)])
    refused("restore", ct, *CT, code=3, match="ct.nii.gz: expected")


@pytest.mark.parametrize(
    "name", ["notes.txt", "notes.nii", "notes.nii.gz", "notes.nrrd", "notes.mha", "notes.dcm", "notes"]
)
def test_not_an_image(refused, tmp_path, name):
    (tmp_path / name).write_text("a shopping list, long enough to be read as a header\n" * 30, encoding="utf-8")
    refused("restore", tmp_path / name, *CT, "-o", tmp_path / "out.nii.gz", code=3, match=f"{name}: expected")


def test_not_an_image_inside_gzip(refused, tmp_path):
    (tmp_path / "x.nii.gz").write_bytes(gzip.compress(b"text" * 500))
    refused("restore", tmp_path / "x.nii.gz", *CT, code=3, match="x.nii.gz: expected")


def test_folder_without_series(refused, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "notes.txt").write_text("nothing", encoding="utf-8")
    out = tmp_path / "out.nii.gz"
    refused("restore", tmp_path / "folder", "-o", out, code=3, match="expected a DICOM series, got no DICOM images")


def test_folder_with_two_series(refused, dicom, tmp_path):
    dicom(number=4)
    folder = dicom(number=7)
    out = tmp_path / "out.nii.gz"
    line = refused("restore", folder, "-o", out, code=2, match="expected one series, got 2; choose with --series")
    assert "number 4 'made 4'" in line
    assert "number 7 'made 7'" in line
    refused("restore", folder, "--series", "5", "-o", out, code=2, match="expected one series '5', got 0")


def test_rgb(refused, tmp_path):
    array = np.zeros((8, 8, 2), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    nib.Nifti1Image(array, np.eye(4)).to_filename(tmp_path / "x.nii")
    refused("restore", tmp_path / "x.nii", *CT, code=3, match="x.nii: expected")


def test_complex(refused, nifti):
    path = nifti((rng.normal(size=(8, 8, 2)) + 1j).astype(np.complex64))
    refused("restore", path, "--task", "mri-sr", code=3, match="complex")


def test_five_dimensions(refused, nifti):
    refused("restore", nifti(np.zeros((4, 4, 2, 2, 2), np.int16)), *CT, code=3, match="5-D")


def test_an_axis_without_voxels(refused, tmp_path):
    refused("restore", raw_nifti(tmp_path / "x.nii", (8, 0, 3)), *CT, code=3, match="x.nii: expected")


def test_all_nan(refused, nifti):
    refused("restore", nifti(np.full((8, 8, 2), np.nan, np.float32)), *CT, code=3, match="all NaN or infinite")


def test_constant(refused, nifti):
    path = nifti(np.full((8, 8, 2), -1000, np.int16))
    refused("restore", path, *CT, code=3, match="got a constant of -1000; there is nothing to restore")


def test_wrong_modality(refused, dicom, tmp_path):
    out = tmp_path / "out.nii.gz"
    words = "expected PT for pet-synthesis, got CT; choose --task ct-denoise"
    refused("restore", dicom(), "--task", "pet", "-o", out, code=3, match=words)
    refused("simulate", dicom("other"), "--task", "pet", "-o", out, code=3, match=words)


def test_values_that_can_not_be_hu(refused, tat, nifti):
    path = nifti(rng.random((16, 16, 2)).astype(np.float32))
    refused("restore", path, *CT, code=3, match="which look normalised; convert it, or vouch for it with --units HU")
    assert tat("restore", path, *CT, "--units", "hu").exit_code == 0


def test_pet_in_bq_per_ml_without_tags(refused, nifti, dicom, tmp_path):
    path = nifti(rng.gamma(2.0, 3000, (16, 16, 2)).astype(np.float32))
    refused("restore", path, "--task", "pet", code=3, match="which look like Bq/ml or counts")
    folder = dicom(modality="PT", Units="BQML", DecayCorrection="START", CorrectedImage=["ATTN", "DECY"])
    line = refused("restore", folder, "-o", tmp_path / "out.nii.gz", code=3, match="expected the tags that SUVbw needs")
    assert "PatientWeight (0010,1030)" in line


# --- options ---------------------------------------------------------------------------------------------------------


def test_unknown_task(refused, ct):
    line = refused("restore", ct, "--task", "denoise", code=2, match="unknown task 'denoise': expected one of")
    assert all(task in line for task in TASKS)


def test_auto_asks_for_the_task_where_the_file_does_not_say(refused, ct):
    line = refused("restore", ct, code=2, match="a file that doesn't name its modality; choose --task")
    assert all(task in line for task in TASKS)


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (["--units", "mSv"], "expected one of HU, SUVbw, BQML, a.u."),
        (["--precision", "int8"], "expected one of auto, fp32, bf16, fp16"),
        (["--mode", "cube"], "expected one of slice, patch"),
        (["--axis", "oblique"], "expected one of auto, axial, coronal, sagittal"),
        (["--tile", "64"], "add --mode patch"),
        (["--threads", "0"], "expected 1 to 1024"),
        (["--scale", "2"], "expected only with mri-sr"),
        (["--series", "3"], "leave --series out"),
        (["--tile", "many"], "--tile"),
        (["--frobnicate"], "No such option: --frobnicate"),
    ],
)
def test_options_that_do_not_fit(refused, ct, words, match):
    refused("restore", ct, *CT, *words, code=2, match=match)


def test_unknown_commands(refused):
    refused("denoise", code=2, match="No such command 'denoise'")
    refused("restore", code=2, match="Missing argument 'SCAN'")
    refused("simulate", code=2, match="Missing argument 'SCAN'; see tat simulate --help")
    refused("weights", "lst", code=2, match="; see tat weights --help")
    refused("benchmark", "speed", "--repeats", "x", code=2, match="; see tat benchmark speed --help")


# --- device and memory -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gpu", "cuda:first", "tpu"])
def test_unknown_device(refused, ct, name):
    refused("restore", ct, *CT, "--device", name, code=5, match="expected auto, cpu, cuda, cuda:N or mps")


def test_absent_device(refused, ct, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    refused("restore", ct, *CT, "--device", "cuda", code=5, match="expected a CUDA device, found 0")


def test_out_of_memory(refused, ct, monkeypatch):
    def full(self, x):
        raise torch.OutOfMemoryError

    monkeypatch.setattr("tatcli.model.tat.Tat.forward", full)
    refused("restore", ct, *CT, "--batch", "3", code=5, match="cpu: out of memory even with one 32x40 slice")


# --- weights ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def own_weights(tiny_weights, tmp_path):
    folder = tmp_path / "weights"
    folder.mkdir()
    for path in tiny_weights.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder / "tat-small.safetensors"


def test_unknown_weights(refused, ct, tmp_path):
    refused("restore", ct, *CT, "--weights", "tat-huge", code=4, match="expected a name (tat-small")
    refused("restore", ct, *CT, "--weights", tmp_path / "x.safetensors", code=4, match="found none")


def test_damaged_weights(refused, ct, own_weights):
    content = bytearray(own_weights.read_bytes())
    content[-1] ^= 1
    own_weights.write_bytes(content)
    refused("restore", ct, *CT, "--weights", own_weights, code=4, match="the file is damaged or not the card's")
    own_weights.write_bytes(content[:1000])
    refused("restore", ct, *CT, "--weights", own_weights, code=4, match="expected sha256")


def test_weights_of_another_network(refused, ct, own_weights):
    card = own_weights.with_suffix(".json")
    fields = json.loads(card.read_text(encoding="utf-8"))
    fields["config"]["width"] = 16
    card.write_text(json.dumps(fields), encoding="utf-8")
    refused("restore", ct, *CT, "--weights", own_weights, code=4, match="keys don't fit the card's config")


def test_weights_without_a_card(refused, ct, own_weights):
    own_weights.with_suffix(".json").unlink()
    refused("restore", ct, *CT, "--weights", own_weights, code=4, match="expected its card tat-small.json beside it")


def test_weights_for_another_task(refused, ct, own_weights):
    card = own_weights.with_suffix(".json")
    fields = json.loads(card.read_text(encoding="utf-8"))
    del fields["tasks"]["ct-denoise"]
    card.write_text(json.dumps(fields), encoding="utf-8")
    refused("restore", ct, *CT, "--weights", own_weights, code=4, match="not for ct-denoise")


def test_pickled_weights(refused, ct, tmp_path):
    path = tmp_path / "net.pth"
    torch.save({"a": torch.zeros(1)}, path)
    refused("restore", ct, *CT, "--weights", path, code=4, match="with: tat weights import")


# --- output ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def untouchable(monkeypatch):
    """The network must not run: the output is refused before the work."""

    def fail(*_, **__):
        raise AssertionError

    monkeypatch.setattr(Restorer, "__init__", fail)


@pytest.mark.usefixtures("untouchable")
class TestOutput:
    def test_equal_to_the_input(self, refused, ct):
        refused("restore", ct, *CT, "-o", ct, "--overwrite", code=2, match="got the input itself")
        link = ct.with_name("link.nii.gz")
        link.symlink_to(ct)
        refused("restore", ct, *CT, "-o", link, "--overwrite", code=2, match="got the input itself")

    def test_existing(self, refused, ct):
        existing = ct.with_name("ct_restored.nii.gz")
        existing.write_bytes(b"precious")
        refused("restore", ct, *CT, code=2, match="got one that exists")

    def test_existing_report(self, refused, ct):
        report = ct.with_name("run.json")
        report.write_text("precious", encoding="utf-8")
        refused("restore", ct, *CT, "--report", report, code=2, match="run.json: expected a new file")

    def test_report_in_the_outputs_place(self, refused, ct):
        out = ct.with_name("out.nii.gz")
        refused("restore", ct, *CT, "-o", out, "--report", out, code=2, match="expected a report apart from the output")

    @pytest.mark.parametrize(
        ("words", "match"),
        [
            (("-o", "x.mhd", "--report", "x.raw"), "x.raw: expected a report apart from the output"),
            (("-o", "x.mhd", "--residual", "x.mhd"), "--residual x.mhd: expected a file of its own"),
            (("--residual", "y.mhd", "--report", "y.raw"), "--residual y.mhd: expected a file of its own"),
            (("--residual", "y.mhd", "--uncertainty", "y.mhd"), "--residual y.mhd: expected a file of its own"),
        ],
    )
    def test_names_of_the_voxels_of_a_header(self, refused, ct, monkeypatch, words, match):
        monkeypatch.chdir(ct.parent)
        refused("restore", ct, *CT, *words, code=2, match=match)

    def test_voxels_that_exist(self, refused, ct):
        ct.with_name("x.raw").write_bytes(b"precious")
        refused("restore", ct, *CT, "-o", ct.with_name("x.mhd"), code=2, match="x.raw: expected a new file")
        write_volume(read_volume(ct), ct.with_name("in.mhd"))
        words = ("--report", ct.with_name("in.raw"), "--overwrite")
        refused("restore", ct.with_name("in.mhd"), *CT, *words, code=2, match="in.raw: expected an output different")

    def test_missing_folder(self, refused, ct, tmp_path):
        refused("restore", ct, *CT, "-o", tmp_path / "no" / "x.nii", code=2, match="expected an existing folder")

    def test_unwritable_folder(self, refused, ct, monkeypatch):
        access = os.access  # root may write anywhere, so the system is made to say no
        monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK and access(path, mode))
        refused("restore", ct, *CT, code=2, match="expected a writable folder")

    def test_a_folder(self, refused, ct, tmp_path):
        (tmp_path / "out.nii.gz").mkdir()
        refused("restore", ct, *CT, "-o", tmp_path / "out.nii.gz", code=2, match="got a folder; add a file name")

    @pytest.mark.parametrize("name", ["out.jpg", "out.ima"])
    def test_format_that_is_not_written(self, refused, ct, name):
        refused("restore", ct, *CT, "-o", ct.with_name(name), code=2, match=name)

    def test_dicom_from_another_format(self, refused, ct):
        refused("restore", ct, *CT, "-o", ct.with_name("out.dcm"), code=2, match="DICOM is written from DICOM only")
        refused("restore", ct, *CT, "--format", "dicom", code=2, match="DICOM is written from DICOM only")

    def test_a_name_that_contradicts_the_format(self, refused, dicom):
        out = dicom().with_name("out.nii.gz")
        refused("restore", dicom(), "-o", out, "--format", "mha", code=2, match="the format metaimage that was asked")
        refused("restore", dicom(), "--format", "png", code=2, match="--format 'png': expected auto, dicom")

    def test_a_format_without_a_grid(self, refused, ct):
        refused("restore", ct, *CT, "-o", ct.with_name("x.npy"), code=2, match="keeps the scan's grid, got .npy")

    def test_a_folder_that_holds_the_input_or_something_else(self, refused, dicom):
        folder = dicom()
        refused("restore", folder, "-o", folder / "out", code=2, match="apart from the input")
        other = dicom("other")
        refused("restore", folder, "-o", other, code=2, match="got one with 3 entries")
        refused("restore", folder, "-o", other, "--overwrite", code=2, match="other files in it")

    def test_dicom_options(self, refused, dicom):
        refused("restore", dicom(), "--private", "some", code=2, match="--private 'some': expected one of keep, drop")
        refused("restore", dicom(), "--uid-root", "x", code=2, match="--uid-root 'x'")
        refused("restore", dicom(), "--anonymise", "--reproducible", code=2, match="lead back to the patient's")


# --- interruption ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["tatcli.inference.passes.Passes.start", "tatcli.volumes.nifti._put"])
def test_ctrl_c_leaves_nothing(tat, ct, tmp_path, monkeypatch, where):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(where, interrupt)
    before = sorted(tmp_path.rglob("*"))
    result = tat("restore", ct, *CT, "--report", tmp_path / "run.json")
    assert result.exit_code == 130
    assert result.stderr.splitlines()[-1].startswith("error: interrupted")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_full_disk_leaves_nothing(refused, ct, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tatcli.volumes.nifti._put", full)
    refused("restore", ct, *CT, code=2, match="No space left on device; check space and permissions")


@pytest.mark.parametrize(
    "refusal",
    [RuntimeError("can't start new thread"), BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")],
)
def test_a_job_that_may_start_no_more_threads_or_processes_is_no_bug(refused, ct, monkeypatch, refusal):
    """As under ``ulimit -u``, or a container's limit of pids."""

    def none_left(*_, **__):
        raise refusal

    monkeypatch.setattr("tatcli.inference.restorer.prepare_runtime", none_left)
    line = refused("restore", ct, *CT, code=5, match="expected the system to start another thread or process, got ")
    assert "ulimit -u" in line


def test_a_pipe_that_takes_no_more_is_not_said_to_be_want_of_processes():
    assert _known(BlockingIOError(errno.EAGAIN, "write could not complete without blocking", 3)) is None


def test_a_bug_shows_its_traceback(tat, ct, monkeypatch):
    def buggy(*_, **__):
        raise ZeroDivisionError

    monkeypatch.setattr("tatcli.inference.passes.Passes.start", buggy)
    with pytest.raises(ZeroDivisionError):
        tat("restore", ct, *CT)
