// Vectors of floats in the compiler's own terms (GCC, Clang), so that one source serves AVX-512, AVX2 and NEON.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__AVX512F__)
#include <immintrin.h>
constexpr int VL = 16;
#elif defined(__AVX__)
constexpr int VL = 8;
#else
constexpr int VL = 4;
#endif

#if defined(__AVX512BF16__) && defined(__AVX512F__)
#define TAT_BF16 1
#else
#define TAT_BF16 0
#endif

typedef float vf __attribute__((vector_size(VL * 4)));
typedef int32_t vi __attribute__((vector_size(VL * 4)));

static inline vf load(const float *p) {
  vf v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
static inline void store(float *p, vf v) { std::memcpy(p, &v, sizeof v); }
static inline vf all(float s) { return s - vf{}; }  // a plain broadcast: subtracting +0 changes no bit
static inline float sum(vf v) {
#if defined(__AVX512F__)
  return _mm512_reduce_add_ps((__m512)v);
#else
  float s = 0;
  for (int i = 0; i < VL; i++) s += v[i];
  return s;
#endif
}

// exp(y) for y <= 0: 2^n * 2^f with |f| <= 1/2 and a polynomial (the Taylor series; relative error below 2e-7).
static inline vf exp_of_negative(vf y) {
  y = y < -87.0f ? all(-87.0f) : y;
  const vf scaled = y * 1.44269504088896341f;
  const vf shifted = scaled + 12582912.0f;  // 1.5 * 2^23: the nearest integer lands in the low bits
  const vf f = (scaled - (shifted - 12582912.0f)) * 0.69314718055994531f;
  vf p = f * (1.0f / 720) + 1.0f / 120;
  p = p * f + 1.0f / 24;
  p = p * f + 1.0f / 6;
  p = p * f + 0.5f;
  p = p * f + 1.0f;
  p = p * f + 1.0f;
  return (vf)((vi)p + ((vi)shifted << 23));
}

// The normal distribution function Phi(x), and its density; gelu(x) = x Phi(x), gelu'(x) = Phi(x) + x phi(x).
// erf by Abramowitz and Stegun, Handbook of Mathematical Functions (1964), 7.1.26: absolute error below 1.5e-7.
static inline vf normal_cdf(vf x, vf *density) {
  const vf magnitude = x < 0.0f ? -x : x;
  const vf e = exp_of_negative(x * x * -0.5f);
  const vf t = 1.0f / (magnitude * (0.3275911f * 0.70710678118654752f) + 1.0f);
  vf p = t * 1.061405429f - 1.453152027f;
  p = p * t + 1.421413741f;
  p = p * t - 0.284496736f;
  p = p * t + 0.254829592f;
  const vf tail = p * t * e * 0.5f;
  if (density) *density = e * 0.39894228040143268f;
  return x < 0.0f ? tail : 1.0f - tail;
}

// Rows of matrices are counted in words of 32 bits: one float, or two bfloat16 of neighbouring k.
static inline void to_bf16(const float *from, uint16_t *to, long count) {
#if TAT_BF16
  for (long i = 0; i < count; i += 16)
    _mm256_storeu_si256(reinterpret_cast<__m256i *>(to + i), (__m256i)_mm512_cvtneps_pbh(_mm512_loadu_ps(from + i)));
#else
  (void)from, (void)to, (void)count;
#endif
}

static inline void from_bf16(const uint16_t *from, float *to, long count) {
  for (long i = 0; i < count; i++) {
    const uint32_t bits = uint32_t(from[i]) << 16;
    std::memcpy(to + i, &bits, 4);
  }
}

// Words (lower[i], upper[i]) of two rows of floats: neighbouring k of a product that sums over rows.
static inline void interleave_bf16(const float *lower, const float *upper, float *to, long count) {
#if TAT_BF16
  for (long i = 0; i < count; i += 16) {
    const __m512i low = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(_mm512_loadu_ps(lower + i)));
    const __m512i high = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(_mm512_loadu_ps(upper + i)));
    _mm512_storeu_si512(to + i, _mm512_or_si512(low, _mm512_slli_epi32(high, 16)));
  }
#else
  (void)lower, (void)upper, (void)to, (void)count;
#endif
}
