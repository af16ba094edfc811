"""References and batches: strengths, ranges, masks, and that everything follows from (seed, step)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import scipy.ndimage
import torch

from tatcli.errors import GeometryError, VolumeReadError
from tatcli.intensity import Window
from tatcli.tasks import TASKS
from tatcli.training import references
from tatcli.training.config import TrainConfig
from tatcli.training.distributed import World
from tatcli.training.references import Reference, draw_strength, prepare_references
from tatcli.training.sampler import Sampler

Make = Callable[..., TrainConfig]


def all_references(config: TrainConfig) -> dict[str, list[Reference]]:
    return {task: prepare_references(TASKS[task], "train", config) for task in config.tasks}


def test_every_task_has_its_share(make_config: Make) -> None:
    config = make_config(batch=(3,))
    batch = Sampler(all_references(config), config).batch(0)
    assert sorted(batch.tasks) == sorted(3 * list(TASKS))
    assert list(batch.tasks) != sorted(batch.tasks)
    assert batch.lq.shape == batch.hq.shape == batch.mask.shape == (9, 1, 32, 32)
    assert float(batch.hq.min()) >= 0
    assert float(batch.lq.max()) <= 1.5


def test_a_task_can_have_more(make_config: Make) -> None:
    config = make_config(tasks=("ct", "mri"), batch=(2,), task_multiples=(1, 3))
    batch = Sampler(all_references(config), config).batch(0)
    assert sorted(batch.tasks) == 2 * ["ct-denoise"] + 6 * ["mri-sr"]


def test_same_step_same_batch_whatever_came_before(make_config: Make) -> None:
    config = make_config()
    references = all_references(config)
    first, second = Sampler(references, config), Sampler(references, config)
    second.batch(0)
    for a, b in zip(first.batches(3, 6), second.batches(3, 6), strict=True):
        assert torch.equal(a.lq, b.lq)
        assert torch.equal(a.hq, b.hq)
        assert a.scans == b.scans
    assert not torch.equal(first.batch(3).lq, first.batch(4).lq)


def test_padding_is_masked(make_config: Make) -> None:
    """PET scans are 28 x 30 pixels here, the crop 32."""
    config = make_config(tasks=("pet",), batch=(4,))
    batch = Sampler(all_references(config), config).batch(0)
    assert batch.mask.flatten(1).sum(dim=1).tolist() == [28 * 30] * 4
    assert bool((batch.hq[batch.mask == 0] == 0).all())
    assert bool((batch.lq[batch.mask == 0] == 0).all())


def test_turned_alike(make_config: Make) -> None:
    """LQ and HQ of a crop are flipped and turned together: no other view matches as well."""
    config = make_config(tasks=("mri",), batch=(4,))
    sampler = Sampler(all_references(config), config)
    for step in range(4):
        batch = sampler.batch(step)
        for lq, hq in zip(batch.lq, batch.hq, strict=True):
            views = [torch.rot90(view[0], turns) for view in (hq, hq.flip(2)) for turns in range(4)]
            as_it_is, *others = (float(np.corrcoef(lq.flatten(), view.flatten())[0, 1]) for view in views)
            assert as_it_is > max(0.75, *others)


def test_lq_is_the_noisier_of_a_pair(make_config: Make) -> None:
    config = make_config(tasks=("ct",), batch=(4,))
    batch = Sampler(all_references(config), config).batch(0)
    lq, hq = (part.diff().square().sum(dim=(1, 2, 3)) for part in (batch.lq, batch.hq))
    assert bool((lq > hq).all())


def test_ct_noise_follows_the_dose(make_config: Make) -> None:
    config = make_config(tasks=("ct",), default_share=(1.0,))
    reference = all_references(config)["ct-denoise"][0]
    assert reference.noise is not None
    added = np.stack([reference.low_quality(1, np.random.default_rng(i)) - reference.hq[1] for i in range(8)])
    tissue = (reference.hq[1] > -100) & (reference.hq[1] < 200)
    expected = reference.noise * np.sqrt(1 / 0.25 - 1)
    assert np.sqrt(np.square(added[:, tissue]).mean()) == pytest.approx(expected, rel=0.25)
    assert abs(added[:, tissue].mean()) < 0.2 * expected


def test_crop_is_part_of_the_slice(make_config: Make) -> None:
    for task, scans in all_references(make_config()).items():
        crop = (slice(4, 20), slice(8, 24))
        whole = scans[0].low_quality(0, np.random.default_rng(5))
        part = scans[0].low_quality(0, np.random.default_rng(5), crop)
        np.testing.assert_array_equal(part, whole[crop], err_msg=task)


def test_strengths_cover_the_range() -> None:
    task = TASKS["pet-synthesis"]
    rng = np.random.default_rng(0)
    drawn = np.array([draw_strength(task, rng, default_share=0.3) for _ in range(2000)])
    assert drawn.min() >= 4
    assert drawn.max() <= 40
    assert (drawn == 12).mean() == pytest.approx(0.3, abs=0.04)
    others = drawn[drawn != 12]
    assert np.median(others) == pytest.approx(np.sqrt(4 * 40), rel=0.1)
    assert draw_strength(task, rng, default_share=1.0) == 12


def test_prepared_once(make_config: Make) -> None:
    config = make_config(tasks=("ct",))
    prepare_references(TASKS["ct-denoise"], "train", config)
    assert config.cache is not None
    times = {path: path.stat().st_mtime_ns for path in config.cache.rglob("*")}
    again = prepare_references(TASKS["ct-denoise"], "train", config)
    assert {path: path.stat().st_mtime_ns for path in config.cache.rglob("*")} == times
    assert [scan.name for scan in again] == ["ct0", "ct1"]


def test_runs_may_share_a_cache(make_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two trainings that start together prepare the same scans; the slower one takes what the faster one made."""
    config = make_config(tasks=("mri",), cache=tmp_path / "cache")
    prepare, under_way = references.prepare_scan, []

    def overtaken(*args: Any) -> None:
        if not under_way:
            under_way.append(1)
            prepare_references(TASKS["mri-sr"], "train", config)
        prepare(*args)

    monkeypatch.setattr(references, "prepare_scan", overtaken)
    found = prepare_references(TASKS["mri-sr"], "train", config)
    assert [scan.name for scan in found] == ["mri0", "mri1"]
    assert sorted(path.name.rsplit("-", 1)[0] for path in (tmp_path / "cache" / "mri-sr").iterdir()) == ["mri0", "mri1"]


def test_validation_takes_the_default_strength_only(make_config: Make) -> None:
    for reference in prepare_references(TASKS["ct-denoise"], "val", make_config()):
        assert reference.default_share == 1.0


def test_fixed_pairs(make_config: Make, tmp_path: Path) -> None:
    """LQ partners are taken as they are; one on another grid is refused."""
    hq = np.random.default_rng(0).uniform(100, 900, (2, 40, 40)).astype(np.float32)
    for quality, array in (("HQ", hq), ("LQ", hq + 64)):
        (tmp_path / "MRI" / "train" / quality).mkdir(parents=True)
        np.save(tmp_path / "MRI" / "train" / quality / "a.npy", array)
    (reference,) = prepare_references(TASKS["mri-sr"], "train", make_config("x", data=tmp_path, tasks=("mri",)))
    low = reference.low_quality(1, np.random.default_rng(0))
    np.testing.assert_allclose(low, hq[1] + 64, atol=0.5)
    np.save(tmp_path / "MRI" / "train" / "LQ" / "a.npy", hq[:, :32])
    with pytest.raises(GeometryError, match="expected the reference's shape"):
        prepare_references(TASKS["mri-sr"], "train", make_config("y", data=tmp_path, tasks=("mri",)))


def test_partners_stored_in_another_orientation_are_refused(make_config: Make, tmp_path: Path) -> None:
    """The same scan, turned in its file: equal shapes, and voxel by voxel another place."""
    hq = np.random.default_rng(0).uniform(100, 900, (40, 40, 2)).astype(np.float32)
    image = nib.Nifti1Image(hq, np.diag([-1.0, -1.0, 4.0, 1.0]))
    turned = image.as_reoriented(np.array([[0, -1], [1, -1], [2, 1]]))
    assert nib.aff2axcodes(turned.affine) == ("R", "A", "S")
    for quality, stored in (("HQ", image), ("LQ", turned)):
        (tmp_path / "MRI" / "train" / quality).mkdir(parents=True)
        nib.save(stored, tmp_path / "MRI" / "train" / quality / "a.nii.gz")
    config = make_config("x", data=tmp_path, tasks=("mri",))
    with pytest.raises(GeometryError, match=r"LQ/a.nii.gz: expected the reference's grid, got one whose corners"):
        prepare_references(TASKS["mri-sr"], "train", config)
    nib.save(image, tmp_path / "MRI" / "train" / "LQ" / "a.nii.gz")
    assert len(prepare_references(TASKS["mri-sr"], "train", config)) == 1


@pytest.mark.parametrize("unit", [1e-7, 1e6])
def test_partners_in_units_beyond_half_precision(make_config: Make, tmp_path: Path, unit: float) -> None:
    """MR units are arbitrary; what the network sees of a pair doesn't depend on them."""
    hq = np.random.default_rng(0).uniform(100, 900, (2, 40, 40)).astype(np.float32)
    for quality, array in (("HQ", hq), ("LQ", hq + 64)):
        (tmp_path / "MRI" / "train" / quality).mkdir(parents=True)
        np.save(tmp_path / "MRI" / "train" / quality / "a.npy", array * np.float32(unit))
    (reference,) = prepare_references(TASKS["mri-sr"], "train", make_config("x", data=tmp_path, tasks=("mri",)))
    low = reference.window.normalise(reference.low_quality(1, np.random.default_rng(0)))
    window = TASKS["mri-sr"].intensity.window_for(hq)
    np.testing.assert_allclose(reference.window.normalise(reference.hq[1]), window.normalise(hq[1]), rtol=0.01)
    np.testing.assert_allclose(low, window.normalise(hq[1] + 64), rtol=0.01)


def test_holes_of_a_ct_are_air(make_config: Make, dataset: Path, tmp_path: Path) -> None:
    """Not water, which would attenuate, count as tissue, and hide the noise of the scan."""
    image = nib.load(dataset / "CT" / "train" / "ct0.nii.gz")
    values = np.asarray(image.dataobj, dtype=np.float32)
    values[:12] = np.nan
    (tmp_path / "CT" / "train").mkdir(parents=True)
    nib.save(nib.Nifti1Image(values, image.affine), tmp_path / "CT" / "train" / "a.nii.gz")
    (reference,) = prepare_references(TASKS["ct-denoise"], "train", make_config("x", data=tmp_path, tasks=("ct",)))
    assert (reference.hq[:, :, :12] == -1000).all()
    assert reference.noise == pytest.approx(10.0, rel=0.3)


def test_max_slices(make_config: Make) -> None:
    config = make_config(tasks=("mri",), max_slices=2)
    assert [len(scan.hq) for scan in all_references(config)["mri-sr"]] == [2, 2]


def test_scans_left_out_are_told(make_config: Make, tmp_path: Path) -> None:
    """A CT without uniform tissue has no noise level to which a dose could be relative."""
    folder = tmp_path / "data" / "CT" / "train"
    folder.mkdir(parents=True)
    np.save(folder / "air.npy", np.full((2, 64, 64), -1000, dtype=np.float32))
    told: list[tuple[str, str]] = []
    with pytest.raises(VolumeReadError, match=r"found none among 1 scans \(air: no uniform tissue"):
        prepare_references(
            TASKS["ct-denoise"],
            "train",
            make_config(data=tmp_path / "data"),
            on_scan=lambda name, why: told.append((name, why)),
        )
    assert told == [("air", ""), ("air", "no uniform tissue to measure its noise in, to which strengths are relative")]


def test_subjects_are_equally_likely(make_config: Make) -> None:
    """Two files of one subject are drawn as often as one file of another; the phantoms' files count 2 to 1 here."""
    config = make_config(tasks=("mri",), batch=(4,))
    (first, second) = all_references(config)["mri-sr"]
    scans = {"mri-sr": [replace(first, name="a_1"), replace(first, name="a_2"), replace(second, name="b_1")]}
    by_subject = Sampler(scans, replace(config, subjects=r"^(\w)_"))
    assert by_subject.shares["mri-sr"].tolist() == pytest.approx([0.25, 0.25, 0.5])
    drawn = [scan for step in range(40) for scan in by_subject.batch(step).scans]
    assert np.mean([name == "b_1" for name in drawn]) == pytest.approx(0.5, abs=0.12)
    told = [replace(scan, subject=scan.name[0]) for scan in scans["mri-sr"]]  # as a prepared set does
    assert Sampler({"mri-sr": told}, config).shares["mri-sr"].tolist() == pytest.approx([0.25, 0.25, 0.5])
    by_voxel = Sampler(scans, replace(config, sampling="voxels"))
    assert by_voxel.shares["mri-sr"].tolist() == pytest.approx([1 / 3] * 3)


def test_processes_draw_between_them_what_one_draws(make_config: Make) -> None:
    config = make_config(tasks=("mri", "pet"), batch=(1,))
    references = all_references(config)
    whole = Sampler(references, replace(config, batch=(6,))).batch(2)
    two = [Sampler(references, replace(config, accumulate=3), world=World(rank, 2)).batch(2) for rank in range(2)]
    parts = [part for batch in two for part in batch.split(3)]
    assert [len(part.tasks) for part in parts] == [2] * 6
    drawn = sorted((float(lq.sum()), scan) for part in parts for lq, scan in zip(part.lq, part.scans, strict=True))
    assert drawn == sorted((float(lq.sum()), scan) for lq, scan in zip(whole.lq, whole.scans, strict=True))


def test_all_planes_of_isotropic_volumes(make_config: Make, tmp_path: Path) -> None:
    """The noise of the acquired slices is seen across in the other planes; anisotropic scans keep their one."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "MRI" / "train"
    for quality in ("HQ", "LQ"):
        (folder / quality).mkdir(parents=True)
    hq = rng.uniform(100, 900, (6, 8, 10)).astype(np.float32)
    low = np.round(hq + rng.normal(0, 50, hq.shape)).astype(np.float32)
    for name, step in (("cube", 1.0), ("thick", 4.0)):
        for quality, array in (("HQ", hq), ("LQ", low)):
            image = nib.Nifti1Image(array.transpose(2, 1, 0), np.diag([-1.0, -1.0, step, 1.0]))
            nib.save(image, folder / quality / f"{name}.nii.gz")
    config = make_config("planes", data=tmp_path, tasks=("mri",), planes="all")
    references = all_references(config)["mri-sr"]
    assert [(scan.name, scan.hq.shape) for scan in references] == [
        ("cube", (6, 8, 10)), ("cube", (8, 6, 10)), ("cube", (10, 6, 8)), ("thick", (6, 8, 10)),
    ]  # fmt: skip
    _, coronal, sagittal, _ = references
    np.testing.assert_allclose(coronal.hq[3], hq[:, 3], atol=1e-3)
    np.testing.assert_allclose(coronal.low_quality(3, rng), low[:, 3], atol=0.5)
    np.testing.assert_allclose(sagittal.low_quality(7, rng), low[:, :, 7], atol=0.5)
    plain = make_config("plain", data=tmp_path, tasks=("mri",))
    assert [scan.name for scan in all_references(plain)["mri-sr"]] == ["cube", "thick"]


def test_pet_in_all_planes_is_simulated_as_a_volume(make_config: Make, tmp_path: Path) -> None:
    """Voxels nearly cubes: each realisation has one strength, and noise that correlates along the acquired slices."""
    rng = np.random.default_rng(3)
    inside = np.hypot(*(np.mgrid[:40, :44] - np.array([20, 22])[:, None, None])) < 17
    tissue = np.where(inside, 1 + 0.1 * scipy.ndimage.gaussian_filter(rng.normal(size=(20, 40, 44)), (1, 1, 1)) * 5, 0)
    for name, step in (("cube", 3.3), ("thick", 12.0)):
        path = tmp_path / "PET" / "train" / f"{name}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        image = np.abs(tissue).astype(np.float32).transpose(2, 1, 0)
        nib.save(nib.Nifti1Image(image, np.diag([4.5, 4.5, step, 1.0])), path)
    config = make_config("planes", data=tmp_path, tasks=("pet",), planes="all", noise_fields=3)
    axial, coronal, sagittal, thick = all_references(config)["pet-synthesis"]
    assert [scan.name for scan in (axial, coronal, sagittal, thick)] == ["cube"] * 3 + ["thick"]
    assert coronal.fields is not None
    assert axial.fields is not None
    assert thick.fields is not None
    assert coronal.fields.shape == (40, 3, 20, 44)
    np.testing.assert_array_equal(coronal.fields[20, 1], axial.fields[:, 1, 20])

    def noise(scan: Reference) -> np.ndarray:
        return (np.asarray(scan.fields, dtype=np.float32) - scan.hq[:, None])[:, :, inside]

    own, other = noise(axial), noise(thick)
    along = [np.mean(own[1:, i] * own[:-1, i]) / own[:, i].var() for i in range(3)]
    assert min(along) > 0.3
    assert max(np.abs([np.mean(other[1:, i] * other[:-1, i]) / other[:, i].var() for i in range(3)])) < 0.1
    levels, others = own.std(axis=2), other.std(axis=2)  # (slices, realisations)
    assert (levels.max(axis=0) / levels.min(axis=0)).max() < 1.6
    assert (others.max(axis=0) / others.min(axis=0)).max() > 1.6  # slices by themselves: a strength each


def test_the_papers_mri_range(make_config: Make) -> None:
    robust, paper = (
        all_references(make_config(tasks=("mri",), mri_range=rule))["mri-sr"][0] for rule in ("robust", "paper")
    )
    assert paper.window == Window(0.0, 4095.0)
    assert 500 < robust.window.upper < 4000
    config = make_config(tasks=("mri",), mri_range="paper", augment=False, batch=(3,))
    batch = Sampler(all_references(config), config).batch(0)
    highest = max(float(scan.hq.max()) for scan in all_references(config)["mri-sr"])
    assert float(batch.hq.max()) <= highest / 4095 + 1e-6  # not augmented: no other ranges either


def test_ct_slices_are_trained_on_with_their_own_noise(make_config: Make, tmp_path: Path) -> None:
    """A scan whose noise falls from 20 to 7 HU: at half the dose each slice gains as much variance as it has."""
    rng = np.random.default_rng(4)
    inside = np.hypot(*(np.mgrid[:160, :160] - 79.5)) < 60
    own = np.geomspace(20.0, 7.0, 16)
    grain = scipy.ndimage.gaussian_filter(rng.normal(size=(16, 160, 160)), (0, 0.6, 0.6))
    scan = np.where(inside, 40 + own[:, None, None] * grain / grain.std(), -1000).astype(np.float32)
    path = tmp_path / "CT" / "train" / "falling.nii.gz"
    path.parent.mkdir(parents=True)
    nib.save(nib.Nifti1Image(scan.transpose(2, 1, 0), np.diag([0.8, 0.8, 5.0, 1.0])), path)
    config = make_config("falling", data=tmp_path, tasks=("ct",), noise_fields=1)
    (reference,) = all_references(config)["ct-denoise"]
    dose = replace(reference, task=replace(reference.task, default_strength=0.5), default_share=1.0)
    core = np.hypot(*(np.mgrid[:160, :160] - 79.5)) < 50
    added = [(dose.low_quality(index, rng) - reference.hq[index])[core].std() for index in range(16)]
    np.testing.assert_allclose(added, own, rtol=0.2)
    assert added[0] / added[-1] > 2.2
