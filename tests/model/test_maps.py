"""Memory of a pass's largest maps: kept from map to map, never shared by two, and no result depends on it."""

import threading

import pytest
import torch

from tatcli.model import depthwise, maps
from tatcli.model.blocks import Fusion
from tatcli.model.config import PRESETS
from tatcli.model.maps import empty_map, kept_maps, release_free_maps
from tatcli.model.tat import Tat

SHAPE = (1, 32, 8, 24)


@pytest.fixture(autouse=True)
def small_maps_count(monkeypatch):
    if not maps._HAS_MAPPINGS:
        pytest.skip("this system has no anonymous mappings")
    monkeypatch.setattr(maps, "_LARGE", 0)


def test_a_map_lies_where_one_has_been_before():
    with kept_maps():
        first = empty_map(SHAPE, torch.float32)
        address = first.data_ptr()
        del first
        assert empty_map(SHAPE, torch.bfloat16).data_ptr() == address


def test_maps_in_use_share_nothing():
    with kept_maps():
        several = [empty_map(SHAPE, torch.float32).fill_(value) for value in (1.0, 2.0, 3.0)]
        part = several.pop(0)[:, :4]  # a view keeps the memory of its map
        another = empty_map(SHAPE, torch.float32).fill_(4.0)
    assert [float(one.mean()) for one in (part, *several, another)] == [1.0, 2.0, 3.0, 4.0]


def test_a_map_outlives_its_pass():
    with kept_maps():
        kept = empty_map(SHAPE, torch.float32).fill_(1.0)
    with kept_maps():
        empty_map(SHAPE, torch.float32).fill_(2.0)
    assert float(kept.mean()) == 1.0


def test_what_is_free_can_be_given_back_during_a_pass():
    with kept_maps():
        kept = empty_map(SHAPE, torch.float32).fill_(1.0)
        empty_map(SHAPE, torch.float32)
        assert [len(blocks) for blocks in maps._pass.blocks.free.values()] == [1]
        release_free_maps()
        assert [len(blocks) for blocks in maps._pass.blocks.free.values()] == [0]
        assert float(kept.mean()) == 1.0
        del kept
        assert [len(blocks) for blocks in maps._pass.blocks.free.values()] == [1]


def test_a_map_is_channels_last():
    with kept_maps():
        found = empty_map((2, 32, 8, 24), torch.float32)
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert found.shape == (2, 32, 8, 24)


def test_a_pass_is_its_thread_s_own():
    def elsewhere():
        found.append(maps._pass.blocks)

    found: list[object] = []
    with kept_maps():
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        assert maps._pass.blocks is not None
    assert found == [None]
    assert maps._pass.blocks is None


def test_results_and_gradients_are_the_same(monkeypatch):
    torch.manual_seed(0)
    network = Tat(PRESETS["tat-tiny"])
    torch.nn.init.normal_(network.output.weight, std=0.1)
    x = torch.rand(2, 1, 40, 32)

    def found():
        network.zero_grad()
        y = network(x)
        y.square().mean().backward()
        with torch.inference_mode():
            without = network(x)
        return [y, without, *(p.grad.clone() for p in network.parameters() if p.grad is not None)]

    in_blocks = found()
    monkeypatch.setattr(maps, "_LARGE", 2**40)
    from_the_c_library = found()
    assert len(in_blocks) > 100
    for one, other in zip(in_blocks, from_the_c_library, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)


def test_maps_are_fused_in_strips_as_in_one(monkeypatch):
    torch.manual_seed(0)
    fusion = Fusion(80, 16).to(memory_format=torch.channels_last)
    parts = [torch.randn(2, channels, 41, 24).to(memory_format=torch.channels_last) for channels in (16, 32, 32)]
    whole = fusion(*parts).detach()  # one strip, as gradients are recorded
    monkeypatch.setattr(depthwise, "STRIP_BYTES", 2 * 24 * 80 * 4 * 5)  # 5 rows
    with torch.inference_mode():
        assert len(list(depthwise.row_strips(parts[0], 80))) == 8
        torch.testing.assert_close(fusion(*parts), whole, rtol=1e-5, atol=1e-6)
