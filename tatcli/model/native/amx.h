// Products of bfloat16 on the matrix unit of Intel's server processors (AMX): C in tiles of 16 x 16, 32 terms at a time.
//
// Source: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 1, chapter 18, and volume 2, TDPBF16PS:
// B's rows are words of two neighbouring k, which is how `pack` and `interleave_bf16` lay them out for AVX-512 too.
#pragma once

#include "simd.h"

#if TAT_BF16 && defined(__AMX_TILE__) && defined(__AMX_BF16__) && defined(__linux__)
#define TAT_AMX 1
#else
#define TAT_AMX 0
#endif

constexpr long AMX = 16;  // rows of a tile, and words in a row

#if TAT_AMX
#include <sys/syscall.h>
#include <unistd.h>

static bool amx_wanted = true;

// Linux lets a process use the tiles once it has asked (arch_prctl(2): ARCH_REQ_XCOMP_PERM of XTILEDATA).
static inline bool amx_allowed() {
  static const bool allowed = syscall(SYS_arch_prctl, 0x1023, 18) == 0;
  return amx_wanted && allowed;
}

// GCC's intrinsics don't say that they read memory: what was written before has to be there.
static inline void amx_fence() { asm volatile("" ::: "memory"); }

struct alignas(64) AmxTiles {  // all eight of full size, while it lives; other libraries set up their own
  uint8_t palette = 1, start = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
  AmxTiles() {
    amx_fence();
    _tile_loadconfig(this);
  }
  ~AmxTiles() { _tile_release(); }
};

// C of MT x NT tiles (+)= A B over `k` words, a multiple of 16; A's rows lie `sa` words apart.
template <int MT, int NT>
static void amx_tiles(long k, const float *a, long sa, const float *b, long sb, float *c, long ldc, bool add) {
  amx_fence();
  if (add) {
    _tile_loadd(0, c, ldc * 4);
    if constexpr (NT > 1) _tile_loadd(1, c + AMX, ldc * 4);
    if constexpr (MT > 1) _tile_loadd(2, c + AMX * ldc, ldc * 4);
    if constexpr (MT > 1 && NT > 1) _tile_loadd(3, c + AMX * ldc + AMX, ldc * 4);
  } else {
    _tile_zero(0);
    if constexpr (NT > 1) _tile_zero(1);
    if constexpr (MT > 1) _tile_zero(2);
    if constexpr (MT > 1 && NT > 1) _tile_zero(3);
  }
  for (long at = 0; at < k; at += AMX) {
    _tile_loadd(4, a + at, sa * 4);
    if constexpr (MT > 1) _tile_loadd(5, a + AMX * sa + at, sa * 4);
    _tile_loadd(6, b + at * sb, sb * 4);
    _tile_dpbf16ps(0, 4, 6);
    if constexpr (MT > 1) _tile_dpbf16ps(2, 5, 6);
    if constexpr (NT > 1) {
      _tile_loadd(7, b + at * sb + AMX, sb * 4);
      _tile_dpbf16ps(1, 4, 7);
      if constexpr (MT > 1) _tile_dpbf16ps(3, 5, 7);
    }
  }
  _tile_stored(0, c, ldc * 4);
  if constexpr (NT > 1) _tile_stored(1, c + AMX, ldc * 4);
  if constexpr (MT > 1) _tile_stored(2, c + AMX * ldc, ldc * 4);
  if constexpr (MT > 1 && NT > 1) _tile_stored(3, c + AMX * ldc + AMX, ldc * 4);
}

// 16 x 16 words: to[j * st + i] = from[i * sf + j].
static inline void transpose(const float *from, long sf, float *to, long st) {
  __m512 r[16], t[16];
#pragma GCC unroll 16
  for (int i = 0; i < 16; i++) r[i] = _mm512_loadu_ps(from + i * sf);
#pragma GCC unroll 8
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
    t[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 16; i += 4) {  // r[i + j]: of each quarter column j of rows i to i + 3
    r[i] = (__m512)_mm512_unpacklo_pd((__m512d)t[i], (__m512d)t[i + 2]);
    r[i + 1] = (__m512)_mm512_unpackhi_pd((__m512d)t[i], (__m512d)t[i + 2]);
    r[i + 2] = (__m512)_mm512_unpacklo_pd((__m512d)t[i + 1], (__m512d)t[i + 3]);
    r[i + 3] = (__m512)_mm512_unpackhi_pd((__m512d)t[i + 1], (__m512d)t[i + 3]);
  }
#pragma GCC unroll 4
  for (int j = 0; j < 4; j++) {
    const __m512 low = _mm512_shuffle_f32x4(r[j], r[j + 4], 0x88), high = _mm512_shuffle_f32x4(r[j + 8], r[j + 12], 0x88);
    const __m512 low2 = _mm512_shuffle_f32x4(r[j], r[j + 4], 0xdd), high2 = _mm512_shuffle_f32x4(r[j + 8], r[j + 12], 0xdd);
    _mm512_storeu_ps(to + j * st, _mm512_shuffle_f32x4(low, high, 0x88));
    _mm512_storeu_ps(to + (j + 4) * st, _mm512_shuffle_f32x4(low2, high2, 0x88));
    _mm512_storeu_ps(to + (j + 8) * st, _mm512_shuffle_f32x4(low, high, 0xdd));
    _mm512_storeu_ps(to + (j + 12) * st, _mm512_shuffle_f32x4(low2, high2, 0xdd));
  }
}

// C (m, n) (+)= A B for one panel of B of n columns; m, n and k are multiples of 16, A(m, k) = a[m * sm + k * sk].
static void amx_panel(long m, long n, long k, const float *a, long sm, long sk, const float *b, long sb, float *c, long ldc,
                      bool add) {
  constexpr long PART = 256;  // words of k: A's transposed rows of it stay in the first cache
  alignas(64) static thread_local float upright[2 * AMX * PART];
  const AmxTiles tiles;
  for (long k0 = 0; k0 < k; k0 += PART) {
    const long part = k - k0 < PART ? k - k0 : PART;
    const bool onto = add || k0 > 0;
    for (long m0 = 0; m0 < m; m0 += 2 * AMX) {
      const bool two = m - m0 > AMX;
      const float *rows = a + m0 * sm + k0 * sk;
      long apart = sm;
      if (sk != 1) {
        for (long i = 0; i < (two ? 2 : 1); i++)
          for (long at = 0; at < part; at += AMX)
            transpose(rows + i * AMX + at * sk, sk, upright + i * AMX * PART + at, PART);
        rows = upright;
        apart = PART;
      }
      for (long n0 = 0; n0 < n; n0 += 2 * AMX) {
        const float *columns = b + k0 * sb + n0;
        float *to = c + m0 * ldc + n0;
        if (n - n0 > AMX)
          (two ? amx_tiles<2, 2> : amx_tiles<1, 2>)(part, rows, apart, columns, sb, to, ldc, onto);
        else
          (two ? amx_tiles<2, 1> : amx_tiles<1, 1>)(part, rows, apart, columns, sb, to, ldc, onto);
      }
    }
  }
}
#endif
