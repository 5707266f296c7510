// The row loops for CPUs with AVX2. Standard headers come first: nothing of them may be
// compiled for an instruction set that another CPU lacks.
#if defined(__x86_64__)

#include <immintrin.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <type_traits>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC target("avx2,fma,f16c")
#endif

#define ADAMP_VECTOR_BYTES 32
#define ADAMP_ROW_LOOPS row_loops_avx2
#include "row_loops_impl.h"

#if defined(__clang__)
#pragma clang attribute pop
#endif

#endif
