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

// Buffers for the work on one tile of a tensor.
template <class Storage>
struct SharedMemory {
  using S = typename Arithmetic<Storage>::Scalar;
  static constexpr int kRows = max_rows(kDTypeOf<Storage>);
  // Of the kernel that has most of those in which the type occurs.
  static constexpr int kWarps = consumers(type_set_of(kDTypeOf<Storage>)) / kWarpSize;

  TileBuffer<Storage> p, g, u;
  RowSums<S> row_sums[kRows];
  SharedUpdate<S> row_updates[kRows];
  RowSums<S> warp_sums[kWarps][kWarps];
  uint32_t warp_failed[kWarps];
  double warp_squares[kWarps];
  RowSums<S> total;
  Scalars<S> scalars;
  Speculation speculation;
  View outcome;
  uint32_t flag;  // one word from thread 0 to all
};

template <class Storage>
constexpr int kSharedBytes = kStateBytes + static_cast<int>(sizeof(SharedMemory<Storage>));

template <TypeSet kTypes>
constexpr int shared_bytes() {
  int most = kSharedBytes<float>;
  if (kTypes != TypeSet::kFloat32) {
    for (const int bytes : {kSharedBytes<BFloat16>, kSharedBytes<Float16>}) {
      most = bytes > most ? bytes : most;
    }
  }
  if (kTypes == TypeSet::kAll && kSharedBytes<double> > most) most = kSharedBytes<double>;
  return most;
}

}  // namespace adamp
