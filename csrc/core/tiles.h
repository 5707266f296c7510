// How a tensor is cut into tiles. Pure host code, shared by both executors.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "params.h"

namespace adamp {

// A rectangle of one tensor: whole rows, or, where a row is longer than a tile, a piece of one
// row.
struct Tile {
  int64_t row_begin, row_end;
  int64_t col_begin, col_end;
  int32_t tensor;
  int32_t slot;  // where the tile leaves its partial sums: first_slot of the tensor + its position
};

struct TileRange {
  int64_t first, count;  // into the list of tiles; its slots are numbered alike
};

// Appends the tiles of one tensor, of at most `tile_size` elements and `max_rows` rows each.
inline TileRange append_tiles(std::vector<Tile>& tiles, const TensorInfo& tensor, int32_t index,
                              int64_t tile_size, int64_t max_rows) {
  const int64_t first = static_cast<int64_t>(tiles.size());
  const bool split_rows = tensor.cols > tile_size;
  const int64_t rows_each =
      split_rows ? 1
                 : std::clamp<int64_t>(tile_size / std::max<int64_t>(1, tensor.cols), 1, max_rows);
  const int64_t cols_each = split_rows ? tile_size : tensor.cols;
  if (tensor.rows * tensor.cols > 0) {
    for (int64_t row = 0; row < tensor.rows; row += rows_each) {
      for (int64_t col = 0; col < tensor.cols; col += cols_each) {
        tiles.push_back({row, std::min(row + rows_each, tensor.rows), col,
                         std::min(col + cols_each, tensor.cols), index,
                         static_cast<int32_t>(tiles.size())});
      }
    }
  }
  return {first, static_cast<int64_t>(tiles.size()) - first};
}

}  // namespace adamp
