// Contiguous pieces of a tensor: where they lie, and which thread loads which of their elements.
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

// Consecutive elements as they are stored: converted one at a time where they are used, so that
// 16 bytes take four registers, whatever they hold.
template <class Storage, int kCount>
struct Pack {
  using S = typename Arithmetic<Storage>::Scalar;
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

template <int kCount, bool kStreaming, class Storage>
ADAMP_DEVICE Pack<Storage, kCount> load(const Storage* at) {
  Pack<Storage, kCount> pack;
  if constexpr (kCount == 1) {
    const Storage element = *at;
    memcpy(pack.bytes, &element, sizeof element);
  } else {
    const Vector16 vector = kStreaming ? load_vector_streaming(at) : load_vector(at);
    memcpy(pack.bytes, &vector, sizeof vector);
  }
  return pack;
}

template <int kCount, bool kStreaming, class Storage>
ADAMP_DEVICE void store(Storage* at, const Pack<Storage, kCount>& pack) {
  if constexpr (kCount == 1) {
    // By way of an element: nvcc copies bytes to a pointer of any type one at a time.
    Storage element;
    memcpy(&element, pack.bytes, sizeof element);
    *at = element;
  } else {
    Vector16 vector;
    memcpy(&vector, pack.bytes, sizeof vector);
    kStreaming ? store_vector_streaming(at, vector) : store_vector(at, vector);
  }
}

template <int kCount>
struct Count {
  static constexpr int value = kCount;
};

// One contiguous piece of a tensor's arrays.
template <class Types>
struct Span {
  using param_t = typename Types::param_t;
  using grad_t = typename Types::grad_t;
  using state_t = typename Types::state_t;
  static_assert(sizeof(grad_t) == sizeof(param_t) && sizeof(state_t) == sizeof(param_t),
                "one pack of each array holds the same elements");
  static constexpr int kWidth = 16 / sizeof(param_t);  // elements of a vectorized access

  param_t* p;
  const grad_t* g;
  state_t* m;
  state_t* v;
  int count;
  int head;         // elements before the first 16-byte boundary
  bool vectorized;  // all arrays reach their boundaries together

  // body(Count<n>, i) for every element: vectorized accesses, and single ones only for the few
  // elements before the first and after the last boundary (or for all, where the arrays lie
  // differently).
  template <class Body>
  ADAMP_DEVICE void for_each(const Body& body) const {
    if (!vectorized) {
      for (int i = thread_index(); i < count; i += consumer_count()) body(Count<1>(), i);
      return;
    }
    const int packs = (count - head) / kWidth;
    for (int pack = thread_index(); pack < packs; pack += consumer_count()) {
      body(Count<kWidth>(), head + pack * kWidth);
    }
    const int tail = head + packs * kWidth;
    const int singles = count - packs * kWidth;
    if (thread_index() < singles) {
      body(Count<1>(), thread_index() < head ? thread_index() : tail + thread_index() - head);
    }
  }
};

// Which of the rows of `cols` elements holds element i of a span; without a division of integers.
// Exact: a quotient that is no integer is further from one than its rounding reaches.
ADAMP_DEVICE float rows_per_element(int cols) { return 1.0f / static_cast<float>(cols); }
ADAMP_DEVICE int row_of(int i, float rows_per_element) {
  return static_cast<int>((static_cast<float>(i) + 0.5f) * rows_per_element);
}

template <class M, class Types>
ADAMP_DEVICE Span<Types> span_of(const DeviceTensor& tensor, const Tile& tile, const void* grad) {
  using Span = adamp::Span<Types>;
  const int64_t offset = tile.row_begin * tensor.info.cols + tile.col_begin;
  Span span;
  span.p = static_cast<typename Span::param_t*>(tensor.info.param) + offset;
  span.g = static_cast<const typename Span::grad_t*>(grad) + offset;
  span.m = static_cast<typename Span::state_t*>(tensor.info.moment1) + offset;
  span.v = nullptr;
  if (kTwoMoments<M>) span.v = static_cast<typename Span::state_t*>(tensor.info.moment2) + offset;
  span.count = static_cast<int>((tile.row_end - tile.row_begin) * (tile.col_end - tile.col_begin));
  const uintptr_t p = reinterpret_cast<uintptr_t>(span.p);
  span.vectorized = tensor.vectorized != 0 && (p - reinterpret_cast<uintptr_t>(span.g)) % 16 == 0;
  const int before = static_cast<int>((16 - p % 16) % 16 / sizeof(typename Span::param_t));
  span.head = before < span.count ? before : span.count;
  return span;
}

}  // namespace adamp
