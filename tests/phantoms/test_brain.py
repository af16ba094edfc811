"""Made-up brain PET: its cortex is a ribbon of the drawn uptake and thickness, and the seed decides everything."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from tatcli.intensity import Units
from tatcli.phantoms import brain_pet
from tatcli.phantoms.brain import Head, draw_head

SHARP = Head(grey=8.0, white=0.25, thickness=3.0, gap=0.5, depth=20.0, folding=6.0, resolution=0.2, voxel=(1.5, 1.5))


@pytest.fixture(scope="module")
def sharp() -> np.ndarray:
    return brain_pet(4, head=SHARP).array


def test_grey_and_white_matter_take_up_what_was_drawn(sharp: np.ndarray) -> None:
    """Among the brain's values two stand out: the cortex's and a quarter of it, each spread from region to region."""
    middle = sharp[len(sharp) // 2 :, 20:-20, 20:-20]
    grey, white = middle[(middle > 5.5) & (middle < 12)], middle[(middle > 1.4) & (middle < 3.2)]
    assert np.median(grey) == pytest.approx(8.0, rel=0.15)
    assert np.median(white) == pytest.approx(2.0, rel=0.15)
    between = ((middle > 3.6) & (middle < 5.2)).sum()
    assert between < 0.5 * min(len(grey), len(white))


def test_the_cortex_is_a_ribbon(sharp: np.ndarray) -> None:
    """No grey matter of the upper brain lies deeper in it than half of a ribbon's two sides, 3 mm each."""
    slice_ = sharp[int(len(sharp) * 0.8)]
    depth = ndimage.distance_transform_edt(slice_ > 5.0) * 1.5
    assert 1.5 < np.percentile(depth[depth > 0], 90) < 5.0
    pieces, count = ndimage.label((slice_ > 1.4) & (slice_ < 3.2))
    sizes = np.bincount(pieces.ravel())[1:]
    assert count > 4  # white matter reaches into gyri,
    assert sizes.max() * 1.5**2 > 400  # and is one piece within


def test_the_seed_decides_everything(sharp: np.ndarray) -> None:
    np.testing.assert_array_equal(brain_pet(4, head=SHARP).array, sharp)
    assert np.abs(brain_pet(5, head=SHARP).array - sharp).max() > 4.0


def test_what_is_drawn_is_seen(sharp: np.ndarray) -> None:
    thick = brain_pet(4, head=replace(SHARP, thickness=4.0)).array
    assert (thick > 5.0).sum() > 1.15 * (sharp > 5.0).sum()
    wide = brain_pet(4, head=replace(SHARP, gap=2.0)).array
    inside = sharp > 1.2
    assert (wide[inside] < 1.2).sum() > 0.02 * inside.sum()
    smooth = brain_pet(4, head=replace(SHARP, resolution=7.0)).array
    assert smooth.sum() == pytest.approx(sharp.sum(), rel=0.01)
    assert smooth.max() < 0.8 * sharp.max()


def test_the_head_fits_its_field_of_view() -> None:
    volume = brain_pet(2)
    assert volume.units is Units.SUVBW
    assert volume.array.min() >= 0
    for side in (volume.array[:, :1], volume.array[:, -1:], volume.array[..., :1], volume.array[..., -1:]):
        assert side.max() < 0.5
    litres = (volume.array > 0.3 * np.percentile(volume.array, 99)).sum() * np.prod(volume.geometry.spacing) * 1e-6
    assert 0.4 < litres < 1.8


def test_heads_are_drawn_within_bounds() -> None:
    heads = [draw_head(np.random.default_rng(seed)) for seed in range(300)]
    for name, low, high in (("grey", 4, 16), ("white", 0.24, 0.4), ("thickness", 2, 4), ("resolution", 3.5, 7.5)):
        values = np.array([getattr(head, name) for head in heads])
        assert low <= values.min() < low + 0.1 * (high - low)
        assert high - 0.1 * (high - low) < values.max() <= high
    assert len({head.voxel for head in heads}) == 6
