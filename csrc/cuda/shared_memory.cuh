// What a block keeps in shared memory: this task and the next, and behind them buffers for its work
// on a tile.
#pragma once

#include "tile_buffer.cuh"

namespace adamp {

// The tables and this step's values.
struct Launch {
  const DeviceTensor* tensors;
  const Tile* tiles;
  Decision* decisions;
  unsigned char* scratch;
  const void* const* grads;
  const Hyper* hypers;
  const int32_t* hyper_indices;
  double factor;     // of the gradients, but for clipping
  const Norm* norm;  // null where the plan does not clip
};

// A task, and what the tables say of it. In shared memory, where it takes no registers from the
// loops over elements.
struct Prefetched {
  uint32_t number;  // from the launch's number of tasks on: there is no more work
  Task task;
  const void* grad;
  DeviceTensor tensor;
  Tile tile;  // the task's first
  Hyper hyper;
  StepNumbers numbers;  // in the place of the hyper's own
  View last;            // the tensor's last outcome; kNone where none is kept
};

struct BlockState {
  Launch launch;
  Prefetched prefetched[2];
  uint32_t is_last;  // of the blocks, to leave
  // How many tasks each thread has seen. Here it takes no register from the loops over elements:
  // AdamP's kernels for 16-bit types would spill one on compute capability 10.0.
  uint32_t turns[block_size(TypeSet::kFloat32)];
};
constexpr int kStateBytes = (static_cast<int>(sizeof(BlockState)) + 15) / 16 * 16;

template <class S>
struct SharedUpdate {
  RowUpdate<S> next, previous;
  uint32_t active;     // next is to be applied
  uint32_t roll_back;  // previous was applied
};

// What measuring takes beside them.
template <class S, int kWarps, bool kMeasured>
struct SharedStats {};
template <class S, int kWarps>
struct SharedStats<S, kWarps, true> {
  StatSums<S> warp_stats[kWarps];
  StatSums<S> stats;  // of a tile or of the tensor, for thread 0
};

// Warps of consumers of the kernel that has most of those in which the type occurs.
template <class Storage>
constexpr int kMostWarps = consumers(type_set_of(kDTypeOf<Storage>)) / kWarpSize;

// Buffers for the work on one tile of a tensor.
template <class Storage, bool kMeasured>
struct SharedMemory
    : SharedStats<typename Arithmetic<Storage>::Scalar, kMostWarps<Storage>, kMeasured> {
  using S = typename Arithmetic<Storage>::Scalar;
  using Sums = SumsOf<S, kMeasured>;
  static constexpr int kRows = max_rows(kDTypeOf<Storage>);
  static constexpr int kWarps = kMostWarps<Storage>;

  TileBuffer<Storage> p, g, u;
  Sums row_sums[kRows];
  SharedUpdate<S> row_updates[kRows];
  Sums warp_sums[kWarps][kWarps];
  uint32_t warp_failed[kWarps];
  double warp_squares[kWarps];
  Sums total;
  Scalars<S> scalars;
  Speculation speculation;
  View outcome;
  uint32_t flag;  // one word from thread 0 to all
};

// Of the kernels of a method for tensors of some types.
template <class M, class Types>
using MemoryOf = SharedMemory<typename Types::param_t, kMeasures<M>>;

template <class Storage, bool kMeasured>
constexpr int kSharedBytes =
    kStateBytes + static_cast<int>(sizeof(SharedMemory<Storage, kMeasured>));

template <class M, TypeSet kTypes>
constexpr int shared_bytes() {
  constexpr bool kMeasured = kMeasures<M>;
  int most = kSharedBytes<float, kMeasured>;
  if (kTypes != TypeSet::kFloat32) {
    for (const int bytes : {kSharedBytes<BFloat16, kMeasured>, kSharedBytes<Float16, kMeasured>}) {
      most = bytes > most ? bytes : most;
    }
  }
  if (kTypes == TypeSet::kAll && kSharedBytes<double, kMeasured> > most) {
    most = kSharedBytes<double, kMeasured>;
  }
  return most;
}

}  // namespace adamp
