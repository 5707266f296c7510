// Rows of a few elements: a thread tests and updates each by itself, in the tile.
//
// Their sums are not kept. They are added up again where they are needed, in the same order.
// Everything here is called by all consumers of a block together.
#pragma once

#include "span_work.cuh"
#include "statistics.cuh"

namespace adamp {

template <class M, class Types>
struct ThinRows {
  using Loops = SpanWork<M, Types>;
  using Memory = MemoryOf<M, Types>;
  using S = typename Memory::S;
  using Sums = typename Memory::Sums;

  // Tests the rows of a span. Each warp leaves in memory the sums over its rows, and how many fail.
  static ADAMP_DEVICE void test_rows(const Span<Types>& span, int rows, int cols, bool test,
                                     Memory& memory) {
    const Scalars<S>& h = memory.scalars;
    const S bound = cosine_bound(S(cols), h);
    Sums total = {};
    StatSums<S> stats = {};
    uint32_t failed = 0;
    for (int row = thread_index(); row < rows; row += consumer_count()) {
      Sums sums = {};
      for_each_of_row(row, cols, [&](int i) {
        add_to(sums, sums_of<Sums>(memory.p(span, i), memory.g(span, i), memory.u(span, i)));
      });
      add_to(total, sums);
      failed += test && !cosine_below<S>(sums, bound, h.eps);
      if constexpr (kMeasures<M>) add_to(stats, stats_of_row<S>(sums, h));
    }
    total = lane_sums(total, kWarpSize);
    failed = warp_sum(failed);
    if (lane_index() == 0) {
      memory.warp_sums[0][thread_index() / kWarpSize] = total;
      memory.warp_failed[thread_index() / kWarpSize] = failed;
    }
    if constexpr (kMeasures<M>) leave_stats(stats, memory);
  }

  // Rolls the plain update of the rows of a span back.
  static ADAMP_DEVICE void roll_back(const Span<Types>& span, int rows, int cols, Memory& memory) {
    const Scalars<S>& h = memory.scalars;
    for (int row = thread_index(); row < rows; row += consumer_count()) {
      for_each_of_row(row, cols, [&](int i) {
        const S p = memory.p(span, i), u = memory.u(span, i);
        const S recovered[1] = {recover_weight(p, u, plain_update(h).shrink, h.step_size)};
        memory.p.put(span, i, recovered);
      });
    }
  }

  // Updates the rows of a span: channel-wise, or all of them by `otherwise`.
  static ADAMP_DEVICE void apply(const Span<Types>& span, int rows, int cols, bool channel,
                                 const RowUpdate<S>& otherwise, Memory& memory) {
    const Scalars<S>& h = memory.scalars;
    for (int row = thread_index(); row < rows; row += consumer_count()) {
      RowUpdate<S> update = otherwise;
      if (channel) {
        S pp = S(0), pu = S(0);
        for_each_of_row(row, cols, [&](int i) {
          const S p = memory.p(span, i);
          pp += p * p;
          pu += p * memory.u(span, i);
        });
        update = projected_update(pp, pu, h);
      }
      for_each_of_row(row, cols, [&](int i) {
        const S weight = memory.p(span, i), u = memory.u(span, i);
        const S updated[1] = {apply_update(weight, u, update, h)};
        const S buffer[1] = {u - radial_part(weight, update.radial)};
        memory.p.put(span, i, updated);
        memory.u.put(span, i, buffer);
      });
    }
    sync_consumers();
    Loops::store_kept(span, memory);
  }

  // Where a row's sum begins. Rows of an even length lie in the same banks as others of the warp:
  // each begins one column further for every 32 elements before it.
  static ADAMP_DEVICE int first_column(int row, int cols) {
    return cols % 2 == 0 ? row * cols / kWarpSize % cols : 0;
  }

 private:
  // body(i) for each element of a row, from its first column on and round to it.
  template <class Body>
  static ADAMP_DEVICE void for_each_of_row(int row, int cols, const Body& body) {
    int col = first_column(row, cols);
#pragma unroll 1
    for (int k = 0; k < cols; ++k) {
      body(row * cols + col);
      col = col + 1 < cols ? col + 1 : 0;
    }
  }
};

}  // namespace adamp
