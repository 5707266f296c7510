// What the host hands to the kernel: tables that stay on the device, and one block of values each
// step.
//
// Included by host code and by device code; no CUDA header, no torch header.
#pragma once

#include <cstdint>
#include <type_traits>

#include "../core/params.h"
#include "../core/speculation.h"
#include "../core/stats.h"
#include "../core/tiles.h"
#include "../core/types.h"
#include "tuning.h"

namespace adamp {

// The storage types that occur in a plan: code for a type that does not would take registers.
// Each set contains the one before.
enum class TypeSet : int32_t { kFloat32, kNarrow, kAll };
constexpr TypeSet type_set_of(DType dtype) {
  return dtype == DType::kFloat64   ? TypeSet::kAll
         : dtype == DType::kFloat32 ? TypeSet::kFloat32
                                    : TypeSet::kNarrow;
}

// Threads of a block that work on a task; one more warp prefetches the next. Two blocks on an SM
// leave 72 registers a thread to 384 and a warp, and 96 to 288.
constexpr int consumers(TypeSet types) {
  return types == TypeSet::kFloat32 ? ADAMP_CONSUMERS_FLOAT32 : ADAMP_CONSUMERS;
}
constexpr int block_size(TypeSet types) { return consumers(types) + 32; }

// A method whose kernels also leave what optimizer.stats() reads. They are kernels of their own, so
// that a step that nobody asks costs nothing more.
template <class M>
struct Measured : M {};
template <class M>
constexpr bool kMeasures = false;
template <class M>
constexpr bool kMeasures<Measured<M>> = true;

// Which of the kernels a plan launches.
struct KernelChoice {
  Method method;
  TypeSet types;
  bool measures;
};

// Blocks that the compiler leaves registers for. SMs of compute capability 8.6, 8.9 and 12.0
// have 100 KB of shared memory: one block's.
#if defined(__CUDA_ARCH__) && \
    (__CUDA_ARCH__ == 860 || __CUDA_ARCH__ == 890 || __CUDA_ARCH__ >= 1200)
constexpr int kMostBlocksPerSM = 1;
#else
constexpr int kMostBlocksPerSM = ADAMP_BLOCKS_PER_SM;
#endif

constexpr int tile_elements(DType dtype) {
  return dtype == DType::kFloat64 ? ADAMP_TILE_ELEMENTS_FLOAT64 : ADAMP_TILE_ELEMENTS;
}
constexpr int max_rows(DType dtype) {
  return dtype == DType::kFloat64 ? ADAMP_TILE_ROWS_FLOAT64 : ADAMP_TILE_ROWS;
}
// A tile holds as many thin rows as it has elements for, and nothing is kept of a row but its
// elements.
constexpr int64_t kMaxThinCols = ADAMP_MAX_THIN_COLS;
constexpr bool has_thin_rows(const TensorInfo& tensor) {
  return tensor.cols <= kMaxThinCols && tensor.rows > max_rows(tensor.dtype);
}

// Tiles that one fix-up task covers. Where nothing is left to do it costs a look at a flag; where
// something is, others wait for the block that has it, and for the task that it took ahead.
constexpr int64_t kTilesPerFixUp = ADAMP_TILES_PER_FIXUP;

struct DeviceTensor {
  TensorInfo info;
  int64_t first_tile, tile_count;
  int64_t slots, records;   // offsets in bytes into the scratch memory
  int32_t fix_up_tasks;     // that of the decision, too, where there is one
  int32_t is_one_tile;      // or none: no tile waits for sums of others
  int32_t rows_are_split;   // over tiles or processes: no tile knows a row's sums
  int32_t rows_span_tiles;  // one is longer than a tile
  int32_t rows_are_thin;
  int32_t vectorized;  // p, m and v lie alike against 16-byte boundaries
};

// Tiles whose gradients one norm task squares, where the plan clips.
constexpr int64_t kTilesPerNorm = 4;

enum class TaskKind : int32_t { kNorm, kAccumulate, kDecide, kFixUp };

// One entry of the work queue. Tasks are taken in order, and one waits only for lower ones: a
// fix-up task for those of its tensor, and all others for the norm tasks, which come first.
struct Task {
  int64_t first_tile, tile_count;  // kAccumulate: one tile; kDecide: none, and a first all the same
  int32_t tensor;
  TaskKind kind;
};

enum Decided : uint32_t { kUndecided = 0, kNeedsFixUp = 1, kResolved = 2 };

// What one launch does. A step of a plan that has shards is two launches of the same kernel, each
// with tasks of its own: between them the caller adds up the sums of all parts.
enum class Part : int32_t { kWhole, kFirst, kSecond };

// How a tensor's blocks agree. The counters are zero between launches; the kernel resets them
// itself.
struct Decision {
  uint32_t arrived;      // tiles whose sums are known
  uint32_t failed;       // rows that failed the channel test
  uint32_t pending;      // rows not updated on speculation
  uint32_t fixed_up;     // fix-up tasks done
  uint32_t decided;      // Decided
  uint32_t all_updated;  // of a shard, from the first launch to the second: `pending` was zero
  Speculation speculation;
  View outcome;
};

// The sums of rows, and where they are measured, of the squares of their update.
template <class S>
struct MeasuredSums : RowSums<S> {
  S uu;
};
template <class S, bool kMeasured>
using SumsOf = std::conditional_t<kMeasured, MeasuredSums<S>, RowSums<S>>;

template <class S>
ADAMP_FN void add_to(MeasuredSums<S>& total, const MeasuredSums<S>& part) {
  add_to(static_cast<RowSums<S>&>(total), part);
  total.uu += part.uu;
}

// Left by each tile: its layer sums, or the sums of its piece of a row.
template <class S, bool kMeasured>
struct Slot {
  SumsOf<S, kMeasured> sums;
};
template <class S>
struct Slot<S, true> {
  MeasuredSums<S> sums;
  StatSums<S> stats;  // of its rows, where it has them whole; uu is among the sums
};

// Left for the fix-up pass: first the sums of the whole tensor, then those of each row, unless
// thin.
template <class S>
struct RowRecord {
  S pp, pu;
  uint32_t updated;
};

// The norm of all gradients, of a plan that clips. Zero between launches.
struct Norm {
  uint32_t arrived;  // norm tasks that have left their sum
  uint32_t known;    // 1: `coefficient` is
  double coefficient;
};

// Bytes of the values that change each step (gradients, hypers, hyper indices, in this order) that
// travel in the launch itself.
constexpr int kInlineCapacity = ADAMP_INLINE_CAPACITY;

struct KernelArgs {
  const DeviceTensor* tensors;
  const Tile* tiles;
  const Task* tasks;  // of this launch
  Decision* decisions;
  unsigned char* scratch;
  uint32_t* next_task;
  uint32_t* blocks_left;  // how many have; null where the last one has nothing to do
  Norm* norm;             // null where the plan does not clip
  double* squares;        // left by each norm task
  uint32_t n_tasks;
  uint32_t n_norm_tasks;  // the first of them
  int32_t n_tensors;
  int32_t n_hypers;
  Part part;
  Control control;
  const unsigned char* step_values;  // on the device; null: they are right here
  alignas(16) unsigned char inline_values[kInlineCapacity];
};

inline int64_t step_values_size(int64_t n_tensors, int64_t n_hypers) {
  return n_tensors * static_cast<int64_t>(sizeof(void*) + sizeof(int32_t)) +
         n_hypers * static_cast<int64_t>(sizeof(Hyper));
}

}  // namespace adamp
