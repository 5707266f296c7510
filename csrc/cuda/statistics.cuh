// Statistics of rows, added up by the consumers of a block: what a measured kernel does beside a
// plain one. What they are is in ../core/stats.h; the square of the update is a sum as any other
// here, and not among them.
#pragma once

#include "row_sums.cuh"

namespace adamp {

template <class S>
ADAMP_DEVICE StatSums<S> load_stats(const StatSums<S>* at) {
  return {S(0), load_cross_block(&at->rp), load_cross_block(&at->ru), load_cross_block(&at->rr),
          load_cross_block(&at->max_cosine)};
}
template <class S>
ADAMP_DEVICE void store_stats(StatSums<S>* at, const StatSums<S>& stats) {
  store_cross_block(&at->rp, stats.rp);
  store_cross_block(&at->ru, stats.ru);
  store_cross_block(&at->rr, stats.rr);
  store_cross_block(&at->max_cosine, stats.max_cosine);
}

template <class S>
ADAMP_DEVICE StatSums<S> shuffle_sums(const StatSums<S>& stats, int mask) {
  return {S(0), shuffle_xor(stats.rp, mask), shuffle_xor(stats.ru, mask),
          shuffle_xor(stats.rr, mask), shuffle_xor(stats.max_cosine, mask)};
}

// All consumers: each warp leaves in memory the sum of what its lanes have. After a barrier the
// first warp calls collect_stats(), and thread 0 finds the sum of all in memory.stats.
template <class S, class Memory>
ADAMP_DEVICE void leave_stats(const StatSums<S>& own, Memory& memory) {
  const StatSums<S> of_warp = lane_sums(own, kWarpSize);
  if (lane_index() == 0) memory.warp_stats[thread_index() / kWarpSize] = of_warp;
}
template <class Memory>
ADAMP_DEVICE void collect_stats(Memory& memory) {
  StatSums<typename Memory::S> stats = {};
  if (lane_index() < consumer_count() / kWarpSize) stats = memory.warp_stats[lane_index()];
  stats = lane_sums(stats, kWarpSize);
  if (thread_index() == 0) memory.stats = stats;
}

// The first warp: the statistics of rows whose sums are in memory, for thread 0 in memory.stats.
template <class Memory>
ADAMP_DEVICE void measure_rows(int rows, Memory& memory) {
  using S = typename Memory::S;
  StatSums<S> stats = {};
  for (int row = thread_index(); row < rows; row += kWarpSize) {
    add_to(stats, stats_of_row<S>(memory.row_sums[row], memory.scalars));
  }
  stats = lane_sums(stats, kWarpSize);
  if (thread_index() == 0) memory.stats = stats;
}

// Thread 0, of a shard: leaves the statistics of this part, and loads those of all parts.
template <class S>
ADAMP_DEVICE void publish_stats(S uu, const StatSums<S>& stats, const Shard& to) {
  store_cross_block(&to.stats->uu, static_cast<double>(uu));
  store_cross_block(&to.stats->rp, static_cast<double>(stats.rp));
  store_cross_block(&to.stats->ru, static_cast<double>(stats.ru));
  store_cross_block(&to.stats->rr, static_cast<double>(stats.rr));
  store_cross_block(to.max_cosine, static_cast<double>(stats.max_cosine));
}
template <class Memory>
ADAMP_DEVICE void load_whole_stats(const Shard& from, Memory& memory) {
  using S = typename Memory::S;
  memory.total.uu = static_cast<S>(from.stats->uu);
  memory.stats = {S(0), static_cast<S>(from.stats->rp), static_cast<S>(from.stats->ru),
                  static_cast<S>(from.stats->rr), static_cast<S>(*from.max_cosine)};
}

}  // namespace adamp
