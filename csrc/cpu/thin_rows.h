// Rows of a few elements, many at a time: their channel test and their channel-wise update.
//
// A row by itself costs the same however short it is: to add up the lanes of its sums takes longer
// than to read four elements. Here each loop runs over the elements of many rows, or over the rows.
// Everything is always_inline, as in vec.h.
#pragma once

#include <cstdint>

#include "cosine.h"
#include "row_loops.h"
#include "vec.h"

namespace adamp {
namespace {

// A chunk: so many rows are worked on together. Within it kRowsAtOnce are, a constant count, which
// leaves no rest that would be computed row by row.
constexpr int64_t kChunkElements = 1024, kChunkRows = 256, kRowsAtOnce = 16;

// One value for each element of a chunk, and room to read and write whole vectors behind the last.
template <class S>
struct alignas(64) ChunkElements {
  S values[kChunkElements + kThinCols + kFloatLanes];
};
// One value for each row of a chunk.
struct ChunkRows {
  double values[kChunkRows];
};

// How many rows of `cols` elements, at most `left`, make a chunk.
ADAMP_FN int64_t chunk_rows(int64_t cols, int64_t left) {
  const int64_t fit = kChunkElements / cols, most = fit < kChunkRows ? fit : kChunkRows;
  return left < most ? left : most;
}

// The sum of a*b over each row.
template <class S>
ADAMP_FN void dot_rows(const S* a, const S* b, int64_t rows, int64_t cols, ChunkRows& sums) {
  using Lanes = typename Arithmetic<S>::Lanes;
  constexpr int64_t kLanes = Arithmetic<S>::kLanes;
  ChunkElements<S> products, windows;
  const int64_t numel = rows * cols;
  int64_t end = 0;
  for (; end + kLanes <= numel; end += kLanes) {
    store(products.values + end, load(a + end) * load(b + end));
  }
  if (end < numel) {
    const Lanes product = load_tail(a + end, numel - end) * load_tail(b + end, numel - end);
    store(products.values + end, product);
    end += kLanes;
  }
  for (int64_t i = end; i < end + kThinCols; i += kLanes) {
    store(products.values + i, Lanes());
    store(windows.values + i, Lanes());
  }
  // At each element the sum of `length` elements from there on; then of twice as many, or of one
  // more than that, until they are a row.
  const S* sum_at = products.values;
  int64_t length = 1;
  for (int shift = 31 - __builtin_clz(static_cast<unsigned>(cols)); shift > 0;) {
    const int64_t next = cols >> --shift;
    for (int64_t i = 0; i < numel; i += kLanes) {
      Lanes sum = load(sum_at + i) + load(sum_at + i + length);
      if (next % 2 == 1) sum += load(products.values + i + 2 * length);
      store(windows.values + i, sum);
    }
    sum_at = windows.values;
    length = next;
  }
  for (int64_t row = 0; row < rows; ++row) sums.values[row] = sum_at[row * cols];
  for (int64_t row = rows; row % kRowsAtOnce != 0; ++row) sums.values[row] = 0;
}

// Whether each row of a chunk passes the cosine test.
template <class S>
bool rows_pass(const S* p, const S* g, int64_t rows, int64_t cols, double bound, double eps) {
  ChunkRows pp, gg, pg;
  dot_rows(p, p, rows, cols, pp);
  dot_rows(g, g, rows, cols, gg);
  dot_rows(p, g, rows, cols, pg);
  const auto sums_of = [&](int64_t row) {
    return RowSums<double>{pp.values[row], gg.values[row], pg.values[row], 0};
  };
  for (int64_t first = 0; first < rows; first += kRowsAtOnce) {
    int64_t surely = 0;
    for (int64_t k = 0; k < kRowsAtOnce; ++k) {
      surely += surely_below(sums_of(first + k), bound, eps);
    }
    if (surely == kRowsAtOnce) continue;
    for (int64_t row = first; row < rows && row < first + kRowsAtOnce; ++row) {
      if (!cosine_below_by_squares(sums_of(row), bound, eps)) return false;
    }
  }
  return true;
}

// A value for each row -> that value for each of its elements.
template <class S>
ADAMP_FN void spread(const S* of_row, int64_t rows, int64_t cols, ChunkElements<S>& to) {
  using Lanes = typename Arithmetic<S>::Lanes;
  constexpr int64_t kLanes = Arithmetic<S>::kLanes;
  for (int64_t row = 0; row < rows; ++row) {
    const Lanes value = Lanes() + of_row[row];
    // What is written beyond the row is overwritten by the next.
    for (int64_t i = 0; i < cols; i += kLanes) store(to.values + row * cols + i, value);
  }
}

// Updates p channel-wise; kBuffer: and makes of u what a projected buffer holds.
template <bool kBuffer, class S>
void project_rows(S* p, S* u, int64_t rows, int64_t cols, const Scalars<double>& h,
                  const Scalars<S>& h_of_s) {
  ChunkRows pp, pu;
  dot_rows(p, p, rows, cols, pp);
  dot_rows(p, u, rows, cols, pu);
  S shrink_of[kChunkRows], radial_of[kChunkRows];
  for (int64_t first = 0; first < rows; first += kRowsAtOnce) {
    for (int64_t row = first; row < first + kRowsAtOnce; ++row) {
      const RowUpdate<double> update = projected_update(pp.values[row], pu.values[row], h);
      shrink_of[row] = static_cast<S>(update.shrink);
      radial_of[row] = static_cast<S>(update.radial);
    }
  }
  ChunkElements<S> shrink, radial, updated;
  spread(shrink_of, rows, cols, shrink);
  if constexpr (kBuffer) spread(radial_of, rows, cols, radial);
  int32_t not_finite = 0;
  for (int64_t i = 0; i < rows * cols; ++i) {
    updated.values[i] = apply_finite_update(p[i], u[i], shrink.values[i], h_of_s.step_size);
    not_finite |= !(updated.values[i] - updated.values[i] == 0);
  }
  if (not_finite) {
    for (int64_t i = 0; i < rows * cols; ++i) {
      const RowUpdate<S> update = {shrink_of[i / cols], radial_of[i / cols]};
      updated.values[i] = apply_update(p[i], u[i], update, h_of_s);
    }
  }
  for (int64_t i = 0; i < rows * cols; ++i) {
    if constexpr (kBuffer) u[i] -= radial_part(p[i], radial.values[i]);
    p[i] = updated.values[i];
  }
}

}  // namespace
}  // namespace adamp
