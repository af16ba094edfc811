// What the functions of this library are called with; `packing.py` mirrors these structures field by field.
#pragma once

#include "expand.h"

struct BlockArguments {
  long samples, rows, columns, dim;         // of x
  long groups, group, blocks, valid;        // of the hidden channels, see Expansion
  long per_sample, bf16, threads;           // one kernel for each sample; products in bfloat16
  const float *x, *gamma, *beta, *kernels;  // kernels: (samples or 1, hidden, 3, 3)
  const float *forward, *backward;          // packed weights
};

static inline Map map_of(const BlockArguments &a) { return {a.samples, a.rows, a.columns, a.dim}; }
static inline long kernel_count(const BlockArguments &a) { return a.per_sample ? a.samples : 1; }

// The expansion of a call; its kernels are put in order of blocks in `ordered`.
static inline Expansion expansion_of(const BlockArguments &a, std::vector<float> &ordered) {
  Expansion e{a.dim, a.groups, a.group, a.blocks, a.valid, a.gamma, a.beta, a.forward, a.backward, nullptr, a.per_sample != 0};
  ordered.resize(kernel_count(a) * a.blocks * 9 * e.width());
  if (a.kernels) order_kernels(e, a.kernels, kernel_count(a), ordered.data());
  e.kernels = ordered.data();
  return e;
}
