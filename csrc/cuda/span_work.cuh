// A block's work on one contiguous piece of a tensor: sweep the moments, sum the rows, apply the
// updates.
//
// The mathematics is in ../formulas.h; here is which thread loads which element. Sums are added in
// an order fixed by shapes alone, so that a run repeats bit for bit whatever the schedule.
#pragma once

#include <cstring>

#include "device.cuh"
#include "kernel_args.h"

namespace adamp {

template <class Storage>
struct Arithmetic {
  using Scalar = float;
};
template <>
struct Arithmetic<double> {
  using Scalar = double;
};

template <class Storage>
constexpr DType kDTypeOf = DType::kFloat32;
template <>
constexpr DType kDTypeOf<double> = DType::kFloat64;
template <>
constexpr DType kDTypeOf<BFloat16> = DType::kBFloat16;
template <>
constexpr DType kDTypeOf<Float16> = DType::kFloat16;

constexpr int kWarps = kBlockSize / kWarpSize;
constexpr int kTilePadding = 8;  // a tile starts where its first wide access falls on a boundary

template <class S>
struct SharedUpdate {
  RowUpdate<S> next, previous;
  uint32_t active;  // next is to be applied
  uint32_t undo;    // previous was applied
};

// Shared memory of a block.
template <class Storage>
struct SharedMemory {
  using S = typename Arithmetic<Storage>::Scalar;
  static constexpr int kTile = tile_elements(kDTypeOf<Storage>) + kTilePadding;
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

template <Method kMethod, class Storage>
struct SpanWork {
  using S = typename Arithmetic<Storage>::Scalar;
  using Memory = SharedMemory<Storage>;
  static constexpr bool kAdam = kMethod == Method::kAdamP;
  static constexpr int kWidth = 16 / sizeof(Storage);  // elements of a wide access

  // Consecutive elements as they are stored: converted one at a time where they are used, so that
  // 16 bytes take four registers, whatever they hold.
  template <int kCount>
  struct Pack {
    static constexpr int kBytes = kCount * static_cast<int>(sizeof(Storage));
    unsigned char bytes[kBytes];

    ADAMP_DEVICE S get(int i) const {
      Storage element;
      memcpy(&element, bytes + i * sizeof(Storage), sizeof(Storage));
      return to_arithmetic(element);
    }
    ADAMP_DEVICE void set(int i, S x) {
      Storage element;
      to_storage(x, element);
      memcpy(bytes + i * sizeof(Storage), &element, sizeof(Storage));
    }
  };

  // One contiguous piece of a tensor's arrays.
  struct Span {
    Storage* p;
    const Storage* g;
    Storage* m;
    Storage* v;
    int count;
    int head;   // elements before the first 16-byte boundary
    bool wide;  // all arrays reach their boundaries together
  };

  // ---- addressing
  // -----------------------------------------------------------------------------------

  static ADAMP_DEVICE Span span_of(const DeviceTensor& tensor, const Item& item, const void* grad) {
    const int64_t offset = item.row_begin * tensor.info.cols + item.col_begin;
    Span span;
    span.p = static_cast<Storage*>(tensor.info.param) + offset;
    span.g = static_cast<const Storage*>(grad) + offset;
    span.m = static_cast<Storage*>(tensor.info.moment1) + offset;
    span.v = kAdam ? static_cast<Storage*>(tensor.info.moment2) + offset : nullptr;
    span.count =
        static_cast<int>((item.row_end - item.row_begin) * (item.col_end - item.col_begin));
    const uintptr_t p = reinterpret_cast<uintptr_t>(span.p);
    span.wide = tensor.wide != 0 && (p - reinterpret_cast<uintptr_t>(span.g)) % 16 == 0;
    const int before = static_cast<int>((16 - p % 16) % 16 / sizeof(Storage));
    span.head = before < span.count ? before : span.count;
    return span;
  }

  template <int kCount, bool kStreaming>
  static ADAMP_DEVICE Pack<kCount> load(const Storage* at) {
    Pack<kCount> pack;
    if constexpr (kCount == 1) {
      const Storage element = *at;
      memcpy(pack.bytes, &element, sizeof element);
    } else {
      const Wide wide = kStreaming ? load_wide_streaming(at) : load_wide(at);
      memcpy(pack.bytes, &wide, sizeof wide);
    }
    return pack;
  }

  template <int kCount, bool kStreaming>
  static ADAMP_DEVICE void store(Storage* at, const Pack<kCount>& pack) {
    if constexpr (kCount == 1) {
      // By way of an element: nvcc copies bytes to a pointer of any type one at a time.
      Storage element;
      memcpy(&element, pack.bytes, sizeof element);
      *at = element;
    } else {
      Wide wide;
      memcpy(&wide, pack.bytes, sizeof wide);
      kStreaming ? store_wide_streaming(at, wide) : store_wide(at, wide);
    }
  }

  template <int kCount>
  struct Count {
    static constexpr int value = kCount;
  };

  // body(Count<n>, i) for every element of a span: wide accesses, and single ones only for the few
  // elements before the first and after the last boundary (or for all, where the arrays lie
  // differently).
  template <class Body>
  static ADAMP_DEVICE void for_each(const Span& span, const Body& body) {
    if (!span.wide) {
      for (int i = thread_index(); i < span.count; i += kBlockSize) body(Count<1>(), i);
      return;
    }
    const int packs = (span.count - span.head) / kWidth;
    for (int pack = thread_index(); pack < packs; pack += kBlockSize) {
      body(Count<kWidth>(), span.head + pack * kWidth);
    }
    const int tail = span.head + packs * kWidth;
    const int singles = span.count - packs * kWidth;
    if (thread_index() < singles) {
      body(Count<1>(),
           thread_index() < span.head ? thread_index() : tail + thread_index() - span.head);
    }
  }

  // Where element i of a span is kept in the tile, so that wide accesses stay aligned there.
  static ADAMP_DEVICE int tile_index(const Span& span, int i) {
    return i + (kWidth - span.head % kWidth) % kWidth;
  }

  // ---- per element
  // ----------------------------------------------------------------------------------

  static ADAMP_DEVICE S perturb(S m, S v, S g, const Scalars<S>& h) {
    return kAdam ? adam_perturb(m, square_root(v), g, h) : sgd_perturb(m, g, h);
  }

  // Moves the moments of a span; kUpdate: and the weights, by the plain update; kKeep: p, g and u
  // stay in the tile; kRevisit: the tensor will be read again once it is decided.
  template <bool kUpdate, bool kKeep, bool kRevisit>
  static ADAMP_DEVICE void sweep(const Span& span, Memory& memory) {
    const Scalars<S> h = memory.scalars;
    for_each(span, [&](auto count, int i) {
      constexpr int kCount = decltype(count)::value;
      Pack<kCount> p = load<kCount, !kRevisit>(span.p + i);
      const Pack<kCount> g = load<kCount, true>(span.g + i);
      Pack<kCount> m = load<kCount, !kRevisit>(span.m + i);
      Pack<kCount> v = p;
      if constexpr (kAdam) v = load<kCount, !kRevisit>(span.v + i);
      const int at = tile_index(span, i);
#pragma unroll
      for (int j = 0; j < kCount; ++j) {
        const S weight = p.get(j), grad = g.get(j) * h.sign;
        // u follows from the moments as stored: what a later visit reads back.
        m.set(j, moving_average(m.get(j), grad, h.decay1, h.gain1));
        if constexpr (kAdam) v.set(j, moving_average(v.get(j), grad * grad, h.decay2, h.gain2));
        const S u = perturb(m.get(j), v.get(j), grad, h);
        if constexpr (kKeep) {
          memory.p[at + j] = weight;
          memory.g[at + j] = grad;
          memory.u[at + j] = u;
        }
        if constexpr (kUpdate) {
          p.set(j, apply_update(weight, u, plain_update(h).shrink, h.step_size));
        }
      }
      store<kCount, !kRevisit>(span.m + i, m);
      if constexpr (kAdam) store<kCount, !kRevisit>(span.v + i, v);
      if constexpr (kUpdate) store<kCount, !kRevisit>(span.p + i, p);
    });
  }

  static ADAMP_DEVICE bool projects_buffer(const Scalars<S>& h) {
    return !kAdam && h.project_buffer && !h.nesterov;
  }

  // Where apply() finds p and u: in the tile; or in memory, u as it follows from the moments, and
  // with nesterov from the gradient, too.
  enum class Source { kTile, kMoments, kMomentsAndGradient };

  // Applies the row updates of a span.
  template <Source kSource>
  static ADAMP_DEVICE void apply(const Span& span, int cols, const Memory& memory) {
    const Scalars<S> h = memory.scalars;
    const bool buffer = projects_buffer(h);
    for_each(span, [&](auto count, int i) {
      constexpr int kCount = decltype(count)::value;
      Pack<kCount> p, m, v, g;
      if constexpr (kSource != Source::kTile) {
        m = load<kCount, true>(span.m + i);
        if constexpr (kAdam) v = load<kCount, true>(span.v + i);
        if constexpr (kSource == Source::kMomentsAndGradient) {
          g = load<kCount, true>(span.g + i);
        }
        p = load<kCount, true>(span.p + i);
      }
      const int at = tile_index(span, i);
      bool any = false;
      int row = i / cols;
      int row_end = (row + 1) * cols;
#pragma unroll
      for (int j = 0; j < kCount; ++j) {
        if (i + j == row_end) {
          ++row;
          row_end += cols;
        }
        S before, raw;
        if constexpr (kSource == Source::kTile) {
          before = memory.p[at + j];
          raw = memory.u[at + j];
        } else {
          S variance = S(0), grad = S(0);
          if constexpr (kAdam) variance = v.get(j);
          if constexpr (kSource == Source::kMomentsAndGradient) grad = g.get(j) * h.sign;
          before = p.get(j);
          raw = perturb(m.get(j), variance, grad, h);
        }
        const SharedUpdate<S>& update = memory.row_updates[row];
        p.set(j, before);
        m.set(j, raw);
        if (!update.active) continue;
        any = true;
        if (update.undo) {
          before = recover_weight(before, raw, update.previous.shrink, h.step_size);
          raw += update.previous.radial * before;
        }
        p.set(j, apply_update(before, raw, update.next.shrink, h.step_size));
        m.set(j, raw - update.next.radial * before);
      }
      if (!any) return;
      store<kCount, true>(span.p + i, p);
      if (buffer) store<kCount, true>(span.m + i, m);
    });
  }

  // ---- sums of rows
  // ---------------------------------------------------------------------------------

  static ADAMP_DEVICE RowSums<S> lane_sums(RowSums<S> sums, int lanes) {
    for (int mask = lanes / 2; mask > 0; mask /= 2) {
      const RowSums<S> other = {shuffle_xor(sums.pp, mask), shuffle_xor(sums.gg, mask),
                                shuffle_xor(sums.pg, mask), shuffle_xor(sums.pu, mask)};
      add_to(sums, other);
    }
    return sums;
  }

  static ADAMP_DEVICE uint32_t lane_count(uint32_t count) {
    for (int mask = kWarpSize / 2; mask > 0; mask /= 2) count += shuffle_xor(count, mask);
    return count;
  }

  // memory.row_sums[r] = sum over c of term(r, c), r < rows <= kRows. Few rows: all warps share
  // each; many: a warp, or a part of one, has its own.
  template <class Term>
  static ADAMP_DEVICE void sum_rows(int rows, int64_t cols, Memory& memory, const Term& term) {
    const int warp = thread_index() / kWarpSize, lane = thread_index() % kWarpSize;
    if (rows < kWarps) {
      for (int row = 0; row < rows; ++row) {
        RowSums<S> sums = {};
        for (int64_t col = thread_index(); col < cols; col += kBlockSize) {
          add_to(sums, term(row, col));
        }
        sums = lane_sums(sums, kWarpSize);
        if (lane == 0) memory.warp_sums[row][warp] = sums;
      }
      sync_block();
      if (thread_index() < rows) {
        RowSums<S> sums = {};
        for (int i = 0; i < kWarps; ++i) add_to(sums, memory.warp_sums[thread_index()][i]);
        memory.row_sums[thread_index()] = sums;
      }
    } else {
      int lanes = 1;
      while (lanes < cols && lanes < kWarpSize) lanes *= 2;
      const int rows_per_warp = kWarpSize / lanes;
      // All lanes of a warp take every turn, since they shuffle together.
      for (int first = warp * rows_per_warp; first < rows; first += kWarps * rows_per_warp) {
        const int row = first + lane / lanes;
        RowSums<S> sums = {};
        if (row < rows) {
          for (int64_t col = lane % lanes; col < cols; col += lanes) add_to(sums, term(row, col));
        }
        sums = lane_sums(sums, lanes);
        if (row < rows && lane % lanes == 0) memory.row_sums[row] = sums;
      }
    }
    sync_block();
  }

  static ADAMP_DEVICE void sum_tile_rows(const Span& span, int rows, int cols, Memory& memory) {
    const int origin = tile_index(span, 0);
    sum_rows(rows, cols, memory, [&](int row, int64_t col) {
      const int at = origin + row * cols + static_cast<int>(col);
      const S p = memory.p[at], g = memory.g[at], u = memory.u[at];
      return RowSums<S>{p * p, g * g, p * g, p * u};
    });
  }
};

}  // namespace adamp
