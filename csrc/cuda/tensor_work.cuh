// What a step does to one tensor, tile by tile; which block does it when is in kernel.cuh.
//
// Everything here is called by all consumers of a block together, unless it says otherwise.
#pragma once

#include "thin_rows.cuh"

namespace adamp {

template <class M, class Types>
struct TensorWork {
  using Loops = SpanWork<M, Types>;
  using Thin = ThinRows<M, Types>;
  using Memory = MemoryOf<M, Types>;
  using S = typename Memory::S;
  using Sums = typename Memory::Sums;
  using Slot = adamp::Slot<S, kMeasures<M>>;

  const Launch& launch;
  const Prefetched& given;
  Memory& memory;

  // Moves the moments of a tile and updates what may be; then, if the last tile of the tensor has
  // to add up sums, calls arrive().
  template <class Arrive>
  ADAMP_DEVICE void accumulate(const Tile& tile, const Arrive& arrive) {
    const TensorInfo& info = given.tensor.info;
    // The tile's span is found anew each time: kept throughout, it would take ten registers.
    if (thread_index() == 0) {
      memory.speculation = speculate(info.projection, info.dtype, one_tile(),
                                     given.tensor.rows_are_split != 0, given.last, memory.scalars);
      // No record would tell which of the thin rows have been updated.
      if (thin() && needs_decision() && memory.speculation == Speculation::kChannelRows) {
        memory.speculation = Speculation::kNone;
      }
    }
    sync_consumers();
    const Speculation speculation = memory.speculation;
    const bool is_off = info.projection == Projection::kOff;
    if (is_off && !is_measured()) {
      Loops::template sweep<true, false, false>(span_of(tile), memory);
      return;
    }
    if (speculation == Speculation::kAllRows) {
      Loops::template sweep<true, true, false>(span_of(tile), memory);
    } else if (speculation == Speculation::kChannelRows || one_tile()) {
      Loops::template sweep<false, true, false>(span_of(tile), memory);
    } else {
      Loops::template sweep<false, true, true>(span_of(tile), memory);
    }
    sync_consumers();
    if (thin()) {
      const bool test = info.projection == Projection::kAuto;
      Thin::test_rows(span_of(tile), rows_of(tile), cols_of(tile), test, memory);
      sync_consumers();
      if (thread_index() < kWarpSize) reduce_thin_rows(tile);
    } else {
      sum_tile_rows(span_of(tile), rows_of(tile), cols_of(tile), memory);
      if (thread_index() < kWarpSize) test_rows(tile, rows_of(tile), speculation);
    }
    sync_consumers();
    const bool has_been_updated = is_measured() && is_off;
    if (!has_been_updated && (speculation == Speculation::kChannelRows || one_tile())) {
      apply_kept(tile);
    }
    if (leaves_sums()) arrive();
  }

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

  ADAMP_DEVICE void fix_up(const Tile& tile) {
    if (thin()) return fix_up_thin(tile);
    const Scalars<S>& h = memory.scalars;
    const View outcome = memory.outcome;
    const bool right = prediction_holds(memory.speculation, outcome);
    const int rows = rows_of(tile);
    const bool buffer = projects_buffer<M>(h);
    for (int row = thread_index(); row < rows; row += consumer_count()) {
      const RowRecord<S> record = record_of(tile.row_begin + row);
      const bool updated = record.updated != 0;
      const RowUpdate<S> channel = projected_update(record.pp, record.pu, h);
      SharedUpdate<S> update = {};
      update.next = outcome == View::kChannel
                        ? channel
                        : shared_update(outcome, memory.total.pp, memory.total.pu, h);
      update.active = !(updated && right);
      update.roll_back = updated;
      update.previous = roll_back_of(
          memory.speculation == Speculation::kChannelRows ? channel : plain_update(h), buffer, h);
      memory.row_updates[row] = update;
    }
    sync_consumers();
    if (h.nesterov) {
      Loops::template fix_up_rows<true>(span_of(tile), cols_of(tile), memory);
    } else {
      Loops::template fix_up_rows<false>(span_of(tile), cols_of(tile), memory);
    }
    sync_consumers();
  }

 private:
  static ADAMP_DEVICE int rows_of(const Tile& tile) {
    return static_cast<int>(tile.row_end - tile.row_begin);
  }
  static ADAMP_DEVICE int cols_of(const Tile& tile) {
    return static_cast<int>(tile.col_end - tile.col_begin);
  }
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

  ADAMP_DEVICE Span<Types> span_of(const Tile& tile) const {
    return adamp::span_of<M, Types>(given.tensor, tile, given.grad);
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

  // Whether it is left in memory, too, what optimizer.stats() wants to know of the tensor.
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

  // The first warp: tests each row, notes what is done to it, and leaves sums for whoever decides.
  // Of a row that has parts in other processes the sums alone: what is tested here is whole.
  ADAMP_DEVICE void test_rows(const Tile& tile, int rows, Speculation speculation) {
    const Scalars<S>& h = memory.scalars;
    const Projection projection = given.tensor.info.projection;
    Sums total = {};
    const S bound = cosine_bound(S(given.tensor.info.cols), h);
    uint32_t failed = 0, pending = 0;
    for (int row = thread_index(); row < rows; row += kWarpSize) {
      const Sums sums = memory.row_sums[row];
      add_to(total, sums);
      if (given.tensor.rows_are_split) {
        if (!given.tensor.rows_span_tiles) note_row(tile.row_begin + row, sums, false);
        continue;
      }
      const bool passes = projection != Projection::kAuto || cosine_below(sums, bound, h.eps);
      const RowUpdate<S> channel = projected_update(sums.pp, sums.pu, h);
      const bool updated = updates_speculatively(speculation, projection, passes, channel, h);
      failed += !passes;
      pending += !updated;
      memory.row_updates[row] = {
          channel, {}, updated && speculation == Speculation::kChannelRows, 0};
      if (needs_decision()) note_row(tile.row_begin + row, sums, updated);
    }
    total = lane_sums(total, kWarpSize);
    failed = warp_sum(failed);
    pending = warp_sum(pending);
    if constexpr (kMeasures<M>) measure_rows(given.tensor.rows_are_split ? 0 : rows, memory);
    report(tile, rows, total, failed);
    if (needs_decision() && thread_index() == 0 && pending > 0) {
      fetch_add_relaxed(&decision().pending, pending);
    }
  }

  // The first warp: adds up what each warp has found in the thin rows of a tile.
  ADAMP_DEVICE void reduce_thin_rows(const Tile& tile) {
    const int warp = lane_index();
    const bool found = warp < consumer_count() / kWarpSize;
    Sums total = {};
    if (found) total = memory.warp_sums[0][warp];
    total = lane_sums(total, kWarpSize);
    const uint32_t failed = warp_sum(found ? memory.warp_failed[warp] : 0);
    if (thread_index() == 0) memory.outcome = View::kChannel;  // where nobody decides
    if constexpr (kMeasures<M>) collect_stats(memory);
    report(tile, 1, total, failed);
  }

  // The first warp: decides a tensor of one tile, or leaves the tile's sums for whoever decides.
  ADAMP_DEVICE void report(const Tile& tile, int rows, const Sums& total, uint32_t failed) {
    if (one_tile()) {
      decide_in_tile(rows, total, failed);
    } else if (leaves_sums() && thread_index() == 0) {
      Slot& slot = slots()[tile.slot - given.tensor.first_tile];
      store_sums(&slot.sums, total);
      if constexpr (kMeasures<M>) store_stats(&slot.stats, memory.stats);
      if (failed > 0) fetch_add_relaxed(&decision().failed, failed);
    }
  }

  ADAMP_DEVICE void apply_kept(const Tile& tile) {
    if (thin()) {
      apply_thin(tile);
    } else {
      Loops::apply_kept(span_of(tile), cols_of(tile), memory);
    }
  }

  ADAMP_DEVICE void apply_thin(const Tile& tile) {
    const View outcome = memory.outcome;
    Thin::apply(span_of(tile), rows_of(tile), cols_of(tile), outcome == View::kChannel,
                shared_update(outcome, memory.total.pp, memory.total.pu, memory.scalars), memory);
  }

  // All thin rows of a tensor wait for the decision, or have had the plain update.
  ADAMP_DEVICE void fix_up_thin(const Tile& tile) {
    Loops::reload(span_of(tile), memory);
    sync_consumers();
    if (memory.speculation == Speculation::kAllRows) {
      Thin::roll_back(span_of(tile), rows_of(tile), cols_of(tile), memory);
    }
    apply_thin(tile);
    sync_consumers();
  }

  // The first warp, for a tensor of one tile, whose p and u are in the tile.
  ADAMP_DEVICE void decide_in_tile(int rows, const Sums& total, uint32_t failed) {
    const View outcome = outcome_of(failed, total);
    if (thread_index() == 0) {
      store_outcome(outcome);
      memory.outcome = outcome;
      memory.total = total;
      note(outcome);
    }
    const RowUpdate<S> whole = shared_update(outcome, total.pp, total.pu, memory.scalars);
    for (int row = thread_index(); row < rows; row += kWarpSize) {
      SharedUpdate<S>& update = memory.row_updates[row];
      if (outcome != View::kChannel) update.next = whole;
      update.active = 1;
    }
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

  ADAMP_DEVICE Sums slot_sums(int64_t i) const { return load_sums(&slots()[i].sums); }

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
};

}  // namespace adamp
