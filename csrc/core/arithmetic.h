// What the mathematics needs of the compiler and of a number type: a float, a double, or a vector
// of lanes.
#pragma once

#include <math.h>

#include <cstdint>

#if defined(__CUDACC__)
#define ADAMP_FN __host__ __device__ __forceinline__
#else
#define ADAMP_FN inline __attribute__((always_inline))
#endif

namespace adamp {

// Operations that no operator has. cpu/vec.h specializes it for vectors.
template <class T>
struct Math;

template <>
struct Math<float> {
  static ADAMP_FN float square_root(float x) { return sqrtf(x); }
  static ADAMP_FN bool all_finite(float x) { return x - x == 0; }
};

template <>
struct Math<double> {
  static ADAMP_FN double square_root(double x) { return sqrt(x); }
  static ADAMP_FN bool all_finite(double x) { return x - x == 0; }
};

template <class T>
ADAMP_FN T square_root(T x) {
  return Math<T>::square_root(x);
}

// base^exponent of a whole exponent of at least 0. By squaring, so that host and device come to the
// same bits; off by some exponent * 1e-16 of itself, as base is by its own rounding.
ADAMP_FN double power(double base, double exponent) {
  double result = 1;
  for (uint64_t left = static_cast<uint64_t>(exponent); left != 0; left >>= 1) {
    if (left & 1) result *= base;
    base *= base;
  }
  return result;
}

}  // namespace adamp
