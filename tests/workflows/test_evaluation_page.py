"""From an evaluation to its page."""

from __future__ import annotations

import re
from dataclasses import replace

import nibabel
import numpy as np

from tatcli.cli.scores import show_task
from tatcli.metrics import PHYSICAL_QUANTITIES
from tatcli.metrics.noise_power import NoiseSpectrum
from tatcli.tasks import find_task
from tatcli.workflows.evaluate import EvaluateConfig, evaluate
from tatcli.workflows.evaluation.degraded import scan_seed
from tatcli.workflows.evaluation.page import _HEADINGS, _mean_curve, html_of, write_html
from tatcli.workflows.evaluation.tables import write_csv


def write(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array.T.astype(np.float32), np.diag([-4.0, -4.0, 4.0, 1.0])), path)


def test_a_page_of_a_pet(tmp_path, capsys) -> None:
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
    assert '<th scope="row">input</th>' in text
    assert "<dt>max slices</dt>" not in text  # of scans, not of a dataset
    assert f"<td>{row.physical['suv_peak_error']:.3g}</td>" in text
    for heading in ("bias (SUVbw)", "noise ratio", "NPS mean shift (1/mm)", "SUVpeak error (%)"):
        assert f'<th scope="col">{heading}</th>' in text
    assert text.count('<article class="comparison">') == 4
    assert "window [0, 5] SUVbw, inverted grey; differences ±1.25 SUVbw" in text
    assert "Noise power spectra" in text
    assert "lonely: lonely.nii: expected a scan of equal name in hq, found none" in re.sub(rf"{tmp_path}/", "", text)
    assert re.search(r"Mean over 2 subjects, 95 % bootstrap interval", text)
    assert text.count("<polyline") == 3  # input, restored, reference
    show_task(task, "paper")
    told = " ".join(capsys.readouterr().out.split())
    assert "method bias (SUVbw) noise ratio NPS mean shift (1/mm) NPS peak shift (1/mm) edge ratio" in told
    assert "SUVmax error (%) SUVpeak error (%) SUVmean error (%)" in told
    assert "lq" not in told  # the input, as on the page
    assert "restored - input" in told
    write_html(report, tmp_path / "page.html", title="of a test")
    assert (tmp_path / "page.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_every_score_beyond_the_protocol_has_its_heading_and_settings_read_as_words(tmp_path) -> None:
    assert list(_HEADINGS) == list(PHYSICAL_QUANTITIES)
    write(tmp_path / "hq.nii", truth := np.random.default_rng(0).gamma(2.0, 100, (2, 24, 24)))
    write(tmp_path / "out.nii", truth + 1.0)
    report = evaluate(EvaluateConfig(restored=tmp_path / "out.nii", reference=tmp_path / "hq.nii", tasks=("mri",)))
    text = html_of(replace(report, settings={"max_slices": 3, "ensemble": False, "seed": 1}), title="")
    for name, value in (("max slices", "3"), ("ensemble", "no"), ("seed", "1")):
        assert f"<dt>{name}</dt><dd>{value}</dd>" in text


def test_spectra_are_averaged_where_all_scans_have_them() -> None:
    """Pixels of 1 mm tell nothing beyond 0.5 cycles/mm: their last value mustn't stand for it."""
    fine = NoiseSpectrum(np.linspace(0.1, 1.0, 10), np.full(10, 2.0), deviation=1.0, patches=1)
    coarse = NoiseSpectrum(np.linspace(0.05, 0.5, 10), np.linspace(1.0, 10.0, 10), deviation=1.0, patches=1)
    (curve,) = _mean_curve("both", [fine, coarse])
    np.testing.assert_allclose(curve.x, [0.1, 0.2, 0.3, 0.4, 0.5])
    np.testing.assert_allclose(curve.y, [2.0, 3.0, 4.0, 5.0, 6.0])


def test_tables_and_pages_hold_names_that_are_not_utf8(tmp_path) -> None:
    name = "Andr\udce9"  # as Python has such a name of a file
    rng = np.random.default_rng(0)
    write(tmp_path / "hq.nii", truth := rng.gamma(2.0, 100, (2, 24, 24)))
    write(tmp_path / "out.nii", truth + rng.normal(0, 9, truth.shape))
    report = evaluate(EvaluateConfig(restored=tmp_path / "out.nii", reference=tmp_path / "hq.nii", tasks=("mri",)))
    (task,) = report.tasks
    scans = [replace(scan, name=name, subject=name) for scan in task.scans]
    report = replace(report, tasks=(replace(task, scans=scans),))
    write_csv(report, tmp_path / "tables")
    assert b",Andr\xe9,Andr\xe9," in (tmp_path / "tables/volumes.csv").read_bytes()
    write_html(report, tmp_path / "page.html", title=name)
    assert "Andr\\udce9" in (tmp_path / "page.html").read_text(encoding="utf-8")
    assert 0 <= scan_seed(0, find_task("mri"), name) < 2**32
