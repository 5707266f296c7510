// One launch per step: blocks draw tickets, accumulate, decide tensors, and finish what is left.
//
// A ticket waits only for tickets with lower numbers, and those have been drawn by blocks that are
// running, so that no schedule deadlocks however few blocks are resident. The block that completes
// a tensor's last item decides it. Counters are back at zero when the launch ends. What is done to
// a tensor is in tensor_work.cuh.
#pragma once

#include "tensor_work.cuh"

namespace adamp {

// A block's work on one ticket.
template <Method kMethod, class Storage>
struct TicketWork {
  const BlockState& state;
  SharedMemory<Storage>& memory;
  TensorWork<kMethod, Storage> work;

  ADAMP_DEVICE void run() {
    const int32_t index = state.ticket.tensor;
    if (state.launch.grads[index] == nullptr) return;
    if (thread_index() == 0) {
      const Hyper& hyper = state.launch.hypers[state.launch.hyper_indices[index]];
      memory.scalars = make_scalars<typename SharedMemory<Storage>::S>(
          hyper, hyper.device_lr == nullptr ? hyper.lr : *hyper.device_lr);
    }
    if (state.ticket.kind == TicketKind::kAccumulate) {
      work.accumulate(state.launch.items[state.ticket.first_item], [this] { arrive(); });
    } else {
      finish();
    }
  }

 private:
  ADAMP_DEVICE void arrive() {
    sync_block();
    if (thread_index() == 0) {
      memory.flag =
          fetch_add_acq_rel(&state.decision().arrived, 1) + 1 == state.tensor().item_count;
    }
    sync_block();
    if (!memory.flag) return;
    const Decided decided = work.decide();
    if (thread_index() != 0) return;
    store_cross_block(&state.decision().arrived, 0u);
    store_cross_block(&state.decision().failed, 0u);
    store_cross_block(&state.decision().pending, 0u);
    store_release(&state.decision().decided, decided);
  }

  ADAMP_DEVICE void finish() {
    if (thread_index() == 0) {
      uint32_t decided = load_acquire(&state.decision().decided);
      while (decided == kUndecided) {
        pause_waiting();
        decided = load_acquire(&state.decision().decided);
      }
      memory.flag = decided;
      work.fetch_decision();
    }
    sync_block();
    if (memory.flag == kToFinish) {
      for (int64_t i = 0; i < state.ticket.item_count; ++i) {
        work.finish(state.launch.items[state.ticket.first_item + i]);
      }
    }
    if (thread_index() == 0 && fetch_add_acq_rel(&state.decision().finished, 1) + 1 ==
                                   static_cast<uint32_t>(state.tensor().finish_tickets)) {
      store_cross_block(&state.decision().finished, 0u);
      store_cross_block(&state.decision().decided, static_cast<uint32_t>(kUndecided));
    }
  }
};

template <Method kMethod, class Storage>
ADAMP_DEVICE void run_ticket(const BlockState& state) {
  auto& memory = *reinterpret_cast<SharedMemory<Storage>*>(shared_memory() + kStateBytes);
  TicketWork<kMethod, Storage>{state, memory, {state, memory}}.run();
}

template <Method kMethod, TypeSet kTypes>
ADAMP_DEVICE void run_ticket_of(const BlockState& state) {
  if constexpr (kTypes == TypeSet::kFloat32) {
    return run_ticket<kMethod, float>(state);
  } else {
    switch (state.tensor().info.dtype) {
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
