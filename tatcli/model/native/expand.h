// The first half of both parts of a transformer block: LayerNorm, 1x1 to wide hidden maps, depthwise 3x3; and its
// gradients. The hidden channels are walked in blocks, so that the wide maps never exist as a whole.
#pragma once

#include <cmath>

#include "gemm.h"
#include "tiles.h"

constexpr float NORM_EPSILON = 1e-5f;

// A block holds `groups` x `group` channels; channel j of group g is hidden channel g * valid + block * group + j
// (a, b of the feed-forward gate; q, k, v of one head), and 0 where block * group + j >= valid.
struct Expansion {
  long dim, groups, group, blocks, valid;
  const float *gamma, *beta;    // LayerNorm, (dim)
  const float *forward;         // per block: B (dim, width), packed
  const float *backward;        // per block: B (width, dim), packed
  const float *kernels;         // (samples or 1, blocks, 9, width)
  bool per_sample;
  long width() const { return groups * group; }
  long hidden() const { return groups * valid; }
  long channel(long block, long column) const {  // -1: padding
    const long j = block * group + column % group;
    return j < valid ? column / group * valid + j : -1;
  }
  const float *kernel(long sample, long block) const {
    return kernels + ((per_sample ? sample * blocks : 0) + block) * 9 * width();
  }
};

template <bool BF>
static long words(long k) {
  return BF ? (k + 1) / 2 : k;
}

// Rows as A of a product over channels: as they are, or as bfloat16.
template <bool BF>
static const float *over_channels(const float *from, long count, int slot) {
  if constexpr (!BF) return from;
  float *to = scratch(slot, (count + 1) / 2 + 16);
  to_bf16(from, reinterpret_cast<uint16_t *>(to), count);
  return to;
}

// Rows as A or B of a product over pixels: as they are, or neighbouring rows interleaved as bfloat16.
template <bool BF>
static const float *over_pixels(const float *from, long pixels, long width, int slot) {
  if constexpr (!BF) return from;
  float *to = scratch(slot, words<true>(pixels) * width);
  for (long p = 0; p + 1 < pixels; p += 2)
    interleave_bf16(from + p * width, from + (p + 1) * width, to + p / 2 * width, width);
  if (pixels % 2) {
    static const float zeros[4096] = {};
    for (long i = 0; i < width; i += 4096)
      interleave_bf16(from + (pixels - 1) * width + i, zeros, to + pixels / 2 * width + i, std::min(4096L, width - i));
  }
  return to;
}

// Copy a region of a map into contiguous rows.
static void gather(const float *map, const Map &shape, const Region &region, float *to) {
  const long length = region.width() * shape.channels;
  for (long r = region.r0; r < region.r1; r++, to += length)
    std::memcpy(to, map + shape.offset(region.sample, r, region.c0), length * 4);
}

struct Moments {
  float mean, scale;
};

static Moments moments(const float *x, long dim) {
  vf total{};
  for (long c = 0; c < dim; c += VL) total += load(x + c);
  const float mean = sum(total) / float(dim);
  vf squares{};
  for (long c = 0; c < dim; c += VL) {
    const vf d = load(x + c) - mean;
    squares += d * d;
  }
  return {mean, 1.0f / std::sqrt(sum(squares) / float(dim) + NORM_EPSILON)};
}

// LayerNorm of a region: (pixels, dim).
static void normalise(const float *x, const Map &map, const Region &region, const Expansion &e, float *to) {
  const Timed timed(NORMALISE);
  for (long r = region.r0; r < region.r1; r++)
    for (long c = region.c0; c < region.c1; c++, to += e.dim) {
      const float *pixel = x + map.offset(region.sample, r, c);
      const Moments m = moments(pixel, e.dim);
      for (long i = 0; i < e.dim; i += VL)
        store(to + i, (load(pixel + i) - m.mean) * m.scale * load(e.gamma + i) + load(e.beta + i));
    }
}

// Depthwise 3x3, zeros outside the map: `in` covers `from`, `out` covers `to`, one inside the other by a pixel except
// at the map's borders. Kernel (ky, kx) lies at kernel + (3 ky + kx) * step.
static void depthwise(const float *in, const Region &from, const float *kernel, long step, long width, const Region &to,
                      float *out) {
  const Timed timed(DEPTHWISE);
  for (long r = to.r0; r < to.r1; r++, out += to.width() * width) {
    const float *rows[3];
    bool inside[3];
    for (int ky = 0; ky < 3; ky++) {
      const long row = r + ky - 1;
      inside[ky] = row >= from.r0 && row < from.r1;
      rows[ky] = in + (inside[ky] ? (row - from.r0) * from.width() * width : 0);
    }
    for (long v = 0; v < width; v += VL) {
      vf w[3][3];
      for (int ky = 0; ky < 3; ky++)
        for (int kx = 0; kx < 3; kx++) w[ky][kx] = inside[ky] ? load(kernel + (3 * ky + kx) * step + v) : vf{};
      vf first{}, second{};  // of the next pixel: its column kx = 0; of this one: columns 0 and 1
      const auto column = [&](long t, float *target) {
        const long at = (t - from.c0) * width + v;
        const vf x0 = load(rows[0] + at), x1 = load(rows[1] + at), x2 = load(rows[2] + at);
        if (target) store(target, second + x0 * w[0][2] + x1 * w[1][2] + x2 * w[2][2]);
        second = first + x0 * w[0][1] + x1 * w[1][1] + x2 * w[2][1];
        first = x0 * w[0][0] + x1 * w[1][0] + x2 * w[2][0];
      };
      if (to.c0 > from.c0) column(to.c0 - 1, nullptr);
      column(to.c0, nullptr);
      float *target = out + v;
      for (long t = to.c0 + 1; t < to.c1; t++, target += width) column(t, target);
      if (to.c1 < from.c1)
        column(to.c1, target);
      else
        store(target, second);
    }
  }
}

// kernel (9, width) += sum over the pixels p of `inner` of gradient[p] x in[p + offset].
static void depthwise_weights(const float *in, const Region &from, const float *gradient, const Region &region,
                              const Region &inner, long width, float *kernel) {
  for (long v = 0; v < width; v += VL) {
    vf sums[3][3] = {};
    for (long r = inner.r0; r < inner.r1; r++) {
      const float *g = gradient + region.index(r, inner.c0) * width + v;
      for (int ky = 0; ky < 3; ky++) {
        const long row = r + ky - 1;
        if (row < from.r0 || row >= from.r1) continue;
        const float *x = in + from.index(row, from.c0) * width + v;
        vf left{}, middle{}, right = load(g);  // gradients of columns t - 1, t, t + 1
        vf s0{}, s1{}, s2{};
        for (long t = inner.c0 - 1; t <= inner.c1; t++) {
          if (t >= from.c0 && t < from.c1) {
            const vf value = load(x + (t - from.c0) * width);
            s0 += right * value;
            s1 += middle * value;
            s2 += left * value;
          }
          left = middle, middle = right;
          right = t + 2 < inner.c1 ? load(g + (t + 2 - inner.c0) * width) : vf{};
        }
        sums[ky][0] += s0, sums[ky][1] += s1, sums[ky][2] += s2;
      }
    }
    for (int k = 0; k < 9; k++) store(kernel + k * width + v, load(kernel + k * width + v) + sums[k / 3][k % 3]);
  }
}

// Gradients of an expansion, summed over a thread's tiles.
struct ExpansionGradients {
  float *gamma, *beta;  // (dim)
  float *weights;       // (blocks, width, dim)
  float *kernels;       // (samples or 1, blocks, 9, width)
  static long size(const Expansion &e, long samples) {
    return 2 * e.dim + e.blocks * e.width() * (e.dim + 9 * (e.per_sample ? samples : 1));
  }
  ExpansionGradients(float *base, const Expansion &e)
      : gamma(base), beta(base + e.dim), weights(base + 2 * e.dim), kernels(weights + e.blocks * e.width() * e.dim) {}
};

// From the gradient of a block's depthwise output, `gradient` on `region` = inner grown by 1, to those of its kernels
// and weights, and to `d_norm` (inner pixels, dim), which is added to. `hidden` lies on `wide` = inner grown by 2.
template <bool BF>
static void expand_backward(const Expansion &e, long block, const float *hidden, const Region &wide, const float *gradient,
                            const Region &region, const Region &inner, const float *norm_over_pixels, float *d_norm,
                            bool first, ExpansionGradients &to) {
  const long width = e.width(), pixels = inner.pixels();
  const float *kernel = e.kernel(inner.sample, block);
  float *d_kernel = to.kernels + ((e.per_sample ? inner.sample * e.blocks : 0) + block) * 9 * width;
  depthwise_weights(hidden, wide, gradient, region, inner, width, d_kernel);
  float *d_hidden = scratch(20, pixels * width);
  depthwise(gradient, region, kernel + 8 * width, -width, width, inner, d_hidden);  // the kernel turned by 180 degrees
  multiply<BF>(width, e.dim, words<BF>(pixels), {over_pixels<BF>(d_hidden, pixels, width, 21), 1, width},
               {norm_over_pixels, e.dim, false}, to.weights + block * width * e.dim, e.dim, true);
  multiply<BF>(pixels, e.dim, words<BF>(width), {over_channels<BF>(d_hidden, pixels * width, 21), words<BF>(width), 1},
               {e.backward + block * words<BF>(width) * e.dim, 0, true}, d_norm, e.dim, !first);
}

// The gradient of LayerNorm's input: dx = passed + scale (d - mean(d) - y mean(d y)), d = gamma d_norm, y = normalised x.
static void normalise_backward(const float *x, const Map &map, const Region &inner, const Expansion &e, const float *d_norm,
                               const float *passed, float *dx, ExpansionGradients &to) {
  for (long r = inner.r0; r < inner.r1; r++)
    for (long c = inner.c0; c < inner.c1; c++, d_norm += e.dim) {
      const long at = map.offset(inner.sample, r, c);
      const Moments m = moments(x + at, e.dim);
      vf total{}, product{};
      for (long i = 0; i < e.dim; i += VL) {
        const vf y = (load(x + at + i) - m.mean) * m.scale, given = load(d_norm + i), d = given * load(e.gamma + i);
        total += d;
        product += d * y;
        store(to.gamma + i, load(to.gamma + i) + given * y);
        store(to.beta + i, load(to.beta + i) + given);
      }
      const float mean = sum(total) / float(e.dim), slope = sum(product) / float(e.dim);
      for (long i = 0; i < e.dim; i += VL) {
        const vf y = (load(x + at + i) - m.mean) * m.scale, d = load(d_norm + i) * load(e.gamma + i);
        const vf own = (d - mean - y * slope) * m.scale;
        store(dx + at + i, passed ? own + load(passed + at + i) : own);
      }
    }
}

// Reordered copies: weights (hidden, dim) by blocks, packed both ways; kernels (samples, hidden, 9) by blocks.
template <bool BF>
static void pack_expansion(const Expansion &e, const float *weights, float *forward, float *backward, int threads) {
  const long width = e.width();
  const std::vector<float> none(e.dim);
  in_parallel(e.blocks, threads, [&](long b, int) {
    std::vector<const float *> rows(width);
    for (long column = 0; column < width; column++) {
      const long channel = e.channel(b, column);
      rows[column] = channel < 0 ? none.data() : weights + channel * e.dim;
    }
    pack<BF>(e.dim, width, [&](long k, long n) { return rows[n][k]; }, forward + b * words<BF>(e.dim) * width);
    if (backward)
      pack<BF>(width, e.dim, [&](long k, long n) { return rows[k][n]; }, backward + b * words<BF>(width) * e.dim);
  });
}

static void order_kernels(const Expansion &e, const float *kernels, long samples, float *ordered) {
  for (long n = 0; n < samples; n++)
    for (long b = 0; b < e.blocks; b++)
      for (long column = 0; column < e.width(); column++) {
        const long channel = e.channel(b, column);
        for (long k = 0; k < 9; k++)
          ordered[((n * e.blocks + b) * 9 + k) * e.width() + column] =
              channel < 0 ? 0.0f : kernels[(n * e.hidden() + channel) * 9 + k];
      }
}

static void unorder_gradients(const Expansion &e, const ExpansionGradients &from, long samples, float *weights,
                              float *kernels) {
  for (long b = 0; b < e.blocks; b++)
    for (long column = 0; column < e.width(); column++) {
      const long channel = e.channel(b, column);
      if (channel < 0) continue;
      std::memcpy(weights + channel * e.dim, from.weights + (b * e.width() + column) * e.dim, e.dim * 4);
      for (long n = 0; n < samples; n++)
        for (long k = 0; k < 9; k++)
          kernels[(n * e.hidden() + channel) * 9 + k] = from.kernels[((n * e.blocks + b) * 9 + k) * e.width() + column];
    }
}
