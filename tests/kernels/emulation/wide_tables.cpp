#include <algorithm>
#include <utility>

#include "../../../csrc/cuda/kernel_args.h"
#include "runtime_emulated.h"
#include "sparse.h"
#include "wide_index.h"

namespace emulation {
namespace {

using namespace adamp;

constexpr int64_t kWide = 3 * (int64_t{1} << 31);

std::string check_tiles(int64_t rows, int64_t cols, int64_t most) {
  TensorInfo info = {};
  info.rows = rows;
  info.cols = cols;
  std::vector<Tile> tiles;
  append_tiles(tiles, info, 0, most, most);
  int64_t row = 0, col = 0;  // where the next tile has to begin
  for (const Tile& tile : tiles) {
    if (tile.row_begin != row || tile.col_begin != col) return "tiles leave a gap";
    col = tile.col_end == cols ? 0 : tile.col_end;
    row = col == 0 ? tile.row_end : row;
  }
  return row == rows && tiles.size() == static_cast<size_t>(kWide / most) ? "" : "tiles are lost";
}

// The scratch memory of two tensors, more than 2^31 bytes of it.
std::string check_scratch(TensorStats* stats) {
  const auto info = [stats](int64_t rows, int64_t cols) {
    TensorInfo one = {};
    one.stats = stats;
    one.rows = rows;
    one.cols = cols;
    one.dtype = DType::kFloat64;
    one.projection = Projection::kAuto;
    return one;
  };
  int64_t last_bytes = 0, scratch_bytes = 0;
  const unsigned char* last = nullptr;
  const Allocate allocate_sparse = [&](int64_t bytes) {
    const auto memory = std::make_shared<Sparse>(bytes);
    last = memory->bytes();
    last_bytes = bytes;
    return std::shared_ptr<void>(memory, memory->bytes());
  };
  std::vector<std::pair<int64_t, int64_t>> ranges;
  device().launch = [&](const KernelArgs& args) {
    scratch_bytes = args.scratch == last ? last_bytes : 0;
    for (int t = 0; t < 2; ++t) {
      const DeviceTensor& tensor = args.tensors[t];
      const size_t slot =
          stats == nullptr ? sizeof(Slot<double, false>) : sizeof(Slot<double, true>);
      const int64_t sums = tensor.tile_count * static_cast<int64_t>(slot);
      const int64_t records = (1 + (tensor.rows_are_thin ? 0 : tensor.info.rows)) *
                              static_cast<int64_t>(sizeof(RowRecord<double>));
      ranges.emplace_back(tensor.slots, tensor.slots + sums);
      ranges.emplace_back(tensor.records, tensor.records + records);
    }
  };
  const auto executor = make_cuda_executor(Method::kAdamP, {info(90'000'000, 17), info(2, 3000)},
                                           false, allocate_sparse, nullptr);
  const void* grads[2] = {};
  const int32_t indices[2] = {};
  const Hyper hyper = {};
  executor->run({grads, indices, &hyper, 1, 1, nullptr});
  device().launch = nullptr;
  std::sort(ranges.begin(), ranges.end());
  int64_t end = 0;
  for (const auto& range : ranges) {
    if (range.first < end) return "scratch memory overlaps";
    end = range.second;
  }
  return end <= scratch_bytes ? "" : "scratch memory is too small";
}

}  // namespace

std::string check_wide_tables() {
  for (const auto& shape : {std::pair(kWide, int64_t{1}), std::pair(int64_t{1}, kWide)}) {
    const std::string wrong = check_tiles(shape.first, shape.second, kWide / 3);
    if (!wrong.empty()) return wrong;
  }
  const std::string wrong = check_scratch(nullptr);
  TensorStats stats = {};
  return wrong.empty() ? check_scratch(&stats) : wrong;
}

}  // namespace emulation
