// What a step does to one tensor, item by item; who does it when is in executor.cpp.
#pragma once

#include <algorithm>
#include <vector>

#include "../core/speculation.h"
#include "../core/tiles.h"
#include "row_loops.h"

namespace adamp {

// Elements of an item. At least: 16 bytes each (p, g, m, v) stay in a 1 MiB L2 cache between two
// visits, and take about 20 us, so that threads finish together. At most: only an item that holds
// whole rows can update them before the tensor is decided, and its last rows are updated after its
// sweep instead of within it.
constexpr int64_t kSmallItem = 16384, kLargeItem = 65536;

// By the tensor alone: sums are added up by items, and must not depend on the number of threads.
int64_t item_size_of(const TensorInfo& info);

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
  // Left by each item.
  struct Slot {
    RowSums<double> sums;
    int64_t failed_rows, pending_rows;
  };
  TensorWork(Method method, const TensorInfo& info, const TensorItems& items, Slot* slots);

  // Says what the running step is given; `grad` null: the tensor is left alone.
  void begin(const void* grad, const ScalarPair& scalars);
  // Gives it room to keep each u until it is decided, so that finishing needs no second square root
  // and division. After begin(), where surely_unfinished().
  void keep_u_in(void* room) { kept_ = room; }
  // How many bytes that takes; 0 where u is the stored momentum itself.
  int64_t bytes_of_u() const;

  bool stepped() const { return grad_ != nullptr; }
  // Whether items are left to finish once the tensor is decided, whatever is decided.
  bool surely_unfinished() const { return stepped() && needs_decision() && early_ == Early::kNone; }
  bool needs_decision() const {
    return adamp::needs_decision(info_.projection, one_item(), rows_are_split_);
  }
  const TensorItems& items() const { return items_; }

  // What both functions on an item need at most.
  Scratch::Size scratch_size(const Item& item) const;

  // Moves the moments of an item and updates what may be; all of it where no decision is needed.
  void accumulate(const Item& item, Scratch& scratch);
  // When all items have been accumulated; whether they are to be finished.
  bool decide();
  void finish(const Item& item, Scratch& scratch);

 private:
  // Left by each row of a tensor of several items, for the fix-up pass.
  struct RowRecord {
    double pp, pu;
    bool updated;
  };

  bool one_item() const { return items_.count == 1; }
  bool thin() const { return info_.cols <= kThinCols; }
  // Thin rows whose outcome is fixed: each block is projected while it is in the first cache.
  bool projects_in_place() const { return thin() && info_.projection == Projection::kChannel; }
  bool takes_row_sums() const;
  const Scalars<double>& options() const { return scalars_->in_double; }
  Block block_at(int64_t first, int64_t rows, int64_t cols) const;
  Block block_of(int64_t row, int64_t rows, int64_t col_begin, int64_t cols) const;
  Block block_of(const Item& item) const;
  void* kept_of(int64_t row, int64_t col) const;
  bool row_passes(const RowSums<double>& sums) const;
  void step_whole(const Item& item, Scratch& scratch);
  void accumulate_blocks(const Item& item, Scratch& scratch);
  Slot accumulate_runs(const Item& item, void* kept) const;
  void judge(const Block& block, int64_t first_row, const RowSums<double>* sums, Slot& slot,
             Behind::Row* rows);
  void join_split_rows();
  template <class Sums>
  void apply_kept(const Block& block, const Sums* sums, const void* kept, Scratch& scratch);
  Slot reduce();
  void decide_by(int64_t failed_rows);

  const Method method_;
  const TensorInfo info_;
  const TensorItems items_;
  const RowLoops& loops_;
  Slot* const slots_;  // of its items
  const bool rows_are_split_;

  // Of the running step.
  const void* grad_ = nullptr;
  const ScalarPair* scalars_ = nullptr;
  void* kept_ = nullptr;  // null: no u is kept
  double bound_ = 0;      // of the cosine of a row
  Early early_ = Early::kNone;
  View outcome_ = View::kNone;
  bool by_rows_ = false;  // takes_row_sums(), and keeps them in records_
  RowSums<double> total_ = {};
  std::vector<RowRecord> records_;  // of its rows; empty until they are needed
};

}  // namespace adamp
