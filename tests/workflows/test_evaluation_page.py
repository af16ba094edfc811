"""From an evaluation to its page."""

from __future__ import annotations

import re

import nibabel
import numpy as np

from tatcli.workflows.evaluate import EvaluateConfig, evaluate
from tatcli.workflows.evaluation.page import html_of, write_html


def write(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array.T.astype(np.float32), np.diag([-4.0, -4.0, 4.0, 1.0])), path)


def test_a_page_of_a_pet(tmp_path) -> None:
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        truth = np.full((8, 48, 48), 1.0)
        truth[:, :6] = 0.0
        truth[2:6, 20:30, 20:30] = 8.0
        write(tmp_path / "hq" / f"{name}.nii", truth)
        write(tmp_path / "lq" / f"{name}.nii", truth + rng.normal(0, 0.3, truth.shape))
        write(tmp_path / "out" / f"{name}.nii", truth + rng.normal(0, 0.1, truth.shape))
    write(tmp_path / "out" / "lonely.nii", truth)
    config = EvaluateConfig(
        restored=tmp_path / "out", reference=tmp_path / "hq", input=tmp_path / "lq", tasks=("pet",), pictures=2
    )
    report = evaluate(config)
    text = html_of(report, title="of a test", command="tat evaluate out")
    (task,) = report.tasks
    row = task.network
    low, high = row.intervals["psnr"].to_list()
    assert f"<td>{row.score.psnr:.2f} [{low:.2f}, {high:.2f}]</td>" in text
    assert f"<td>{row.physical['suv_peak_error']:.3g}</td>" in text
    assert text.count('<article class="comparison">') == 4
    assert "window [0, 5] SUVbw, inverted grey; differences ±1.25 SUVbw" in text
    assert "Noise power spectra" in text
    assert "MissingPartnerError" in text
    assert re.search(r"Mean over 2 subjects, 95 % bootstrap interval", text)
    assert text.count("<polyline") == 3  # input, restored, reference
    write_html(report, tmp_path / "page.html", title="of a test")
    assert (tmp_path / "page.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
