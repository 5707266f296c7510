// What a tensor comes to: the sums that its tiles have left, the decision by them, and what else
// blocks leave one another of it.
//
// Everything here is called by all consumers of a block together, unless it says otherwise.
#pragma once

#include "statistics.cuh"

namespace adamp {

template <class M, class Types>
struct TensorDecision {
  using Memory = MemoryOf<M, Types>;
  using S = typename Memory::S;
  using Sums = typename Memory::Sums;
  using Slot = adamp::Slot<S, kMeasures<M>>;

  const Launch& launch;
  const Prefetched& given;
  Memory& memory;

  // When all tiles have been accumulated: adds up what they have left. Thread 0 gets how many rows
  // fail the test, and the sums of the tensor in memory.total.
  ADAMP_DEVICE uint32_t reduce() {
    uint32_t failed = 0;
    StatSums<S> stats = {};
    // Nobody asks for the rows of a tensor that is never projected.
    const bool by_rows = !is_measured() || needs_decision();
    if (given.tensor.rows_span_tiles && by_rows) failed = reduce_split_rows(stats);
    if (is_measured()) reduce_stats(stats);
    sum_rows(1, given.tensor.tile_count, memory, [&](int, int64_t i) { return slot_sums(i); });
    if (thread_index() != 0) return 0;
    memory.total = memory.row_sums[0];
    return failed + load_cross_block(&decision().failed);
  }

  // Thread 0, after reduce(): decides the tensor, and says whether its tiles are to be fixed up.
  ADAMP_DEVICE Decided decide(uint32_t failed) {
    const Decided decided = decide_by(failed, all_updated());
    // No task waits for a decision that was made for statistics alone.
    return is_measured() && !needs_decision() ? kUndecided : decided;
  }

  // Thread 0, after reduce(), of a shard: leaves the sums of this part, and what decide_whole() has
  // to know.
  ADAMP_DEVICE void publish(uint32_t failed) {
    ShardSums& to = *given.tensor.info.shard.sums;
    store_cross_block(&to.failed_rows, static_cast<double>(failed));
    store_cross_block(&to.pp, static_cast<double>(memory.total.pp));
    store_cross_block(&to.gg, static_cast<double>(memory.total.gg));
    store_cross_block(&to.pg, static_cast<double>(memory.total.pg));
    store_cross_block(&to.pu, static_cast<double>(memory.total.pu));
    store_cross_block(&decision().speculation, memory.speculation);
    store_cross_block(&decision().all_updated, uint32_t{all_updated()});
    if constexpr (kMeasures<M>) {
      if (is_measured()) publish_stats(memory.total.uu, memory.stats, given.tensor.info.shard);
    }
  }

  // Thread 0: decide(), of a shard, by the sums of all parts.
  ADAMP_DEVICE Decided decide_whole() {
    const ShardSums& sums = *given.tensor.info.shard.sums;
    memory.speculation = load_cross_block(&decision().speculation);
    memory.total = {static_cast<S>(sums.pp), static_cast<S>(sums.gg), static_cast<S>(sums.pg),
                    static_cast<S>(sums.pu)};
    if constexpr (kMeasures<M>) {
      if (is_measured()) load_whole_stats(given.tensor.info.shard, memory);
    }
    return decide_by(sums.failed_rows > 0, load_cross_block(&decision().all_updated) != 0);
  }

  // Whether other processes have parts of the tensor, whose sums the decision needs.
  ADAMP_DEVICE bool is_shard() const { return given.tensor.info.shard.sums != nullptr; }

  // Thread 0, once the tensor is decided: loads what fix_up() has to know. All of it is loaded
  // before the first of it is stored, so that the latencies overlap.
  ADAMP_DEVICE void load_decision() {
    const RowRecord<S>& whole = records()[0];
    const Speculation speculation = load_cross_block(&decision().speculation);
    const View outcome = load_cross_block(&decision().outcome);
    const S pp = load_cross_block(&whole.pp), pu = load_cross_block(&whole.pu);
    memory.speculation = speculation;
    memory.outcome = outcome;
    memory.total.pp = pp;
    memory.total.pu = pu;
  }

 protected:
  ADAMP_DEVICE Slot* slots() const {
    return reinterpret_cast<Slot*>(launch.scratch + given.tensor.slots);
  }
  ADAMP_DEVICE RowRecord<S>* records() const {
    return reinterpret_cast<RowRecord<S>*>(launch.scratch + given.tensor.records);
  }
  ADAMP_DEVICE RowRecord<S>* row_records() const { return records() + 1; }

  // Leaves the sums of a row for the fix-up pass; those of a row that has parts elsewhere to be
  // added up first.
  ADAMP_DEVICE void note_row(int64_t row, const RowSums<S>& sums, bool updated) const {
    if (double* const all = given.tensor.info.shard.row_sums; all != nullptr) {
      store_cross_block(&all[4 * row], static_cast<double>(sums.pp));
      store_cross_block(&all[4 * row + 1], static_cast<double>(sums.gg));
      store_cross_block(&all[4 * row + 2], static_cast<double>(sums.pg));
      store_cross_block(&all[4 * row + 3], static_cast<double>(sums.pu));
      return;
    }
    RowRecord<S>& record = row_records()[row];
    store_cross_block(&record.pp, sums.pp);
    store_cross_block(&record.pu, sums.pu);
    store_cross_block(&record.updated, static_cast<uint32_t>(updated));
  }

  ADAMP_DEVICE RowRecord<S> record_of(int64_t row) const {
    if (const double* const all = given.tensor.info.shard.row_sums; all != nullptr) {
      return {static_cast<S>(all[4 * row]), static_cast<S>(all[4 * row + 3]),
              memory.speculation == Speculation::kAllRows};
    }
    const RowRecord<S>& record = row_records()[row];
    return {load_cross_block(&record.pp), load_cross_block(&record.pu),
            load_cross_block(&record.updated)};
  }

  ADAMP_DEVICE Decision& decision() const { return launch.decisions[given.task.tensor]; }
  ADAMP_DEVICE bool one_tile() const { return given.tensor.is_one_tile != 0; }
  ADAMP_DEVICE bool thin() const { return given.tensor.rows_are_thin != 0; }

  // A tensor of one tile is decided on the spot. One that is always projected channel-wise needs no
  // decision.
  ADAMP_DEVICE bool needs_decision() const {
    return adamp::needs_decision(given.tensor.info.projection, one_tile(),
                                 given.tensor.rows_are_split != 0);
  }

  // Whether optimizer.stats() asks for the tensor.
  ADAMP_DEVICE bool is_measured() const {
    return kMeasures<M> && given.tensor.info.stats != nullptr;
  }
  // Whether each tile leaves sums, for the last one to add up: for a decision or for statistics.
  ADAMP_DEVICE bool leaves_sums() const {
    return needs_decision() || (is_measured() && !one_tile());
  }

  // Whether no row waits for the decision. Of rows that have no record, all or none do.
  ADAMP_DEVICE bool all_updated() const {
    return given.tensor.rows_are_split || thin() ? memory.speculation == Speculation::kAllRows
                                                 : load_cross_block(&decision().pending) == 0;
  }

  ADAMP_DEVICE View outcome_of(uint32_t failed, const RowSums<S>& total) const {
    const TensorInfo& info = given.tensor.info;
    const S numel = S(info.whole_numel());
    return adamp::decide(info.projection, failed, total, numel, memory.scalars);
  }

  ADAMP_DEVICE void store_outcome(View outcome) const {
    if (given.tensor.info.view != nullptr) {
      store_cross_block(given.tensor.info.view, static_cast<int32_t>(outcome));
    }
  }

  // Thread 0: what optimizer.stats() reads, of a tensor that has been decided, by memory.total and
  // memory.stats.
  ADAMP_DEVICE void note([[maybe_unused]] View outcome) {
    if constexpr (kMeasures<M>) {
      if (!is_measured()) return;
      StatSums<S> stats = memory.stats;
      stats.uu = memory.total.uu;
      note_stats<S>(given.tensor.info, outcome, memory.total, stats, given.numbers, memory.scalars);
    }
  }

 private:
  // Thread 0: decides the tensor by memory.total.
  ADAMP_DEVICE Decided decide_by(uint32_t failed, bool all_updated) {
    const Sums total = memory.total;
    const View outcome = outcome_of(failed, total);
    store_outcome(outcome);
    note(outcome);
    RowRecord<S>& whole = records()[0];
    store_cross_block(&whole.pp, total.pp);
    store_cross_block(&whole.pu, total.pu);
    store_cross_block(&decision().speculation, memory.speculation);
    store_cross_block(&decision().outcome, outcome);
    return all_updated && prediction_holds(memory.speculation, outcome) ? kResolved : kNeedsFixUp;
  }

  // Adds up the pieces of each row, which no tile has seen whole; returns (in thread 0) how many
  // fail. Adds to `stats`, where rows are not split over processes as well.
  ADAMP_DEVICE uint32_t reduce_split_rows([[maybe_unused]] StatSums<S>& stats) {
    const int64_t pieces = given.tensor.tile_count / given.tensor.info.rows;
    const S bound = cosine_bound(S(given.tensor.info.cols), memory.scalars);
    uint32_t failed = 0;
    for (int64_t first = 0; first < given.tensor.info.rows; first += Memory::kRows) {
      const int64_t left = given.tensor.info.rows - first;
      const int rows = static_cast<int>(left < Memory::kRows ? left : Memory::kRows);
      sum_rows(rows, pieces, memory,
               [&](int row, int64_t i) { return slot_sums((first + row) * pieces + i); });
      if (thread_index() < kWarpSize) {
        for (int row = thread_index(); row < rows; row += kWarpSize) {
          const Sums sums = memory.row_sums[row];
          note_row(first + row, sums, memory.speculation == Speculation::kAllRows);
          failed += !cosine_below<S>(sums, bound, memory.scalars.eps);
          if constexpr (kMeasures<M>) {
            const bool is_whole = given.tensor.info.shard.row_sums == nullptr;
            if (is_whole) add_to(stats, stats_of_row<S>(sums, memory.scalars));
          }
        }
      }
      sync_consumers();
    }
    return thread_index() < kWarpSize ? warp_sum(failed) : 0;
  }

  // Adds up the statistics that tiles have left, and what each consumer has of rows that no tile
  // has seen whole. Thread 0 gets them in memory.stats.
  ADAMP_DEVICE void reduce_stats(StatSums<S> stats) {
    if constexpr (kMeasures<M>) {
      const int64_t count = given.tensor.tile_count;
      for (int64_t i = thread_index(); i < count; i += consumer_count()) {
        add_to(stats, load_stats(&slots()[i].stats));
      }
      leave_stats(stats, memory);
      sync_consumers();
      if (thread_index() < kWarpSize) collect_stats(memory);
    }
  }

  ADAMP_DEVICE Sums slot_sums(int64_t i) const { return load_sums(&slots()[i].sums); }
};

}  // namespace adamp
