// Sums over the elements of rows, by all consumers of a block together.
//
// They are added in an order fixed by shapes alone, so that a run repeats bit for bit whatever the
// schedule.
#pragma once

#include "shared_memory.cuh"

namespace adamp {

// Sums that one block leaves for another.
template <class S>
ADAMP_DEVICE RowSums<S> load_sums(const RowSums<S>* at) {
  return {load_cross_block(&at->pp), load_cross_block(&at->gg), load_cross_block(&at->pg),
          load_cross_block(&at->pu)};
}
template <class S>
ADAMP_DEVICE void store_sums(RowSums<S>* at, const RowSums<S>& sums) {
  store_cross_block(&at->pp, sums.pp);
  store_cross_block(&at->gg, sums.gg);
  store_cross_block(&at->pg, sums.pg);
  store_cross_block(&at->pu, sums.pu);
}

template <class S>
ADAMP_DEVICE RowSums<S> lane_sums(RowSums<S> sums, int lanes) {
  for (int mask = lanes / 2; mask > 0; mask /= 2) {
    const RowSums<S> other = {shuffle_xor(sums.pp, mask), shuffle_xor(sums.gg, mask),
                              shuffle_xor(sums.pg, mask), shuffle_xor(sums.pu, mask)};
    add_to(sums, other);
  }
  return sums;
}

// The terms of every `step`th column from `first` on. Unrolled for the tile alone: for sums in
// memory the 16-bit kernel would spill on compute capability 10.0.
template <class S, class Column, class Term>
ADAMP_DEVICE RowSums<S> sum_columns(int row, Column first, Column cols, int step,
                                    const Term& term) {
  RowSums<S> sums = {};
#pragma unroll(sizeof(Column) == 4 ? 4 : 1)
  for (Column col = first; col < cols; col += step) add_to(sums, term(row, col));
  return sums;
}

// memory.row_sums[r] = sum over c of term(r, c), r < rows <= kRows. As many warps share a row as
// there are for each; where there are fewer than rows, a warp, or a part of one, has its own.
template <class Storage, class Column, class Term>
ADAMP_DEVICE void sum_rows(int rows, Column cols, SharedMemory<Storage>& memory, const Term& term) {
  using S = typename SharedMemory<Storage>::S;
  const int warps = consumer_count() / kWarpSize;
  const int warp = thread_index() / kWarpSize, lane = lane_index();
  if (rows <= warps) {
    const int share = warps / rows;
    const int row = warp / share, part = warp % share;
    if (row < rows) {
      const Column first = part * kWarpSize + lane;
      RowSums<S> sums = sum_columns<S>(row, first, cols, share * kWarpSize, term);
      sums = lane_sums(sums, kWarpSize);
      if (lane == 0) memory.warp_sums[row][part] = sums;
    }
    sync_consumers();
    if (thread_index() < rows) {
      RowSums<S> sums = {};
      for (int i = 0; i < share; ++i) add_to(sums, memory.warp_sums[thread_index()][i]);
      memory.row_sums[thread_index()] = sums;
    }
  } else {
    int shift = 0;
    while ((1 << shift) < cols && (1 << shift) < kWarpSize) ++shift;
    const int lanes = 1 << shift, rows_per_warp = kWarpSize >> shift;
    const int part = lane & (lanes - 1);
    // All lanes of a warp take every turn, since they shuffle together.
    for (int first = warp * rows_per_warp; first < rows; first += warps * rows_per_warp) {
      const int row = first + (lane >> shift);
      RowSums<S> sums = {};
      if (row < rows) sums = sum_columns<S>(row, Column(part), cols, lanes, term);
      sums = lane_sums(sums, lanes);
      if (row < rows && part == 0) memory.row_sums[row] = sums;
    }
  }
  sync_consumers();
}

// The same for a span that is in the tile.
template <class Types, class Storage>
ADAMP_DEVICE void sum_tile_rows(const Span<Types>& span, int rows, int cols,
                                SharedMemory<Storage>& memory) {
  using S = typename SharedMemory<Storage>::S;
  sum_rows(rows, cols, memory, [&](int row, int col) {
    const int i = row * cols + col;
    const S p = memory.p(span, i), g = memory.g(span, i), u = memory.u(span, i);
    return RowSums<S>{p * p, g * g, p * g, p * u};
  });
}

}  // namespace adamp
