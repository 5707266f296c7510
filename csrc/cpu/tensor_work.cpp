#include "tensor_work.h"

#include <cmath>

#include "cosine.h"

namespace adamp {
namespace {

constexpr int64_t kTilesOfLargeTensor = 64;

// Rows are swept in blocks. A block that is updated while the next one is swept has to be still in
// L1, together with that one: with 2,048 elements instead of 256, rows of 768 took 10 % longer
// (SGDP, one core of an EPYC).
constexpr int64_t kBlockElements = 2048, kBlockElementsBehind = 256;
constexpr int64_t kBlockRows = 64;

// Rows of at most as many elements are not updated by themselves under a channel prediction: a row
// costs more than a second pass over its elements.
constexpr int64_t kHeldCols = 8;

// Rows of `cols` elements in a block of so many.
int64_t rows_of_block(int64_t elements, int64_t cols) {
  return std::clamp<int64_t>(elements / cols, 1, kBlockRows);
}

// In the type of the arithmetic.
int64_t size_of_u(DType dtype) { return dtype == DType::kFloat64 ? 8 : 4; }

}  // namespace

int64_t tile_size_of(const TensorInfo& info) {
  return std::clamp(info.rows * info.cols / kTilesOfLargeTensor, kSmallTile, kLargeTile);
}

TensorWork::TensorWork(Method method, const TensorInfo& info, const TileRange& tiles, Slot* slots)
    : method_(method),
      info_(info),
      tiles_(tiles),
      loops_(row_loops(method, info.dtype)),
      slots_(slots),
      rows_are_split_(rows_span_tiles() || rows_span_shards()) {}

void TensorWork::begin(const void* grad, const Hyper& hyper, const ScalarPair& scalars) {
  grad_ = grad;
  hyper_ = &hyper;
  scalars_ = &scalars;
  kept_ = nullptr;
  if (grad == nullptr || info_.projection == Projection::kOff) return;
  const View last = info_.view == nullptr ? View::kNone : static_cast<View>(*info_.view);
  speculation_ = speculate(info_.projection, info_.dtype, one_tile(),
                           rows_are_split_ || info_.cols <= kHeldCols, last, options());
  bound_ = cosine_bound(static_cast<double>(info_.whole_cols()), options());
  by_rows_ = takes_row_sums();
  if (by_rows_ && !one_tile()) records_.resize(info_.rows);
}

// Whether each row's own sums are taken. Not for a layer-wise projection; nor for thin rows, which
// are tested and projected many at a time, unless each is to be updated by itself.
bool TensorWork::takes_row_sums() const {
  if (thin() && !rows_span_shards())
    return speculation_ == Speculation::kChannelRows && !projects_in_place();
  return info_.projection != Projection::kLayer;
}

// Rows of `cols` elements, whatever the tensor's are, from element `first` of the tensor.
Block TensorWork::block_at(int64_t first, int64_t rows, int64_t cols) const {
  const int64_t offset = first * size_of(info_.dtype);
  const auto at = [offset](void* base) {
    return base == nullptr ? nullptr : static_cast<void*>(static_cast<char*>(base) + offset);
  };
  return {at(info_.param),
          static_cast<const char*>(grad_) + offset,
          at(info_.moment1),
          at(info_.moment2),
          rows,
          cols};
}

Block TensorWork::block_of(int64_t row, int64_t rows, int64_t col_begin, int64_t cols) const {
  return block_at(row * info_.cols + col_begin, rows, cols);
}

Block TensorWork::block_of(const Tile& tile) const {
  return block_of(tile.row_begin, tile.row_end - tile.row_begin, tile.col_begin,
                  tile.col_end - tile.col_begin);
}

int64_t TensorWork::bytes_of_u() const {
  const bool update_is_moment =
      for_method(method_, [](auto m) { return decltype(m)::kUpdateIsMoment; });
  if (update_is_moment && !options().nesterov) return 0;
  return info_.rows * info_.cols * size_of_u(info_.dtype);
}

void* TensorWork::kept_of(int64_t row, int64_t col) const {
  if (kept_ == nullptr) return nullptr;
  return static_cast<char*>(kept_) + (row * info_.cols + col) * size_of_u(info_.dtype);
}

bool TensorWork::row_passes(const RowSums<double>& sums) const {
  return info_.projection != Projection::kAuto ||
         cosine_below_by_squares(sums, bound_, options().eps);
}

Scratch::Size TensorWork::scratch_size(const Tile& tile) const {
  if (info_.projection == Projection::kOff) return {};
  const int64_t rows = tile.row_end - tile.row_begin, cols = tile.col_end - tile.col_begin;
  const int64_t of_row = cols * size_of_u(info_.dtype);
  if (projects_in_place()) return {kBlockElements * size_of_u(info_.dtype), 0, 0};
  // Where row sums are not taken, all rows of a tile get one update.
  const bool may_be_by_rows =
      info_.projection != Projection::kLayer && (info_.cols > kHeldCols || rows_span_shards());
  if (one_tile()) {
    const int64_t by_rows = may_be_by_rows && !thin() ? rows : 1;
    return {rows * of_row, by_rows, by_rows};
  }
  if (!may_be_by_rows) return {0, 0, 1};
  const int64_t at_once = rows_of_block(kBlockElements, cols);
  const int64_t behind = rows_of_block(kBlockElementsBehind, cols);
  return {behind * of_row, at_once, std::max(rows, 2 * at_once)};
}

void TensorWork::accumulate(const Tile& tile, Scratch& scratch) {
  if (info_.projection == Projection::kOff) {
    if (is_measured()) {
      slots_[tile.slot - tiles_.first] = accumulate_measured(tile);
    } else {
      loops_.accumulate(block_of(tile).as_run(), *scalars_, Accumulate::kUpdate,
                        plain_update(options()), nullptr, nullptr, nullptr, nullptr);
    }
    return;
  }
  if (steps_whole()) {
    step_whole(tile, scratch);
  } else if (projects_in_place()) {
    slots_[tile.slot - tiles_.first] = accumulate_runs(tile, scratch.kept.data());
  } else if (!by_rows_) {
    slots_[tile.slot - tiles_.first] =
        accumulate_runs(tile, kept_of(tile.row_begin, tile.col_begin));
  } else {
    accumulate_blocks(tile, scratch);
  }
}

// Sweeps a tile that needs no sums but for statistics.
TensorWork::Slot TensorWork::accumulate_measured(const Tile& tile) const {
  Slot slot = {};
  loops_.accumulate(block_of(tile).as_run(), *scalars_, Accumulate::kSumsAndUpdate,
                    plain_update(options()), &slot.sums, &slot.stats.uu, nullptr, nullptr);
  return slot;
}

// A tensor of one tile is decided while it is in cache: nothing has to be predicted.
void TensorWork::step_whole(const Tile& tile, Scratch& scratch) {
  const Block block = block_of(tile);
  void* const kept = scratch.kept.data();
  int64_t failed_rows = 0;
  total_ = {};
  stats_ = {};
  if (by_rows_) {
    double uu = 0;
    loops_.accumulate(block, *scalars_, Accumulate::kSums, RowUpdate<double>(), scratch.sums.data(),
                      is_measured() ? &uu : nullptr, kept, nullptr);
    for (int64_t row = 0; row < block.rows; ++row) {
      const RowSums<double>& sums = scratch.sums[row];
      add_to(total_, sums);
      if (failed_rows == 0) failed_rows += !row_passes(sums);
    }
    if (is_measured()) measure(scratch.sums.data(), block.rows, uu, failed_rows > 0, stats_);
  } else {
    const Slot slot = accumulate_runs(tile, kept);
    total_ = slot.sums;
    stats_ = slot.stats;
    failed_rows = slot.failed_rows;
  }
  decide_by(failed_rows);
  apply_kept(block, scratch.sums.data(), kept, scratch);
}

// Sweeps whole blocks as one row: thin rows, or rows whose sums a layer-wise projection does not
// need. `kept`: a buffer for the u of the tile, or null.
TensorWork::Slot TensorWork::accumulate_runs(const Tile& tile, void* kept) const {
  const RowUpdate<double> plain = plain_update(options());
  const Accumulate what =
      speculation_ == Speculation::kAllRows ? Accumulate::kSumsAndUpdate : Accumulate::kSums;
  const int64_t first = tile.row_begin * info_.cols + tile.col_begin;
  const int64_t numel = block_of(tile).numel();
  const int64_t cols = thin() ? info_.cols : 1, elements = kBlockElements / cols * cols;
  Slot slot = {};
  for (int64_t done = 0; done < numel; done += elements) {
    const Block block = block_at(first + done, std::min(elements, numel - done) / cols, cols);
    // Where one row has failed, the others do not matter.
    if (info_.projection == Projection::kAuto && slot.failed_rows == 0) {
      slot.failed_rows += !loops_.thin_rows_pass(block, *scalars_, bound_);
    }
    StatSums<double> stats = {};
    if (is_measured() && measures_rows(info_.projection)) {
      stats = loops_.thin_row_stats(block, *scalars_);
    }
    RowSums<double> sums;
    loops_.accumulate(block.as_run(), *scalars_, what, plain, &sums,
                      is_measured() ? &stats.uu : nullptr, kept, nullptr);
    add_to(slot.sums, sums);
    add_to(slot.stats, stats);
    if (projects_in_place()) {
      loops_.project_thin_rows(block, *scalars_, kept, nullptr);
    } else if (kept != nullptr) {
      kept = static_cast<char*>(kept) + elements * size_of_u(info_.dtype);
    }
  }
  return slot;
}

// Applies what was decided to a block that has not been updated, and whose u are kept. `sums`: of
// each row, pp and pu.
template <class Sums>
void TensorWork::apply_kept(const Block& block, const Sums* sums, const void* kept,
                            Scratch& scratch) {
  const Scalars<double>& h = options();
  if (outcome_ != View::kChannel) {
    scratch.rows[0] = {shared_update(outcome_, total_.pp, total_.pu, h), true};
    loops_.apply_kept({block.as_run(), scratch.rows.data(), kept}, *scalars_);
  } else if (by_rows_) {
    for (int64_t row = 0; row < block.rows; ++row) {
      scratch.rows[row] = {projected_update(sums[row].pp, sums[row].pu, h), true};
    }
    loops_.apply_kept({block, scratch.rows.data(), kept}, *scalars_);
  } else {
    loops_.project_thin_rows(block, *scalars_, kept, nullptr);
  }
}

void TensorWork::accumulate_blocks(const Tile& tile, Scratch& scratch) {
  const bool keeps = speculation_ == Speculation::kChannelRows;
  const Accumulate what =
      speculation_ == Speculation::kAllRows ? Accumulate::kSumsAndUpdate : Accumulate::kSums;
  const RowUpdate<double> plain = plain_update(options());
  const int64_t cols = tile.col_end - tile.col_begin;
  const int64_t rows_each = rows_of_block(keeps ? kBlockElementsBehind : kBlockElements, cols);
  Slot slot = {};
  Behind behind = {};
  size_t turn = 0;
  for (int64_t row = tile.row_begin; row < tile.row_end; row += rows_each, turn = 1 - turn) {
    const Block block =
        block_of(row, std::min(rows_each, tile.row_end - row), tile.col_begin, cols);
    Behind::Row* const rows = scratch.rows.data() + turn * rows_each;
    // The sweep reads each old u before it writes the new one in its place.
    void* const kept = keeps ? scratch.kept.data() : kept_of(row, tile.col_begin);
    double uu = 0;
    loops_.accumulate(block, *scalars_, what, plain, scratch.sums.data(),
                      is_measured() ? &uu : nullptr, kept,
                      behind.rows == nullptr ? nullptr : &behind);
    judge(block, row, scratch.sums.data(), slot, rows);
    if (is_measured()) {
      measure(scratch.sums.data(), block.rows, uu, slot.failed_rows > 0, slot.stats);
    }
    if (keeps) behind = {block, rows, kept};
  }
  if (keeps) loops_.apply_kept(behind, *scalars_);
  slots_[tile.slot - tiles_.first] = slot;
}

// Tests rows whose sums are known, and says in `rows` which of them are to be updated at once.
void TensorWork::judge(const Block& block, int64_t first_row, const RowSums<double>* sums,
                       Slot& slot, Behind::Row* rows) {
  const bool by_channel = speculation_ == Speculation::kChannelRows;
  for (int64_t i = 0; i < block.rows; ++i) {
    add_to(slot.sums, sums[i]);
    if (rows_span_shards() && !rows_span_tiles()) {
      slot.pending_rows += !note_row(first_row + i, sums[i]);
      continue;
    }
    // Where one row has failed, the others do not matter, unless they are being projected.
    if (rows_are_split_ || (slot.failed_rows > 0 && !by_channel)) continue;
    const bool passes = row_passes(sums[i]);
    bool updated = speculation_ == Speculation::kAllRows;
    if (by_channel) {
      const RowUpdate<double> channel = projected_update(sums[i].pp, sums[i].pu, options());
      updated = updates_speculatively(speculation_, info_.projection, passes, channel, options());
      rows[i] = {channel, updated};
    }
    records_[first_row + i] = {sums[i].pp, sums[i].pu, updated};
    slot.failed_rows += !passes;
    slot.pending_rows += !updated;
  }
}

// Adds the statistics of some rows, whose sums are known unless rows are split. `any_failed`: one
// row has failed the test: no outcome needs what a channel-wise projection takes.
void TensorWork::measure(const RowSums<double>* sums, int64_t rows, double uu, bool any_failed,
                         StatSums<double>& stats) const {
  StatSums<double> found = {};
  if (!rows_are_split_) {
    double squared = stats.max_cosine * stats.max_cosine;
    for (int64_t i = 0; i < rows; ++i) {
      squared = larger_squared_cosine(squared, sums[i], options().eps);
      if (!any_failed) add_to(found, removed_from_row(sums[i], options()));
    }
    found.max_cosine = std::sqrt(squared);
  }
  found.uu = uu;
  add_to(stats, found);
}

// Decides the tensor by its total_.
void TensorWork::decide_by(int64_t failed_rows) {
  const double numel = static_cast<double>(info_.whole_numel());
  outcome_ = adamp::decide(info_.projection, failed_rows, total_, numel, options());
  if (info_.view != nullptr) *info_.view = static_cast<int32_t>(outcome_);
}

// Adds up what the tiles have left, total_ too.
TensorWork::Slot TensorWork::reduce() {
  if (rows_span_tiles() && by_rows_) reduce_split_rows();
  Slot all = {};
  for (int64_t i = 0; i < tiles_.count; ++i) {
    add_to(all.sums, slots_[i].sums);
    add_to(all.stats, slots_[i].stats);
    all.failed_rows += slots_[i].failed_rows;
    all.pending_rows += slots_[i].pending_rows;
  }
  total_ = all.sums;
  stats_ = all.stats;
  return all;
}

double TensorWork::squares(const Tile& tile, double factor) const {
  return loops_.squares(block_of(tile), factor);
}

bool TensorWork::decide() {
  const Slot all = reduce();
  decide_by(all.failed_rows);
  return all.pending_rows > 0 || !prediction_holds(speculation_, outcome_);
}

// Adds up the pieces of each row, which no single tile has seen whole.
void TensorWork::reduce_split_rows() {
  const int64_t pieces = tiles_.count / info_.rows;
  for (int64_t row = 0; row < info_.rows; ++row) {
    Slot* const first = slots_ + row * pieces;
    RowSums<double> sums = {};
    for (int64_t i = 0; i < pieces; ++i) add_to(sums, first[i].sums);
    first->failed_rows = !rows_span_shards() && !row_passes(sums);
    if (is_measured() && !rows_span_shards()) add_to(first->stats, stats_of_row(sums, options()));
    first->pending_rows = !note_row(row, sums);
  }
}

// Keeps the sums of a row that no single tile or process has seen whole; whether it has been
// updated.
bool TensorWork::note_row(int64_t row, const RowSums<double>& sums) {
  const bool updated = speculation_ == Speculation::kAllRows;
  records_[row] = {sums.pp, sums.pu, updated};
  if (rows_span_shards()) {
    double* const to = info_.shard.row_sums + 4 * row;
    to[0] = sums.pp, to[1] = sums.gg, to[2] = sums.pg, to[3] = sums.pu;
  }
  return updated;
}

void TensorWork::publish() {
  const Slot all = reduce();
  pending_rows_ = all.pending_rows;
  *info_.shard.sums = {
      1, static_cast<double>(all.failed_rows), total_.pp, total_.gg, total_.pg, total_.pu};
  if (info_.shard.stats == nullptr) return;
  *info_.shard.stats = {stats_.uu, stats_.rp, stats_.ru, stats_.rr};
  *info_.shard.max_cosine = stats_.max_cosine;
}

bool TensorWork::decide_whole() {
  const ShardSums& sums = *info_.shard.sums;
  total_ = {sums.pp, sums.gg, sums.pg, sums.pu};
  if (const ShardStats* const stats = info_.shard.stats; stats != nullptr) {
    stats_ = {stats->uu, stats->rp, stats->ru, stats->rr, *info_.shard.max_cosine};
  }
  decide_by(static_cast<int64_t>(sums.failed_rows));
  if (rows_span_shards()) {
    for (int64_t row = 0; row < info_.rows; ++row) {
      records_[row].pp = info_.shard.row_sums[4 * row];
      records_[row].pu = info_.shard.row_sums[4 * row + 3];
    }
  }
  // The sums may have been for statistics alone.
  return needs_decision() && (pending_rows_ > 0 || !prediction_holds(speculation_, outcome_));
}

void TensorWork::note_stats() {
  if (!needs_decision() && !steps_whole() && !is_shard()) reduce();
  if (info_.projection != Projection::kAuto) decide_by(0);
  adamp::note_stats(info_, outcome_, total_, stats_, hyper_->numbers, options());
}

void TensorWork::fix_up(const Tile& tile, Scratch& scratch) {
  const RowUpdate<double> plain = plain_update(options());
  if (!by_rows_ && outcome_ == View::kChannel) {
    return loops_.project_thin_rows(block_of(tile), *scalars_,
                                    kept_of(tile.row_begin, tile.col_begin),
                                    speculation_ == Speculation::kAllRows ? &plain : nullptr);
  }
  if (kept_ != nullptr) {
    return apply_kept(block_of(tile), by_rows_ ? records_.data() + tile.row_begin : nullptr,
                      kept_of(tile.row_begin, tile.col_begin), scratch);
  }
  const Scalars<double>& h = options();
  const RowUpdate<double> shared = shared_update(outcome_, total_.pp, total_.pu, h);
  if (outcome_ != View::kChannel && speculation_ != Speculation::kChannelRows) {
    loops_.apply(block_of(tile), *scalars_, shared,
                 speculation_ == Speculation::kAllRows ? &plain : nullptr);
    return;
  }
  const bool right = prediction_holds(speculation_, outcome_);
  for (int64_t row = tile.row_begin; row < tile.row_end; ++row) {
    const RowRecord& record = records_[row];
    if (record.updated && right) continue;
    const RowUpdate<double> channel = projected_update(record.pp, record.pu, h);
    const RowUpdate<double>& next = outcome_ == View::kChannel ? channel : shared;
    const RowUpdate<double>& previous = speculation_ == Speculation::kChannelRows ? channel : plain;
    loops_.apply(block_of(row, 1, tile.col_begin, tile.col_end - tile.col_begin), *scalars_, next,
                 record.updated ? &previous : nullptr);
  }
}

}  // namespace adamp
