// The C interface that `native_library.py` loads and `packing.py` calls through ctypes.
#include "attention.h"

#define FOR_PRECISION(bf16, call)  \
  do {                             \
    if (TAT_BF16 && (bf16)) {      \
      constexpr bool BF = TAT_BF16; \
      call;                        \
    } else {                       \
      constexpr bool BF = false;   \
      call;                        \
    }                              \
  } while (0)

extern "C" {

long tat_vector_length() { return VL; }
long tat_has_bf16() { return TAT_BF16; }

// Whether bfloat16 products run on the matrix unit from now on: where it is wanted, and there is one.
long tat_use_amx(long wanted) {
#if TAT_AMX
  amx_wanted = wanted != 0;
  return amx_allowed();
#else
  (void)wanted;
  return 0;
#endif
}

void tat_profile(long on) {
  profiling = on != 0;
  for (double &seconds : section_seconds) seconds = 0;
}

long tat_section_seconds(double *to) {
  for (int i = 0; i < SECTIONS; i++) to[i] = section_seconds[i];
  return SECTIONS;
}

// weights (hidden, dim) -> both packed forms, each of blocks * width * dim words (half of it in bfloat16).
void tat_pack_expansion(const BlockArguments *a, const float *weights, float *forward, float *backward) {
  std::vector<float> none;
  const Expansion e{a->dim, a->groups, a->group, a->blocks, a->valid, nullptr, nullptr, nullptr, nullptr, nullptr, false};
  FOR_PRECISION(a->bf16, pack_expansion<BF>(e, weights, forward, backward, int(a->threads)));
}

// W2 (dim, hidden) by blocks of its columns: B (group, dim) for the product, B (dim, group) for its gradient.
void tat_pack_projection(const BlockArguments *a, const float *weights, float *forward, float *backward) {
  const auto value = [&](long block, long j, long row) {
    const long channel = block * a->group + j;
    return channel < a->valid ? weights[row * a->valid + channel] : 0.0f;
  };
  in_parallel(a->blocks, int(a->threads), [&](long b, int) {
    FOR_PRECISION(a->bf16, {
      pack<BF>(a->group, a->dim, [&](long k, long n) { return value(b, k, n); }, forward + b * words<BF>(a->group) * a->dim);
      if (backward)
        pack<BF>(a->dim, a->group, [&](long k, long n) { return value(b, n, k); },
                 backward + b * words<BF>(a->dim) * a->group);
    });
  });
}

void tat_feedforward(const BlockArguments *a, const float *project, float *y) {
  FOR_PRECISION(a->bf16, feedforward<BF>(*a, project, y));
}

void tat_feedforward_backward(const BlockArguments *a, const float *project, const float *dy, float *dx, float *d_gamma,
                              float *d_beta, float *d_weights, float *d_kernels, float *d_project) {
  FOR_PRECISION(a->bf16,
                feedforward_backward<BF>(*a, project, dy, dx, d_gamma, d_beta, d_weights, d_kernels, d_project));
}

void tat_attention_statistics(const BlockArguments *a, const CellArguments *cells, float *statistics, void *values) {
  FOR_PRECISION(a->bf16, attention_statistics<BF>(*a, *cells, statistics, values));
}

void tat_attention_statistics_backward(const BlockArguments *a, const float *d_statistics, const void *d_values, float *dx,
                                       float *d_gamma, float *d_beta, float *d_weights, float *d_kernels) {
  FOR_PRECISION(a->bf16,
                attention_statistics_backward<BF>(*a, d_statistics, d_values, dx, d_gamma, d_beta, d_weights, d_kernels));
}

void tat_attention_mix(const BlockArguments *a, const CellArguments *cells, const float *folded, const void *values,
                       float *y) {
  FOR_PRECISION(a->bf16, attention_mix<BF>(*a, *cells, folded, values, y));
}

void tat_attention_mix_backward(const BlockArguments *a, const float *folded, const void *values, const float *dy,
                                float *d_folded, void *d_values) {
  FOR_PRECISION(a->bf16, attention_mix_backward<BF>(*a, folded, values, dy, d_folded, d_values));
}
}
