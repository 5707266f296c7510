// What the host hands to the kernel: tables that stay on the device, and one block of values each
// step.
//
// Included by host code and by device code; no CUDA header, no torch header.
#pragma once

#include <cstdint>

#include "../early.h"
#include "../step_args.h"
#include "../work_plan.h"

namespace adamp {

// The storage types that occur in a plan: code for a type that does not would take registers.
// Each set contains the one before.
enum class TypeSet : int32_t { kFloat32, kNarrow, kAll };
constexpr TypeSet type_set_of(DType dtype) {
  return dtype == DType::kFloat64   ? TypeSet::kAll
         : dtype == DType::kFloat32 ? TypeSet::kFloat32
                                    : TypeSet::kNarrow;
}

// Threads of a block that work on a ticket; one more warp fetches the next. Two blocks on an SM
// leave 72 registers a thread to 384 and a warp, with more loads under way, and 96 to 288, without
// which AdamP's kernel for 16 bits spills.
constexpr int workers(TypeSet types) { return types == TypeSet::kFloat32 ? 384 : 288; }
constexpr int block_size(TypeSet types) { return workers(types) + 32; }

// Blocks that the compiler leaves registers for. Processors of compute capability 8.6, 8.9 and 12.0
// have 100 KB of shared memory: one block's.
#if defined(__CUDA_ARCH__) && \
    (__CUDA_ARCH__ == 860 || __CUDA_ARCH__ == 890 || __CUDA_ARCH__ >= 1200)
constexpr int kMostBlocksPerSM = 1;
#else
constexpr int kMostBlocksPerSM = 2;
#endif

// Elements of an item: four wide accesses of float32 for each of 384 workers. Rows of 768, 1,024,
// 2,048 and 3,072 fill it, and one of 5,632 is not in two. Its p, g and u are kept in shared memory
// (72 KiB), so that two blocks fit on one SM of compute capability 8.0, 9.0 and 10.0, and one of
// the others.
constexpr int tile_elements(DType dtype) { return dtype == DType::kFloat64 ? 3072 : 6144; }
// Rows of an item: their sums are kept in shared memory too.
constexpr int max_rows(DType dtype) { return dtype == DType::kFloat64 ? 64 : 128; }
// Rows of so few elements are thin: max_rows of them would leave most of an item empty. An item
// holds as many as it has room for, and nothing is kept of a row but its elements.
constexpr int64_t kMaxThinCols = 16;
constexpr bool has_thin_rows(const TensorInfo& tensor) {
  return tensor.cols <= kMaxThinCols && tensor.rows > max_rows(tensor.dtype);
}

// Items that one finish ticket covers. Where nothing is left to do it costs a look at a flag; where
// something is, others wait for the block that has it, and for the ticket that it drew ahead.
constexpr int64_t kItemsPerFinish = 4;

struct DeviceTensor {
  TensorInfo info;
  int64_t first_item, item_count;
  int64_t slots, records;  // offsets in bytes into the scratch memory
  int32_t finish_tickets;
  int32_t rows_are_split;
  int32_t rows_are_thin;
  int32_t wide;  // p, m and v lie alike against 16-byte boundaries
};

enum class TicketKind : int32_t { kAccumulate, kFinish };

// One piece of work. Tickets are drawn in order, and a finish ticket waits only for lower ones.
struct Ticket {
  int64_t first_item, item_count;  // kAccumulate: one item
  int32_t tensor;
  TicketKind kind;
};

enum Decided : uint32_t { kUndecided = 0, kToFinish = 1, kSettled = 2 };

// How a tensor's blocks agree. The counters are zero between launches; the kernel resets them
// itself.
struct Decision {
  uint32_t arrived;   // items whose sums are known
  uint32_t failed;    // rows that failed the channel test
  uint32_t pending;   // rows not updated early
  uint32_t finished;  // finish tickets done
  uint32_t decided;   // Decided
  Early early;
  View outcome;
};

// Left by each item: its layer sums, or the sums of its piece of a row.
template <class S>
struct Slot {
  RowSums<S> sums;
};

// Left for finishing: first the sums of the whole tensor, then those of each row, unless thin.
template <class S>
struct RowRecord {
  S pp, pu;
  uint32_t updated;
};

// Bytes of the values that change each step (gradients, hypers, hyper indices, in this order) that
// travel in the launch itself: enough for 650 tensors. On an H100 a launch of 12 KB took the host
// up to 1 us longer than one of 8, with cold caches 4; one of 4 KB about 1 less.
constexpr int kInlineCapacity = 8064;

struct KernelArgs {
  const DeviceTensor* tensors;
  const Item* items;
  const Ticket* tickets;
  Decision* decisions;
  unsigned char* scratch;
  uint32_t* next_ticket;
  uint32_t n_tickets;
  int32_t n_tensors;
  int32_t n_hypers;
  const unsigned char* step_values;  // on the device; null: they are right here
  alignas(16) unsigned char inline_values[kInlineCapacity];
};

inline int64_t step_values_size(int64_t n_tensors, int64_t n_hypers) {
  return n_tensors * static_cast<int64_t>(sizeof(void*) + sizeof(int32_t)) +
         n_hypers * static_cast<int64_t>(sizeof(Hyper));
}

}  // namespace adamp
