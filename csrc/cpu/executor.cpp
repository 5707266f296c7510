// The CPU step: one parallel region over all tensors. Each thread has a share of the work. It
// steals from the others when its own has been done for a while.
//
// The tiles of a tensor are accumulated; the thread that completes the last one decides; all
// threads share the fix-up pass. What is done to a tensor is in tensor_work.h.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>

#include "shares.h"
#include "tensor_work.h"

namespace adamp {
namespace {

// How long a thread whose share is done spins for work of its own before it steals or sleeps, and
// after how long it yields its core between two looks.
//
// Sleeping takes longer than most decisions. Stealing costs more than it saves where the work is in
// the owner's cache: a tile of 5 us took 75 us on the other thread, and again in the owner's next
// step, which was late therefore and was stolen from again (EPYC, 512^2 layer-wise on two threads:
// 170 to 290 us for 70, until something else broke the rhythm). Steps too large for a cache take as
// long with this wait as without.
constexpr std::chrono::microseconds kSpinTime(100);
constexpr std::chrono::microseconds kSpinAlone(20);

// Bytes for the u of tensors that wait to be decided, in all: as much as stays in cache. Beyond
// that, computing u again is as fast as reading it.
constexpr int64_t kBytesOfU = 2 << 20;

class CpuExecutor : public Executor {
 public:
  CpuExecutor(Method method, const std::vector<TensorInfo>& infos, bool clips, Team team)
      : arrived_(infos.size()), team_(std::move(team)) {
    std::vector<TileRange> tiles_of(infos.size());
    // Small tiles last: little is left to steal at the end.
    for (const int32_t t : largest_first(infos)) {
      tiles_of[t] = append_tiles(tiles_, infos[t], t, tile_size_of(infos[t]), kSmallTile);
    }
    slots_.resize(tiles_.size());
    for (size_t t = 0; t < infos.size(); ++t) {
      tensors_.emplace_back(method, infos[t], tiles_of[t], slots_.data() + tiles_of[t].first);
      const int32_t index = static_cast<int32_t>(t);
      if (tensors_.back().is_shard()) {
        shards_of_tensors_.push_back(index);
      } else if (tensors_.back().is_measured()) {
        measured_.push_back(index);
      }
    }
    for (const Tile& tile : tiles_) scratch_size_.enlarge(tensors_[tile.tensor].scratch_size(tile));
    batch_tiles();
    if (clips) squares_.resize(tiles_.size());
  }

  void prepare(const StepInputs& inputs) override {
    control_ = inputs.control;
    if (is_skipped(control_)) return;
    factor_ = grad_factor(control_);
    hypers_.assign(inputs.hypers, inputs.hypers + inputs.n_hypers);
    make_scalars();
    int64_t certain_fix_ups = 0, bytes_of_u = 0;
    for (size_t t = 0; t < tensors_.size(); ++t) {
      TensorWork& tensor = tensors_[t];
      const int32_t index = inputs.hyper_indices[t];
      tensor.begin(inputs.grads[t], hypers_[index], scalars_[index]);
      if (!tensor.surely_needs_fix_up()) continue;
      if (!tensor.is_shard()) ++certain_fix_ups;
      const int64_t bytes = tensor.bytes_of_u();
      if (bytes == 0 || bytes_of_u + bytes > kBytesOfU) continue;
      if (kept_.empty()) kept_.resize(kBytesOfU / sizeof(double));
      tensor.keep_u_in(reinterpret_cast<char*>(kept_.data()) + bytes_of_u);
      bytes_of_u += bytes;
    }
    certain_fix_ups_ = certain_fix_ups;
    const int64_t threads =
        std::clamp<int64_t>(elements_before_.back() / kSmallTile, 1, inputs.threads);
    if (shares_.count() != threads) share_out(threads);
    shares_.begin();
  }

  bool launch() override {
    if (is_skipped(control_)) {
      if (control_.steps_skipped != nullptr) ++*control_.steps_skipped;
      return false;
    }
    if (!squares_.empty()) clip();
    on_all_threads([this](int64_t thread) { work(thread); });
    for (const int32_t t : shards_of_tensors_) {
      if (tensors_[t].stepped()) tensors_[t].publish();
    }
    for (const int32_t t : measured_) {
      if (tensors_[t].stepped()) tensors_[t].note_stats();
    }
    return true;
  }

  void finish() override {
    if (is_skipped(control_)) return;
    for (const int32_t t : shards_of_tensors_) {
      TensorWork& tensor = tensors_[t];
      if (!tensor.stepped()) continue;
      if (tensor.decide_whole()) fix_ups_.add(tensor.tiles());
      if (tensor.is_measured()) tensor.note_stats();
    }
    if (fix_ups_.any()) on_all_threads([this](int64_t thread) { work(thread); });
  }

 private:
  void make_scalars() {
    scalars_.resize(hypers_.size());
    for (size_t i = 0; i < hypers_.size(); ++i) {
      const Hyper& h = hypers_[i];
      scalars_[i] = {adamp::make_scalars<float>(h, h.numbers, factor_),
                     adamp::make_scalars<double>(h, h.numbers, factor_)};
    }
  }

  template <class Body>
  void on_all_threads(const Body& body) {
    if (shares_.count() == 1) {
      body(0);
    } else {
      team_(shares_.count(), body);
    }
  }

  // Finds the norm of all gradients, and has them multiplied by what brings it to the most that it
  // may be.
  void clip() {
    on_all_threads([this](int64_t thread) {
      for (int64_t batch; (batch = shares_.take(thread, true)) >= 0;) {
        for (int64_t i = batches_[batch]; i < batches_[batch + 1]; ++i) {
          const TensorWork& tensor = tensors_[tiles_[i].tensor];
          squares_[i] = tensor.stepped() ? tensor.squares(tiles_[i], factor_) : 0;
        }
      }
    });
    shares_.begin();
    // In the order of the tiles, whoever found them.
    double sum = 0;
    for (const double squares : squares_) sum += squares;
    const double norm = std::sqrt(sum);
    if (control_.norm_dtype == DType::kFloat64) {
      *static_cast<double*>(control_.grad_norm) = norm;
    } else {
      *static_cast<float*>(control_.grad_norm) = static_cast<float>(norm);
    }
    factor_ *= clip_coefficient(norm, control_.max_norm);
    make_scalars();
  }

  static std::vector<int32_t> largest_first(const std::vector<TensorInfo>& infos) {
    std::vector<int32_t> order(infos.size());
    for (size_t t = 0; t < infos.size(); ++t) order[t] = static_cast<int32_t>(t);
    std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
      return infos[a].rows * infos[a].cols > infos[b].rows * infos[b].cols;
    });
    return order;
  }

  // Small tiles are taken several at a time: to take one costs as much as to update a few rows.
  void batch_tiles() {
    int64_t in_batch = kSmallTile, elements = 0;
    for (size_t i = 0; i < tiles_.size(); ++i) {
      const Tile& tile = tiles_[i];
      const int64_t own = (tile.row_end - tile.row_begin) * (tile.col_end - tile.col_begin);
      if (in_batch + own > kSmallTile) {
        batches_.push_back(static_cast<int64_t>(i));
        elements_before_.push_back(elements);
        in_batch = 0;
      }
      in_batch += own;
      elements += own;
    }
    batches_.push_back(static_cast<int64_t>(tiles_.size()));
    elements_before_.push_back(elements);
  }

  // Batches of as many elements for each thread.
  void share_out(int64_t threads) {
    std::vector<int64_t> bounds, tile_bounds;
    for (int64_t k = 0; k <= threads; ++k) {
      const int64_t before = elements_before_.back() / threads * k;
      bounds.push_back(std::lower_bound(elements_before_.begin(), elements_before_.end(), before) -
                       elements_before_.begin());
    }
    bounds.back() = static_cast<int64_t>(batches_.size()) - 1;
    for (const int64_t batch : bounds) tile_bounds.push_back(batches_[batch]);
    std::vector<TileRange> to_decide;
    for (const TensorWork& tensor : tensors_) {
      if (tensor.needs_decision()) to_decide.push_back(tensor.tiles());
    }
    // All of them or, where memory is short, none.
    Shares shares(bounds);
    FixUps fix_ups(std::move(tile_bounds), to_decide);
    while (static_cast<int64_t>(scratch_.size()) < threads) scratch_.emplace_back(scratch_size_);
    shares_ = std::move(shares);
    fix_ups_ = std::move(fix_ups);
  }

  // One thread's part of a step.
  void work(int64_t thread) {
    Scratch& scratch = scratch_[thread];
    bool steals = false;
    for (;;) {
      const int64_t tile = fix_ups_.take(thread, steals);
      if (tile >= 0) {
        tensors_[tiles_[tile].tensor].fix_up(tiles_[tile], scratch);
        continue;
      }
      const int64_t batch = shares_.take(thread, steals);
      if (batch >= 0) {
        for (int64_t i = batches_[batch]; i < batches_[batch + 1]; ++i) {
          accumulate(tiles_[i], scratch);
        }
        continue;
      }
      const Found found = spin(thread);
      steals = found == Found::kOfOthers;
      if (found != Found::kNothing) continue;
      // Wait only for work that is sure to come; any other is left to the thread that finds it.
      std::unique_lock<std::mutex> lock(mutex_);
      changed_.wait(lock, [this] { return fix_ups_.any() || certain_fix_ups_ == 0; });
      if (!fix_ups_.any()) return;
    }
  }

  enum class Found { kOwn, kOfOthers, kNothing };

  // Spins as long as there is work, or some is sure to come.
  Found spin(int64_t thread) const {
    const auto begin = std::chrono::steady_clock::now();
    for (;;) {
      if (fix_ups_.any_of(thread)) return Found::kOwn;
      const bool others = fix_ups_.any() || shares_.any();
      if (!others && certain_fix_ups_.load(std::memory_order_relaxed) == 0) {
        return Found::kNothing;
      }
      const auto passed = std::chrono::steady_clock::now() - begin;
      if (passed > kSpinTime) return others ? Found::kOfOthers : Found::kNothing;
      // The other thread may have been woken on this core.
      if (passed > kSpinAlone) std::this_thread::yield();
    }
  }

  void accumulate(const Tile& tile, Scratch& scratch) {
    TensorWork& tensor = tensors_[tile.tensor];
    if (!tensor.stepped()) return;
    tensor.accumulate(tile, scratch);
    if (!tensor.needs_decision() || tensor.is_shard()) return;
    std::atomic<int64_t>& arrived = arrived_[tile.tensor];
    if (arrived.fetch_add(1, std::memory_order_acq_rel) + 1 == tensor.tiles().count) {
      arrived.store(0, std::memory_order_relaxed);
      decide(tensor);
    }
  }

  void decide(TensorWork& tensor) {
    const bool needs_fix_up = tensor.decide();
    if (needs_fix_up) fix_ups_.add(tensor.tiles());
    std::lock_guard<std::mutex> lock(mutex_);
    certain_fix_ups_ -= tensor.surely_needs_fix_up();
    changed_.notify_all();
  }

  std::deque<TensorWork> tensors_;
  std::vector<int32_t> shards_of_tensors_;     // TensorWork::is_shard()
  std::vector<int32_t> measured_;              // is_measured(), of the others
  std::vector<std::atomic<int64_t>> arrived_;  // tiles of each tensor
  std::vector<Tile> tiles_;
  std::vector<int64_t> batches_;          // the first tile of each, and the end
  std::vector<int64_t> elements_before_;  // each, and the end
  Shares shares_ = Shares({0});           // of batches; none yet
  FixUps fix_ups_ = FixUps({0}, {});
  Scratch::Size scratch_size_;    // of each thread
  std::vector<Scratch> scratch_;  // of each thread
  std::vector<TensorWork::Slot> slots_;
  std::vector<double> squares_;  // of the gradients of each tile; empty where nothing is clipped
  Control control_ = {};
  double factor_ = 1;  // of the gradients
  std::vector<Hyper> hypers_;
  std::vector<ScalarPair> scalars_;  // of each
  std::vector<double> kept_;         // as bytes; empty until a tensor needs it
  Team team_;

  std::mutex mutex_;
  std::condition_variable changed_;
  // Written under mutex_ while threads run, and looked at without it.
  std::atomic<int64_t> certain_fix_ups_{0};
};

}  // namespace

std::unique_ptr<Executor> make_cpu_executor(Method method, std::vector<TensorInfo> tensors,
                                            bool clips, Team team) {
  return std::make_unique<CpuExecutor>(method, tensors, clips, std::move(team));
}

}  // namespace adamp
