// Work tiles and CPU step of tensors with more than 2^32 elements, without their memory.
//
// The executor is the real one; its row loops are replaced by ones that write down which elements
// they were given. Addresses are made up and never followed.
#include <sys/resource.h>

#include <cstdio>
#include <string>

#include "../../../csrc/cpu/tensor_work.h"
#include "../../../csrc/cuda/kernel_args.h"

namespace adamp {
namespace {

constexpr int64_t kElements = 3 * (int64_t{1} << 31);

// Made-up places of p, g, m and v: far enough apart for any of these tensors.
char* base(int64_t array) { return reinterpret_cast<char*>((array + 1) << 44); }

struct Run {
  int64_t begin, end;  // bytes
};
std::vector<Run> accumulated, applied;
std::string wrong;
int64_t element_size;
RowSums<double> sums_of_rows;  // what every row adds up to

void note(std::vector<Run>& runs, const Block& block) {
  const int64_t at = static_cast<char*>(block.param) - base(0);
  const void* const arrays[] = {block.grad, block.moment1, block.moment2};
  for (int64_t i = 0; i < 3; ++i) {
    if (arrays[i] != base(i + 1) + at) wrong = "p, g, m and v at different offsets";
  }
  runs.push_back({at, at + block.numel() * element_size});
}

void note_behind(const Behind& behind) {
  for (int64_t row = 0; row < behind.block.rows; ++row) {
    if (!behind.rows[row].active) wrong = "a row is not updated";
  }
  note(applied, behind.block);
}

// Whether the runs cover `bytes` bytes, each once.
void check_once(std::vector<Run>& runs, int64_t bytes, const char* what) {
  std::sort(runs.begin(), runs.end(), [](const Run& a, const Run& b) { return a.begin < b.begin; });
  int64_t covered = 0;
  for (const Run& run : runs) {
    if (run.begin != covered || run.end <= run.begin) break;
    covered = run.end;
  }
  if (covered == bytes) return;
  wrong = std::string(what) + ": byte " + std::to_string(covered) + " of " + std::to_string(bytes) +
          " is left out or taken twice";
}

// How often the elements are passed over after they were accumulated.
enum class Applied { kNever, kOnce };

void check_step(const char* name, int64_t rows, int64_t cols, DType dtype, Projection projection,
                View last, bool passes, View outcome, Applied want) {
  int32_t view = static_cast<int32_t>(last);
  accumulated.clear();
  applied.clear();
  element_size = size_of(dtype);
  sums_of_rows = {1, 1, passes ? 0.0 : 1.0, 0};
  const TensorInfo info = {base(0), base(2), base(3), &view, rows, cols, dtype, projection};
  Hyper hyper = {};
  hyper.delta = hyper.numbers.lr = 0.1;
  hyper.numbers.inv_bias_correction1 = hyper.numbers.inv_root_bias_correction2 = 0.1;
  const void* const grad = base(1);
  const int32_t hyper_index = 0;
  make_cpu_executor(Method::kAdamP, {info}, false, nullptr)
      ->run({&grad, &hyper_index, &hyper, 1, 1, nullptr});
  const int64_t bytes = rows * cols * element_size;
  if (wrong.empty()) check_once(accumulated, bytes, "accumulated");
  if (wrong.empty()) check_once(applied, want == Applied::kOnce ? bytes : 0, "applied");
  if (wrong.empty() && projection == Projection::kAuto && view != static_cast<int32_t>(outcome)) {
    wrong = "outcome " + std::to_string(view);
  }
  if (!wrong.empty()) wrong = std::string(name) + ": " + wrong;
}

// Tiles follow one another, are no larger than asked for, and cover the tensor.
void check_tiles(int64_t rows, int64_t cols, int64_t tile_size, int64_t max_rows) {
  TensorInfo info = {};
  info.rows = rows;
  info.cols = cols;
  std::vector<Tile> tiles(1);  // of a tensor before
  const TileRange added = append_tiles(tiles, info, 5, tile_size, max_rows);
  int64_t row = 0, col = 0;
  for (int64_t i = added.first; i < added.first + added.count; ++i) {
    const Tile& tile = tiles[i];
    const int64_t height = tile.row_end - tile.row_begin, width = tile.col_end - tile.col_begin;
    const bool whole_rows = tile.col_begin == 0 && tile.col_end == cols;
    if (tile.row_begin != row || tile.col_begin != col || height < 1 || width < 1 ||
        height > max_rows || width > tile_size || height * width > tile_size ||
        (height > 1 && !whole_rows) || tile.tensor != 5 || tile.slot != i) {
      break;
    }
    col = tile.col_end == cols ? 0 : tile.col_end;
    row = tile.col_end == cols ? tile.row_end : row;
  }
  if (row == rows && col == 0 && added.first + added.count == static_cast<int64_t>(tiles.size())) {
    return;
  }
  wrong = "tiles of " + std::to_string(tile_size) + ": row " + std::to_string(row) + ", column " +
          std::to_string(col) + " of " + std::to_string(rows) + " x " + std::to_string(cols);
}

void check_all() {
  struct Size {
    int64_t elements, rows;
  };
  const Size sizes[] = {{kSmallTile, kSmallTile},
                        {kLargeTile, kSmallTile},
                        {tile_elements(DType::kFloat32), max_rows(DType::kFloat32)},
                        {tile_elements(DType::kFloat64), max_rows(DType::kFloat64)}};
  for (const Size& size : sizes) {
    for (const int64_t rows : {int64_t{1}, int64_t{3}, kElements / 4096}) {
      if (wrong.empty()) check_tiles(rows, kElements / rows + 1, size.elements, size.rows);
    }
  }
  // More rows than 2^32; in tiles of 128 rows their list alone would be gigabytes.
  if (wrong.empty()) check_tiles(kElements + 1, 1, kSmallTile, kSmallTile);
  constexpr auto kF32 = DType::kFloat32;
  const auto step = [](auto... arguments) {
    if (wrong.empty()) check_step(arguments...);
  };
  step("vector", 1, kElements + 1, kF32, Projection::kOff, View::kNone, true, View::kNone,
       Applied::kNever);
  step("long rows, guess right", 3, kElements / 3 + 1, DType::kFloat64, Projection::kAuto,
       View::kNone, false, View::kNone, Applied::kNever);
  step("long rows, guess wrong", 3, kElements / 3 + 1, kF32, Projection::kAuto, View::kNone, true,
       View::kChannel, Applied::kOnce);
  step("long rows, 16 bits", 3, kElements / 3 + 1, DType::kBFloat16, Projection::kAuto,
       View::kChannel, true, View::kChannel, Applied::kOnce);
  step("layer", 3, kElements / 3 + 1, kF32, Projection::kLayer, View::kNone, true, View::kLayer,
       Applied::kOnce);
  step("rows, guess right", kElements / 8192, 8192 + 1, kF32, Projection::kAuto, View::kChannel,
       true, View::kChannel, Applied::kOnce);
  step("rows, no guess", kElements / 8192, 8192 + 1, kF32, Projection::kAuto, View::kLayer, false,
       View::kNone, Applied::kOnce);
  // Nothing is kept of so many rows: a byte for each would be more than this program may have.
  step("thin rows, guess right", kElements / 3 + 1, 3, kF32, Projection::kAuto, View::kNone, false,
       View::kNone, Applied::kNever);
  step("thin rows, guess wrong", kElements / 3 + 1, 3, kF32, Projection::kAuto, View::kNone, true,
       View::kChannel, Applied::kOnce);
  step("thin rows held", kElements + 1, 1, DType::kBFloat16, Projection::kAuto, View::kChannel,
       false, View::kNone, Applied::kOnce);
  step("thin rows, fixed outcome", kElements / 15 + 1, 15, kF32, Projection::kChannel, View::kNone,
       true, View::kChannel, Applied::kOnce);
  step("short rows layer-wise", kElements / 32 + 1, 32, kF32, Projection::kLayer, View::kNone, true,
       View::kLayer, Applied::kOnce);
}

}  // namespace

const RowLoops& row_loops(Method, DType) {
  static RowLoops loops = {};
  loops.accumulate = [](const Block& block, const ScalarPair&, Accumulate, RowUpdate<double>,
                        RowSums<double>* sums, double*, void*, const Behind* behind) {
    note(accumulated, block);
    for (int64_t i = 0; sums != nullptr && i < block.rows; ++i) sums[i] = sums_of_rows;
    if (behind != nullptr) note_behind(*behind);
  };
  loops.apply_kept = [](const Behind& behind, const ScalarPair&) { note_behind(behind); };
  loops.apply = [](const Block& block, const ScalarPair&, RowUpdate<double>,
                   const RowUpdate<double>*) { note(applied, block); };
  loops.thin_rows_pass = [](const Block&, const ScalarPair&, double) {
    return sums_of_rows.pg == 0;
  };
  loops.project_thin_rows = [](const Block& block, const ScalarPair&, const void*,
                               const RowUpdate<double>*) { note(applied, block); };
  return loops;
}

}  // namespace adamp

int main() {
  // An index that overflows may make tiles without end: they are to end here.
  const rlimit most = {rlim_t{2} << 30, rlim_t{2} << 30};
  setrlimit(RLIMIT_AS, &most);
  try {
    adamp::check_all();
  } catch (const std::exception& error) {
    adamp::wrong = error.what();
  }
  std::puts(adamp::wrong.empty() ? "every element once" : adamp::wrong.c_str());
  return adamp::wrong.empty() ? 0 : 1;
}
