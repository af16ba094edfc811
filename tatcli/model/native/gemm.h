// Matrix products C (+)= A B on float or bfloat16 words, accumulated in float.
//
// A(m, k) lies at a + m * sm + k * sk, so a product over channels (sk = 1) and one over pixels (sm = 1) are the same
// code. B's rows hold whole vectors: packed in panels of at most PANEL columns, or as they are with a row stride.
#pragma once

#include "amx.h"
#include "profile.h"

#if defined(__AVX__) && !defined(__AVX512F__)
#define NV_LARGE 0  // 16 vector registers
#else
#define NV_LARGE 1  // 32
#endif
constexpr int NV_MAX = NV_LARGE ? 4 : 2;
constexpr int PANEL = NV_MAX * VL;

// Rows of C that a panel of nv vectors leaves registers for (32 of AVX-512 and NEON, 16 of AVX2).
constexpr int rows_of_tile(int nv) {
  return VL == 8 ? (nv == 1 ? 8 : 6) : (nv == 1 ? 14 : nv == 2 ? 12 : nv == 3 ? 8 : 6);
}

template <bool BF>
static inline vf multiply_add(vf acc, vf a, vf b) {
#if TAT_BF16
  if constexpr (BF) return (vf)_mm512_dpbf16_ps((__m512)acc, (__m512bh)a, (__m512bh)b);
#endif
  return acc + a * b;
}

template <int MR, int NV, bool BF>
static void tile_product(long k_words, const float *a, long sm, long sk, const float *b, long sb, float *c, long ldc,
                         bool add) {
  vf acc[MR][NV];
#pragma GCC unroll 16
  for (int m = 0; m < MR; m++)
#pragma GCC unroll 4
    for (int n = 0; n < NV; n++) acc[m][n] = add ? load(c + m * ldc + n * VL) : vf{};
  for (long k = 0; k < k_words; k++) {
    vf row[NV];
#pragma GCC unroll 4
    for (int n = 0; n < NV; n++) row[n] = load(b + k * sb + n * VL);
#pragma GCC unroll 16
    for (int m = 0; m < MR; m++) {
      const vf value = all(a[m * sm + k * sk]);
#pragma GCC unroll 4
      for (int n = 0; n < NV; n++) acc[m][n] = multiply_add<BF>(acc[m][n], value, row[n]);
    }
  }
#pragma GCC unroll 16
  for (int m = 0; m < MR; m++)
#pragma GCC unroll 4
    for (int n = 0; n < NV; n++) store(c + m * ldc + n * VL, acc[m][n]);
}

using TileProduct = void (*)(long, const float *, long, long, const float *, long, float *, long, bool);

template <int NV, bool BF>
static TileProduct tile_product_of(int rows) {
  static constexpr TileProduct table[] = {
      tile_product<1, NV, BF>,  tile_product<2, NV, BF>,  tile_product<3, NV, BF>, tile_product<4, NV, BF>,
      tile_product<5, NV, BF>,  tile_product<6, NV, BF>,  tile_product<7, NV, BF>, tile_product<8, NV, BF>,
      tile_product<9, NV, BF>,  tile_product<10, NV, BF>, tile_product<11, NV, BF>, tile_product<12, NV, BF>,
      tile_product<13, NV, BF>, tile_product<14, NV, BF>};
  return table[rows - 1];
}

template <bool BF>
static TileProduct tile_product_of(int rows, int vectors) {
  switch (vectors) {
    case 1: return tile_product_of<1, BF>(rows);
    case 2: return tile_product_of<2, BF>(rows);
#if NV_LARGE
    case 3: return tile_product_of<3, BF>(rows);
    case 4: return tile_product_of<4, BF>(rows);
#endif
  }
  return nullptr;
}

struct Left {  // A(m, k) = data[m * sm + k * sk]
  const float *data;
  long sm, sk;
};

struct Right {  // packed: panel after panel, each (k, its width); else rows of ld words
  const float *data;
  long ld;
  bool packed;
};

constexpr long K_BLOCK = 256;  // words of k whose panel of B stays in the first cache

// Rows [m0, m1) of a panel of `width` columns of C, over the words [k0, k1).
template <bool BF>
static void multiply_panel(long m0, long m1, long k0, long k1, long width, Left a, const float *b, long sb, float *c,
                           long ldc, bool add) {
  const int vectors = int(width / VL), step = rows_of_tile(vectors);
  const TileProduct whole = tile_product_of<BF>(step, vectors);
  for (long from = k0; from < k1; from += K_BLOCK) {
    const long part = k1 - from < K_BLOCK ? k1 - from : K_BLOCK;
    const bool onto = add || from > k0;
    for (long m = m0; m < m1; m += step) {
      const TileProduct product = m + step <= m1 ? whole : tile_product_of<BF>(int(m1 - m), vectors);
      product(part, a.data + m * a.sm + from * a.sk, a.sm, a.sk, b + from * sb, sb, c + m * ldc, ldc, onto);
    }
  }
}

// C (m, n; row stride ldc) = A B, or += with `add`; n is a multiple of VL.
template <bool BF>
static void multiply(long m, long n, long k, Left a, Right b, float *c, long ldc, bool add) {
  const Timed timed(PRODUCT);
  for (long n0 = 0; n0 < n; n0 += PANEL) {
    const long width = n - n0 < PANEL ? n - n0 : PANEL;
    const float *panel = b.packed ? b.data + n0 * k : b.data + n0;
    const long stride = b.packed ? width : b.ld;
    long rows = 0;
#if TAT_AMX
    const long words = k / AMX * AMX;
    if (BF && words && m >= AMX && amx_allowed()) {
      rows = m / AMX * AMX;
      amx_panel(rows, width, words, a.data, a.sm, a.sk, panel, stride, c + n0, ldc, add);
      if (words < k) multiply_panel<BF>(0, rows, words, k, width, a, panel, stride, c + n0, ldc, true);
    }
#endif
    if (rows < m) multiply_panel<BF>(rows, m, 0, k, width, a, panel, stride, c + n0, ldc, add);
  }
}

// B(k, n) for `multiply`, from any strided float source; value(k, n) gives 0 outside it.
template <bool BF, class Value>
static void pack(long k, long n, Value value, float *to) {
  uint16_t *halves = reinterpret_cast<uint16_t *>(to);
  for (long n0 = 0; n0 < n; n0 += PANEL) {
    const long width = n - n0 < PANEL ? n - n0 : PANEL;
    for (long row = 0; row < k; row++)
      for (long column = 0; column < width; column++) {
        const float v = value(row, n0 + column);
        if constexpr (BF) {
          uint32_t bits;
          std::memcpy(&bits, &v, 4);
          bits += 0x7fff + ((bits >> 16) & 1);
          halves[(n0 * (k / 2) + (row / 2) * width + column) * 2 + (row & 1)] = uint16_t(bits >> 16);
        } else {
          to[n0 * k + row * width + column] = v;
        }
      }
  }
}
