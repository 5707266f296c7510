// Vectors of the CPU's own width, loads and stores with conversion, and lane sums.
//
// Vector extensions of GCC (12 and newer) and Clang: one source for AVX-512, AVX2, and SSE2 or
// NEON. Everything is always_inline, so that no code compiled for one instruction set can be linked
// into another.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "../core/projection.h"
#include "half.h"

// Bytes of a vector: the width of the CPU, since wider ones would live in memory. Said by the file
// that chooses the instruction set: its pragma sets the compiler's own macros too late (GCC 12) or
// not at all (Clang), and narrower vectors would go unnoticed.
#if !defined(ADAMP_VECTOR_BYTES)
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

ADAMP_FN FloatLanes root_of(FloatLanes x) {
#if ADAMP_VECTOR_BYTES == 64
  return (FloatLanes)_mm512_sqrt_ps((__m512)x);
#elif ADAMP_VECTOR_BYTES == 32
  return (FloatLanes)_mm256_sqrt_ps((__m256)x);
#else
  for (int lane = 0; lane < kFloatLanes; ++lane) x[lane] = __builtin_sqrtf(x[lane]);
  return x;
#endif
}
ADAMP_FN DoubleLanes root_of(DoubleLanes x) {
#if ADAMP_VECTOR_BYTES == 64
  return (DoubleLanes)_mm512_sqrt_pd((__m512d)x);
#elif ADAMP_VECTOR_BYTES == 32
  return (DoubleLanes)_mm256_sqrt_pd((__m256d)x);
#else
  for (int lane = 0; lane < kDoubleLanes; ++lane) x[lane] = __builtin_sqrt(x[lane]);
  return x;
#endif
}

ADAMP_FN bool any_nan(FloatLanes x) {
#if ADAMP_VECTOR_BYTES == 64
  return _mm512_cmp_ps_mask((__m512)x, (__m512)x, _CMP_UNORD_Q) != 0;
#elif ADAMP_VECTOR_BYTES == 32
  return _mm256_movemask_ps(_mm256_cmp_ps((__m256)x, (__m256)x, _CMP_UNORD_Q)) != 0;
#else
  bool any = false;
  for (int lane = 0; lane < kFloatLanes; ++lane) any |= x[lane] != x[lane];
  return any;
#endif
}
ADAMP_FN bool any_nan(DoubleLanes x) {
#if ADAMP_VECTOR_BYTES == 64
  return _mm512_cmp_pd_mask((__m512d)x, (__m512d)x, _CMP_UNORD_Q) != 0;
#elif ADAMP_VECTOR_BYTES == 32
  return _mm256_movemask_pd(_mm256_cmp_pd((__m256d)x, (__m256d)x, _CMP_UNORD_Q)) != 0;
#else
  return x[0] != x[0] || x[1] != x[1];
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

ADAMP_FN FloatLanes widened(UInt16Lanes bits, BFloat16) {
#if ADAMP_VECTOR_BYTES == 64
  return (FloatLanes)_mm512_slli_epi32(_mm512_cvtepu16_epi32((__m256i)bits), 16);
#elif ADAMP_VECTOR_BYTES == 32
  return (FloatLanes)_mm256_slli_epi32(_mm256_cvtepu16_epi32((__m128i)bits), 16);
#else
  return (FloatLanes)(__builtin_convertvector(bits, UInt32Lanes) << 16);
#endif
}
// To nearest, ties to even; a NaN stays one. Not the CPU's own conversion, which takes what
// is below the normal numbers for zero.
ADAMP_FN UInt16Lanes narrowed(FloatLanes x, BFloat16) {
  const UInt32Lanes bits = (UInt32Lanes)x, quiet_nan = bits | 0x400000u;
  const UInt32Lanes rounded = bits + 0x7fffu + ((bits >> 16) & 1u);
#if ADAMP_VECTOR_BYTES == 64
  const __mmask16 is_nan = _mm512_cmp_ps_mask((__m512)x, (__m512)x, _CMP_UNORD_Q);
  const __m512i all = _mm512_mask_mov_epi32((__m512i)rounded, is_nan, (__m512i)quiet_nan);
  return (UInt16Lanes)_mm512_cvtepi32_epi16(_mm512_srli_epi32(all, 16));
#elif ADAMP_VECTOR_BYTES == 32
  const __m256 is_nan = _mm256_cmp_ps((__m256)x, (__m256)x, _CMP_UNORD_Q);
  const __m256 all = _mm256_blendv_ps((__m256)rounded, (__m256)quiet_nan, is_nan);
  const __m256i high = _mm256_srli_epi32((__m256i)all, 16);
  // Packs within each half of 16 bytes.
  const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(high, high), 0x08);
  return (UInt16Lanes)_mm256_castsi256_si128(packed);
#else
  const UInt32Lanes is_nan = (UInt32Lanes)(x != x);
  return __builtin_convertvector(((is_nan & quiet_nan) | (~is_nan & rounded)) >> 16, UInt16Lanes);
#endif
}

ADAMP_FN FloatLanes widened(UInt16Lanes bits, Float16) {
#if ADAMP_VECTOR_BYTES == 64
  return (FloatLanes)_mm512_cvtph_ps((__m256i)bits);
#elif ADAMP_VECTOR_BYTES == 32
  return (FloatLanes)_mm256_cvtph_ps((__m128i)bits);
#else
  FloatLanes x;
  for (int lane = 0; lane < kFloatLanes; ++lane) x[lane] = float16_to_float(bits[lane]);
  return x;
#endif
}
ADAMP_FN UInt16Lanes narrowed(FloatLanes x, Float16) {
#if ADAMP_VECTOR_BYTES == 64
  return (UInt16Lanes)_mm512_cvtps_ph((__m512)x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
#elif ADAMP_VECTOR_BYTES == 32
  return (UInt16Lanes)_mm256_cvtps_ph((__m256)x, _MM_FROUND_TO_NEAREST_INT);
#else
  UInt16Lanes bits;
  for (int lane = 0; lane < kFloatLanes; ++lane) bits[lane] = float_to_float16(x[lane]);
  return bits;
#endif
}

// Of either 16-bit type.
template <class Half>
ADAMP_FN FloatLanes load(const Half* from) {
  UInt16Lanes bits;
  std::memcpy(&bits, from, sizeof bits);
  return widened(bits, Half());
}
template <class Half>
ADAMP_FN void store(Half* to, FloatLanes x) {
  const UInt16Lanes bits = narrowed(x, Half());
  std::memcpy(to, &bits, sizeof bits);
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
#if ADAMP_VECTOR_BYTES == 64
ADAMP_FN __mmask16 first_lanes(int64_t count) { return static_cast<__mmask16>((1u << count) - 1u); }
ADAMP_FN FloatLanes load_tail(const float* from, int64_t count) {
  return (FloatLanes)_mm512_maskz_loadu_ps(first_lanes(count), from);
}
ADAMP_FN void store_tail(float* to, FloatLanes x, int64_t count) {
  _mm512_mask_storeu_ps(to, first_lanes(count), (__m512)x);
}
ADAMP_FN UInt16Lanes first_bits(const void* from, int64_t count) {
  return (UInt16Lanes)_mm256_maskz_loadu_epi16(first_lanes(count), from);
}
ADAMP_FN void store_first_bits(void* to, UInt16Lanes bits, int64_t count) {
  _mm256_mask_storeu_epi16(to, first_lanes(count), (__m256i)bits);
}
ADAMP_FN FloatLanes load_tail(const BFloat16* from, int64_t count) {
  return widened(first_bits(from, count), BFloat16());
}
ADAMP_FN FloatLanes load_tail(const Float16* from, int64_t count) {
  return widened(first_bits(from, count), Float16());
}
ADAMP_FN void store_tail(BFloat16* to, FloatLanes x, int64_t count) {
  store_first_bits(to, narrowed(x, BFloat16()), count);
}
ADAMP_FN void store_tail(Float16* to, FloatLanes x, int64_t count) {
  store_first_bits(to, narrowed(x, Float16()), count);
}
#elif ADAMP_VECTOR_BYTES == 32
ADAMP_FN __m256i first_lanes(int64_t count) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(count)),
                            _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
ADAMP_FN FloatLanes load_tail(const float* from, int64_t count) {
  return (FloatLanes)_mm256_maskload_ps(from, first_lanes(count));
}
ADAMP_FN void store_tail(float* to, FloatLanes x, int64_t count) {
  _mm256_maskstore_ps(to, first_lanes(count), (__m256)x);
}
#endif

// x where the lane is one of the first `count`, else 0.
ADAMP_FN FloatLanes keep_first(FloatLanes x, int64_t count) {
#if ADAMP_VECTOR_BYTES == 64
  return (FloatLanes)_mm512_maskz_mov_ps(first_lanes(count), (__m512)x);
#elif ADAMP_VECTOR_BYTES == 32
  return (FloatLanes)_mm256_and_ps((__m256)x, _mm256_castsi256_ps(first_lanes(count)));
#else
  for (int lane = 0; lane < kFloatLanes; ++lane) x[lane] = lane < count ? x[lane] : 0;
  return x;
#endif
}
ADAMP_FN DoubleLanes keep_first(DoubleLanes x, int64_t count) {
  for (int lane = 0; lane < kDoubleLanes; ++lane) x[lane] = lane < count ? x[lane] : 0;
  return x;
}

// The sums over all lanes of four vectors, which one transposition adds up together; the last steps
// in float64. Constant shuffles, not loops or memory: a sum whose address is taken would live on
// the stack all through the loop that it is the result of.
#if ADAMP_VECTOR_BYTES >= 32
typedef double FourDoubles __attribute__((vector_size(32)));
ADAMP_FN RowSums<double> as_sums(FourDoubles x) {
  RowSums<double> sums;
  static_assert(sizeof sums == sizeof x, "pp, gg, pg and pu, one behind the other");
  std::memcpy(&sums, &x, sizeof x);
  return sums;
}
#endif
#if ADAMP_VECTOR_BYTES == 64
typedef float EightFloats __attribute__((vector_size(32)));
// Two vectors -> sums of pairs, by turns.
ADAMP_FN FloatLanes add_pairs(FloatLanes a, FloatLanes b) {
  return __builtin_shufflevector(a, b, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29) +
         __builtin_shufflevector(a, b, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31);
}
ADAMP_FN DoubleLanes add_pairs(DoubleLanes a, DoubleLanes b) {
  return __builtin_shufflevector(a, b, 0, 8, 2, 10, 4, 12, 6, 14) +
         __builtin_shufflevector(a, b, 1, 9, 3, 11, 5, 13, 7, 15);
}
ADAMP_FN RowSums<double> add_halves(DoubleLanes x) {
  return as_sums(__builtin_shufflevector(x, x, 0, 1, 2, 3) +
                 __builtin_shufflevector(x, x, 4, 5, 6, 7));
}
ADAMP_FN RowSums<double> row_sums(FloatLanes pp, FloatLanes gg, FloatLanes pg, FloatLanes pu) {
  const FloatLanes a = add_pairs(pp, gg), b = add_pairs(pg, pu);
  const FloatLanes all =
      __builtin_shufflevector(a, b, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29) +
      __builtin_shufflevector(a, b, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31);
  const EightFloats low = __builtin_shufflevector(all, all, 0, 1, 2, 3, 4, 5, 6, 7);
  const EightFloats high = __builtin_shufflevector(all, all, 8, 9, 10, 11, 12, 13, 14, 15);
  return add_halves(__builtin_convertvector(low, DoubleLanes) +
                    __builtin_convertvector(high, DoubleLanes));
}
ADAMP_FN RowSums<double> row_sums(DoubleLanes pp, DoubleLanes gg, DoubleLanes pg, DoubleLanes pu) {
  const DoubleLanes a = add_pairs(pp, gg), b = add_pairs(pg, pu);
  return add_halves(__builtin_shufflevector(a, b, 0, 1, 8, 9, 4, 5, 12, 13) +
                    __builtin_shufflevector(a, b, 2, 3, 10, 11, 6, 7, 14, 15));
}
#elif ADAMP_VECTOR_BYTES == 32
typedef float FourFloats __attribute__((vector_size(16)));
ADAMP_FN FloatLanes add_pairs(FloatLanes a, FloatLanes b) {
  return __builtin_shufflevector(a, b, 0, 8, 1, 9, 4, 12, 5, 13) +
         __builtin_shufflevector(a, b, 2, 10, 3, 11, 6, 14, 7, 15);
}
ADAMP_FN DoubleLanes add_pairs(DoubleLanes a, DoubleLanes b) {
  return __builtin_shufflevector(a, b, 0, 4, 2, 6) + __builtin_shufflevector(a, b, 1, 5, 3, 7);
}
ADAMP_FN RowSums<double> row_sums(FloatLanes pp, FloatLanes gg, FloatLanes pg, FloatLanes pu) {
  const FloatLanes a = add_pairs(pp, gg), b = add_pairs(pg, pu);
  const FloatLanes all = __builtin_shufflevector(a, b, 0, 1, 8, 9, 4, 5, 12, 13) +
                         __builtin_shufflevector(a, b, 2, 3, 10, 11, 6, 7, 14, 15);
  const FourFloats low = __builtin_shufflevector(all, all, 0, 1, 2, 3);
  const FourFloats high = __builtin_shufflevector(all, all, 4, 5, 6, 7);
  return as_sums(__builtin_convertvector(low, FourDoubles) +
                 __builtin_convertvector(high, FourDoubles));
}
ADAMP_FN RowSums<double> row_sums(DoubleLanes pp, DoubleLanes gg, DoubleLanes pg, DoubleLanes pu) {
  const DoubleLanes a = add_pairs(pp, gg), b = add_pairs(pg, pu);
  return as_sums(__builtin_shufflevector(a, b, 0, 1, 4, 5) +
                 __builtin_shufflevector(a, b, 2, 3, 6, 7));
}
#else
ADAMP_FN double lane_sum(DoubleLanes x) { return x[0] + x[1]; }
ADAMP_FN double lane_sum(FloatLanes x) {
  return (double(x[0]) + double(x[2])) + (double(x[1]) + double(x[3]));
}
template <class Lanes>
ADAMP_FN RowSums<double> row_sums(Lanes pp, Lanes gg, Lanes pg, Lanes pu) {
  return {lane_sum(pp), lane_sum(gg), lane_sum(pg), lane_sum(pu)};
}
#endif

// The lanes of a vector, half of them at a time, as doubles.
#if ADAMP_VECTOR_BYTES == 64
ADAMP_FN DoubleLanes low_half(FloatLanes x) {
  const EightFloats half = __builtin_shufflevector(x, x, 0, 1, 2, 3, 4, 5, 6, 7);
  return __builtin_convertvector(half, DoubleLanes);
}
ADAMP_FN DoubleLanes high_half(FloatLanes x) {
  const EightFloats half = __builtin_shufflevector(x, x, 8, 9, 10, 11, 12, 13, 14, 15);
  return __builtin_convertvector(half, DoubleLanes);
}
#elif ADAMP_VECTOR_BYTES == 32
ADAMP_FN DoubleLanes low_half(FloatLanes x) {
  return __builtin_convertvector((FourFloats)__builtin_shufflevector(x, x, 0, 1, 2, 3),
                                 DoubleLanes);
}
ADAMP_FN DoubleLanes high_half(FloatLanes x) {
  return __builtin_convertvector((FourFloats)__builtin_shufflevector(x, x, 4, 5, 6, 7),
                                 DoubleLanes);
}
#else
ADAMP_FN DoubleLanes low_half(FloatLanes x) { return DoubleLanes{x[0], x[1]}; }
ADAMP_FN DoubleLanes high_half(FloatLanes x) { return DoubleLanes{x[2], x[3]}; }
#endif

}  // namespace

template <>
struct Math<FloatLanes> {
  static ADAMP_FN FloatLanes square_root(FloatLanes x) { return root_of(x); }
  static ADAMP_FN bool all_finite(FloatLanes x) { return !any_nan(x - x); }
};
template <>
struct Math<DoubleLanes> {
  static ADAMP_FN DoubleLanes square_root(DoubleLanes x) { return root_of(x); }
  static ADAMP_FN bool all_finite(DoubleLanes x) { return !any_nan(x - x); }
};

}  // namespace adamp
