// Vectors of the processor's own width, loads and stores with conversion, and lane sums.
//
// Vector extensions of GCC (12 and newer) and Clang: one source for AVX-512, AVX2, and SSE2 or
// NEON. Everything is always_inline, so that no code compiled for one instruction set can be linked
// into another.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__AVX__)
#include <immintrin.h>
#endif

#include "../formulas.h"
#include "half.h"

// Wider vectors than the processor's would live in memory.
#if defined(__AVX512F__)
#define ADAMP_VECTOR_BYTES 64
#elif defined(__AVX2__)
#define ADAMP_VECTOR_BYTES 32
#else
#define ADAMP_VECTOR_BYTES 16
#endif

namespace adamp {
// Of its own for each instruction set, as the types differ.
namespace {

constexpr int kFloatLanes = ADAMP_VECTOR_BYTES / 4;
constexpr int kDoubleLanes = ADAMP_VECTOR_BYTES / 8;
typedef float FloatLanes __attribute__((vector_size(ADAMP_VECTOR_BYTES)));
typedef double DoubleLanes __attribute__((vector_size(ADAMP_VECTOR_BYTES)));
typedef uint32_t UInt32Lanes __attribute__((vector_size(ADAMP_VECTOR_BYTES)));
typedef uint16_t UInt16Lanes __attribute__((vector_size(ADAMP_VECTOR_BYTES / 2)));

struct BFloat16 {
  uint16_t bits;
};
struct Float16 {
  uint16_t bits;
};

// Storage type -> scalar and vector of the arithmetic.
template <class Storage>
struct Arithmetic {
  using Scalar = float;
  using Lanes = FloatLanes;
  static constexpr int kLanes = kFloatLanes;
};
template <>
struct Arithmetic<double> {
  using Scalar = double;
  using Lanes = DoubleLanes;
  static constexpr int kLanes = kDoubleLanes;
};

ADAMP_FN FloatLanes root(FloatLanes x) {
#if defined(__AVX512F__)
  return (FloatLanes)_mm512_sqrt_ps((__m512)x);
#elif defined(__AVX2__)
  return (FloatLanes)_mm256_sqrt_ps((__m256)x);
#else
  for (int lane = 0; lane < kFloatLanes; ++lane) x[lane] = __builtin_sqrtf(x[lane]);
  return x;
#endif
}
ADAMP_FN DoubleLanes root(DoubleLanes x) {
#if defined(__AVX512F__)
  return (DoubleLanes)_mm512_sqrt_pd((__m512d)x);
#elif defined(__AVX2__)
  return (DoubleLanes)_mm256_sqrt_pd((__m256d)x);
#else
  for (int lane = 0; lane < kDoubleLanes; ++lane) x[lane] = __builtin_sqrt(x[lane]);
  return x;
#endif
}

ADAMP_FN FloatLanes load(const float* from) {
  FloatLanes x;
  std::memcpy(&x, from, sizeof x);
  return x;
}
ADAMP_FN void store(float* to, FloatLanes x) { std::memcpy(to, &x, sizeof x); }

ADAMP_FN DoubleLanes load(const double* from) {
  DoubleLanes x;
  std::memcpy(&x, from, sizeof x);
  return x;
}
ADAMP_FN void store(double* to, DoubleLanes x) { std::memcpy(to, &x, sizeof x); }

ADAMP_FN FloatLanes load(const BFloat16* from) {
  UInt16Lanes bits;
  std::memcpy(&bits, from, sizeof bits);
  return (FloatLanes)(__builtin_convertvector(bits, UInt32Lanes) << 16);
}
ADAMP_FN void store(BFloat16* to, FloatLanes x) {
  const UInt32Lanes bits = (UInt32Lanes)x;
  const UInt32Lanes rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  const UInt32Lanes quiet_nan = (bits >> 16) | 0x40u;
  const UInt32Lanes is_nan = (UInt32Lanes)((bits & 0x7fffffffu) > 0x7f800000u);
  const UInt16Lanes out =
      __builtin_convertvector((is_nan & quiet_nan) | (~is_nan & rounded), UInt16Lanes);
  std::memcpy(to, &out, sizeof out);
}

ADAMP_FN FloatLanes load(const Float16* from) {
#if defined(__AVX512F__)
  return (FloatLanes)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)from));
#elif defined(__AVX2__)
  return (FloatLanes)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)from));
#else
  FloatLanes x;
  for (int lane = 0; lane < kFloatLanes; ++lane) x[lane] = float16_to_float(from[lane].bits);
  return x;
#endif
}
ADAMP_FN void store(Float16* to, FloatLanes x) {
#if defined(__AVX512F__)
  _mm256_storeu_si256((__m256i*)to,
                      _mm512_cvtps_ph((__m512)x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
#elif defined(__AVX2__)
  _mm_storeu_si128((__m128i*)to, _mm256_cvtps_ph((__m256)x, _MM_FROUND_TO_NEAREST_INT));
#else
  for (int lane = 0; lane < kFloatLanes; ++lane) to[lane].bits = float_to_float16(x[lane]);
#endif
}

// The last elements of a run: as many lanes as there are, the others zero.
template <class Storage>
ADAMP_FN typename Arithmetic<Storage>::Lanes load_tail(const Storage* from, int64_t count) {
  Storage lanes[Arithmetic<Storage>::kLanes] = {};
  for (int64_t i = 0; i < count; ++i) lanes[i] = from[i];
  return load(lanes);
}
template <class Storage>
ADAMP_FN void store_tail(Storage* to, typename Arithmetic<Storage>::Lanes x, int64_t count) {
  Storage lanes[Arithmetic<Storage>::kLanes];
  store(lanes, x);
  for (int64_t i = 0; i < count; ++i) to[i] = lanes[i];
}

// x where the lane is one of the first `count`, else 0.
ADAMP_FN FloatLanes keep_first(FloatLanes x, int64_t count) {
  for (int lane = 0; lane < kFloatLanes; ++lane) x[lane] = lane < count ? x[lane] : 0;
  return x;
}
ADAMP_FN DoubleLanes keep_first(DoubleLanes x, int64_t count) {
  for (int lane = 0; lane < kDoubleLanes; ++lane) x[lane] = lane < count ? x[lane] : 0;
  return x;
}

// Constant lanes and shuffles, not loops or memory: a sum whose address is taken would live on the
// stack all through the loop that it is the result of.
#if ADAMP_VECTOR_BYTES == 64
typedef float HalfFloatLanes __attribute__((vector_size(32)));
ADAMP_FN double lane_sum(DoubleLanes x) {
  x += __builtin_shufflevector(x, x, 4, 5, 6, 7, 4, 5, 6, 7);
  x += __builtin_shufflevector(x, x, 2, 3, 2, 3, 2, 3, 2, 3);
  return x[0] + x[1];
}
ADAMP_FN double lane_sum(FloatLanes x) {
  const HalfFloatLanes low = __builtin_shufflevector(x, x, 0, 1, 2, 3, 4, 5, 6, 7);
  const HalfFloatLanes high = __builtin_shufflevector(x, x, 8, 9, 10, 11, 12, 13, 14, 15);
  return lane_sum(__builtin_convertvector(low, DoubleLanes) +
                  __builtin_convertvector(high, DoubleLanes));
}
#elif ADAMP_VECTOR_BYTES == 32
ADAMP_FN double lane_sum(DoubleLanes x) { return (x[0] + x[2]) + (x[1] + x[3]); }
ADAMP_FN double lane_sum(FloatLanes x) {
  return ((double(x[0]) + double(x[4])) + (double(x[2]) + double(x[6]))) +
         ((double(x[1]) + double(x[5])) + (double(x[3]) + double(x[7])));
}
#else
ADAMP_FN double lane_sum(DoubleLanes x) { return x[0] + x[1]; }
ADAMP_FN double lane_sum(FloatLanes x) {
  return (double(x[0]) + double(x[2])) + (double(x[1]) + double(x[3]));
}
#endif

}  // namespace
}  // namespace adamp
