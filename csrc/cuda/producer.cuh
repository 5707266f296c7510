// The producer warp: while the consumers do a task, it takes the next one that has work, copies
// what the tables say of it to shared memory, and prefetches its arrays into L2. So nobody waits
// for the chain of pointers, nor for the memory behind it.
#pragma once

#include "row_sums.cuh"

namespace adamp {

// A struct spread over the lanes of a warp, a word or two each.
template <class T>
class Spread {
 public:
  ADAMP_DEVICE explicit Spread(const T* from) {
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const int at = lane_index() + i * kWarpSize;
      if (at < kWords) words_[i] = load_word(from, at);
    }
  }
  ADAMP_DEVICE void put(T& to) const {
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const int at = lane_index() + i * kWarpSize;
      if (at < kWords) store_cross_block(reinterpret_cast<uint32_t*>(&to) + at, words_[i]);
    }
  }

 private:
  static_assert(sizeof(T) % sizeof(uint32_t) == 0, "whole words");
  static constexpr int kWords = sizeof(T) / sizeof(uint32_t);
  static constexpr int kEach = (kWords + kWarpSize - 1) / kWarpSize;
  uint32_t words_[kEach] = {};
};

// Prefetches a part of a tile's arrays into L2.
template <class M>
ADAMP_DEVICE void prefetch_tile(const TensorInfo& info, const Tile& tile, const void* grad) {
  const int64_t size = size_of(info.dtype);
  const int64_t offset = (tile.row_begin * info.cols + tile.col_begin) * size;
  const int bytes =
      static_cast<int>((tile.row_end - tile.row_begin) * (tile.col_end - tile.col_begin) * size);
  constexpr int kEighths =
      kTwoMoments<M> ? ADAMP_PREFETCH_EIGHTHS_ADAMP : ADAMP_PREFETCH_EIGHTHS_SGDP;
  const int part = bytes * kEighths / 8;
  const auto prefetch_array = [&](const void* array) {
    prefetch(static_cast<const unsigned char*>(array) + offset, part, lane_index());
  };
  prefetch_array(grad);
  prefetch_array(info.param);
  prefetch_array(info.moment1);
  if constexpr (kTwoMoments<M>) prefetch_array(info.moment2);
}

// Whether a tensor is known to have nothing to fix up. Where it is not decided yet, the consumers
// look again. Called by all lanes together.
ADAMP_DEVICE bool is_resolved(const Decision& decision) {
  const bool first_lane = lane_index() == 0;
  return warp_sum(first_lane && load_acquire(&decision.decided) == kResolved) != 0;
}

// One thread, when a fix-up task is done: whoever is last leaves the counters as they were.
ADAMP_DEVICE void count_fix_up(Decision& decision, const DeviceTensor& tensor) {
  const uint32_t all = static_cast<uint32_t>(tensor.fix_up_tasks);
  if (fetch_add_acq_rel(&decision.fixed_up, 1) + 1 != all) return;
  store_cross_block(&decision.fixed_up, 0u);
  store_cross_block(&decision.decided, static_cast<uint32_t>(kUndecided));
}

// The next task, and whether it is work. What can be loaded at once is, before the first of it is
// stored: stores wait for their loads, and later loads for them.
template <class M>
ADAMP_DEVICE bool produce_task(const KernelArgs& args, const Launch& launch, Prefetched& to) {
  const bool first_lane = lane_index() == 0;
  const uint32_t drawn = first_lane ? fetch_add_relaxed(args.next_task, 1) : 0;
  const uint32_t number = warp_sum(drawn);
  if (first_lane) to.number = number;
  if (number >= args.n_tasks) return true;  // the end of the queue

  const Task task = args.tasks[number];
  const DeviceTensor* const tensor = &launch.tensors[task.tensor];
  const Tile tile = launch.tiles[task.first_tile];
  const TensorInfo info = tensor->info;
  const Spread<DeviceTensor> tensor_words(tensor);
  const void* const grad = launch.grads[task.tensor];
  const Hyper* const hyper = &launch.hypers[launch.hyper_indices[task.tensor]];
  const bool accumulates = task.kind == TaskKind::kAccumulate;
  Decision& decision = launch.decisions[task.tensor];
  const bool resolved = task.kind == TaskKind::kFixUp && is_resolved(decision);
  // The sum of no gradient is waited for, too.
  if (grad == nullptr && task.kind != TaskKind::kNorm) return false;
  if (resolved) {
    if (first_lane) count_fix_up(decision, *tensor);
    return false;
  }
  if (accumulates) prefetch_tile<M>(info, tile, grad);

  const Spread<Hyper> hyper_words(hyper);
  View last = View::kNone;
  // As long as the tensor has a tile to accumulate, nobody changes its last outcome.
  if (accumulates && info.view != nullptr) last = static_cast<View>(load_cross_block(info.view));
  tensor_words.put(to.tensor);
  hyper_words.put(to.hyper);
  if (first_lane) {
    to.task = task;
    to.grad = grad;
    to.tile = tile;
    to.last = last;
    to.numbers = numbers_of<M>(*hyper, info);
  }
  return true;
}

// The next task of this block. Called by all lanes of the producer warp together. Tasks without
// work end here: in the hands of the consumers each would cost a turn with nothing prefetched
// behind it.
template <class M>
ADAMP_DEVICE void produce(const KernelArgs& args, const Launch& launch, Prefetched& to) {
  while (!produce_task<M>(args, launch, to)) {
  }
}

}  // namespace adamp
