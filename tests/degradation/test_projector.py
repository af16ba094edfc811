"""Line integrals and their inverse, against a disc's closed form."""

import numpy as np
import pytest

from tatcli.degradation.projector import ParallelBeam, parallel_beam

MU = 0.02


def disc(shape, spacing, *, radius, centre=(0.0, 0.0)):
    """An anti-aliased disc of MU per mm, centre (y, x) in mm from the middle of the grid."""
    y, x = ((np.arange(n) - (n - 1) / 2) * step for n, step in zip(shape, spacing, strict=True))
    distance = np.hypot(y[:, None] - centre[0], x - centre[1])
    return (MU * np.clip((radius - distance) / max(spacing) + 0.5, 0.0, 1.0)).astype(np.float32)


@pytest.mark.parametrize(
    ("shape", "spacing"), [((128, 128), (1.5, 1.5)), ((129, 128), (1.5, 1.5)), ((100, 150), (2.0, 1.25))]
)
def test_a_discs_projections_are_its_chords(shape, spacing):
    beam = ParallelBeam(shape, spacing, views=60)
    centre = (12.0, -20.0)
    sinogram = beam.project(disc(shape, spacing, radius=50.0, centre=centre))
    angles = np.arange(60) * np.pi / 60
    offset = (np.arange(beam.bins) - beam.bins // 2) * beam.pitch
    along = offset - (centre[0] * np.sin(angles) + centre[1] * np.cos(angles))[:, None]
    chords = 2.0 * MU * np.sqrt(np.maximum(50.0**2 - along**2, 0.0))
    inner = np.abs(along) < 40.0
    assert np.abs(sinogram - chords)[inner].max() < 0.03 * 2 * MU * 50.0
    assert np.abs(sinogram[np.abs(along) > 55.0]).max() < 0.02 * 2 * MU * 50.0


def test_the_ramp_inverts_the_projection():
    beam = ParallelBeam((128, 128), (1.5, 1.5), views=200)
    image = disc((128, 128), (1.5, 1.5), radius=40.0, centre=(10.0, 5.0))
    restored = beam.back_project(beam.project(image)[None], beam.frequencies[None])[0]
    # a ramp on a finite detector loses a constant; what is compared is everything else
    assert np.abs((restored - restored.mean()) - (image - image.mean())).max() < 0.08 * MU
    assert restored[image == MU].mean() - restored[image == 0].mean() == pytest.approx(MU, rel=0.01)


def test_back_projection_is_linear_and_keeps_realisations_apart():
    beam = ParallelBeam((32, 32), (2.0, 2.0), views=40)
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 40, beam.bins), dtype=np.float32)
    ramp = beam.frequencies[None]
    together = beam.back_project(np.stack([a, b]), np.concatenate([ramp, 2 * ramp]))
    np.testing.assert_allclose(together[0], beam.back_project(a[None], ramp)[0], atol=1e-5)
    np.testing.assert_allclose(together[1], 2 * beam.back_project(b[None], ramp)[0], atol=1e-5)


def test_a_geometry_is_built_once():
    assert parallel_beam((32, 32), (2.0, 2.0), views=20) is parallel_beam((32, 32), (2.0, 2.0), views=20)
