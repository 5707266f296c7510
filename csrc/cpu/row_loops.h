// The two loops over a contiguous run of one tensor: accumulate and apply.
//
// They are compiled once for each instruction set (row_loops_*.cpp) and chosen at run time.
#pragma once

#include <cstdint>

#include "../core/stats.h"

namespace adamp {

// Rows of one tensor, one behind the other, at the same offset in each of its arrays.
struct Block {
  void* param;
  const void* grad;
  void* moment1;
  void* moment2;
  int64_t rows, cols;

  int64_t numel() const { return rows * cols; }
  // All rows as one, where they are treated alike.
  Block as_run() const { return {param, grad, moment1, moment2, 1, numel()}; }
};

// One set of options in both types of arithmetic; made once per step.
struct ScalarPair {
  Scalars<float> in_float;
  Scalars<double> in_double;
};

// Rows of at most as many elements are thin. Their sums are not kept: they are computed again where
// they are needed, many rows at a time. 16 float32 are a vector of AVX-512, and as quick by
// themselves.
constexpr int64_t kThinCols = 15;

enum class Accumulate { kSums, kUpdate, kSumsAndUpdate };

// A block whose moments have moved and whose sums are known: what its rows still have to get.
struct Behind {
  struct Row {
    RowUpdate<double> update;
    bool active;
  };
  Block block;
  const Row* rows;
  const void* kept;  // each u, as accumulate() left it
};

// The loops of one method and storage type.
struct RowLoops {
  // Moves the moments of a block; leaves the four sums of each row in `sums` (if wanted), and the
  // sum of u*u over all of them in `uu` (if not null); applies `now` in the same sweep (if wanted),
  // which makes it the only pass over memory.
  //
  // `kept`: null, or a buffer for each u in the type of the arithmetic, so that an update a moment
  // later needs no second square root and division. `behind`: null, or an earlier block with as
  // many columns and at least as many rows, which is updated in the same sweep: it is still in
  // cache, and the memory goes on working meanwhile. Its `kept` may be this block's.
  void (*accumulate)(const Block& block, const ScalarPair&, Accumulate, RowUpdate<double> now,
                     RowSums<double>* sums, double* uu, void* kept, const Behind* behind);
  // Updates a block as accumulate() does with one that is behind.
  void (*apply_kept)(const Behind&, const ScalarPair&);
  // Applies `next` to all rows. `previous` (or null): what was applied already and is rolled back
  // first.
  void (*apply)(const Block&, const ScalarPair&, RowUpdate<double> next,
                const RowUpdate<double>* previous);
  // Whether every row of a block of thin rows passes the cosine test. Before they are updated.
  bool (*thin_rows_pass)(const Block&, const ScalarPair&, double bound);
  // What thin rows add to the statistics of their tensor, but for uu. Before accumulate().
  StatSums<double> (*thin_row_stats)(const Block&, const ScalarPair&);
  // Updates thin rows channel-wise. `kept` as above, or null: u is computed again. `previous` as
  // above, of all rows; needs `kept` to be null.
  void (*project_thin_rows)(const Block&, const ScalarPair&, const void* kept,
                            const RowUpdate<double>* previous);
  // The sum of the squares of a block's gradients, multiplied by `factor` first.
  double (*squares)(const Block&, double factor);
};

// The loops for this CPU. ADAMP_FUSED_CPU_CAPABILITY=baseline|avx2|avx512 asks for less.
const RowLoops& row_loops(Method method, DType dtype);
const char* cpu_capability();

// One for each instruction set that this build contains.
const RowLoops& row_loops_baseline(Method method, DType dtype);
const RowLoops& row_loops_avx2(Method method, DType dtype);
const RowLoops& row_loops_avx512(Method method, DType dtype);

}  // namespace adamp
