// The step kernel: one launch for all tensors, with a decision in the middle of each.
//
// Protocol. The work queue holds, in order, a task for each tile to accumulate and, some way behind
// a tensor's last tile, tasks for its fix-up pass. Each block takes the next task by a counter.
// Accumulating a tile updates its moments, leaves its sums in slots, and counts it as arrived. The
// block that counts the last tile of a tensor adds up the slots, decides the tensor and publishes
// the decision. A fix-up task waits for the decision, and does what the speculation left to do.
//
// No schedule deadlocks. A task waits only for tasks with lower numbers, and those were taken by
// blocks that are running: one resident block is enough.
//
// Order of memory. Arriving is an acquire-release addition: it releases a tile's sums, records and
// weights, and the last to arrive acquires them all. The decision is released by the block that
// made it, and acquired before a fix-up task reads the outcome or a weight. The last fix-up task of
// a tensor, counted by acquire-release additions, resets the counters, so that a launch leaves them
// at zero, as it found them. The norm of the gradients, where they are clipped, is found and
// published in the same way, by tasks that come before all others. A block that leaves counts
// itself by an acquire-release addition: the last one writes what the others have read.
//
// Statistics. A kernel that measures also counts the tiles of measured tensors that need no
// decision, and adds up their slots. Whoever decides a tensor notes its step; whoever would, where
// there is nothing to decide.
//
// Shards. Where a tensor has parts in other processes, nobody here can decide it: the block that
// counts its last tile leaves the sums, and the launch ends with that. Once the caller has added
// them up over all processes, a second launch of this kernel holds, first in its queue, a task for
// each shard that decides it by those sums, and then the tasks of its fix-up pass. They wait for
// that decision, and count themselves and it, as above. Tensors that are all here are done in the
// first launch.
//
// The last warp of a block is the producer: it takes and prefetches the next task (producer.cuh)
// while the others, the consumers, do this one (tensor_work.cuh).
#pragma once

#include "norm.cuh"
#include "producer.cuh"
#include "tensor_work.cuh"

namespace adamp {

// The consumers' part in one task.
template <class M, class Types>
struct TaskWork {
  const Launch& launch;
  const Prefetched& given;
  MemoryOf<M, Types>& memory;
  TensorWork<M, Types> work;

  ADAMP_DEVICE void run() {
    if (thread_index() == 0) {
      using S = typename MemoryOf<M, Types>::S;
      memory.scalars = make_scalars<S>(given.hyper, given.numbers, factor());
    }
    if (given.task.kind == TaskKind::kAccumulate) {
      work.accumulate(given.tile, [this] { arrive(); });
    } else if (given.task.kind == TaskKind::kDecide) {
      decide_whole();
    } else {
      fix_up();
    }
  }

 private:
  ADAMP_DEVICE Decision& decision() const { return launch.decisions[given.task.tensor]; }

  ADAMP_DEVICE void arrive() {
    sync_consumers();
    if (thread_index() == 0) {
      if constexpr (kDebug) check_arrival();
      memory.flag = fetch_add_acq_rel(&decision().arrived, 1) + 1 == given.tensor.tile_count;
    }
    sync_consumers();
    if (!memory.flag) return;
    const uint32_t failed = work.reduce();
    if (thread_index() != 0) return;
    Decided decided = kUndecided;
    if (work.is_shard()) {
      work.publish(failed);
    } else {
      decided = work.decide(failed);
    }
    store_cross_block(&decision().arrived, 0u);
    store_cross_block(&decision().failed, 0u);
    store_cross_block(&decision().pending, 0u);
    store_release(&decision().decided, decided);
  }

  ADAMP_DEVICE void decide_whole() {
    if (thread_index() != 0) return;
    store_release(&decision().decided, work.decide_whole());
    count_fix_up(decision(), given.tensor);
  }

  ADAMP_DEVICE void fix_up() {
    if (thread_index() == 0) {
      wait_until_decided();
      const uint32_t decided = load_acquire(&decision().decided);
      memory.flag = decided;
      if (decided == kNeedsFixUp) work.load_decision();
    }
    sync_consumers();
    if (memory.flag == kNeedsFixUp) {
      for (int64_t i = 0; i < given.task.tile_count; ++i) {
        work.fix_up(launch.tiles[given.task.first_tile + i]);
      }
    }
    if (thread_index() == 0) count_fix_up(decision(), given.tensor);
  }

  ADAMP_DEVICE void wait_until_decided() const {
    wait_for(&decision().decided, "waits in vain for the decision");
  }

  // Thread 0. Each acquire empties the SM's L1 cache: one, after the wait, is enough.
  ADAMP_DEVICE void wait_for(const uint32_t* flag, const char* in_vain) const {
    const uint64_t start = kDebug ? nanoseconds() : 0;
    while (load_relaxed(flag) == 0) {
      pause_waiting();
      if constexpr (kDebug) {
        if (nanoseconds() - start > kLongestWait) fail_here(in_vain);
      }
    }
  }

  // What the gradients are multiplied by; thread 0.
  ADAMP_DEVICE double factor() const {
    if (launch.norm == nullptr) return launch.factor;
    wait_for(&launch.norm->known, "waits in vain for the norm of the gradients");
    load_acquire(&launch.norm->known);
    return launch.factor * load_cross_block(&launch.norm->coefficient);
  }

  // This tile has not arrived yet, so that others are missing as well, and nothing is decided.
  ADAMP_DEVICE void check_arrival() const {
    if (load_relaxed(&decision().arrived) >= given.tensor.tile_count) {
      fail_here("arrives though all have arrived");
    }
    if (load_relaxed(&decision().decided) != kUndecided) fail_here("arrives after the decision");
  }

  ADAMP_DEVICE void fail_here(const char* what) const {
    const Decision& d = decision();
    const Task& t = given.task;
    fail(
        "adamp_fused: queue position %u (tensor %d, tiles %lld to %lld) %s; the tensor's counters: "
        "arrived %u of %lld, failed rows %u, pending rows %u, fixed up %u of %d, decided %u\n",
        given.number, t.tensor, static_cast<long long>(t.first_tile),
        static_cast<long long>(t.first_tile + t.tile_count - 1), what, load_relaxed(&d.arrived),
        static_cast<long long>(given.tensor.tile_count), load_relaxed(&d.failed),
        load_relaxed(&d.pending), load_relaxed(&d.fixed_up), given.tensor.fix_up_tasks,
        load_relaxed(&d.decided));
  }
};

template <class M, class Types>
ADAMP_DEVICE void run_task(const KernelArgs& args, const Launch& launch, const Prefetched& given) {
  if (given.task.kind == TaskKind::kNorm) return NormTask<M, Types>{args, launch, given}.run();
  auto& memory = *reinterpret_cast<MemoryOf<M, Types>*>(shared_memory() + kStateBytes);
  TaskWork<M, Types>{launch, given, memory, {{launch, given, memory}}}.run();
}

template <class M, TypeSet kTypes>
ADAMP_DEVICE void run_task_of(const KernelArgs& args, const Launch& launch,
                              const Prefetched& given) {
  if constexpr (kTypes == TypeSet::kFloat32) {
    return run_task<M, Types<float>>(args, launch, given);
  } else {
    switch (given.tensor.info.dtype) {
      case DType::kBFloat16:
        return run_task<M, Types<BFloat16>>(args, launch, given);
      case DType::kFloat16:
        return run_task<M, Types<Float16>>(args, launch, given);
      case DType::kFloat64:
        if constexpr (kTypes == TypeSet::kAll) run_task<M, Types<double>>(args, launch, given);
        return;
      case DType::kFloat32:
        return run_task<M, Types<float>>(args, launch, given);
    }
  }
}

ADAMP_DEVICE Launch launch_of(const KernelArgs& args) {
  const unsigned char* values = args.step_values == nullptr ? args.inline_values : args.step_values;
  Launch launch;
  launch.tensors = args.tensors;
  launch.tiles = args.tiles;
  launch.decisions = args.decisions;
  launch.scratch = args.scratch;
  launch.grads = reinterpret_cast<const void* const*>(values);
  launch.hypers = reinterpret_cast<const Hyper*>(values + sizeof(void*) * args.n_tensors);
  launch.hyper_indices = reinterpret_cast<const int32_t*>(launch.hypers + args.n_hypers);
  launch.factor = grad_factor(args.control);
  launch.norm = args.norm;
  return launch;
}

// All threads of a block, when it has no more work. The last block to leave advances the counts
// that the device keeps: by then every producer has read those of its last task. Where the step is
// two launches, both have read the same. The first one tells that this process steps its shards,
// also of those that have no tile here.
ADAMP_DEVICE void leave(const KernelArgs& args, BlockState& state) {
  if (args.blocks_left == nullptr) return;
  if (thread_index() == consumer_count()) {
    state.is_last = fetch_add_acq_rel(args.blocks_left, 1) + 1 == uint32_t(block_count());
  }
  sync_block();
  if (!state.is_last) return;
  const int threads = consumer_count() + kWarpSize;
  for (int t = thread_index(); t < args.n_tensors; t += threads) {
    const TensorInfo& info = args.tensors[t].info;
    if (state.launch.grads[t] == nullptr) continue;
    if (args.part != Part::kFirst) {
      if (info.count != nullptr) advance_count(info);
    } else if (info.shard.sums != nullptr) {
      store_cross_block(&info.shard.sums->steppers, 1.0);
    }
  }
  if (thread_index() != 0) return;
  store_cross_block(args.blocks_left, 0u);
  if (args.norm != nullptr) store_cross_block(&args.norm->known, 0u);
}

template <class M, TypeSet kTypes>
ADAMP_KERNEL(block_size(kTypes), kMostBlocksPerSM)
step_kernel(ADAMP_KERNEL_PARAM KernelArgs args) {
  auto& state = *reinterpret_cast<BlockState*>(shared_memory());
  const bool produces = thread_index() >= consumer_count();
  if (is_skipped(args.control)) {
    if (args.control.steps_skipped != nullptr && args.part != Part::kSecond && block_index() == 0 &&
        thread_index() == 0) {
      ++*args.control.steps_skipped;
    }
    return;
  }
  if (thread_index() == 0) state.launch = launch_of(args);
  sync_block();
  for (state.turns[thread_index()] = 0;; ++state.turns[thread_index()]) {
    const uint32_t turn = state.turns[thread_index()];
    if (produces) {
      produce<M>(args, state.launch, state.prefetched[turn % 2]);
    } else if (turn > 0) {
      run_task_of<M, kTypes>(args, state.launch, state.prefetched[1 - turn % 2]);
    }
    sync_block();
    const Prefetched& next = state.prefetched[state.turns[thread_index()] % 2];
    if (next.number < args.n_tasks) continue;
    // Every block takes one number beyond the last task; the highest was taken last.
    if (thread_index() == consumer_count() && next.number == args.n_tasks + block_count() - 1) {
      store_cross_block(args.next_task, 0u);
    }
    return leave(args, state);
  }
}

}  // namespace adamp
