"""Safety evidence with the released weights on a real brain: what the documentation promises of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tatcli.degradation.low_resolution_mri import low_resolution
from tatcli.inference.options import RestoreOptions
from tatcli.inference.restorer import Restorer
from tatcli.inference.uncertainty import restoration_spread
from tatcli.metrics import PROTOCOLS, evaluation_window, score_volume
from tatcli.metrics.body import body_mask
from tatcli.tasks import TASKS
from tatcli.volumes.geometry import Geometry
from tatcli.volumes.reading import read_volume

MRI = TASKS["mri-sr"]


@pytest.mark.real_data
@pytest.mark.slow
def test_data_consistency_gains_and_the_spread_follows_the_error(shared, monkeypatch) -> None:
    monkeypatch.delenv("TAT_WEIGHTS_DIR", raising=False)
    whole = read_volume(shared / "data" / "mri" / "val" / "openms_p03_s2_T1W.nii.gz")
    assert whole.geometry.shape[1:] == (256, 256)
    array = np.ascontiguousarray(whole.array[28:29])
    hq = replace(
        whole,
        array=array,
        geometry=Geometry(whole.geometry.affine, array.shape),
        provenance=replace(whole.provenance, stored=None),
    )
    lq = replace(hq, array=low_resolution(array, 4.0))
    restorer = Restorer(device="cpu", threads=1)
    restored = restorer(lq, MRI, options=RestoreOptions(data_consistency=False))
    window = evaluation_window(MRI, array)

    def psnr(volume) -> float:
        found = score_volume(volume.array, array, task=MRI, window=window, protocol=PROTOCOLS["paper"]).mean
        assert found is not None
        return found.psnr

    consistent = restorer(lq, MRI)  # by the spectrum of this one slice
    assert "lines -32 to 31 x -32 to 31" in consistent.provenance.steps[-1]
    assert psnr(consistent) > psnr(restored) + 0.03 > psnr(lq) + 1.0
    spread = restoration_spread(restorer, lq, MRI)
    body = body_mask(array, MRI)
    error = np.abs(restored.array - array)[body]
    assert np.corrcoef(error, spread.array[body])[0, 1] > 0.3
