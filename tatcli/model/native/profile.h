// Where the time of the kernels goes, for benchmarks; off, it costs a test of a flag for each tile and block.
#pragma once

#include <chrono>

enum Section { NORMALISE, PRODUCT, DEPTHWISE, GATE, STATISTICS, SECTIONS };

static bool profiling = false;
static double section_seconds[SECTIONS];  // of all threads together

struct Timed {
  Section section;
  std::chrono::steady_clock::time_point start;
  explicit Timed(Section s) : section(s) {
    if (profiling) start = std::chrono::steady_clock::now();
  }
  ~Timed() {
    if (!profiling) return;
    const double passed = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
#ifdef _OPENMP
#pragma omp atomic
#endif
    section_seconds[section] += passed;
  }
};
