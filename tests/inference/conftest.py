"""Small volumes, and restorers around any network."""

from __future__ import annotations

import numpy as np
import pytest

from tatcli.inference import Restorer
from tatcli.intensity import Units
from tatcli.model.config import PRESETS
from tatcli.model.weights import card_for_tasks
from tatcli.volumes import Geometry, Provenance, Volume


@pytest.fixture
def restorer_of():
    """A restorer around a network, on the CPU, with a card for all tasks."""

    def make(network, tasks=("ct-denoise", "pet-synthesis", "mri-sr")):
        card = card_for_tasks("stand-in", PRESETS["tat-small"], tasks)
        return Restorer.from_network(network, card, device="cpu", precision="fp32")

    return make


@pytest.fixture
def volume_of():
    """A volume around an array, on a grid with the given spacing (slices, rows, columns)."""

    def make(array, *, units=Units.UNKNOWN, spacing=(3.0, 1.0, 1.0), **origin):
        array = np.asarray(array, dtype=np.float32)
        affine = np.diag([*reversed(spacing), 1.0])
        return Volume(array, Geometry(affine, array.shape[-3:]), units, Provenance(**origin))

    return make


@pytest.fixture
def ct():
    """Values like a CT's, in and out of the network's range [-1024, 3072]: (5, 40, 52)."""
    rng = np.random.default_rng(0)
    array = rng.normal(0, 400, (5, 40, 52)).astype(np.float32)
    array[0, 0, :4] = -2000, 8000, -1024, 3072
    array[1, 5, 5] = np.float32(-0.0)
    return array
