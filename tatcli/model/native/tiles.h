// Maps are (sample, row, column, channel), channels last, float. Threads work on tiles of them, each with its own scratch.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <vector>

#ifdef _OPENMP
#include <omp.h>
#endif

struct Map {
  long samples, rows, columns, channels;
  long offset(long sample, long row, long column) const {
    return ((sample * rows + row) * columns + column) * channels;
  }
};

struct Region {  // rows [r0, r1), columns [c0, c1) of one sample
  long sample, r0, r1, c0, c1;
  long width() const { return c1 - c0; }
  long pixels() const { return (r1 - r0) * (c1 - c0); }
  long index(long row, long column) const { return (row - r0) * width() + column - c0; }
  Region grown(long by, const Map &map) const {  // never past the map's borders
    return {sample, std::max(r0 - by, 0L), std::min(r1 + by, map.rows), std::max(c0 - by, 0L),
            std::min(c1 + by, map.columns)};
  }
};

constexpr long TILE = 32;  // its hidden maps of a block of channels fit the second cache (0.5-1 MiB)

static inline void cut(long start, long stop, std::vector<long> &edges) {
  const long count = std::max(1L, (stop - start + TILE - 1) / TILE);
  for (long i = 0; i < count; i++) edges.push_back(start + (stop - start) * i / count);
}

// Tiles of all samples, none across a border in `row_cells` or `column_cells` (0, ..., length); `cells` gets each one's.
static inline std::vector<Region> tiles_of(const Map &map, const long *row_cells, long row_count, const long *column_cells,
                                           long column_count, std::vector<long> *cells = nullptr) {
  std::vector<Region> tiles;
  for (long n = 0; n < map.samples; n++)
    for (long i = 0; i < row_count; i++)
      for (long j = 0; j < column_count; j++) {
        std::vector<long> rows, columns;
        cut(row_cells[i], row_cells[i + 1], rows);
        cut(column_cells[j], column_cells[j + 1], columns);
        rows.push_back(row_cells[i + 1]);
        columns.push_back(column_cells[j + 1]);
        for (size_t r = 0; r + 1 < rows.size(); r++)
          for (size_t c = 0; c + 1 < columns.size(); c++) {
            tiles.push_back({n, rows[r], rows[r + 1], columns[c], columns[c + 1]});
            if (cells) cells->push_back(i * column_count + j);
          }
      }
  return tiles;
}

static inline std::vector<Region> tiles_of(const Map &map) {
  const long rows[] = {0, map.rows}, columns[] = {0, map.columns};
  return tiles_of(map, rows, 1, columns, 1);
}

// Work on [0, count) in contiguous shares, the same ones each time, so that sums do not depend on who was first.
template <class Work>
static void in_parallel(long count, int threads, Work work) {
#ifdef _OPENMP
#pragma omp parallel num_threads(threads)
  {
    const int number = omp_get_num_threads(), own = omp_get_thread_num();
    for (long i = count * own / number; i < count * (own + 1) / number; i++) work(i, own);
  }
#else
  (void)threads;
  for (long i = 0; i < count; i++) work(i, 0);
#endif
}

// A thread's buffers, by number; kept between calls, since fresh pages cost more than the arithmetic on them.
static inline float *scratch(int slot, long count) {
  struct Buffer {
    float *data = nullptr;
    long size = 0;
    ~Buffer() { std::free(data); }
  };
  static thread_local Buffer buffers[24];
  Buffer &buffer = buffers[slot];
  count = (count + 63) / 16 * 16;
  if (buffer.size < count) {
    std::free(buffer.data);
    buffer.data = static_cast<float *>(std::aligned_alloc(64, count * 4));
    buffer.size = count;
  }
  return buffer.data;
}

// Sums of all threads' shares (threads, size) into `total`.
static inline void add_shares(const std::vector<float> &shares, long size, int threads, float *total) {
  in_parallel((size + 1023) / 1024, threads, [&](long block, int) {
    for (long i = block * 1024; i < std::min(size, block * 1024 + 1024); i++) {
      float s = 0;
      for (size_t t = 0; t * size < shares.size(); t++) s += shares[t * size + i];
      total[i] = s;
    }
  });
}
