// What a step does to one tensor, tile by tile; which block does it when is in kernel.cuh.
//
// Everything here is called by all consumers of a block together, unless it says otherwise.
#pragma once

#include "tensor_decision.cuh"
#include "thin_rows.cuh"

namespace adamp {

template <class M, class Types>
struct TensorWork : TensorDecision<M, Types> {
  using Base = TensorDecision<M, Types>;
  using Loops = SpanWork<M, Types>;
  using Thin = ThinRows<M, Types>;
  using Base::given;
  using Base::memory;
  using typename Base::S;
  using typename Base::Slot;
  using typename Base::Sums;

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
  using Base::decision;
  using Base::is_measured;
  using Base::leaves_sums;
  using Base::needs_decision;
  using Base::note;
  using Base::note_row;
  using Base::one_tile;
  using Base::outcome_of;
  using Base::record_of;
  using Base::slots;
  using Base::store_outcome;
  using Base::thin;

  static ADAMP_DEVICE int rows_of(const Tile& tile) {
    return static_cast<int>(tile.row_end - tile.row_begin);
  }
  static ADAMP_DEVICE int cols_of(const Tile& tile) {
    return static_cast<int>(tile.col_end - tile.col_begin);
  }
  ADAMP_DEVICE Span<Types> span_of(const Tile& tile) const {
    return adamp::span_of<M, Types>(given.tensor, tile, given.grad);
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
};

}  // namespace adamp
