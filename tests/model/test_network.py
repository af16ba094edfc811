"""What must hold for every size, batch and setting of the network."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch.nn import functional

from tatcli.errors import UsageError, WeightsError
from tatcli.model import PRESETS, Tat, TatConfig, find_preset, from_official, to_official
from tatcli.model import depthwise as depthwise_module
from tatcli.model.attention import ChannelAttention, _per_sample_1x1
from tatcli.model.blocks import LayerNorm
from tatcli.model.config import preset_of
from tatcli.model.fused import without_kernels
from tatcli.model.windows import Window, cut_into_cells, window_starts
from tiny_networks import TINY


def tiny(config: TatConfig = TINY, seed: int = 0) -> Tat:
    """A random network whose task-adaptive kernels are at work."""
    torch.manual_seed(seed)
    network = Tat(config)
    for name, parameter in network.named_parameters():
        if name.endswith("gain"):
            torch.nn.init.normal_(parameter)
    return network.eval()


def test_small_preset_keeps_its_promise() -> None:
    parameters = sum(p.numel() for p in Tat(PRESETS["tat-small"]).parameters())
    assert parameters <= 10_000_000
    assert 2 * parameters <= 20 * 2**20


@pytest.mark.parametrize("windows", [(), (24, 12, 6, 4)])
def test_networks_of_other_precisions(windows: tuple[int, ...]) -> None:
    """All of it in float64, as one would check float32's rounding by; in half precision, as ``.half()`` makes it."""
    network = tiny(replace(TINY, train_patch=16, windows=windows))
    x = torch.rand(2, 1, 40, 56)
    with torch.inference_mode(), without_kernels():
        expected = network(x)
        exact, halved = network.double()(x.double()), network.bfloat16()(x.bfloat16())
    scale = float((exact - x).std())
    assert exact.dtype == torch.float64
    assert halved.dtype == torch.bfloat16
    assert 0 < float((expected - exact).abs().max()) <= 1e-4 * scale
    assert float((halved - exact).abs().max()) <= 0.5 * scale


def test_float64_is_float64_throughout() -> None:
    """A change of the input far below float32's precision shows in the output as it does in a difference quotient."""
    network = tiny(replace(TINY, train_patch=16)).double()
    torch.manual_seed(1)
    x, towards = torch.rand(2, 1, 1, 40, 40, dtype=torch.float64)
    with torch.inference_mode():
        small, large = ((network(x + step * towards) - network(x)) / step for step in (1e-9, 1e-6))
    assert float((small - large).abs().max()) <= 1e-4 * float(large.abs().max())


def test_batch_gives_what_single_slices_give() -> None:
    network = tiny()
    batch = torch.rand(3, 1, 72, 56)
    with torch.inference_mode():
        together = network(batch)
        alone = torch.cat([network(one) for one in batch.split(1)])
    assert (together - alone).abs().max() <= 1e-4 * alone.std()


def test_recording_gradients_changes_nothing() -> None:
    network = tiny()
    x = torch.rand(2, 1, 72, 56)
    with torch.inference_mode():
        strips = network(x)
    assert (network(x).detach() - strips).abs().max() <= 1e-5


def test_strips_give_what_the_whole_map_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    network = tiny()
    x = torch.rand(1, 1, 96, 40)
    with torch.inference_mode():
        whole = network(x)
        monkeypatch.setattr(depthwise_module, "STRIP_BYTES", 1)
        thin = network(x)
    assert (thin - whole).abs().max() <= 1e-5


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (3, 50), (8, 8), (37, 61), (64, 9)])
def test_any_size(rows: int, columns: int) -> None:
    network = tiny()
    x = torch.rand(1, 1, rows, columns)
    with torch.inference_mode():
        y = network(x)
    assert y.shape == x.shape
    assert bool(torch.isfinite(y).all())
    assert (y - x).abs().max() > 0


class OnAppleGpu(torch.Tensor):
    """A tensor that says it is on Apple's GPU."""

    device = torch.device("mps")  # type: ignore[assignment]


def test_no_convolution_of_some_channels_on_apples_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some versions of PyTorch read a part of a map's channels as if they were all that lay there (issue 180984)."""
    convolve = functional.conv2d

    def mistaken(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        _, channels, rows, columns = x.shape
        strides = (channels * rows * columns, 1, channels * columns, channels)
        return convolve(torch.as_strided(x.as_subclass(torch.Tensor), x.shape, strides, x.storage_offset()), weight)

    monkeypatch.setattr(functional, "conv2d", mistaken)
    torch.manual_seed(0)
    qkv = torch.rand(1, 24, 5, 6).contiguous(memory_format=torch.channels_last)
    value, weights = qkv.chunk(3, dim=1)[2], torch.rand(1, 8, 8)
    expected = torch.einsum("oc,bcrs->bors", weights[0], value)
    assert (_per_sample_1x1(value, weights) - expected).abs().max() > 0.1
    found = _per_sample_1x1(value.as_subclass(OnAppleGpu), weights)
    torch.testing.assert_close(found.as_subclass(torch.Tensor), expected)


def test_padding_is_cropped_back() -> None:
    """A padded slice gives what the explicitly reflected slice gives, cropped."""
    network = tiny()
    x = torch.rand(1, 1, 45, 50)
    reflected = functional.pad(x, (0, 6, 0, 3), mode="reflect")
    with torch.inference_mode():
        assert torch.equal(network(x), network(reflected)[:, :, :45, :50])


def test_zeroed_output_is_the_identity() -> None:
    network = tiny()
    torch.nn.init.zeros_(network.output.weight)
    x = torch.rand(2, 1, 40, 48)
    with torch.inference_mode():
        assert torch.equal(network(x), x)


def test_starts_static() -> None:
    """With lambda = 0, TREN has no say; with lambda it has."""
    torch.manual_seed(0)
    network = Tat(TINY).eval()
    x = torch.rand(1, 1, 32, 32)
    with torch.inference_mode():
        before = network(x)
        torch.nn.init.normal_(network.tren.represent[0].weight)
        assert torch.equal(network(x), before)
        for name, parameter in network.named_parameters():
            if name.endswith("gain"):
                parameter.fill_(1.0)
        assert not torch.equal(network(x), before)


def test_no_gradient_from_tren_to_the_encoder() -> None:
    network = tiny().train()
    latent = torch.rand(1, 64, 4, 4, requires_grad=True)
    network.tren.task_representation(latent).sum().backward()
    assert latent.grad is None


@pytest.mark.parametrize("length", [1, 47, 48, 49, 96, 100, 144, 500])
@pytest.mark.parametrize("window", [24, 48])
def test_windows_cover_evenly(length: int, window: int) -> None:
    starts = window_starts(length, window)
    size = min(window, length)
    assert starts[0] == 0
    assert starts[-1] == length - size
    assert all(b - a <= size for a, b in pairwise(starts))
    count = (length - 1) // size + 1
    step = size if count == 1 else math.ceil((length - size) / (count - 1) - 1e-8)
    assert starts == [min(i * step, length - size) for i in range(len(starts))]


@pytest.mark.parametrize("length", [1, 20, 24, 29, 30, 31, 47, 48, 49, 96, 100, 144, 500])
def test_windows_by_halves_cover_twice_and_evenly(length: int) -> None:
    """Cells of one length, but for a shorter last one; every two neighbours are a window."""
    cells = cut_into_cells(length, 1, Window(24, halves=True))
    if length <= 30:  # two cells and a half: one window of them
        assert cells.rows == ((0, length),)
        return
    sides = [stop - start for start, stop in cells.rows]
    assert cells.rows[0][0] == 0
    assert cells.rows[-1][1] == length
    assert set(sides[:-1]) == {cells.sides[0]}
    assert 9 <= cells.sides[0] <= 12 + 3
    assert 0 < sides[-1] <= cells.sides[0]
    pairs = torch.eye(len(sides)) + torch.eye(len(sides)).roll(1, 1)
    assert torch.equal(cells.members, pairs[:-1])
    covered = torch.tensor([1.0, *[2.0] * (len(sides) - 2), 1.0])
    assert torch.equal(cells.average, pairs[:-1].t() / covered[:, None])


def bounds_along(length: int, window: Window) -> list[tuple[int, int]]:
    """Of the windows, as told in words: the paper's, or every two neighbouring cells."""
    if not window.halves:
        size = min(window.side, length)
        return [(start, start + size) for start in window_starts(length, window.side)]
    edges = [0, *(stop for _, stop in cut_into_cells(length, 1, window).rows)]
    return [(0, length)] if len(edges) == 2 else list(zip(edges[:-2], edges[2:], strict=True))


@pytest.mark.parametrize("halves", [False, True])
@pytest.mark.parametrize(
    ("rows", "columns", "heads"), [(50, 70, 1), (30, 100, 2), (24, 24, 4), (20, 33, 2), (64, 25, 2)]
)
def test_cells_equal_averaged_windows(rows: int, columns: int, heads: int, halves: bool) -> None:
    """The algebra (cells, Gram matrices, folded projection) against attention written as in the paper."""
    torch.manual_seed(1)
    dim, window = 8, Window(24, halves=halves)
    attention = ChannelAttention(dim, heads=heads, window=window, adaptive=False)
    norm = LayerNorm(dim)
    x = torch.randn(2, dim, rows, columns)
    with torch.inference_mode():
        qkv = attention.depthwise(attention.qkv(norm(x)), attention.depthwise.kernels(None))
        total, covered = torch.zeros(2, dim, rows, columns), torch.zeros(rows, columns)
        for top, bottom in bounds_along(rows, window):
            for left, right in bounds_along(columns, window):
                area = (..., slice(top, bottom), slice(left, right))
                part = qkv[area]
                q, k, v = (t.reshape(2, heads, dim // heads, -1) for t in part.chunk(3, dim=1))
                q, k = functional.normalize(q, dim=-1), functional.normalize(k, dim=-1)
                scores = (q @ k.transpose(-1, -2) * attention.temperature.view(-1, 1, 1)).softmax(dim=-1)
                total[area] += (scores @ v).reshape(2, dim, *part.shape[2:])
                covered[area[1:]] += 1
        expected = attention.project(total / covered)
        found = attention(x, norm) - x
    with_gradients = attention(x, norm) - x  # all bands at once, as on a GPU
    assert (found - expected).abs().max() <= 1e-5 * expected.std()
    assert (with_gradients - expected).abs().max() <= 1e-5 * expected.std()


def test_windows_are_part_of_the_card_and_not_of_the_size() -> None:
    small = PRESETS["tat-small"]
    papers = replace(small, windows=())
    assert [papers.window(level) for level in range(4)] == [Window(side) for side in (192, 96, 48, 24)]
    assert [small.window(level) for level in range(4)] == [Window(side, halves=True) for side in small.windows]
    assert TatConfig.from_dict(small.to_dict()) == small
    older = {key: value for key, value in small.to_dict().items() if key != "windows"}
    assert TatConfig.from_dict(older) == papers
    assert preset_of(papers) == "tat-small"
    assert not papers.is_size_of(replace(small, latent_blocks=5))


@pytest.mark.parametrize("windows", [(96, 48, 24), (96, 48, 24, 1)])
def test_impossible_windows_are_refused(windows: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match="expected windows of 4 levels, each of at least 2 pixels, got"):
        TatConfig(windows=windows)


def test_members_and_average_agree() -> None:
    cells = cut_into_cells(50, 70, Window(24))
    assert torch.allclose(cells.average.sum(dim=1), torch.ones(cells.count))
    areas = torch.tensor([(b - a) * (d - c) for a, b in cells.rows for c, d in cells.columns], dtype=torch.float)
    assert torch.equal(cells.members @ areas, torch.full((len(cells.members),), 24.0 * 24.0))


def test_matrices_stay_where_a_recorded_graph_reads_them() -> None:
    before = cut_into_cells(50, 70, Window(24))
    for rows in range(24, 124):
        cut_into_cells(rows, 71, Window(24))
    after = cut_into_cells(50, 70, Window(24))
    assert after.members is before.members
    assert after.average is before.average


def test_bf16_stays_close() -> None:
    network = tiny()
    x = torch.rand(1, 1, 64, 64)
    with torch.inference_mode():
        full = network(x)
        with torch.autocast("cpu", torch.bfloat16):
            half = network(x)
    assert half.dtype == torch.float32
    assert (half - full).std() <= 0.05 * (full - x).std()


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_sums_over_pixels_are_float32_under_autocast(kind: torch.dtype) -> None:
    """The Gram matrix of large maps is beyond what half precision holds: 65504, or 8 bits."""
    attention = ChannelAttention(4, heads=2, window=Window(64), adaptive=False)
    query, key = (torch.randn(1, 4, 64, 64, generator=torch.Generator().manual_seed(i)).to(kind) * 8 for i in (0, 1))
    with torch.autocast("cpu", kind):
        sums = attention._gram(query, query + key)
    q, k = (part.double().view(2, 2, -1) for part in (query, query + key))
    expected = torch.cat([q @ k.mT, q.square().sum(-1, keepdim=True), k.square().sum(-1, keepdim=True)], dim=-1)
    assert expected.abs().max() > 1e5
    assert sums.dtype == torch.float32
    torch.testing.assert_close(sums[0].double(), expected, rtol=1e-5, atol=1.0)


def test_shared_kernels_of_adaptive_blocks_start_as_published() -> None:
    """N(0, 1) in the attention, Kaiming's sqrt(2 / 9) in the feed-forward part, whatever the channels."""
    torch.manual_seed(0)
    network = Tat(TatConfig(width=32))
    seen = set()
    for name, kernel in network.named_parameters():
        block = name.removesuffix(".depthwise.shared")
        if block == name or network.get_submodule(block).depthwise.gain is None:
            continue
        expected = 1.0 if block.endswith("attention") else (2 / 9) ** 0.5
        assert kernel.std().item() == pytest.approx(expected, rel=6 / kernel.numel() ** 0.5)
        assert abs(kernel.mean().item()) < 5 * expected / kernel.numel() ** 0.5
        seen.add(block.rpartition(".")[2])
    assert seen == {"attention", "feedforward"}


def test_official_names_of_another_size_load() -> None:
    network = tiny(
        TatConfig(
            width=8,
            encoder_blocks=(1, 2, 1),
            latent_blocks=2,
            decoder_blocks=(2, 1, 1),
            refinement_blocks=1,
            tren_width=4,
        )
    )
    loaded = from_official(to_official(network))
    assert loaded.config == network.config
    x = torch.rand(1, 1, 40, 40)
    with torch.inference_mode():
        assert torch.equal(loaded(x), network(x))


def test_wrong_official_checkpoints_are_refused() -> None:
    good = to_official(tiny())
    missing = {key: value for key, value in good.items() if key != "output.weight"}
    with pytest.raises(WeightsError, match=r"missing output\.weight"):
        from_official(missing)
    with pytest.raises(WeightsError, match=r"unexpected extra\.weight"):
        from_official(good | {"extra.weight": torch.zeros(1)})
    with pytest.raises(
        WeightsError, match=r"reduce_final\.2\.weight has shape \(8, 9, 1, 1\), expected \(8, 8, 1, 1\)"
    ):
        from_official(good | {"reduce_final.2.weight": torch.zeros(8, 9, 1, 1)})
    with pytest.raises(WeightsError, match="is it a TAT"):
        from_official({"fc.weight": torch.zeros(2, 2)})


def test_bad_configs_are_refused() -> None:
    with pytest.raises(UsageError, match="multiple of its 3 heads"):
        TatConfig(width=8, heads=(3, 2, 4, 8))
    with pytest.raises(UsageError, match="even width"):
        TatConfig(width=1, heads=(1, 1, 1, 1))
    with pytest.raises(UsageError, match="expected one of tat-base, tat-small"):
        find_preset("tat-huge")
