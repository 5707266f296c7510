// The CPU step: one parallel region over all tensors, work items taken by whoever is free.
//
// A tensor's items update their moments, add up their sums, and update what early.h allows; whoever
// completes the last one decides; what is left is finished by all threads.
#include <atomic>
#include <condition_variable>
#include <mutex>

#include "../early.h"
#include "../work_plan.h"
#include "row_loops.h"

namespace adamp {
namespace {

// 16 bytes an element (p, g, m, v): an item stays in a 1 MiB L2 cache between two visits of a row,
// and is short (about 20 us) against a step, so that threads finish together.
constexpr int64_t kItemElements = 16384;

// Rows are swept in blocks that stay in the first-level cache until they are applied.
constexpr int64_t kBlockElements = 2048;
constexpr int64_t kBlockRows = 64;

struct RowRecord {
  double pp, pu;
  bool updated;
};

struct Slot {
  RowSums<double> sums;
  int64_t failed_rows, pending_rows;
};

struct Tensor {
  TensorInfo info;
  TensorItems items;
  RowLoops loops;
  int64_t first_record;
  bool rows_are_split;

  // Of the running step.
  std::atomic<int64_t> arrived{0};
  const void* grad;
  const ScalarPair* scalars;
  Early early;
  View outcome;
  RowSums<double> total;
};

class CpuExecutor : public Executor {
 public:
  CpuExecutor(Method method, std::vector<TensorInfo> infos, Team team)
      : tensors_(infos.size()), team_(std::move(team)) {
    std::vector<int32_t> largest_first(infos.size());
    for (size_t t = 0; t < infos.size(); ++t) largest_first[t] = static_cast<int32_t>(t);
    // Small items last, so that threads run out of work at about the same time.
    std::stable_sort(largest_first.begin(), largest_first.end(), [&](int32_t a, int32_t b) {
      return infos[a].rows * infos[a].cols > infos[b].rows * infos[b].cols;
    });
    int64_t n_records = 0;
    for (int32_t t : largest_first) {
      Tensor& tensor = tensors_[t];
      tensor.info = infos[t];
      tensor.items = append_items(items_, infos[t], t, kItemElements, kItemElements);
      tensor.loops = row_loops(method, infos[t].dtype);
      tensor.rows_are_split = tensor.items.count > infos[t].rows;
      tensor.first_record = n_records;
      if (infos[t].projection != Projection::kOff) n_records += infos[t].rows;
      elements_ += infos[t].rows * infos[t].cols;
    }
    records_.resize(n_records);
    slots_.resize(items_.size());
  }

  void run(const StepInputs& inputs) override {
    scalars_.resize(inputs.n_hypers);
    for (int64_t i = 0; i < inputs.n_hypers; ++i) {
      const Hyper& h = inputs.hypers[i];
      scalars_[i] = {make_scalars<float>(h, h.lr), make_scalars<double>(h, h.lr)};
    }
    surely_unfinished_ = 0;
    for (size_t t = 0; t < tensors_.size(); ++t) {
      Tensor& tensor = tensors_[t];
      tensor.grad = inputs.grads[t];
      tensor.scalars = &scalars_[inputs.hyper_indices[t]];
      const TensorInfo& info = tensor.info;
      const View last = info.view == nullptr ? View::kNone : static_cast<View>(*info.view);
      tensor.early = foresee(info.projection, info.dtype, tensor.items.count == 1,
                             tensor.rows_are_split, last, tensor.scalars->in_double);
      surely_unfinished_ += is_surely_unfinished(tensor);
    }
    next_item_ = 0;
    const int64_t threads = std::clamp<int64_t>(elements_ / kItemElements, 1, inputs.threads);
    if (threads == 1) {
      work();
    } else {
      team_(threads, [this] { work(); });
    }
  }

 private:
  static bool is_surely_unfinished(const Tensor& tensor) {
    return tensor.grad != nullptr && tensor.early == Early::kNone && tensor.items.count > 1;
  }

  // One thread's part of a step.
  void work() {
    const int64_t n_items = static_cast<int64_t>(items_.size());
    for (;;) {
      // What waits to be finished first: it may still be in cache.
      if (n_to_finish_.load(std::memory_order_acquire) > 0 && finish_one()) continue;
      const int64_t i = next_item_.fetch_add(1, std::memory_order_relaxed);
      if (i < n_items) {
        accumulate(items_[i]);
        continue;
      }
      // Sleep only for work that is sure to come; any other is left to the thread that finds it.
      std::unique_lock<std::mutex> lock(mutex_);
      changed_.wait(lock, [this] { return !to_finish_.empty() || surely_unfinished_ == 0; });
      if (to_finish_.empty()) return;
    }
  }

  Span span_of(const Tensor& tensor, int64_t row, int64_t col_begin, int64_t count) const {
    const TensorInfo& info = tensor.info;
    const int64_t offset = (row * info.cols + col_begin) * size_of(info.dtype);
    const auto at = [offset](void* base) {
      return base == nullptr ? nullptr : static_cast<void*>(static_cast<char*>(base) + offset);
    };
    return {at(info.param), static_cast<const char*>(tensor.grad) + offset, at(info.moment1),
            at(info.moment2), count};
  }

  void accumulate(const Item& item) {
    Tensor& tensor = tensors_[item.tensor];
    if (tensor.grad == nullptr) return;
    const ScalarPair& scalars = *tensor.scalars;
    const int64_t count = item.col_end - item.col_begin;
    if (tensor.info.projection == Projection::kOff) {
      const Span span = span_of(tensor, item.row_begin, item.col_begin, count);
      tensor.loops.accumulate(span, 1, scalars, Accumulate::kUpdate,
                              plain_update(scalars.in_double), nullptr, nullptr);
      return;
    }
    Slot slot = {};
    const int64_t rows_each = std::clamp<int64_t>(kBlockElements / count, 1, kBlockRows);
    for (int64_t row = item.row_begin; row < item.row_end; row += rows_each) {
      const Span span = span_of(tensor, row, item.col_begin, count);
      accumulate_rows(tensor, span, row, std::min(rows_each, item.row_end - row), slot);
    }
    slots_[item.slot] = slot;
    if (tensor.arrived.fetch_add(1, std::memory_order_acq_rel) + 1 == tensor.items.count) {
      decide(tensor);
    }
  }

  // A block of rows, or one piece of a row: sums, tests, and what may be updated early.
  void accumulate_rows(Tensor& tensor, Span span, int64_t first_row, int64_t rows, Slot& slot) {
    const ScalarPair& scalars = *tensor.scalars;
    const Scalars<double>& h = scalars.in_double;
    const Projection projection = tensor.info.projection;
    const Accumulate what =
        tensor.early == Early::kAllRows ? Accumulate::kSumsAndUpdate : Accumulate::kSums;
    RowSums<double> sums[kBlockRows];
    float* const kept = tensor.early == Early::kChannelRows && tensor.loops.apply_kept != nullptr
                            ? kept_of_this_thread()
                            : nullptr;
    tensor.loops.accumulate(span, rows, scalars, what, plain_update(h), sums, kept);
    for (int64_t i = 0; i < rows; ++i) {
      add_to(slot.sums, sums[i]);
      if (tensor.rows_are_split) continue;
      const bool passes = projection != Projection::kAuto ||
                          cosine_below(sums[i], static_cast<double>(span.count), h);
      const RowUpdate<double> channel = projected_update(sums[i].pp, sums[i].pu, h);
      const bool updated = updates_early(tensor.early, projection, passes, channel);
      if (updated && tensor.early == Early::kChannelRows) {
        const Span row = span_of(tensor, first_row + i, 0, span.count);
        if (kept != nullptr) {
          tensor.loops.apply_kept(row, scalars, channel, kept + i * span.count);
        } else {
          tensor.loops.apply(row, scalars, channel, nullptr);
        }
      }
      records_[tensor.first_record + first_row + i] = {sums[i].pp, sums[i].pu, updated};
      slot.failed_rows += !passes;
      slot.pending_rows += !updated;
    }
  }

  // Room for the u of a block of rows: at most one item.
  static float* kept_of_this_thread() {
    static thread_local std::vector<float> kept(kItemElements);
    return kept.data();
  }

  void decide(Tensor& tensor) {
    tensor.arrived.store(0, std::memory_order_relaxed);
    const TensorInfo& info = tensor.info;
    const Scalars<double>& h = tensor.scalars->in_double;
    if (tensor.rows_are_split) join_split_rows(tensor);
    Slot all = {};
    for (int64_t i = 0; i < tensor.items.count; ++i) {
      const Slot& slot = slots_[tensor.items.first + i];
      add_to(all.sums, slot.sums);
      all.failed_rows += slot.failed_rows;
      all.pending_rows += slot.pending_rows;
    }
    tensor.total = all.sums;
    if (info.projection == Projection::kAuto) {
      const double numel = static_cast<double>(info.rows) * static_cast<double>(info.cols);
      tensor.outcome = all.failed_rows == 0               ? View::kChannel
                       : cosine_below(all.sums, numel, h) ? View::kLayer
                                                          : View::kNone;
      *info.view = static_cast<int32_t>(tensor.outcome);
    } else {
      tensor.outcome = info.projection == Projection::kChannel ? View::kChannel : View::kLayer;
    }
    const bool settled = all.pending_rows == 0 && foreseen(tensor.early, tensor.outcome);
    if (tensor.items.count == 1) {
      if (!settled) finish(items_[tensor.items.first]);
      return;
    }
    std::lock_guard<std::mutex> lock(mutex_);
    if (!settled) {
      to_finish_.push_back(tensor.items);
      n_to_finish_.fetch_add(tensor.items.count, std::memory_order_release);
    }
    surely_unfinished_ -= is_surely_unfinished(tensor);
    changed_.notify_all();
  }

  // Adds up the pieces of each row, which no single item has seen whole.
  void join_split_rows(Tensor& tensor) {
    const TensorInfo& info = tensor.info;
    const int64_t pieces = tensor.items.count / info.rows;
    for (int64_t row = 0; row < info.rows; ++row) {
      Slot* first = &slots_[tensor.items.first + row * pieces];
      RowSums<double> sums = {};
      for (int64_t i = 0; i < pieces; ++i) add_to(sums, first[i].sums);
      const bool updated = tensor.early == Early::kAllRows;
      records_[tensor.first_record + row] = {sums.pp, sums.pu, updated};
      first->failed_rows =
          !cosine_below(sums, static_cast<double>(info.cols), tensor.scalars->in_double);
      first->pending_rows = !updated;
    }
  }

  // Takes one item of a tensor that waits to be finished; false if another thread took the last
  // one.
  bool finish_one() {
    int64_t i;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      if (to_finish_.empty()) return false;
      TensorItems& left = to_finish_.back();
      i = left.first + --left.count;
      if (left.count == 0) to_finish_.pop_back();
      n_to_finish_.fetch_sub(1, std::memory_order_relaxed);
    }
    finish(items_[i]);
    return true;
  }

  void finish(const Item& item) {
    Tensor& tensor = tensors_[item.tensor];
    const ScalarPair& scalars = *tensor.scalars;
    const Scalars<double>& h = scalars.in_double;
    const RowUpdate<double> plain = plain_update(h);
    const RowUpdate<double> shared = tensor.outcome == View::kLayer
                                         ? projected_update(tensor.total.pp, tensor.total.pu, h)
                                         : plain;
    const int64_t count = item.col_end - item.col_begin;
    if (tensor.outcome != View::kChannel && tensor.early != Early::kChannelRows) {
      // All rows alike: one run.
      const Span span =
          span_of(tensor, item.row_begin, item.col_begin, count * (item.row_end - item.row_begin));
      tensor.loops.apply(span, scalars, shared, tensor.early == Early::kAllRows ? &plain : nullptr);
      return;
    }
    const bool right = foreseen(tensor.early, tensor.outcome);
    for (int64_t row = item.row_begin; row < item.row_end; ++row) {
      const RowRecord& record = records_[tensor.first_record + row];
      if (record.updated && right) continue;
      const RowUpdate<double> channel = projected_update(record.pp, record.pu, h);
      const RowUpdate<double>& next = tensor.outcome == View::kChannel ? channel : shared;
      const RowUpdate<double>& previous = tensor.early == Early::kChannelRows ? channel : plain;
      tensor.loops.apply(span_of(tensor, row, item.col_begin, count), scalars, next,
                         record.updated ? &previous : nullptr);
    }
  }

  std::vector<Tensor> tensors_;
  std::vector<Item> items_;
  std::vector<RowRecord> records_;
  std::vector<Slot> slots_;
  std::vector<ScalarPair> scalars_;
  int64_t elements_ = 0;
  Team team_;

  std::atomic<int64_t> next_item_{0};
  std::atomic<int64_t> n_to_finish_{0};
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<TensorItems> to_finish_;  // guarded by mutex_
  int64_t surely_unfinished_ = 0;       // guarded by mutex_ while threads run
};

}  // namespace

std::unique_ptr<Executor> make_cpu_executor(Method method, std::vector<TensorInfo> tensors,
                                            Team team) {
  return std::make_unique<CpuExecutor>(method, std::move(tensors), std::move(team));
}

}  // namespace adamp
