"""Tiles and their blending."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tatcli.inference.tiling import blended, tile_spans

lengths = st.integers(1, 300)
tiles = st.integers(2, 96).flatmap(lambda tile: st.tuples(st.just(tile), st.integers(0, tile - 1)))


@given(length=lengths, sizes=tiles)
@settings(max_examples=150, deadline=None)
def test_the_weights_are_a_partition_of_unity_borders_included(length, sizes):
    tile, overlap = sizes
    spans = tile_spans(length, tile=tile, overlap=overlap)
    total = torch.zeros(length)
    for span in spans:
        assert 0 <= span.start < span.stop <= length
        assert span.stop - span.start == min(tile, length)
        assert (span.weights > 0).all()
        total[span.start : span.stop] += span.weights
    torch.testing.assert_close(total, torch.ones(length), rtol=0, atol=1e-6)
    assert spans[0].start == 0
    assert spans[-1].stop == length
    assert [span.start for span in spans] == sorted({span.start for span in spans})


def test_where_one_tile_lies_alone_it_counts_fully():
    first, second = tile_spans(24, tile=16, overlap=8)
    assert (first.start, second.start) == (0, 8)
    assert first.weights[:8].tolist() == [1.0] * 8
    assert second.weights[8:].tolist() == [1.0] * 8
    assert (first.weights[8:].diff() < 0).all()  # fades out smoothly where the other fades in


def test_an_axis_shorter_than_a_tile_is_one_span():
    (span,) = tile_spans(7, tile=32, overlap=8)
    assert (span.start, span.stop, span.weights.tolist()) == (0, 7, [1.0] * 7)


def test_an_overlap_of_a_whole_tile_is_refused():
    with pytest.raises(ValueError, match="overlap 8 and tile 8"):
        tile_spans(20, tile=8, overlap=8)


@given(rows=st.integers(1, 70), columns=st.integers(1, 70), sizes=tiles, seed=st.integers(0, 9))
@settings(max_examples=40, deadline=None)
def test_blending_pixelwise_corrections_changes_nothing(rows, columns, sizes, seed):
    tile, overlap = sizes
    overlap = min(overlap, tile // 2)
    slices = torch.rand(2, 1, rows, columns, generator=torch.Generator().manual_seed(seed))
    result = blended(lambda x: 0.5 - x, slices, tile=tile, overlap=overlap)
    torch.testing.assert_close(result, 0.5 - slices, rtol=0, atol=1e-6)
    zero = blended(torch.zeros_like, slices, tile=tile, overlap=overlap)
    assert torch.equal(zero, torch.zeros_like(slices))


def test_a_step_between_tiles_is_smoothed_over_the_overlap():
    slices = torch.zeros(1, 1, 8, 48)
    count = iter(range(100))
    result = blended(lambda x: torch.full_like(x, float(next(count))), slices, tile=32, overlap=16)
    row = result[0, 0, 0]
    assert row[:16].tolist() == [0.0] * 16
    assert row[32:].tolist() == [1.0] * 16
    assert (row[15:33].diff() >= 0).all()
    assert row.diff().max() < 0.2
