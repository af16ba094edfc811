// Channel attention in two passes over the pixels: statistics of q and k, and values; then x + (W_o A) v.
#pragma once

#include "feedforward.h"

struct CellArguments {  // borders of the windows' cells along each axis: 0, ..., length
  long row_count, column_count;
  const long *rows, *columns;
};

// Values are kept as float, or as bfloat16 where products are.
template <bool BF>
static void keep_values(const float *from, long count, void *values, long at) {
  if constexpr (BF)
    to_bf16(from, static_cast<uint16_t *>(values) + at, count);
  else
    std::memcpy(static_cast<float *>(values) + at, from, count * 4);
}

template <bool BF>
static void read_values(const void *values, long at, long count, float *to) {
  if constexpr (BF)
    from_bf16(static_cast<const uint16_t *>(values) + at, to, count);
  else
    std::memcpy(to, static_cast<const float *>(values) + at, count * 4);
}

// statistics (cells, samples, heads, c, c + 2): q k^T, |q|^2, |k|^2; values (samples, rows, columns, dim).
template <bool BF>
static void attention_statistics(const BlockArguments &a, const CellArguments &cut, float *statistics, void *values) {
  std::vector<float> ordered;
  const Expansion e = expansion_of(a, ordered);
  const Map map = map_of(a);
  std::vector<long> cells;
  const std::vector<Region> tiles = tiles_of(map, cut.rows, cut.row_count, cut.columns, cut.column_count, &cells);
  const long c = a.group, width = e.width(), one = c * (c + 2);
  const long size = cut.row_count * cut.column_count * a.samples * a.blocks * one;
  std::vector<float> shares(size * a.threads);
  in_parallel(long(tiles.size()), int(a.threads), [&](long i, int thread) {
    const Region tile = tiles[i], wide = tile.grown(1, map);
    const long pixels = tile.pixels();
    const float *norm = normalised<BF>(a.x, map, wide, e, 0);
    float *qkv = scratch(4, pixels * width);
    for (long head = 0; head < a.blocks; head++) {
      depthwise(hidden_map<BF>(e, head, norm, wide, 3), wide, e.kernel(tile.sample, head), width, width, tile, qkv);
      float *to = shares.data() + thread * size + ((cells[i] * a.samples + tile.sample) * a.blocks + head) * one;
      const float *pairs = over_pixels<BF>(qkv, pixels, width, 5);
      multiply<BF>(c, c, words<BF>(pixels), {pairs, 1, width}, {pairs + c, width, false}, to, c + 2, true);
      const Timed timed(STATISTICS);  // the norms, and v on its way to memory
      for (long v = 0; v < 2 * c; v += VL) {
        vf squares{};
        for (long p = 0; p < pixels; p++) {
          const vf value = load(qkv + p * width + v);
          squares += value * value;
        }
        for (long j = 0; j < VL; j++) to[(v + j) % c * (c + 2) + c + (v + j) / c] += squares[j];
      }
      for (long r = tile.r0; r < tile.r1; r++)
        for (long column = tile.c0; column < tile.c1; column++)
          keep_values<BF>(qkv + tile.index(r, column) * width + 2 * c, c, values,
                          map.offset(tile.sample, r, column) + head * c);
    }
  });
  add_shares(shares, size, int(a.threads), statistics);
}

// From the gradients of the statistics (of one cell: training crops are one window) and of the values.
template <bool BF>
static void attention_statistics_backward(const BlockArguments &a, const float *d_statistics, const void *d_values,
                                          float *dx, float *d_gamma, float *d_beta, float *d_weights, float *d_kernels) {
  std::vector<float> ordered;
  const Expansion e = expansion_of(a, ordered);
  const Map map = map_of(a);
  const std::vector<Region> tiles = tiles_of(map);
  const long c = a.group, width = e.width(), one = c * (c + 2), packed = words<BF>(c) * c;
  std::vector<float> to_query(a.samples * a.blocks * packed), to_key(to_query.size());
  for (long i = 0; i < a.samples * a.blocks; i++) {
    const float *d = d_statistics + i * one;
    pack<BF>(c, c, [&](long k, long n) { return d[n * (c + 2) + k]; }, to_query.data() + i * packed);
    pack<BF>(c, c, [&](long k, long n) { return d[k * (c + 2) + n]; }, to_key.data() + i * packed);
  }
  const long own = ExpansionGradients::size(e, a.samples);
  std::vector<float> shares(own * a.threads), total(own);
  in_parallel(long(tiles.size()), int(a.threads), [&](long i, int thread) {
    const Region tile = tiles[i], region = tile.grown(1, map), wide = tile.grown(2, map);
    const long pixels = region.pixels();
    ExpansionGradients gradients(shares.data() + thread * own, e);
    const float *norm = normalised<BF>(a.x, map, wide, e, 0);
    float *inner = scratch(2, tile.pixels() * a.dim);
    normalise(a.x, map, tile, e, inner);
    const float *norm_over_pixels = over_pixels<BF>(inner, tile.pixels(), a.dim, 7);
    float *qkv = scratch(4, pixels * width), *gradient = scratch(5, pixels * width);
    float *d_norm = scratch(14, tile.pixels() * a.dim);
    for (long head = 0; head < a.blocks; head++) {
      const float *expanded = hidden_map<BF>(e, head, norm, wide, 3);
      depthwise(expanded, wide, e.kernel(tile.sample, head), width, width, region, qkv);
      const long at = tile.sample * a.blocks + head;
      const float *left = over_channels<BF>(qkv, pixels * width, 6), *d = d_statistics + at * one;
      const long stride = words<BF>(width);
      multiply<BF>(pixels, c, words<BF>(c), {left + words<BF>(c), stride, 1}, {to_query.data() + at * packed, 0, true},
                   gradient, width, false);
      multiply<BF>(pixels, c, words<BF>(c), {left, stride, 1}, {to_key.data() + at * packed, 0, true}, gradient + c, width,
                   false);
      float *slopes = scratch(8, 2 * c);
      for (long j = 0; j < c; j++) slopes[j] = 2 * d[j * (c + 2) + c], slopes[c + j] = 2 * d[j * (c + 2) + c + 1];
      for (long r = region.r0; r < region.r1; r++)
        for (long column = region.c0; column < region.c1; column++) {
          float *g = gradient + region.index(r, column) * width;
          const float *q = qkv + region.index(r, column) * width;
          for (long v = 0; v < 2 * c; v += VL) store(g + v, load(g + v) + load(slopes + v) * load(q + v));
          read_values<BF>(d_values, map.offset(tile.sample, r, column) + head * c, c, g + 2 * c);
        }
      expand_backward<BF>(e, head, expanded, wide, gradient, region, tile, norm_over_pixels, d_norm, head == 0, gradients);
    }
    normalise_backward(a.x, map, tile, e, d_norm, nullptr, dx, gradients);
  });
  add_shares(shares, own, int(a.threads), total.data());
  const ExpansionGradients sums(total.data(), e);
  std::memcpy(d_gamma, sums.gamma, a.dim * 4);
  std::memcpy(d_beta, sums.beta, a.dim * 4);
  unorder_gradients(e, sums, kernel_count(a), d_weights, d_kernels);
}

// y = x + folded v, with one matrix (dim, dim) for each cell and sample.
template <bool BF>
static void attention_mix(const BlockArguments &a, const CellArguments &cut, const float *folded, const void *values,
                          float *y) {
  const Map map = map_of(a);
  const long cells = cut.row_count * cut.column_count, packed = words<BF>(a.dim) * a.dim;
  std::vector<float> matrices(cells * a.samples * packed);
  in_parallel(cells * a.samples, int(a.threads), [&](long i, int) {
    const float *matrix = folded + i * a.dim * a.dim;
    pack<BF>(a.dim, a.dim, [&](long k, long n) { return matrix[n * a.dim + k]; }, matrices.data() + i * packed);
  });
  std::vector<long> cell;
  const std::vector<Region> tiles = tiles_of(map, cut.rows, cut.row_count, cut.columns, cut.column_count, &cell);
  in_parallel(long(tiles.size()), int(a.threads), [&](long i, int) {
    const Region tile = tiles[i];
    for (long r = tile.r0; r < tile.r1; r++) {
      const long at = map.offset(tile.sample, r, tile.c0);
      if (y != a.x) std::memcpy(y + at, a.x + at, tile.width() * a.dim * 4);
      const float *row = reinterpret_cast<const float *>(static_cast<const char *>(values) + at * (BF ? 2 : 4));
      multiply<BF>(tile.width(), a.dim, words<BF>(a.dim), {row, words<BF>(a.dim), 1},
                   {matrices.data() + (cell[i] * a.samples + tile.sample) * packed, 0, true}, y + at, a.dim, true);
    }
  });
}

// d_folded (samples, dim, dim) and the values' gradients, of one cell.
template <bool BF>
static void attention_mix_backward(const BlockArguments &a, const float *folded, const void *values, const float *dy,
                                   float *d_folded, void *d_values) {
  const Map map = map_of(a);
  const std::vector<Region> tiles = tiles_of(map);
  const long packed = words<BF>(a.dim) * a.dim, size = a.samples * a.dim * a.dim;
  std::vector<float> matrices(a.samples * packed), shares(size * a.threads);
  for (long n = 0; n < a.samples; n++) {
    const float *matrix = folded + n * a.dim * a.dim;
    pack<BF>(a.dim, a.dim, [&](long k, long c) { return matrix[k * a.dim + c]; }, matrices.data() + n * packed);
  }
  in_parallel(long(tiles.size()), int(a.threads), [&](long i, int thread) {
    const Region tile = tiles[i];
    const long pixels = tile.pixels(), length = tile.width() * a.dim;
    float *given = scratch(0, pixels * a.dim), *value = scratch(2, pixels * a.dim), *back = scratch(4, pixels * a.dim);
    gather(dy, map, tile, given);
    multiply<BF>(pixels, a.dim, words<BF>(a.dim), {over_channels<BF>(given, pixels * a.dim, 1), words<BF>(a.dim), 1},
                 {matrices.data() + tile.sample * packed, 0, true}, back, a.dim, false);
    for (long r = tile.r0; r < tile.r1; r++) {
      const long at = map.offset(tile.sample, r, tile.c0), row = (r - tile.r0) * length;
      keep_values<BF>(back + row, length, d_values, at);
      read_values<BF>(values, at, length, value + row);
    }
    multiply<BF>(a.dim, a.dim, words<BF>(pixels), {over_pixels<BF>(given, pixels, a.dim, 1), 1, a.dim},
                 {over_pixels<BF>(value, pixels, a.dim, 3), a.dim, false},
                 shares.data() + thread * size + tile.sample * a.dim * a.dim, a.dim, true);
  });
  add_shares(shares, size, int(a.threads), d_folded);
}
