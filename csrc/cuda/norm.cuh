// The norm of all gradients, where the step clips them.
//
// Each norm task leaves the sum of the squares of some tiles in a slot. The block that leaves the
// last one adds them up, in the order of the tasks, and publishes what the gradients are to be
// multiplied by. All other tasks come later in the work queue, and wait for it.
#pragma once

#include "shared_memory.cuh"

namespace adamp {

// The consumers' part in one norm task.
template <class M, class Types>
struct NormTask {
  using grad_t = typename Types::grad_t;
  using Memory = MemoryOf<M, Types>;
  using S = typename Memory::S;

  const KernelArgs& args;
  const Launch& launch;
  const Prefetched& given;

  ADAMP_DEVICE void run() const {
    double sum = 0;
    // A tensor without a gradient has no part in the norm, and is waited for all the same.
    if (given.grad != nullptr) {
      for (int64_t i = 0; i < given.task.tile_count; ++i) {
        sum += squares(launch.tiles[given.task.first_tile + i]);
      }
    }
    sum = sum_of_consumers(sum);
    Norm& norm = *args.norm;
    if (thread_index() == 0) {
      store_cross_block(&args.squares[given.number], sum);
      memory().flag = fetch_add_acq_rel(&norm.arrived, 1) + 1 == args.n_norm_tasks;
    }
    sync_consumers();
    if (memory().flag) publish(norm);
  }

 private:
  ADAMP_DEVICE Memory& memory() const {
    return *reinterpret_cast<Memory*>(shared_memory() + kStateBytes);
  }

  // The sum of the squares of those gradients of a tile that this thread loads, which the step will
  // read again.
  ADAMP_DEVICE double squares(const Tile& tile) const {
    const TensorInfo& info = given.tensor.info;
    const int64_t offset = tile.row_begin * info.cols + tile.col_begin;
    const int count =
        static_cast<int>((tile.row_end - tile.row_begin) * (tile.col_end - tile.col_begin));
    constexpr int kWidth = 16 / sizeof(grad_t);
    const grad_t* const g = static_cast<const grad_t*>(given.grad) + offset;
    const int before =
        static_cast<int>((16 - reinterpret_cast<uintptr_t>(g) % 16) % 16 / sizeof(grad_t));
    const int head = before < count ? before : count, packs = (count - head) / kWidth;
    const S scale = S(launch.factor);
    double sum = 0;
    for (int pack = thread_index(); pack < packs; pack += consumer_count()) {
      sum += squares_of(load<kWidth, false>(g + head + pack * kWidth), scale);
    }
    // The few before the first boundary of 16 bytes, and behind the last.
    const int tail = head + packs * kWidth, singles = count - packs * kWidth;
    if (thread_index() < singles) {
      const int i = thread_index() < head ? thread_index() : tail + thread_index() - head;
      sum += squares_of(load<1, false>(g + i), scale);
    }
    return sum;
  }

  template <int kCount>
  static ADAMP_DEVICE S squares_of(const Pack<grad_t, kCount>& pack, S scale) {
    S sum = S(0);
#pragma unroll
    for (int k = 0; k < kCount; ++k) {
      const S grad = pack.get(k) * scale;
      sum += grad * grad;
    }
    return sum;
  }

  // The sum of what each consumer has; thread 0 gets it.
  ADAMP_DEVICE double sum_of_consumers(double own) const {
    for (int mask = kWarpSize / 2; mask > 0; mask /= 2) own += shuffle_xor(own, mask);
    const int warp = thread_index() / kWarpSize, warps = consumer_count() / kWarpSize;
    if (lane_index() == 0) memory().warp_squares[warp] = own;
    sync_consumers();
    double sum = 0;
    if (thread_index() == 0) {
      for (int i = 0; i < warps; ++i) sum += memory().warp_squares[i];
    }
    sync_consumers();
    return sum;
  }

  // All sums are there.
  ADAMP_DEVICE void publish(Norm& norm) const {
    double sum = 0;
    for (uint32_t i = thread_index(); i < args.n_norm_tasks; i += consumer_count()) {
      sum += load_cross_block(&args.squares[i]);
    }
    sum = sum_of_consumers(sum);
    if (thread_index() != 0) return;
    const double root = square_root(sum);
    const Control& control = args.control;
    if (control.norm_dtype == DType::kFloat64) {
      *static_cast<double*>(control.grad_norm) = root;
    } else {
      *static_cast<float*>(control.grad_norm) = static_cast<float>(root);
    }
    store_cross_block(&norm.arrived, 0u);
    store_cross_block(&norm.coefficient, clip_coefficient(root, control.max_norm));
    store_release(&norm.known, 1);
  }
};

}  // namespace adamp
