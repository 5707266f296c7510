// What a block keeps in shared memory: its ticket, and behind it room for its work on an item.
#pragma once

#include "span.cuh"

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

  ADAMP_DEVICE const DeviceTensor& tensor() const { return launch.tensors[ticket.tensor]; }
  ADAMP_DEVICE Decision& decision() const { return launch.decisions[ticket.tensor]; }
};
constexpr int kStateBytes = (static_cast<int>(sizeof(BlockState)) + 15) / 16 * 16;

constexpr int kWarps = kBlockSize / kWarpSize;

template <class S>
struct SharedUpdate {
  RowUpdate<S> next, previous;
  uint32_t active;  // next is to be applied
  uint32_t undo;    // previous was applied
};

// Room for the work on one item of a tensor.
template <class Storage>
struct SharedMemory {
  using S = typename Arithmetic<Storage>::Scalar;
  // Elements before the first pack lie in a row of banks of their own.
  static constexpr int kTile = tile_elements(kDTypeOf<Storage>) + kBankRow<Storage>;
  static_assert(kTile % kBankRow<Storage> == 0, "a row is permuted as a whole");
  static constexpr int kRows = max_rows(kDTypeOf<Storage>);

  S p[kTile], g[kTile], u[kTile];
  RowSums<S> row_sums[kRows];
  SharedUpdate<S> row_updates[kRows];
  RowSums<S> warp_sums[kWarps][kWarps];
  RowSums<S> total;
  Scalars<S> scalars;
  Early early;
  View outcome;
  uint32_t flag;  // one word from thread 0 to all
};

template <class Storage>
constexpr int kSharedBytes = kStateBytes + static_cast<int>(sizeof(SharedMemory<Storage>));

template <TypeSet kTypes>
constexpr int shared_bytes() {
  constexpr int with_double = kSharedBytes<double>, without = kSharedBytes<float>;
  return kTypes == TypeSet::kAll && with_double > without ? with_double : without;
}

}  // namespace adamp
