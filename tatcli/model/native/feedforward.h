// The gated feed-forward part of a block: y = x + W2 (gelu(a) b), (a, b) = depthwise(W1 norm(x)).
#pragma once

#include "arguments.h"

// g (pixels, group) = gelu(a) b, with (a, b) side by side in `hidden`.
static void gate(const float *hidden, long pixels, long group, float *to) {
  const Timed timed(GATE);
  for (long p = 0; p < pixels; p++, hidden += 2 * group, to += group)
    for (long i = 0; i < group; i += VL) {
      const vf a = load(hidden + i);
      store(to + i, a * normal_cdf(a, nullptr) * load(hidden + group + i));
    }
}

// (a, b) -> their gradients in place, from g's; g itself goes to `gated`.
static void gate_backward(float *hidden, const float *d_gated, long pixels, long group, float *gated) {
  for (long p = 0; p < pixels; p++, hidden += 2 * group, d_gated += group, gated += group)
    for (long i = 0; i < group; i += VL) {
      const vf a = load(hidden + i), b = load(hidden + group + i), d = load(d_gated + i);
      vf density;
      const vf cdf = normal_cdf(a, &density), opened = a * cdf;
      store(gated + i, opened * b);
      store(hidden + i, d * b * (cdf + a * density));
      store(hidden + group + i, d * opened);
    }
}

// The hidden map of a block of channels before its depthwise convolution.
template <bool BF>
static float *hidden_map(const Expansion &e, long block, const float *norm, const Region &region, int slot) {
  float *to = scratch(slot, region.pixels() * e.width());
  multiply<BF>(region.pixels(), e.width(), words<BF>(e.dim), {norm, words<BF>(e.dim), 1},
               {e.forward + block * words<BF>(e.dim) * e.width(), 0, true}, to, e.width(), false);
  return to;
}

template <bool BF>
static const float *normalised(const float *x, const Map &map, const Region &region, const Expansion &e, int slot) {
  float *to = scratch(slot, region.pixels() * e.dim);
  normalise(x, map, region, e, to);
  return over_channels<BF>(to, region.pixels() * e.dim, slot + 1);
}

template <bool BF>
static void feedforward(const BlockArguments &a, const float *project, float *y) {
  std::vector<float> ordered;
  const Expansion e = expansion_of(a, ordered);
  const Map map = map_of(a);
  const std::vector<Region> tiles = tiles_of(map);
  in_parallel(long(tiles.size()), int(a.threads), [&](long i, int) {
    const Region tile = tiles[i], wide = tile.grown(1, map);
    const long pixels = tile.pixels();
    const float *norm = normalised<BF>(a.x, map, wide, e, 0);
    float *sum = scratch(2, pixels * a.dim), *hidden = scratch(4, pixels * e.width()), *gated = scratch(5, pixels * a.group);
    gather(a.x, map, tile, sum);
    for (long b = 0; b < e.blocks; b++) {
      depthwise(hidden_map<BF>(e, b, norm, wide, 3), wide, e.kernel(tile.sample, b), e.width(), e.width(), tile, hidden);
      gate(hidden, pixels, a.group, gated);
      multiply<BF>(pixels, a.dim, words<BF>(a.group),
                   {over_channels<BF>(gated, pixels * a.group, 6), words<BF>(a.group), 1},
                   {project + b * words<BF>(a.group) * a.dim, 0, true}, sum, a.dim, true);
    }
    const long length = tile.width() * a.dim;
    for (long r = tile.r0; r < tile.r1; r++, sum += length)
      std::memcpy(y + map.offset(tile.sample, r, tile.c0), sum, length * 4);
  });
}

// Gradients of everything: dx like x; d_project (hidden / 2, dim), the transpose of W2's.
template <bool BF>
static void feedforward_backward(const BlockArguments &a, const float *project, const float *dy, float *dx, float *d_gamma,
                                 float *d_beta, float *d_weights, float *d_kernels, float *d_project) {
  std::vector<float> ordered;
  const Expansion e = expansion_of(a, ordered);
  const Map map = map_of(a);
  const std::vector<Region> tiles = tiles_of(map);
  const long own = ExpansionGradients::size(e, a.samples), project_size = e.blocks * a.group * a.dim;
  std::vector<float> shares((own + project_size) * a.threads), total(own + project_size);
  in_parallel(long(tiles.size()), int(a.threads), [&](long i, int thread) {
    const Region tile = tiles[i], region = tile.grown(1, map), wide = tile.grown(2, map);
    const long pixels = tile.pixels();
    float *share = shares.data() + thread * (own + project_size);
    ExpansionGradients gradients(share, e);
    const float *norm = normalised<BF>(a.x, map, wide, e, 0);
    float *inner = scratch(2, pixels * a.dim);
    normalise(a.x, map, tile, e, inner);
    const float *norm_over_pixels = over_pixels<BF>(inner, pixels, a.dim, 7);
    float *around = scratch(8, region.pixels() * a.dim), *middle = scratch(9, pixels * a.dim);
    gather(dy, map, region, around);
    gather(dy, map, tile, middle);
    const float *dy_over_channels = over_channels<BF>(around, region.pixels() * a.dim, 10);
    const float *dy_over_pixels = over_pixels<BF>(middle, pixels, a.dim, 11);
    float *hidden = scratch(4, region.pixels() * e.width()), *d_gated = scratch(5, region.pixels() * a.group);
    float *gated = scratch(12, region.pixels() * a.group), *kept = scratch(13, pixels * a.group);
    float *d_norm = scratch(14, pixels * a.dim);
    for (long b = 0; b < e.blocks; b++) {
      const float *expanded = hidden_map<BF>(e, b, norm, wide, 3);
      depthwise(expanded, wide, e.kernel(tile.sample, b), e.width(), e.width(), region, hidden);
      multiply<BF>(region.pixels(), a.group, words<BF>(a.dim), {dy_over_channels, words<BF>(a.dim), 1},
                   {project + b * words<BF>(a.dim) * a.group, 0, true}, d_gated, a.group, false);
      gate_backward(hidden, d_gated, region.pixels(), a.group, gated);
      for (long r = tile.r0; r < tile.r1; r++)
        std::memcpy(kept + tile.index(r, tile.c0) * a.group, gated + region.index(r, tile.c0) * a.group,
                    tile.width() * a.group * 4);
      multiply<BF>(a.group, a.dim, words<BF>(pixels), {over_pixels<BF>(kept, pixels, a.group, 15), 1, a.group},
                   {dy_over_pixels, a.dim, false}, share + own + b * a.group * a.dim, a.dim, true);
      expand_backward<BF>(e, b, expanded, wide, hidden, region, tile, norm_over_pixels, d_norm, b == 0, gradients);
    }
    normalise_backward(a.x, map, tile, e, d_norm, dy, dx, gradients);
  });
  add_shares(shares, own + project_size, int(a.threads), total.data());
  const ExpansionGradients sums(total.data(), e);
  std::memcpy(d_gamma, sums.gamma, a.dim * 4);
  std::memcpy(d_beta, sums.beta, a.dim * 4);
  unorder_gradients(e, sums, kernel_count(a), d_weights, d_kernels);
  std::memcpy(d_project, total.data() + own, a.valid * a.dim * 4);  // padding comes last
}
