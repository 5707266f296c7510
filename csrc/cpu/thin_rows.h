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

// One value for each element of a chunk, and space to read and write whole vectors behind the last.
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

template <class S>
ADAMP_FN bool row_passes(const S* p, const S* g, int64_t cols, double bound, double eps) {
  RowSums<S> sums = {};
  for (int64_t i = 0; i < cols; ++i) {
    add_to(sums, RowSums<S>{p[i] * p[i], g[i] * g[i], p[i] * g[i], S(0)});
  }
  return cosine_below_by_squares({sums.pp, sums.gg, sums.pg, 0}, bound, eps);
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

// What the rows of a chunk add to the statistics of their tensor, but for uu.
template <class S>
StatSums<double> stats_of_rows(const S* p, const S* g, const S* u, int64_t rows, int64_t cols,
                               const Scalars<double>& h) {
  ChunkRows pp, gg, pg, pu;
  dot_rows(p, p, rows, cols, pp);
  dot_rows(g, g, rows, cols, gg);
  dot_rows(p, g, rows, cols, pg);
  dot_rows(p, u, rows, cols, pu);
  StatSums<double> total = {};
  for (int64_t row = 0; row < rows; ++row) {
    const RowSums<double> sums = {pp.values[row], gg.values[row], pg.values[row], pu.values[row]};
    add_to(total, stats_of_row(sums, h));
  }
  return total;
}

// A value for each row -> that value for each of its elements, in `to` where these are several.
template <class S>
ADAMP_FN const S* spread(const S* of_row, int64_t rows, int64_t cols, ChunkElements<S>& to) {
  using Lanes = typename Arithmetic<S>::Lanes;
  constexpr int64_t kLanes = Arithmetic<S>::kLanes;
  if (cols == 1) return of_row;
  for (int64_t row = 0; row < rows; ++row) {
    const Lanes value = Lanes() + of_row[row];
    // What is written beyond the row is overwritten by the next.
    for (int64_t i = 0; i < cols; i += kLanes) store(to.values + row * cols + i, value);
  }
  return to.values;
}

// Updates p channel-wise; kBuffer: and makes of u what a projected buffer holds.
template <bool kBuffer, class S>
void project_rows(S* p, S* u, int64_t rows, int64_t cols, const Scalars<S>& h,
                  const Scalars<double>& in_double) {
  using Lanes = typename Arithmetic<S>::Lanes;
  ChunkRows pp, pu;
  dot_rows(p, p, rows, cols, pp);
  dot_rows(p, u, rows, cols, pu);
  S shrink_of[kChunkRows], radial_of[kChunkRows];
  for (int64_t first = 0; first < rows; first += kRowsAtOnce) {
    for (int64_t row = first; row < first + kRowsAtOnce; ++row) {
      const RowUpdate<double> update = projected_update(pp.values[row], pu.values[row], in_double);
      shrink_of[row] = static_cast<S>(update.shrink);
      radial_of[row] = static_cast<S>(update.radial);
    }
  }
  ChunkElements<S> shrink_room, radial_room;
  const S* const shrink = spread(shrink_of, rows, cols, shrink_room);
  const S* const radial = spread(radial_of, rows, cols, radial_room);
  // Each lane has a row of its own: the scalars that an update takes are vectors, too.
  Scalars<Lanes> scalars = {};
  scalars.step_size += h.step_size;
  scalars.decay_projected += h.decay_projected;
  for (int64_t i = 0; i < rows * cols; i += Arithmetic<S>::kLanes) {
    const Lanes old = load(p + i), perturb = load(u + i);
    const RowUpdate<Lanes> update = {load(shrink + i), load(radial + i)};
    store(p + i, apply_update(old, perturb, update, scalars));
    if constexpr (kBuffer) store(u + i, perturb - radial_part(old, update.radial));
  }
}

}  // namespace
}  // namespace adamp
