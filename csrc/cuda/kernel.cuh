// One launch per step: blocks draw tickets, accumulate, decide tensors, and finish what is left.
//
// A ticket waits only for tickets with lower numbers, and those have been drawn by blocks that are
// running, so that no schedule deadlocks however few blocks are resident. The block that completes
// a tensor's last item decides it. Counters are back at zero when the launch ends.
#pragma once

#include "span_work.cuh"

namespace adamp {

// The tables and this step's values.
struct Launch {
  const DeviceTensor* tensors;
  const Item* items;
  Decision* decisions;
  unsigned char* scratch;
  const void* const* grads;
  const Hyper* hypers;
  const int32_t* hyper_indices;
};

// What all threads of a block work on. In shared memory, where it takes no registers from the loops
// over elements.
struct BlockState {
  Launch launch;
  Ticket ticket;
  uint32_t drawn;  // the ticket's number
};
constexpr int kStateBytes = (static_cast<int>(sizeof(BlockState)) + 15) / 16 * 16;

template <Method kMethod, class Storage>
struct TicketWork {
  using Work = SpanWork<kMethod, Storage>;
  using S = typename Work::S;
  using Memory = typename Work::Memory;
  using Span = typename Work::Span;
  using Source = typename Work::Source;

  const BlockState& state;
  Memory& memory;

  ADAMP_DEVICE void run() {
    const int32_t index = state.ticket.tensor;
    if (state.launch.grads[index] == nullptr) return;
    if (thread_index() == 0) {
      const Hyper& hyper = state.launch.hypers[state.launch.hyper_indices[index]];
      memory.scalars =
          make_scalars<S>(hyper, hyper.device_lr == nullptr ? hyper.lr : *hyper.device_lr);
    }
    if (state.ticket.kind == TicketKind::kAccumulate) {
      accumulate();
    } else {
      finish();
    }
  }

 private:
  ADAMP_DEVICE const DeviceTensor& tensor() const {
    return state.launch.tensors[state.ticket.tensor];
  }
  ADAMP_DEVICE Decision& decision() const { return state.launch.decisions[state.ticket.tensor]; }
  ADAMP_DEVICE Slot<S>* slots() const {
    return reinterpret_cast<Slot<S>*>(state.launch.scratch + tensor().slots);
  }
  ADAMP_DEVICE RowRecord<S>* records() const {
    return reinterpret_cast<RowRecord<S>*>(state.launch.scratch + tensor().records);
  }
  ADAMP_DEVICE Span span_of(const Item& item) const {
    return Work::span_of(tensor(), item, state.launch.grads[state.ticket.tensor]);
  }

  ADAMP_DEVICE bool one_item() const { return tensor().item_count == 1; }

  // ---- accumulate
  // -----------------------------------------------------------------------------------

  ADAMP_DEVICE void accumulate() {
    const Item& item = state.launch.items[state.ticket.first_item];
    const TensorInfo& info = tensor().info;
    const Span span = span_of(item);
    const int rows = static_cast<int>(item.row_end - item.row_begin);
    const int cols = static_cast<int>(item.col_end - item.col_begin);
    if (thread_index() == 0) {
      const View last =
          info.view == nullptr ? View::kNone : static_cast<View>(load_cross_block(info.view));
      memory.early = foresee(info.projection, info.dtype, one_item(), tensor().rows_are_split != 0,
                             last, memory.scalars);
    }
    sync_block();
    const Early early = memory.early;
    if (info.projection == Projection::kOff) {
      Work::template sweep<true, false, false>(span, memory);
      return;
    }
    if (early == Early::kAllRows) {
      Work::template sweep<true, true, false>(span, memory);
    } else if (early == Early::kChannelRows || one_item()) {
      Work::template sweep<false, true, false>(span, memory);
    } else {
      Work::template sweep<false, true, true>(span, memory);
    }
    sync_block();
    Work::sum_tile_rows(span, rows, cols, memory);
    if (thread_index() < kWarpSize) judge_rows(item, rows, early);
    sync_block();
    if (early == Early::kChannelRows || one_item()) {
      Work::template apply<Source::kTile>(span, cols, memory);
    }
    if (needs_decision()) arrive();
  }

  // A tensor of one item is decided on the spot, and one that is always projected by channel needs
  // nobody.
  ADAMP_DEVICE bool needs_decision() const {
    return !one_item() &&
           (tensor().info.projection != Projection::kChannel || tensor().rows_are_split);
  }

  // The first warp: tests each row, notes what is done to it, and leaves sums for whoever decides.
  ADAMP_DEVICE void judge_rows(const Item& item, int rows, Early early) {
    const Scalars<S>& h = memory.scalars;
    const Projection projection = tensor().info.projection;
    RowSums<S> total = {};
    const S bound = cosine_bound(S(tensor().info.cols), h);
    uint32_t failed = 0, pending = 0;
    for (int row = thread_index(); row < rows; row += kWarpSize) {
      const RowSums<S> sums = memory.row_sums[row];
      add_to(total, sums);
      if (tensor().rows_are_split) continue;
      const bool passes = projection != Projection::kAuto || cosine_below(sums, bound, h.eps);
      const RowUpdate<S> channel = projected_update(sums.pp, sums.pu, h);
      const bool updated = updates_early(early, projection, passes, channel);
      failed += !passes;
      pending += !updated;
      memory.row_updates[row] = {channel, {}, updated && early == Early::kChannelRows, 0};
      if (needs_decision()) {
        RowRecord<S>& record = records()[item.row_begin + row];
        store_cross_block(&record.pp, sums.pp);
        store_cross_block(&record.pu, sums.pu);
        store_cross_block(&record.updated, static_cast<uint32_t>(updated));
      }
    }
    total = Work::lane_sums(total, kWarpSize);
    failed = Work::lane_count(failed);
    pending = Work::lane_count(pending);
    if (one_item()) {
      decide_here(rows, total, failed);
    } else if (needs_decision() && thread_index() == 0) {
      RowSums<S>& slot = slots()[item.slot - tensor().first_item].sums;
      store_cross_block(&slot.pp, total.pp);
      store_cross_block(&slot.gg, total.gg);
      store_cross_block(&slot.pg, total.pg);
      store_cross_block(&slot.pu, total.pu);
      if (failed > 0) fetch_add_relaxed(&decision().failed, failed);
      if (pending > 0) fetch_add_relaxed(&decision().pending, pending);
    }
  }

  ADAMP_DEVICE View outcome_of(uint32_t failed, const RowSums<S>& total) const {
    if (tensor().info.projection == Projection::kChannel) return View::kChannel;
    if (tensor().info.projection == Projection::kLayer) return View::kLayer;
    if (failed == 0) return View::kChannel;
    const S numel = S(tensor().info.rows) * S(tensor().info.cols);
    const Scalars<S>& h = memory.scalars;
    return cosine_below(total, cosine_bound(numel, h), h.eps) ? View::kLayer : View::kNone;
  }

  ADAMP_DEVICE void note_outcome(View outcome) const {
    if (tensor().info.view != nullptr) {
      store_cross_block(tensor().info.view, static_cast<int32_t>(outcome));
    }
  }

  // The first warp, for a tensor of one item, whose p and u are in the tile.
  ADAMP_DEVICE void decide_here(int rows, const RowSums<S>& total, uint32_t failed) {
    const View outcome = outcome_of(failed, total);
    if (thread_index() == 0) note_outcome(outcome);
    const RowUpdate<S> whole = outcome == View::kLayer
                                   ? projected_update(total.pp, total.pu, memory.scalars)
                                   : plain_update(memory.scalars);
    for (int row = thread_index(); row < rows; row += kWarpSize) {
      SharedUpdate<S>& update = memory.row_updates[row];
      if (outcome != View::kChannel) update.next = whole;
      update.active = 1;
    }
  }

  // ---- decide
  // ---------------------------------------------------------------------------------------

  ADAMP_DEVICE void arrive() {
    sync_block();
    if (thread_index() == 0) {
      memory.flag = fetch_add_acq_rel(&decision().arrived, 1) + 1 == tensor().item_count;
    }
    sync_block();
    if (memory.flag) decide();
  }

  // The whole block, when all items of the tensor have arrived.
  ADAMP_DEVICE void decide() {
    uint32_t failed = 0;
    if (tensor().rows_are_split) failed = join_split_rows();
    Work::sum_rows(1, tensor().item_count, memory, [&](int, int64_t i) { return slot_sums(i); });
    if (thread_index() != 0) return;
    const RowSums<S> total = memory.row_sums[0];
    failed += load_cross_block(&decision().failed);
    const View outcome = outcome_of(failed, total);
    note_outcome(outcome);
    RowRecord<S>& whole = records()[tensor().info.rows];
    store_cross_block(&whole.pp, total.pp);
    store_cross_block(&whole.pu, total.pu);
    store_cross_block(&decision().early, memory.early);
    store_cross_block(&decision().outcome, outcome);
    const bool all_updated = tensor().rows_are_split ? memory.early == Early::kAllRows
                                                     : load_cross_block(&decision().pending) == 0;
    const bool settled = all_updated && foreseen(memory.early, outcome);
    store_cross_block(&decision().arrived, 0u);
    store_cross_block(&decision().failed, 0u);
    store_cross_block(&decision().pending, 0u);
    store_release(&decision().decided, settled ? kSettled : kToFinish);
  }

  ADAMP_DEVICE RowSums<S> slot_sums(int64_t i) const {
    const RowSums<S>& sums = slots()[i].sums;
    return {load_cross_block(&sums.pp), load_cross_block(&sums.gg), load_cross_block(&sums.pg),
            load_cross_block(&sums.pu)};
  }

  // Adds up the pieces of each row, which no item has seen whole; returns (in thread 0) how many
  // fail.
  ADAMP_DEVICE uint32_t join_split_rows() {
    const int64_t pieces = tensor().item_count / tensor().info.rows;
    const S bound = cosine_bound(S(tensor().info.cols), memory.scalars);
    uint32_t failed = 0;
    for (int64_t first = 0; first < tensor().info.rows; first += Memory::kRows) {
      const int64_t left = tensor().info.rows - first;
      const int rows = static_cast<int>(left < Memory::kRows ? left : Memory::kRows);
      Work::sum_rows(rows, pieces, memory,
                     [&](int row, int64_t i) { return slot_sums((first + row) * pieces + i); });
      if (thread_index() < kWarpSize) {
        for (int row = thread_index(); row < rows; row += kWarpSize) {
          const RowSums<S> sums = memory.row_sums[row];
          RowRecord<S>& record = records()[first + row];
          store_cross_block(&record.pp, sums.pp);
          store_cross_block(&record.pu, sums.pu);
          store_cross_block(&record.updated, uint32_t{memory.early == Early::kAllRows});
          failed += !cosine_below(sums, bound, memory.scalars.eps);
        }
      }
      sync_block();
    }
    return thread_index() < kWarpSize ? Work::lane_count(failed) : 0;
  }

  // ---- finish
  // ---------------------------------------------------------------------------------------

  ADAMP_DEVICE void finish() {
    if (thread_index() == 0) {
      uint32_t decided = load_acquire(&decision().decided);
      while (decided == kUndecided) {
        pause_waiting();
        decided = load_acquire(&decision().decided);
      }
      memory.flag = decided;
      memory.early = load_cross_block(&decision().early);
      memory.outcome = load_cross_block(&decision().outcome);
      const RowRecord<S>& whole = records()[tensor().info.rows];
      memory.total.pp = load_cross_block(&whole.pp);
      memory.total.pu = load_cross_block(&whole.pu);
    }
    sync_block();
    if (memory.flag == kToFinish) {
      for (int64_t i = 0; i < state.ticket.item_count; ++i)
        finish_item(state.launch.items[state.ticket.first_item + i]);
    }
    if (thread_index() == 0 && fetch_add_acq_rel(&decision().finished, 1) + 1 ==
                                   static_cast<uint32_t>(tensor().finish_tickets)) {
      store_cross_block(&decision().finished, 0u);
      store_cross_block(&decision().decided, static_cast<uint32_t>(kUndecided));
    }
  }

  ADAMP_DEVICE void finish_item(const Item& item) {
    const Scalars<S>& h = memory.scalars;
    const View outcome = memory.outcome;
    const bool right = foreseen(memory.early, outcome);
    const int rows = static_cast<int>(item.row_end - item.row_begin);
    const bool buffer = Work::projects_buffer(h);
    for (int row = thread_index(); row < rows; row += kBlockSize) {
      const RowRecord<S>& record = records()[item.row_begin + row];
      const bool updated = load_cross_block(&record.updated) != 0;
      const RowUpdate<S> channel =
          projected_update(load_cross_block(&record.pp), load_cross_block(&record.pu), h);
      SharedUpdate<S> update = {};
      update.next = outcome == View::kChannel ? channel
                    : outcome == View::kLayer
                        ? projected_update(memory.total.pp, memory.total.pu, h)
                        : plain_update(h);
      update.active = !(updated && right);
      update.undo = updated;
      if (memory.early != Early::kChannelRows) {
        update.previous = plain_update(h);
      } else if (buffer) {
        // p_new = p - (decay*p + lr*b) with b the buffer as stored, projected already.
        update.previous = {h.decay_projected, channel.radial};
      } else {
        update.previous = {channel.shrink, S(0)};
      }
      memory.row_updates[row] = update;
    }
    sync_block();
    const Span span = span_of(item);
    const int cols = static_cast<int>(item.col_end - item.col_begin);
    if (h.nesterov) {
      Work::template apply<Source::kMomentsAndGradient>(span, cols, memory);
    } else {
      Work::template apply<Source::kMoments>(span, cols, memory);
    }
    sync_block();
  }
};

template <class Storage>
constexpr int kSharedBytes = kStateBytes + static_cast<int>(sizeof(SharedMemory<Storage>));

template <TypeSet kTypes>
constexpr int shared_bytes() {
  constexpr int with_double = kSharedBytes<double>, without = kSharedBytes<float>;
  return kTypes == TypeSet::kAll && with_double > without ? with_double : without;
}

template <Method kMethod, class Storage>
ADAMP_DEVICE void run_ticket(const BlockState& state) {
  auto& memory = *reinterpret_cast<SharedMemory<Storage>*>(shared_memory() + kStateBytes);
  TicketWork<kMethod, Storage>{state, memory}.run();
}

template <Method kMethod, TypeSet kTypes>
ADAMP_DEVICE void run_ticket_of(const BlockState& state) {
  if constexpr (kTypes == TypeSet::kFloat32) {
    return run_ticket<kMethod, float>(state);
  } else {
    switch (state.launch.tensors[state.ticket.tensor].info.dtype) {
      case DType::kBFloat16:
        return run_ticket<kMethod, BFloat16>(state);
      case DType::kFloat16:
        return run_ticket<kMethod, Float16>(state);
      case DType::kFloat64:
        if constexpr (kTypes == TypeSet::kAll) run_ticket<kMethod, double>(state);
        return;
      case DType::kFloat32:
        return run_ticket<kMethod, float>(state);
    }
  }
}

ADAMP_DEVICE Launch launch_of(const KernelArgs& args) {
  const unsigned char* values = args.step_values == nullptr ? args.inline_values : args.step_values;
  Launch launch;
  launch.tensors = args.tensors;
  launch.items = args.items;
  launch.decisions = args.decisions;
  launch.scratch = args.scratch;
  launch.grads = reinterpret_cast<const void* const*>(values);
  launch.hypers = reinterpret_cast<const Hyper*>(values + sizeof(void*) * args.n_tensors);
  launch.hyper_indices = reinterpret_cast<const int32_t*>(launch.hypers + args.n_hypers);
  return launch;
}

template <Method kMethod, TypeSet kTypes>
ADAMP_KERNEL(kBlockSize, blocks_per_sm(kTypes))
step_kernel(ADAMP_KERNEL_PARAM KernelArgs args) {
  auto& state = *reinterpret_cast<BlockState*>(shared_memory());
  // Each block draws one ticket ahead: the counter's latency passes behind the work.
  uint32_t next = 0;
  if (thread_index() == 0) {
    state.launch = launch_of(args);
    next = fetch_add_relaxed(args.next_ticket, 1);
  }
  for (;;) {
    if (thread_index() == 0) {
      state.drawn = next;
      if (next < args.n_tickets) {
        state.ticket = args.tickets[next];
        next = fetch_add_relaxed(args.next_ticket, 1);
      }
    }
    sync_block();
    if (state.drawn >= args.n_tickets) break;
    run_ticket_of<kMethod, kTypes>(state);
    sync_block();
  }
  // Every block has drawn one ticket beyond the last; whoever drew the highest is the last to draw.
  if (thread_index() == 0 && next == args.n_tickets + block_count() - 1) {
    store_cross_block(args.next_ticket, 0u);
  }
}

}  // namespace adamp
