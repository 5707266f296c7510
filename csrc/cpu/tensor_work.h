// What a step does to one tensor, tile by tile; who does it when is in executor.cpp.
#pragma once

#include <algorithm>
#include <vector>

#include "../core/speculation.h"
#include "../core/tiles.h"
#include "row_loops.h"

namespace adamp {

// Elements of a tile. At least: 16 bytes each (p, g, m, v) stay in a 1 MiB L2 cache between two
// passes, and take about 20 us, so that threads finish together. At most: only a tile that holds
// whole rows can update them before the tensor is decided, and its last rows are updated after its
// sweep instead of within it.
constexpr int64_t kSmallTile = 16384, kLargeTile = 65536;

// By the tensor alone: sums are added up by tiles, and must not depend on the number of threads.
int64_t tile_size_of(const TensorInfo& info);

// A thread's own buffers: for each u of rows that are updated a moment later, for their sums, and
// for what they still have to get. Made before a step begins: in it nothing may fail.
struct Scratch {
  struct Size {
    int64_t kept = 0, sums = 0, rows = 0;  // bytes, rows, rows

    void enlarge(const Size& other) {
      kept = std::max(kept, other.kept);
      sums = std::max(sums, other.sums);
      rows = std::max(rows, other.rows);
    }
  };

  explicit Scratch(const Size& size) {
    set(kept, (size.kept + 7) / 8);
    set(sums, size.sums);
    set(rows, size.rows);
  }

  std::vector<double> kept;  // as bytes; float64 is the largest
  std::vector<RowSums<double>> sums;
  std::vector<Behind::Row> rows;

 private:
  // With memory for a cache line more, so that no two threads write in one.
  template <class T>
  static void set(std::vector<T>& buffer, int64_t size) {
    buffer.reserve(size + 64 / sizeof(T) + 1);
    buffer.resize(size);
  }
};

class TensorWork {
 public:
  // Left by each tile.
  struct Slot {
    RowSums<double> sums;
    int64_t failed_rows, pending_rows;
    StatSums<double> stats;  // where they are asked for
  };
  TensorWork(Method method, const TensorInfo& info, const TileRange& tiles, Slot* slots);

  // Says what the running step is given; `grad` null: the tensor is left alone.
  void begin(const void* grad, const Hyper& hyper, const ScalarPair& scalars);
  // Gives it a buffer to keep each u until it is decided, so that the fix-up pass needs no second
  // square root and division. After begin(), where surely_needs_fix_up().
  void keep_u_in(void* buffer) { kept_ = buffer; }
  // How many bytes that takes; 0 where u is the stored momentum itself.
  int64_t bytes_of_u() const;

  bool stepped() const { return grad_ != nullptr; }
  // Whether the decision needs sums of parts that other processes have. Then launch() ends with
  // publish(), and finish() begins with decide_whole().
  bool is_shard() const { return info_.shard.sums != nullptr; }
  // Whether tiles are left to fix up once the tensor is decided, whatever is decided.
  bool surely_needs_fix_up() const {
    return stepped() && needs_decision() && speculation_ == Speculation::kNone;
  }
  bool needs_decision() const {
    return adamp::needs_decision(info_.projection, one_tile(), rows_are_split_);
  }
  const TileRange& tiles() const { return tiles_; }

  // What both functions on a tile need at most.
  Scratch::Size scratch_size(const Tile& tile) const;

  // Moves the moments of a tile and updates what may be; all of it where no decision is needed.
  void accumulate(const Tile& tile, Scratch& scratch);
  // The sum of the squares of the gradients of a tile, multiplied by `factor` first.
  double squares(const Tile& tile, double factor) const;
  // When all tiles have been accumulated; whether they are to be fixed up.
  bool decide();
  // Of a shard, the same in two parts: leaves the sums of this part, and decides by those of all.
  void publish();
  bool decide_whole();
  void fix_up(const Tile& tile, Scratch& scratch);
  // Whether optimizer.stats() asks for the tensor: when it has been decided, and when all of its
  // tiles have been accumulated, note_stats() follows.
  bool is_measured() const { return info_.stats != nullptr; }
  void note_stats();

 private:
  // Left by each row of a tensor of several tiles, for the fix-up pass.
  struct RowRecord {
    double pp, pu;
    bool updated;
  };

  // Whether a single tile sees the whole tensor.
  bool one_tile() const { return tiles_.count == 1 && !is_shard(); }
  bool rows_span_tiles() const { return tiles_.count > info_.rows; }
  bool rows_span_shards() const { return info_.shard.row_sums != nullptr; }
  bool thin() const { return info_.cols <= kThinCols; }
  // Whether it is decided and updated while its only tile is in cache.
  bool steps_whole() const {
    return one_tile() && info_.projection != Projection::kOff && !projects_in_place();
  }
  // Thin rows whose outcome is fixed: each block is projected while it is in L1.
  bool projects_in_place() const {
    return thin() && info_.projection == Projection::kChannel && !rows_span_shards();
  }
  bool takes_row_sums() const;
  const Scalars<double>& options() const { return scalars_->in_double; }
  Block block_at(int64_t first, int64_t rows, int64_t cols) const;
  Block block_of(int64_t row, int64_t rows, int64_t col_begin, int64_t cols) const;
  Block block_of(const Tile& tile) const;
  void* kept_of(int64_t row, int64_t col) const;
  bool row_passes(const RowSums<double>& sums) const;
  void step_whole(const Tile& tile, Scratch& scratch);
  void accumulate_blocks(const Tile& tile, Scratch& scratch);
  Slot accumulate_runs(const Tile& tile, void* kept) const;
  Slot accumulate_measured(const Tile& tile) const;
  void judge(const Block& block, int64_t first_row, const RowSums<double>* sums, Slot& slot,
             Behind::Row* rows);
  void measure(const RowSums<double>* sums, int64_t rows, double uu, bool any_failed,
               StatSums<double>& stats) const;
  void reduce_split_rows();
  bool note_row(int64_t row, const RowSums<double>& sums);
  template <class Sums>
  void apply_kept(const Block& block, const Sums* sums, const void* kept, Scratch& scratch);
  Slot reduce();
  void decide_by(int64_t failed_rows);

  const Method method_;
  const TensorInfo info_;
  const TileRange tiles_;
  const RowLoops& loops_;
  Slot* const slots_;  // of its tiles
  const bool rows_are_split_;

  // Of the running step.
  const void* grad_ = nullptr;
  const Hyper* hyper_ = nullptr;
  const ScalarPair* scalars_ = nullptr;
  void* kept_ = nullptr;  // null: no u is kept
  double bound_ = 0;      // of the cosine of a row
  Speculation speculation_ = Speculation::kNone;
  View outcome_ = View::kNone;
  bool by_rows_ = false;  // takes_row_sums(), and keeps them in records_
  RowSums<double> total_ = {};
  StatSums<double> stats_ = {};
  int64_t pending_rows_ = 0;        // of a shard
  std::vector<RowRecord> records_;  // of its rows; empty until they are needed
};

}  // namespace adamp
