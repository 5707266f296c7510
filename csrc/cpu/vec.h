// Sixteen float or eight double lanes, loads and stores with conversion, and lane sums.
//
// GCC and Clang vector extensions: one source for AVX-512, AVX2 and plain SSE2/NEON, and always the
// same number of lanes, so that partial sums have one structure everywhere. Everything is
// always_inline, so that no code compiled for one instruction set can be linked into another.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__AVX__)
#include <immintrin.h>
#endif

#include "../formulas.h"
#include "half.h"

namespace adamp {

typedef float Float16Lanes __attribute__((vector_size(64)));
typedef double Double8Lanes __attribute__((vector_size(64)));
typedef float Float8Lanes __attribute__((vector_size(32)));
typedef double Double4Lanes __attribute__((vector_size(32)));
typedef uint32_t UInt32Lanes __attribute__((vector_size(64)));
typedef uint16_t UInt16Lanes __attribute__((vector_size(32)));

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
  using Lanes = Float16Lanes;
  static constexpr int kLanes = 16;
};
template <>
struct Arithmetic<double> {
  using Scalar = double;
  using Lanes = Double8Lanes;
  static constexpr int kLanes = 8;
};

ADAMP_FN Float16Lanes root(Float16Lanes x) {
#if defined(__AVX512F__)
  return (Float16Lanes)_mm512_sqrt_ps((__m512)x);
#elif defined(__AVX__)
  struct {
    __m256 low, high;
  } half;
  std::memcpy(&half, &x, 64);
  half.low = _mm256_sqrt_ps(half.low);
  half.high = _mm256_sqrt_ps(half.high);
  std::memcpy(&x, &half, 64);
  return x;
#else
  for (int lane = 0; lane < 16; ++lane) x[lane] = __builtin_sqrtf(x[lane]);
  return x;
#endif
}

ADAMP_FN Double8Lanes root(Double8Lanes x) {
#if defined(__AVX512F__)
  return (Double8Lanes)_mm512_sqrt_pd((__m512d)x);
#else
  for (int lane = 0; lane < 8; ++lane) x[lane] = __builtin_sqrt(x[lane]);
  return x;
#endif
}

ADAMP_FN Float16Lanes load(const float* from) {
  Float16Lanes x;
  std::memcpy(&x, from, sizeof x);
  return x;
}
ADAMP_FN void store(float* to, Float16Lanes x) { std::memcpy(to, &x, sizeof x); }

ADAMP_FN Double8Lanes load(const double* from) {
  Double8Lanes x;
  std::memcpy(&x, from, sizeof x);
  return x;
}
ADAMP_FN void store(double* to, Double8Lanes x) { std::memcpy(to, &x, sizeof x); }

ADAMP_FN Float16Lanes load(const BFloat16* from) {
  UInt16Lanes bits;
  std::memcpy(&bits, from, sizeof bits);
  return (Float16Lanes)(__builtin_convertvector(bits, UInt32Lanes) << 16);
}
ADAMP_FN void store(BFloat16* to, Float16Lanes x) {
  const UInt32Lanes bits = (UInt32Lanes)x;
  const UInt32Lanes rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  const UInt32Lanes quiet_nan = (bits >> 16) | 0x40u;
  const UInt32Lanes is_nan = (UInt32Lanes)((bits & 0x7fffffffu) > 0x7f800000u);
  const UInt16Lanes out =
      __builtin_convertvector((is_nan & quiet_nan) | (~is_nan & rounded), UInt16Lanes);
  std::memcpy(to, &out, sizeof out);
}

ADAMP_FN Float16Lanes load(const Float16* from) {
  Float16Lanes x;
#if defined(__AVX512F__)
  x = (Float16Lanes)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)from));
#elif defined(__F16C__)
  const __m256 low = _mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)from));
  const __m256 high = _mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)from + 1));
  std::memcpy(&x, &low, 32);
  std::memcpy((char*)&x + 32, &high, 32);
#else
  for (int lane = 0; lane < 16; ++lane) x[lane] = float16_to_float(from[lane].bits);
#endif
  return x;
}
ADAMP_FN void store(Float16* to, Float16Lanes x) {
#if defined(__AVX512F__)
  _mm256_storeu_si256((__m256i*)to,
                      _mm512_cvtps_ph((__m512)x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
#elif defined(__F16C__)
  __m256 half[2];
  std::memcpy(half, &x, 64);
  _mm_storeu_si128((__m128i*)to, _mm256_cvtps_ph(half[0], _MM_FROUND_TO_NEAREST_INT));
  _mm_storeu_si128((__m128i*)to + 1, _mm256_cvtps_ph(half[1], _MM_FROUND_TO_NEAREST_INT));
#else
  for (int lane = 0; lane < 16; ++lane) to[lane].bits = float_to_float16(x[lane]);
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
ADAMP_FN Float16Lanes keep_first(Float16Lanes x, int64_t count) {
  const UInt32Lanes lane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  return (Float16Lanes)((UInt32Lanes)x & (UInt32Lanes)(lane < static_cast<uint32_t>(count)));
}
ADAMP_FN Double8Lanes keep_first(Double8Lanes x, int64_t count) {
  for (int lane = 0; lane < 8; ++lane) x[lane] = lane < count ? x[lane] : 0;
  return x;
}

// Halves added to halves, so that the order is the same whatever the instruction set.
ADAMP_FN double lane_sum(Double8Lanes x) {
  Double4Lanes low, high;
  std::memcpy(&low, &x, 32);
  std::memcpy(&high, reinterpret_cast<const char*>(&x) + 32, 32);
  low += high;
  return (low[0] + low[2]) + (low[1] + low[3]);
}
ADAMP_FN double lane_sum(Float16Lanes x) {
  Float8Lanes low, high;
  std::memcpy(&low, &x, 32);
  std::memcpy(&high, reinterpret_cast<const char*>(&x) + 32, 32);
  return lane_sum(__builtin_convertvector(low, Double8Lanes) +
                  __builtin_convertvector(high, Double8Lanes));
}

}  // namespace adamp
