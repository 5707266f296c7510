#include "wide_index.h"

#include <cmath>
#include <memory>

#include "../../../csrc/cuda/kernel_args.h"
#include "kernel_emulated.h"
#include "memory.h"
#include "oracle.h"
#include "races.h"
#include "sparse.h"

namespace emulation {
namespace {

using namespace adamp;

// Where the rows' records lie in the scratch memory; the tiles' sums lie behind them.
constexpr int64_t kRecords = int64_t{1} << 33;

struct Tables {
  DeviceTensor tensor = {};
  Tile tiles[2] = {};
  Task tasks[3] = {{0, 1, 0, TaskKind::kAccumulate},
                   {1, 1, 0, TaskKind::kAccumulate},
                   {0, 2, 0, TaskKind::kFixUp}};
  Decision decision = {};
  uint32_t next_task = 0;
  int32_t view = 0;
};

// The kernel's memory is what the tables say, and nothing else.
struct Watch {
  const void* base;
  Watch(const void* at, size_t size) : base(at) { races::add_memory(at, size, 4, "table", true); }
  ~Watch() { races::remove_memory(base); }
};

// Two steps of a tensor of `rows` x `cols` whose tiles are the two given ones. `along`: every
// gradient has the sign of its weight, so that nothing is projected. `thin`: as thin rows.
std::string check(int64_t rows, int64_t cols, const Tile& first, const Tile& last,
                  Projection projection, bool along = false, bool thin = false) {
  const int64_t numel = rows * cols, bytes = numel * 4;
  const int64_t slots =
      kRecords + (rows + 2) / 2 * 2 * static_cast<int64_t>(sizeof(RowRecord<float>));
  const Sparse p(bytes), g(bytes), m(bytes), v(bytes);
  const Sparse scratch(slots + 2 * static_cast<int64_t>(sizeof(Slot<float, false>)), kRecords);
  auto tables = std::make_unique<Tables>();
  const Watch watch(tables.get(), sizeof(Tables));
  tables->tensor.info = {p.floats(), m.floats(), v.floats(),      &tables->view,
                         rows,       cols,       DType::kFloat32, projection};
  tables->tensor.tile_count = 2;
  tables->tensor.fix_up_tasks = 1;
  tables->tensor.rows_are_split = tables->tensor.rows_span_tiles = first.col_end < cols;
  tables->tensor.rows_are_thin = thin;
  tables->tensor.vectorized = 1;
  tables->tensor.slots = slots;
  tables->tensor.records = kRecords;
  tables->tiles[0] = first;
  tables->tiles[1] = last;

  Hyper h = {};
  h.numbers = {0.01, 0.1, 1, 1};
  h.wd_ratio = h.delta = 0.1;
  h.eps = 1e-8;
  h.decay_factor = 1;
  h.beta1 = h.one_minus_beta1 = h.beta2 = 0.5;
  const void* grad = g.floats();
  const int32_t hyper_index = 0;
  KernelArgs args = {};
  args.tensors = &tables->tensor;
  args.tiles = tables->tiles;
  args.tasks = tables->tasks;
  args.decisions = &tables->decision;
  args.scratch = scratch.bytes();
  args.next_task = &tables->next_task;
  args.n_tasks = 3;
  args.n_tensors = args.n_hypers = 1;
  std::memcpy(args.inline_values, &grad, sizeof grad);
  std::memcpy(args.inline_values + sizeof grad, &h, sizeof h);
  std::memcpy(args.inline_values + sizeof grad + sizeof h, &hyper_index, sizeof hyper_index);

  // The oracle sees the elements of the two tiles as one small tensor.
  const int64_t count = (first.row_end - first.row_begin) * (first.col_end - first.col_begin);
  const int64_t offset = last.row_begin * cols + last.col_begin;
  const auto at = [&](int64_t i) { return i < count ? i : offset + i - count; };
  const int64_t few_rows =
      tables->tensor.rows_are_split ? 1 : 2 * (first.row_end - first.row_begin);
  Values want;
  want.p.resize(2 * count);
  want.g.resize(2 * count);
  want.m.assign(2 * count, 0);
  want.v.assign(2 * count, 0);
  for (int step = 0; step < 2; ++step) {
    for (int64_t i = 0; i < 2 * count; ++i) {
      // Else neighbours cancel, so that every row passes the test.
      want.p[i] = p.floats()[at(i)] = static_cast<float>(1 + i / 2 % 5);
      want.g[i] = g.floats()[at(i)] =
          (along || i % 2 == 0 ? 1.0f : -1.0f) * static_cast<float>(1 + i / 2 % 3);
    }
    const View outcome = oracle_step(want, few_rows, 2 * count / few_rows, Method::kAdamP,
                                     DType::kFloat32, projection, h);
    const uint64_t wide_before = vector_accesses, asked_before = bytes_asked_for;
    const uint64_t excess_before = bytes_in_excess;
    launch_kernel({Method::kAdamP, TypeSet::kFloat32, false}, 2, args, {7, 2});
    for (int64_t i = 0; i < 2 * count; ++i) {
      if (!(std::fabs(p.floats()[at(i)] - want.p[i]) <= 1e-5 * want.p[i])) {
        return "element " + std::to_string(at(i)) + " of " + std::to_string(numel) + " is " +
               std::to_string(p.floats()[at(i)]) + ", want " + std::to_string(want.p[i]);
      }
    }
    const uint64_t asked = bytes_asked_for - asked_before, excess = bytes_in_excess - excess_before;
    // Of four arrays, float32, the first half of each of two tiles.
    const uint64_t to_ask = 4 * 4 * 2 * static_cast<uint64_t>(count) / 2;
    if (asked < to_ask || asked > to_ask + excess) {
      return "not half of p, g, m and v is prefetched, and nothing else";
    }
    if (count % 4 != 0) continue;
    // p, g, m and v are read, p, m and v written, and once only where the outcome was predicted.
    const uint64_t least = 7 * static_cast<uint64_t>(2 * count / 4);
    const uint64_t made = vector_accesses - wide_before;
    if (made < least) return "accesses are narrow";
    const bool predicted =
        outcome == View::kNone || (step == 1 && outcome == View::kChannel && !thin);
    if (made > least && predicted) return "memory is passed over again";
  }
  return "";
}

}  // namespace

std::string check_wide_index() {
  constexpr int64_t kRows = 3 * (int64_t{1} << 21), kCols = 1 << 10, kPiece = 4096;
  const Tile first_rows = {0, 4, 0, kCols, 0, 0}, last_rows = {kRows - 4, kRows, 0, kCols, 0, 1};
  std::string wrong = check(kRows, kCols, first_rows, last_rows, Projection::kAuto);
  if (!wrong.empty()) return "whole rows: " + wrong;
  constexpr int64_t kMany = kRows * kCols;
  wrong = check(kMany, 1, {0, 5, 0, 1, 0, 0}, {kMany - 5, kMany, 0, 1, 0, 1}, Projection::kAuto);
  if (!wrong.empty()) return "more than 2^32 rows: " + wrong;
  for (const bool along : {false, true}) {
    wrong = check(kMany / 8, 8, {0, 16, 0, 8, 0, 0}, {kMany / 8 - 16, kMany / 8, 0, 8, 0, 1},
                  Projection::kAuto, along, true);
    if (!wrong.empty()) return "thin rows: " + wrong;
  }
  const Tile first_piece = {0, 1, 0, kPiece, 0, 0};
  const Tile last_piece = {0, 1, kMany - kPiece, kMany, 0, 1};
  wrong = check(1, kMany, first_piece, last_piece, Projection::kLayer);
  if (wrong.empty()) wrong = check(1, kMany, first_piece, last_piece, Projection::kAuto, true);
  return wrong.empty() ? "" : "pieces of a row: " + wrong;
}

}  // namespace emulation
