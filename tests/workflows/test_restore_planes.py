"""Scans restored plane by plane: the same bytes as through the Python API, within the memory that was given."""

from __future__ import annotations

import json
import tracemalloc
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
import torch
from torch import nn

from tatcli.degradation.low_resolution_mri import low_resolution
from tatcli.errors import DeviceError, UnitsError
from tatcli.inference import RestoreOptions, Restorer, memory, value_summary
from tatcli.inference.data_consistency import lines_to_put_back
from tatcli.inference.passes import Pass
from tatcli.model.config import PRESETS
from tatcli.model.fused import kernels_for
from tatcli.model.weights import card_for_tasks
from tatcli.volumes import read_volume, write_volume
from tatcli.volumes.reading import open_planes
from tatcli.workflows.restore import RestoreConfig, restore
from tatcli.workflows.restoring import fitting, whole
from tatcli.workflows.restoring import planes as by_planes

EXTENSIONS = [".nii", ".nii.gz", ".nrrd", ".mha", ".mhd"]
PLENTY, LITTLE = 10**9, 150_000
"""Bytes: the scans below are held in the one, and streamed in the other."""
KINDS = {
    "int16": ("int16", None),
    "uint16 with an offset": ("uint16", (1.0, -1024.0)),
    "int16 with a slope": ("int16", (0.37, -3.0)),
    "int32": ("int32", None),
    "float32": ("float32", None),
    "float64": ("float64", None),
}


class Smooths(nn.Module):
    """Changes every pixel, by its neighbours in the slice: a wrong cut or order would show."""

    def forward(self, x):
        return nn.functional.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


class Identity(nn.Module):
    def forward(self, x):
        return x.clone()


def restorer_of(network):
    return Restorer.from_network(network, card_for_tasks("stand-in", PRESETS["tat-small"]), device="cpu")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Hundreds of little slices: threads would only wait for one another."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def smooths():
    return restorer_of(Smooths())


@pytest.fixture
def only_the_scan_counts(monkeypatch):
    """Memory plans leave out Python, torch and the network: what remains are the scan's own arrays."""
    for name in ("_MAPS", "_FUSED_MAPS", "_PACKED_BYTES", "_NETWORK_REST", "_PER_THREAD"):
        monkeypatch.setattr(memory, name, 0)
    monkeypatch.setattr(memory, "_BLOCK_BYTES", 1)
    monkeypatch.setattr(fitting, "resident", lambda: None)
    monkeypatch.setattr(fitting, "peak_resident", lambda: None)
    monkeypatch.setattr(fitting, "_LOADED", 0)
    monkeypatch.setattr(by_planes, "_HELD_SHARE", 1e-3)
    monkeypatch.setattr(value_summary, "_SAMPLE", 1000)
    monkeypatch.setattr("tatcli.volumes.planes._RUN_BYTES", 2**14)


def save(path: Path, kind: str, shape: tuple[int, ...], *, affine=None) -> Path:
    """A made-up CT (an MR, if you like) with holes in floats."""
    dtype, scale = KINDS[kind]
    rng = np.random.default_rng(1)
    values = rng.normal(0, 300, shape) - 500 * (rng.random(shape) < 0.4)
    values[..., 0] = -2000
    slope, intercept = scale or (1.0, 0.0)
    stored = ((values - intercept) / slope).clip(0 if dtype == "uint16" else None, None).astype(dtype)
    if stored.dtype.kind == "f":
        stored[..., 1, 2:4] = np.nan, np.inf
    if ".nii" not in path.name:
        made = SimpleITK.GetImageFromArray(stored, isVector=False)
        made.SetSpacing((1.0, 1.0, 3.0, 1.0)[: len(shape)])
        SimpleITK.WriteImage(made, path, useCompression=path.suffix != ".mhd")
        return path
    header = nib.Nifti1Header()
    header.set_data_shape(shape[::-1])
    header.set_data_dtype(stored.dtype)
    header.set_sform(np.diag([-1.0, -1.0, 3.0, 1.0]) if affine is None else affine, code=1)
    header["vox_offset"] = 352
    header["scl_slope"], header["scl_inter"] = slope, intercept
    content = header.binaryblock + bytes(4) + stored.tobytes()
    if path.name.endswith(".gz"):
        import gzip

        content = gzip.compress(content)
    path.write_bytes(content)
    return path


def outputs(folder: Path, name: str) -> list[bytes]:
    found = sorted(path for path in folder.iterdir() if path.name.startswith(f"{name}."))
    return [path.read_bytes().replace(f"{name}.raw".encode(), b"voxels.raw") for path in found]


def through_api(path: Path, target: Path, restorer, options: RestoreOptions, task: str = "ct") -> None:
    write_volume(restorer(read_volume(path), task, options=options), target)


@pytest.mark.usefixtures("only_the_scan_counts")
@pytest.mark.parametrize("extension", EXTENSIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_bytes_are_those_of_the_whole(smooths, tmp_path, extension, kind):
    if KINDS[kind][1] and ".nii" not in extension:
        return  # no rescale in these formats
    for shape in ((9, 12, 10), (2, 9, 12, 10)):
        for axis in ("axial", "coronal", "sagittal"):
            folder = tmp_path / f"{len(shape)}{axis}"
            folder.mkdir()
            path = save(folder / f"scan{extension}", kind, shape)
            options = RestoreOptions(axis=axis, batch=2, check_values=False)
            through_api(path, folder / f"whole{extension}", smooths, options)
            for limit in (PLENTY, LITTLE):  # held; streamed
                name = f"parts{limit}"
                config = RestoreConfig(
                    input=path, task="ct", output=folder / f"{name}{extension}", options=options, max_memory=limit
                )
                report = restore(config, restorer=smooths)
                assert report.memory.scan == ("held" if limit == PLENTY else "streamed")
                assert report.memory.predicted_peak_bytes <= limit
                assert outputs(folder, name) == outputs(folder, "whole")
                assert report.memory.gathered == (None if axis == "axial" else "memory" if limit == PLENTY else "disk")
                assert report.memory.block % 2 == 0 or report.memory.block == 9


@pytest.mark.usefixtures("only_the_scan_counts")
@pytest.mark.parametrize(("source", "target"), [(".nii", ".mha"), (".nii.gz", ".nrrd"), (".nrrd", ".nii.gz")])
@pytest.mark.parametrize("kind", KINDS)
def test_another_format_gets_the_same_bytes_too(smooths, tmp_path, source, target, kind):
    if KINDS[kind][1] and source == ".nrrd":
        return
    path = save(tmp_path / f"scan{source}", kind, (9, 12, 10))
    options = RestoreOptions(check_values=False)
    through_api(path, tmp_path / f"whole{target}", smooths, options)
    for limit in (PLENTY, LITTLE):
        name = f"parts{limit}"
        config = RestoreConfig(
            input=path, task="ct", output=tmp_path / f"{name}{target}", options=options, max_memory=limit
        )
        report = restore(config, restorer=smooths)
        assert outputs(tmp_path, name) == outputs(tmp_path, "whole")
        undecided = kind == "uint16 with an offset"
        assert report.memory.gathered == ("memory" if undecided else None)


@pytest.mark.usefixtures("only_the_scan_counts")
def test_every_orientation(smooths, tmp_path):
    """The coarsest spacing lies along another array axis in each; the slices come from there."""
    gathered = []
    for order, spacing in product([(0, 1, 2), (1, 2, 0), (2, 0, 1)], [(1, 1, 4), (1, 4, 1), (4, 1, 1)]):
        affine = np.eye(4)
        affine[:3, :3] = np.eye(3)[list(order)] * [-1, 1, 1] * spacing
        path = save(tmp_path / "scan.nii", "int16", (9, 12, 10), affine=affine)
        options = RestoreOptions(check_values=False)
        through_api(path, tmp_path / "whole.nii", smooths, options)
        config = RestoreConfig(
            input=path, task="ct", output=tmp_path / "parts.nii", options=options, max_memory=LITTLE, overwrite=True
        )
        report = restore(config, restorer=smooths)
        gathered.append(report.memory.gathered)
        assert (tmp_path / "parts.nii").read_bytes() == (tmp_path / "whole.nii").read_bytes()
        (tmp_path / "whole.nii").unlink()
    assert gathered == [None, "disk", "disk"] * 3


@pytest.mark.usefixtures("only_the_scan_counts")
@pytest.mark.parametrize("extension", [".nii", ".nii.gz", ".mha"])
def test_a_robust_range_is_that_of_the_whole_frame(smooths, tmp_path, extension):
    rng = np.random.default_rng(0)
    echoes = (rng.gamma(2.0, 100, (2, 9, 12, 10)) * np.array([1, 7]).reshape(2, 1, 1, 1)).astype(np.int16)
    path = tmp_path / f"scan{extension}"
    if extension == ".mha":
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(echoes, isVector=False), path, useCompression=True)
    else:
        nib.Nifti1Image(echoes.T, np.diag([1, 1, 3, 1])).to_filename(path)
    through_api(path, tmp_path / f"whole{extension}", smooths, RestoreOptions(), "mri")
    for limit in (PLENTY, LITTLE):
        output = tmp_path / f"parts{limit}{extension}"
        restore(RestoreConfig(input=path, task="mri", output=output, max_memory=limit), restorer=smooths)
        assert outputs(tmp_path, f"parts{limit}") == outputs(tmp_path, "whole")


def streamed(folder: Path, extension: str, axis: str, *, noise: float = 300.0):
    """The report and Python's peak of restoring a scan of 12.5 MiB as stored, 25 MiB as values, in 24 MiB."""
    rng = np.random.default_rng(0)
    stored = (rng.normal(0, noise, (100, 256, 256)) - 500).astype(np.int16)
    path = folder / f"scan{extension}"
    if ".nii" in extension:
        nib.Nifti1Image(stored.T, np.diag([-1, -1, 3, 1])).to_filename(path)
    else:
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(stored), path, useCompression=True)
    del stored
    options = RestoreOptions(axis=axis, check_values=False)
    config = RestoreConfig(
        input=path, task="ct", output=folder / f"out{extension}", options=options, max_memory=24 * 2**20
    )
    tracemalloc.start()
    report = restore(config, restorer=restorer_of(Identity()))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return report, peak


@pytest.fixture
def warm(only_the_scan_counts, tmp_path_factory, imported=[]):  # noqa: B006  once for all tests
    """What is imported at first use doesn't count."""
    if not imported:
        for extension in (".nii.gz", ".mha"):
            streamed(tmp_path_factory.mktemp("warm"), extension, "axial", noise=1.0)
            imported.append(extension)


@pytest.mark.slow
@pytest.mark.usefixtures("warm")
@pytest.mark.parametrize(
    ("axis", "extension"),
    [*(("axial", extension) for extension in (".nii", ".nii.gz", ".nrrd", ".mha")),
     ("coronal", ".nii"), ("coronal", ".nii.gz")],
)  # fmt: skip
def test_the_scan_stays_within_what_was_predicted(tmp_path, extension, axis):
    """Counted by Python's own allocator hooks."""
    report, peak = streamed(tmp_path, extension, axis)
    assert report.memory.scan == "streamed"
    assert report.change.fraction == 0.0
    assert report.before == report.after
    assert peak <= report.memory.predicted_peak_bytes <= report.memory.limit_bytes


def pass_bytes() -> int:
    """Of one slice of 200x160 through tat-small, the way it is computed here."""
    network = memory.Network(PRESETS["tat-small"], fused=kernels_for(PRESETS["tat-small"].width, bf16=False))
    return memory.network_bytes(network, Pass(1), 200, 160)


def test_a_limit_that_whole_slices_exceed_brings_tiles(tmp_path, monkeypatch):
    path = save(tmp_path / "scan.nii", "int16", (2, 200, 160))
    monkeypatch.setattr(fitting, "resident", lambda: 0)
    monkeypatch.setattr(fitting, "peak_resident", lambda: 10**6)
    whole = pass_bytes()
    config = RestoreConfig(
        input=path, task="ct", options=RestoreOptions(check_values=False, batch=2), max_memory=whole - 1
    )
    report = restore(config, restorer=restorer_of(Identity()))
    assert (report.memory.batch, report.memory.tile) == (1, 96)
    assert report.warnings == (
        f"to stay within {round((whole - 1) / 2**20)} MiB of memory, went on with tiles of 96; see --max-memory",
    )
    assert report.memory.limit_bytes == whole - 1
    assert 10**6 < report.memory.predicted_peak_bytes < whole
    told = json.loads(report.to_json())
    assert told["memory"] == {
        "limit_bytes": whole - 1,
        "predicted_peak_bytes": report.memory.predicted_peak_bytes,
        "scan": "held",
        "gathered": None,
        "block": 2,
        "batch": 1,
        "tile": 96,
    }
    assert (tmp_path / "scan_restored.nii").read_bytes() == path.read_bytes()


def test_a_scan_that_is_read_as_a_whole_brings_tiles_too(tmp_path, monkeypatch):
    monkeypatch.setattr(fitting, "resident", lambda: 0)
    monkeypatch.setattr(fitting, "peak_resident", lambda: 0)
    monkeypatch.setattr(whole, "_REST", 0)
    numbers = np.random.default_rng(0).gamma(2.0, 100, (2, 100, 80)).astype(np.float32)
    nib.Nifti1Image(numbers.T, np.eye(4)).to_filename(tmp_path / "scan.nii")
    slices = pass_bytes()
    options = RestoreOptions(scale=2)
    config = RestoreConfig(input=tmp_path / "scan.nii", task="mri", options=options, max_memory=slices)
    report = restore(config, restorer=restorer_of(Identity()))
    assert (report.memory.scan, report.memory.batch, report.memory.tile) == ("whole", 1, 96)
    words = f"to stay within {round(slices / 2**20)} MiB of memory, went on with tiles of 96; see --max-memory"
    assert report.warnings == (words,)
    assert read_volume(tmp_path / "scan_restored.nii").array.shape == (2, 200, 160)


@pytest.mark.parametrize("empty", [0, 1])
def test_measured_lines_are_looked_for_in_all_blocks_of_a_frame(tmp_path, empty):
    """Across the planes, a block of every frame comes before the next block of the first."""
    lq = low_resolution(np.random.default_rng(0).uniform(100.0, 500.0, (9, 96, 96)).astype(np.float32), 3.0)
    frames = [np.moveaxis(lq, 0, 1), np.zeros((96, 9, 96), np.float32)]
    nib.Nifti1Image(np.stack(frames[:: 2 * empty - 1]).T, np.eye(4)).to_filename(tmp_path / "x.nii")
    plan = SimpleNamespace(workload=SimpleNamespace(axis=1), block=2)
    for source in (open_planes(tmp_path / "x.nii"), open_planes(tmp_path / "x.nii").held()):
        lines = by_planes._measured(source, 1 - empty, plan, RestoreOptions())
        assert lines == lines_to_put_back(lq, RestoreOptions())
        assert lines.rows == lines.columns == (-16, 15)


def test_less_than_anything_takes_is_refused_with_what_it_takes(tmp_path):
    path = save(tmp_path / "scan.nii.gz", "int16", (3, 40, 32))
    config = RestoreConfig(input=path, task="ct", options=RestoreOptions(check_values=False), max_memory=2**20)
    words = r"scan.nii.gz: expected to stay within 1 MiB of memory, got a scan that takes [\d.]+ [MG]iB even in tiles"
    with pytest.raises(DeviceError, match=words):
        restore(config, restorer=restorer_of(Identity()))
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("name", "options", "reason"),
    [
        ("list.nrrd", {}, "its frames lie voxel by voxel beside each other"),
        ("scan.nii", {"scale": 2}, "--scale makes a finer grid of the whole"),
        ("scan.npy", {}, "a bare array is read as a whole|.npy is written as a whole"),
    ],
)
def test_what_is_restored_as_a_whole_is_refused_before_it_is_read(tmp_path, monkeypatch, name, options, reason):
    path = tmp_path / name
    numbers = np.random.default_rng(0).gamma(2.0, 100, (3, 40, 32, 2)).astype(np.float32)
    if name == "list.nrrd":
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(numbers, isVector=True), path)
        path.write_bytes(path.read_bytes().replace(b"kinds: vector", b"kinds: list"))
    elif name == "scan.npy":
        np.save(path, numbers[..., 0])
    else:
        nib.Nifti1Image(numbers[..., 0].T, np.eye(4)).to_filename(path)
    config = RestoreConfig(input=path, task="mri", options=RestoreOptions(**options), max_memory=300_000)
    with monkeypatch.context() as patched:
        patched.setattr("tatcli.volumes.reading.read_volume", lambda *_, **__: pytest.fail("the scan was read"))
        with pytest.raises(DeviceError, match=reason) as refusal:
            restore(config, restorer=restorer_of(Identity()))
    assert "expected to stay within 1 MiB of memory, got a scan that takes 512 MiB, since" in str(refusal.value)
    assert str(refusal.value).endswith("give it more with --max-memory, or convert it to .nii first")
    enough = RestoreConfig(input=path, task="mri", options=RestoreOptions(**options), max_memory=2**36)
    report = restore(enough, restorer=restorer_of(Identity()))
    assert report.memory.scan == "whole"
    assert report.memory.predicted_peak_bytes >= report.peak_rss_bytes


def test_what_the_task_can_not_take_is_refused_before_torch_is_needed(tmp_path):
    path = save(tmp_path / "scan.mha", "int16", (3, 40, 32))

    def load():
        pytest.fail("the weights were loaded")

    from tatcli.tasks import TASKS
    from tatcli.volumes.reading import open_planes
    from tatcli.workflows.restoring.clock import Clock
    from tatcli.workflows.restoring.outcome import Job

    job = Job(task=lambda scan: TASKS["pet-synthesis"], limit=None, load=load)
    with pytest.raises(UnitsError, match=r"scan\.mha: expected SUVbw"):
        by_planes.restore_planes(
            open_planes(path),
            tmp_path / "out.mha",
            job,
            options=RestoreOptions(),
            overwrite=False,
            clock=Clock(),
        )
