"""A tiny dataset of made-up scans, and a network that trains in seconds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import scipy.ndimage

from tatcli.model import config as model_config
from tatcli.model.config import TatConfig
from tatcli.training.config import TrainConfig

TINY = TatConfig(
    width=8, encoder_blocks=(1, 1, 1), latent_blocks=1, decoder_blocks=(1, 1, 1), refinement_blocks=1, tren_width=4
)


def _save(path: Path, array: np.ndarray, spacing: tuple[float, float, float]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array.transpose(2, 1, 0), np.diag([*spacing, 1.0])), path)


def _body(rng: np.random.Generator, shape: tuple[int, int, int]) -> np.ndarray:
    """A smooth random body, 0 outside and about 1 inside."""
    _, rows, columns = shape
    y, x = np.mgrid[-1 : 1 : rows * 1j, -1 : 1 : columns * 1j]
    inside = (x**2 + y**2 < 0.8).astype(float)
    organs = scipy.ndimage.gaussian_filter(rng.standard_normal(shape), (0, 3, 3)) * 2
    return inside * (1 + organs)


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two training scans and a validation scan of each modality; PET's are smaller than the crop."""
    root = tmp_path_factory.mktemp("dataset")
    rng = np.random.default_rng(0)
    for split, count in (("train", 2), ("val", 1)):
        for number in range(count):
            ct = np.round(_body(rng, (3, 96, 80)) * 4) / 4  # organs of uniform density
            ct = np.where(ct == 0, -1000, 20 * ct) + rng.normal(0, 10, ct.shape)
            _save(root / "CT" / split / f"ct{number}.nii.gz", ct.astype(np.int16), (0.8, 0.8, 5.0))
            pet = np.abs(_body(rng, (3, 28, 30))) * 3 + 0.05
            _save(root / "PET" / split / f"pet{number}.nii.gz", pet.astype(np.float32), (4.0, 4.0, 4.0))
            mri = np.abs(_body(rng, (3, 48, 64))) * 800
            _save(root / "MRI" / split / f"mri{number}.nii.gz", mri.astype(np.int16), (1.0, 1.0, 4.0))
    (root / "MANIFEST.tsv").write_text("file\tsource\tterms\nCT/train/ct0.nii.gz\ta phantom\tCC0\n")
    return root


@pytest.fixture
def make_config(
    dataset: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., TrainConfig]:
    """A config of a short run of the tiny network; keyword arguments override."""
    monkeypatch.setitem(model_config.PRESETS, "tiny", TINY)
    cache = tmp_path_factory.getbasetemp() / "training-cache"

    def make(name: str = "run", **options: object) -> TrainConfig:
        defaults: dict[str, object] = {
            "data": dataset,
            "output": tmp_path / name,
            "cache": cache,
            "preset": "tiny",
            "steps": 4,
            "patch": (32,),
            "batch": (1,),
            "noise_fields": 2,
            "validate_every": 2,
            "checkpoint_every": 2,
            "log_every": 2,
            "validation_slices": 1,
        }
        return TrainConfig(**(defaults | options))

    return make
