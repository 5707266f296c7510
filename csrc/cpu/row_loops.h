// The two loops over a contiguous run of one tensor: accumulate and apply.
//
// They are compiled once for each instruction set (row_loops_*.cpp) and chosen at run time.
#pragma once

#include <cstdint>

#include "../formulas.h"

namespace adamp {

// A contiguous run of one tensor, at the same offset in each of its arrays.
struct Span {
  void* param;
  const void* grad;
  void* moment1;
  void* moment2;
  int64_t count;
};

// One set of options in both types of arithmetic; made once per step.
struct ScalarPair {
  Scalars<float> in_float;
  Scalars<double> in_double;
};

enum class Accumulate { kSums, kUpdate, kSumsAndUpdate };

// The loops of one method and storage type.
struct RowLoops {
  // Updates the moments of `rows` runs of `span.count` elements, one behind the other; leaves the
  // four sums of each in `sums` (if asked for); applies `now` in the same sweep (if asked for),
  // which makes it the only visit to memory.
  void (*accumulate)(const Span& span, int64_t rows, const ScalarPair&, Accumulate,
                     RowUpdate<double> now, RowSums<double>* sums, float* kept);
  // `kept` (or null) of accumulate is room for every u, so that rows updated a moment later need no
  // second square root and division; apply_kept applies `next` from there. Null: u is in memory as
  // it is.
  void (*apply_kept)(const Span&, const ScalarPair&, RowUpdate<double> next, const float* kept);
  // Applies `next`. `previous` (or null): what was applied already and has to be taken back first.
  void (*apply)(const Span&, const ScalarPair&, RowUpdate<double> next,
                const RowUpdate<double>* previous);
};

// The loops for this processor. ADAMP_FUSED_CPU_CAPABILITY=baseline|avx2|avx512 asks for less.
RowLoops row_loops(Method method, DType dtype);
const char* cpu_capability();

// One for each instruction set that this build contains.
RowLoops row_loops_baseline(Method method, DType dtype);
RowLoops row_loops_avx2(Method method, DType dtype);
RowLoops row_loops_avx512(Method method, DType dtype);

}  // namespace adamp
