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
ADAMP_DEVICE MeasuredSums<S> load_sums(const MeasuredSums<S>* at) {
  return {load_sums(static_cast<const RowSums<S>*>(at)), load_cross_block(&at->uu)};
}
template <class S>
ADAMP_DEVICE void store_sums(MeasuredSums<S>* at, const MeasuredSums<S>& sums) {
  store_sums<S>(static_cast<RowSums<S>*>(at), sums);
  store_cross_block(&at->uu, sums.uu);
}

// Those of the lane whose index differs by `mask`.
template <class S>
ADAMP_DEVICE RowSums<S> shuffle_sums(const RowSums<S>& sums, int mask) {
  return {shuffle_xor(sums.pp, mask), shuffle_xor(sums.gg, mask), shuffle_xor(sums.pg, mask),
          shuffle_xor(sums.pu, mask)};
}
template <class S>
ADAMP_DEVICE MeasuredSums<S> shuffle_sums(const MeasuredSums<S>& sums, int mask) {
  return {shuffle_sums(static_cast<const RowSums<S>&>(sums), mask), shuffle_xor(sums.uu, mask)};
}

// Sums: RowSums, MeasuredSums or StatSums.
template <class Sums>
ADAMP_DEVICE Sums lane_sums(Sums sums, int lanes) {
  for (int mask = lanes / 2; mask > 0; mask /= 2) add_to(sums, shuffle_sums(sums, mask));
  return sums;
}

// What an element with these values adds to them.
template <class Sums, class S>
ADAMP_DEVICE Sums sums_of(S p, S g, S u) {
  const RowSums<S> sums = {p * p, g * g, p * g, p * u};
  if constexpr (std::is_same_v<Sums, RowSums<S>>) {
    return sums;
  } else {
    return {sums, u * u};
  }
}

// The terms of every `step`th column from `first` on. Unrolled for the tile alone: for sums in
// memory the 16-bit kernel would spill on compute capability 10.0.
template <class Sums, class Column, class Term>
ADAMP_DEVICE Sums sum_columns(int row, Column first, Column cols, int step, const Term& term) {
  Sums sums = {};
#pragma unroll(sizeof(Column) == 4 ? 4 : 1)
  for (Column col = first; col < cols; col += step) add_to(sums, term(row, col));
  return sums;
}

// memory.row_sums[r] = sum over c of term(r, c), r < rows <= kRows. As many warps share a row as
// there are for each; where there are fewer than rows, a warp, or a part of one, has its own.
template <class Memory, class Column, class Term>
ADAMP_DEVICE void sum_rows(int rows, Column cols, Memory& memory, const Term& term) {
  using Sums = typename Memory::Sums;
  const int warps = consumer_count() / kWarpSize;
  const int warp = thread_index() / kWarpSize, lane = lane_index();
  if (rows <= warps) {
    const int share = warps / rows;
    const int row = warp / share, part = warp % share;
    if (row < rows) {
      const Column first = part * kWarpSize + lane;
      Sums sums = sum_columns<Sums>(row, first, cols, share * kWarpSize, term);
      sums = lane_sums(sums, kWarpSize);
      if (lane == 0) memory.warp_sums[row][part] = sums;
    }
    sync_consumers();
    if (thread_index() < rows) {
      Sums sums = {};
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
      Sums sums = {};
      if (row < rows) sums = sum_columns<Sums>(row, Column(part), cols, lanes, term);
      sums = lane_sums(sums, lanes);
      if (row < rows && part == 0) memory.row_sums[row] = sums;
    }
  }
  sync_consumers();
}

// The same for a span that is in the tile.
template <class Types, class Memory>
ADAMP_DEVICE void sum_tile_rows(const Span<Types>& span, int rows, int cols, Memory& memory) {
  sum_rows(rows, cols, memory, [&](int row, int col) {
    const int i = row * cols + col;
    return sums_of<typename Memory::Sums>(memory.p(span, i), memory.g(span, i), memory.u(span, i));
  });
}

}  // namespace adamp
