// Where a block keeps p, g and u of a tile's elements: in shared memory, 16 bytes at a time where
// they are loaded so.
#pragma once

#include "span.cuh"

namespace adamp {

// Values of one kind, of all elements of a span.
template <class Storage>
struct alignas(16) TileBuffer {
  using S = typename Arithmetic<Storage>::Scalar;
  static constexpr int kPerVector = 16 / static_cast<int>(sizeof(S));
  // Elements of a pack that are put and got at once.
  template <int kCount>
  static constexpr int kAtOnce = kCount < kPerVector ? kCount : kPerVector;
  // Elements before the first pack, whose place is a multiple of its size.
  static constexpr int kWidth = 16 / sizeof(Storage);
  static constexpr int kSize = tile_elements(kDTypeOf<Storage>) + kWidth;

  S values[kSize];

  // Element i of the span, or the 16 bytes of elements that begin with it.
  template <int kCount, class Span>
  ADAMP_DEVICE void put(const Span& span, int i, const S (&from)[kCount]) {
    static_assert(kCount == 1 || kCount == kPerVector, "one element, or 16 bytes");
    if constexpr (kCount == 1) {
      values[at(span, i)] = from[0];
    } else {
      Vector16 vector;
      memcpy(&vector, from, sizeof vector);
      store_shared_vector(&values[at(span, i)], vector);
    }
  }
  template <int kCount, class Span>
  ADAMP_DEVICE void get(const Span& span, int i, S (&to)[kCount]) const {
    static_assert(kCount == 1 || kCount == kPerVector, "one element, or 16 bytes");
    if constexpr (kCount == 1) {
      to[0] = values[at(span, i)];
    } else {
      const Vector16 vector = load_shared_vector(&values[at(span, i)]);
      memcpy(to, &vector, sizeof vector);
    }
  }
  template <class Span>
  ADAMP_DEVICE S operator()(const Span& span, int i) const {
    return values[at(span, i)];
  }

  template <class Span>
  static ADAMP_DEVICE int at(const Span& span, int i) {
    const int place = i + (-span.head & (kWidth - 1));
    // A pack of a 16-bit type takes two vectors of 16 bytes. Eight threads access shared memory at
    // a time. If every second four of them did not swap their two vectors, two threads would
    // conflict in each bank.
    constexpr bool kTwo = sizeof(Storage) < sizeof(S);
    return kTwo ? place ^ (place / (8 * kPerVector) % 2 * kPerVector) : place;
  }
};

}  // namespace adamp
