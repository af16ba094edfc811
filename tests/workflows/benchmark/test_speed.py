"""The speed benchmark: arithmetic, fields, comparison. Never timings."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch._C._autograd import DeviceType

from tatcli.errors import DeviceError, UsageError
from tatcli.inference.runtime import Runtime
from tatcli.workflows.benchmark import breakdown
from tatcli.workflows.benchmark.breakdown import KINDS, kind_of, measure_breakdown
from tatcli.workflows.benchmark.comparison import compare_results, read_results
from tatcli.workflows.benchmark.fresh import answer, measure_afresh
from tatcli.workflows.benchmark.machine import Peak, best_peak
from tatcli.workflows.benchmark.nominal import nominal_flop
from tatcli.workflows.benchmark.speed import SpeedConfig, benchmark_speed, result_of

FIELDS = {
    "preset", "size", "batch", "precision", "device", "threads", "weights", "slices_per_s", "slices_per_s_min",
    "slices_per_s_max", "nominal_gflop", "nominal_gflops", "nominal_gflops_min", "nominal_gflops_max",
    "fraction_of_peak", "peak_rss_bytes", "peak_device_bytes", "startup_seconds", "breakdown",
}  # fmt: skip


@pytest.fixture
def found(tiny):
    """What a case of two slices might send back."""
    return {
        "config": tiny.to_dict(),
        "weights": "tat-small 0123456789ab",
        "device": "cpu",
        "precision": "fp32",
        "threads": 2,
        "seconds": [0.5, 0.25, 4.0],
        "startup": {"import": 1.0, "weights": 0.5, "first_slice": 0.25},
        "peak_rss_bytes": 400 * 2**20,
        "peak_device_bytes": None,
        "breakdown": {"GELU": 0.75, "depthwise": 0.25},
    }


def test_rates_are_medians_with_their_spread(found, tiny):
    result = result_of("tat-small", found, size=64, batch=2, peak=Peak(80.0, 100.0))
    assert (result.slices_per_s, result.slices_per_s_min, result.slices_per_s_max) == (2.0, 0.25, 4.0)
    work = nominal_flop(tiny, 64, 64) / 1e9
    assert result.nominal_gflop == work
    assert (result.nominal_gflops, result.nominal_gflops_min, result.nominal_gflops_max) == (
        2 * work,
        work / 4,
        4 * work,
    )
    assert result.fraction_of_peak == pytest.approx(2 * work / 100.0)


def test_the_peak_is_the_best_of_all_attempts():
    peak = best_peak([Peak(10.0, 30.0), Peak(40.0, 20.0)])
    assert (peak.matrix_product, peak.convolution_1x1, peak.gflops) == (40.0, 30.0, 40.0)


@pytest.mark.parametrize(
    ("name", "shapes", "kind"),
    [
        ("aten::mkldnn_convolution", [[1, 48, 8, 8], [144, 48, 1, 1]], "1x1 convolution"),
        ("aten::mkldnn_convolution", [[1, 1, 8, 8], [48, 1, 3, 3]], "3x3 convolution"),
        ("aten::mkldnn_convolution", [[1, 144, 8, 8], [144, 1, 3, 3]], "depthwise"),
        ("aten::cudnn_convolution", [[1, 48, 8, 8], [24, 48, 3, 3]], "3x3 convolution"),
        ("aten::_conv_depthwise2d", [[1, 144, 8, 8], [144, 1, 3, 3]], "depthwise"),
        ("aten::bmm", [[1, 2, 3], [1, 3, 4]], "matrix product"),
        ("aten::native_layer_norm", [[1, 2, 3]], "LayerNorm"),
        ("aten::gelu", [[1, 2]], "GELU"),
        ("aten::_softmax", [[1, 2]], "elementwise"),
        ("aten::add_", [[1, 2]], "elementwise"),
        ("aten::copy_", [[1, 2]], "copy and layout"),
        ("aten::_to_copy", [[1, 2]], "copy and layout"),
        ("aten::empty_strided", [], "copy and layout"),
        ("tat::gated_feed_forward", [[1, 2]], "fused kernel"),
        ("aten::fft_c2c", [[1, 2]], "other"),
        ("aten::convolution", [], "other"),
    ],
)
def test_operations_have_a_kind(name, shapes, kind):
    assert kind_of(name, shapes) == kind
    assert kind in KINDS


def test_every_combination_is_one_case(installed, in_process, tiny):
    config = SpeedConfig(
        presets=("tat-small",), sizes=(24, 16), batches=(1, 2), precisions=("fp32",), device="cpu", repeats=1
    )
    told = []
    report = benchmark_speed(config, progress=lambda *state: told.append(state))
    assert [(r.preset, r.size, r.batch, r.precision) for r in report.results] == [
        ("tat-small", size, batch, "fp32") for size in (24, 16) for batch in (1, 2)
    ]
    assert [kind for kind, _ in in_process] == ["machine", *["case"] * 4, "machine"]
    assert told[0][1:] == (0, 4)
    assert told[-1][1:] == (4, 4)
    peak = report.peaks["fp32"].gflops
    for result in report.results:
        work = nominal_flop(tiny, result.size, result.size) / 1e9
        assert result.nominal_gflops == pytest.approx(work * result.slices_per_s)
        assert result.fraction_of_peak == pytest.approx(result.nominal_gflops / peak)
        assert result.slices_per_s_min <= result.slices_per_s <= result.slices_per_s_max
        assert result.weights.startswith("tat-small ")
        assert sum(result.breakdown.values()) == pytest.approx(1.0, abs=1e-3)
        assert {"1x1 convolution", "depthwise", "GELU", "LayerNorm"} <= set(result.breakdown) <= set(KINDS)
        assert set(result.startup_seconds) == {"import", "weights", "first_slice"}

    told = json.loads(report.to_json())
    assert set(told) == {"started", "versions", "machine", "peaks", "copy_bytes_per_s", "repeats", "results"}
    assert all(set(result) == FIELDS for result in told["results"])
    assert set(told["machine"]) == {"processor", "capability", "cores", "threads", "device"}
    assert set(told["peaks"]["fp32"]) == {"matrix_product", "convolution_1x1", "gflops"}


def test_a_preset_without_weights_gets_random_ones(installed, in_process, tiny, monkeypatch):
    monkeypatch.setattr("tatcli.model.weights.weights_folders", list)
    monkeypatch.setattr("tatcli.model.config.PRESETS", {"tat-base": tiny})
    config = SpeedConfig(presets=("tat-base",), sizes=(16,), precisions=("fp32",), device="cpu", repeats=1)
    (result,) = benchmark_speed(config).results
    assert result.weights.startswith("tat-base (random) ")
    weights = Path(in_process[1][1]["weights"])
    assert weights.name == "tat-base.safetensors"
    assert not weights.exists()
    with pytest.raises(UsageError, match="unknown preset 'tat-huge'"):
        benchmark_speed(replace(config, presets=("tat-huge",)))


def test_a_fresh_process_has_its_own_memory(installed):
    """The peak is the process's own, not its parent's; this one has hypothesis, pydicom and more loaded."""
    ballast = bytearray(b"x") * 2**29
    case = {"weights": "tat-small", "size": 16, "batch": 1, "device": "cpu", "precision": "fp32", "threads": 1}
    found = measure_afresh("case", **case, repeats=2)
    assert len(found["seconds"]) == 2
    assert found["threads"] == 1
    assert 2**26 < found["peak_rss_bytes"] < len(ballast)
    assert found["startup"]["import"] > 0.0


def test_errors_of_a_fresh_process_arrive(installed):
    with pytest.raises(DeviceError, match="--precision fp16: expected a GPU"):
        measure_afresh("machine", device="cpu", threads=1, precisions=["fp16"])
    with pytest.raises(DeviceError, match="expected a measurement, got a process that ended with 1"):
        measure_afresh("machine", device="cpu", threads=1)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"sizes": ()}, "--sizes: expected at least one value"),
        ({"presets": ()}, "--preset: expected at least one value"),
        ({"sizes": (4,)}, "--sizes: expected at least 8, got 4"),
        ({"batches": (1, 0)}, "--batch: expected at least 1, got 0"),
        ({"repeats": 0}, "--repeats: expected at least 1, got 0"),
    ],
)
def test_options_out_of_range(fields, words):
    with pytest.raises(UsageError, match=words):
        SpeedConfig(**fields)


# --- comparison ------------------------------------------------------------------------------------------------------


def test_ratios_are_now_over_before(found, tmp_path):
    now = result_of("tat-small", found, size=64, batch=2, peak=Peak(100.0, 100.0))
    before = {"preset": "tat-small", "size": 64, "batch": 2, "precision": "fp32", "device": "cpu"}
    before |= {"slices_per_s": 0.5, "fraction_of_peak": now.fraction_of_peak / 2, "peak_rss_bytes": 800 * 2**20}
    other = before | {"size": 128}
    path = tmp_path / "before.json"
    path.write_text(json.dumps({"results": [other, before]}))
    (ratio,) = compare_results([now, replace(now, batch=3)], read_results(path))
    assert (ratio.preset, ratio.size, ratio.batch, ratio.precision, ratio.device) == ("tat-small", 64, 2, "fp32", "cpu")
    assert (ratio.slices_per_s, ratio.fraction_of_peak, ratio.peak_rss_bytes) == (4.0, 2.0, 0.5)
    unknown = [before | {"peak_rss_bytes": None}]
    assert compare_results([now], unknown)[0].peak_rss_bytes is None


@pytest.mark.parametrize("text", ["", "[]", '{"results": [{"preset": "x"}]}', '{"results": 3}'])
def test_other_files_are_refused(text, tmp_path):
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=r"x\.json: expected a file by tat benchmark speed --json"):
        read_results(path)


def test_on_a_gpu_every_kernel_counts_once(monkeypatch):
    """PyTorch's profiler has the time of a kernel in its operation's event and in one of its own."""

    def event(key, kind, time, shapes=()):
        return SimpleNamespace(key=key, device_type=kind, self_device_time_total=time, input_shapes=shapes)

    on_cpu, on_gpu = DeviceType.CPU, DeviceType.CUDA
    found = [
        event("tat: one pass", on_cpu, 0.0),
        event("tat: one pass", on_gpu, 100.0),
        event("aten::cudnn_convolution", on_cpu, 30.0, [[1, 8, 4, 4], [8, 8, 3, 3]]),
        event("sm90_xmma_fprop_implicit_gemm", on_gpu, 30.0),
        event("aten::mm", on_cpu, 10.0),
        event("cutlass_gemm", on_gpu, 10.0),
        event("depthwise_kernel", on_gpu, 60.0),
    ]

    class Profile(nullcontext):
        def __init__(self, **_):
            super().__init__(self)

        def key_averages(self, **_):
            return found

    monkeypatch.setattr(breakdown, "profile", Profile)
    monkeypatch.setattr(Runtime, "synchronise", lambda _: None)
    fractions = measure_breakdown(lambda: None, Runtime(torch.device("cuda"), "bf16", 1))
    assert fractions == {"3x3 convolution": 0.3, "matrix product": 0.1, "fused kernel": 0.6}


def test_a_gpu_that_does_not_compute_is_no_machine_to_measure(monkeypatch):
    def refuse(device):
        msg = f"{device} does not"
        raise DeviceError(msg)

    monkeypatch.setattr("tatcli.inference.gpus.check_it_computes", refuse)
    with pytest.raises(DeviceError, match="cpu does not"):
        answer({"kind": "machine", "launched": 0.0, "device": "cpu", "threads": None, "precisions": ["fp32"]})


@pytest.mark.gpu
def test_on_a_gpu(installed):
    config = SpeedConfig(presets=("tat-small",), sizes=(64,), precisions=("bf16",), device="cuda", repeats=1)
    (result,) = benchmark_speed(config).results
    assert result.device == torch.cuda.get_device_name()
    assert 0 < result.fraction_of_peak < 1
    assert result.peak_device_bytes > 0
    assert {"3x3 convolution", "fused kernel", "LayerNorm"} <= set(result.breakdown) <= set(KINDS)
    assert "outside operations" not in result.breakdown
