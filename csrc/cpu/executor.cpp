// The CPU step: one parallel region over all tensors. Each thread has a share of the work, and
// helps the others when that has been done for a while.
//
// A tensor's items are accumulated; whoever completes the last one decides; what is then left is
// finished by all threads. What is done to a tensor is in tensor_work.h.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>

#include "shares.h"
#include "tensor_work.h"

namespace adamp {
namespace {

// How long a thread whose share is done looks out for work of its own before it helps others, or
// sleeps; and after how long it lets others run between its looks.
//
// To sleep takes longer than most decisions. To help costs more than it saves where the work is in
// the owner's cache: an item of 5 us took 75 us in the hands of the other thread, and again at the
// owner's next step, which was late therefore and had to be helped (EPYC, 512^2 by layer on two
// threads: 170 to 290 us for 70, until something else broke the rhythm). Steps too large for a
// cache take as long with this wait as without.
constexpr std::chrono::microseconds kLookOut(100);
constexpr std::chrono::microseconds kAlone(20);

// Room for the u of tensors that wait to be decided, in all: as much as stays in cache. Beyond, to
// compute u again is as fast as to read it.
constexpr int64_t kBytesOfU = 2 << 20;

class CpuExecutor : public Executor {
 public:
  CpuExecutor(Method method, const std::vector<TensorInfo>& infos, Team team)
      : arrived_(infos.size()), team_(std::move(team)) {
    std::vector<TensorItems> items_of(infos.size());
    // Small items last: what is left for threads that help is little.
    for (const int32_t t : largest_first(infos)) {
      items_of[t] = append_items(items_, infos[t], t, item_size_of(infos[t]), kSmallItem);
    }
    slots_.resize(items_.size());
    for (size_t t = 0; t < infos.size(); ++t) {
      tensors_.emplace_back(method, infos[t], items_of[t], slots_.data() + items_of[t].first);
    }
    for (const Item& item : items_) scratch_size_.enlarge(tensors_[item.tensor].scratch_size(item));
    batch_items();
  }

  void prepare(const StepInputs& inputs) override {
    scalars_.resize(inputs.n_hypers);
    for (int64_t i = 0; i < inputs.n_hypers; ++i) {
      const Hyper& h = inputs.hypers[i];
      scalars_[i] = {make_scalars<float>(h, h.lr), make_scalars<double>(h, h.lr)};
    }
    int64_t surely_unfinished = 0, bytes_of_u = 0;
    for (size_t t = 0; t < tensors_.size(); ++t) {
      TensorWork& tensor = tensors_[t];
      tensor.begin(inputs.grads[t], scalars_[inputs.hyper_indices[t]]);
      if (!tensor.surely_unfinished()) continue;
      ++surely_unfinished;
      const int64_t bytes = tensor.bytes_of_u();
      if (bytes == 0 || bytes_of_u + bytes > kBytesOfU) continue;
      if (kept_.empty()) kept_.resize(kBytesOfU / sizeof(double));
      tensor.keep_u_in(reinterpret_cast<char*>(kept_.data()) + bytes_of_u);
      bytes_of_u += bytes;
    }
    surely_unfinished_ = surely_unfinished;
    const int64_t threads =
        std::clamp<int64_t>(elements_before_.back() / kSmallItem, 1, inputs.threads);
    if (shares_.count() != threads) share_out(threads);
    shares_.begin();
  }

  void launch() override {
    const int64_t threads = shares_.count();
    if (threads == 1) {
      work(0);
    } else {
      team_(threads, [this](int64_t thread) { work(thread); });
    }
  }

 private:
  static std::vector<int32_t> largest_first(const std::vector<TensorInfo>& infos) {
    std::vector<int32_t> order(infos.size());
    for (size_t t = 0; t < infos.size(); ++t) order[t] = static_cast<int32_t>(t);
    std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
      return infos[a].rows * infos[a].cols > infos[b].rows * infos[b].cols;
    });
    return order;
  }

  // Small items are taken several at a time: to take one costs as much as to update a few rows.
  void batch_items() {
    int64_t in_batch = kSmallItem, elements = 0;
    for (size_t i = 0; i < items_.size(); ++i) {
      const Item& item = items_[i];
      const int64_t own = (item.row_end - item.row_begin) * (item.col_end - item.col_begin);
      if (in_batch + own > kSmallItem) {
        batches_.push_back(static_cast<int64_t>(i));
        elements_before_.push_back(elements);
        in_batch = 0;
      }
      in_batch += own;
      elements += own;
    }
    batches_.push_back(static_cast<int64_t>(items_.size()));
    elements_before_.push_back(elements);
  }

  // Batches of as many elements for each thread.
  void share_out(int64_t threads) {
    std::vector<int64_t> bounds, item_bounds;
    for (int64_t k = 0; k <= threads; ++k) {
      const int64_t before = elements_before_.back() / threads * k;
      bounds.push_back(std::lower_bound(elements_before_.begin(), elements_before_.end(), before) -
                       elements_before_.begin());
    }
    bounds.back() = static_cast<int64_t>(batches_.size()) - 1;
    for (const int64_t batch : bounds) item_bounds.push_back(batches_[batch]);
    std::vector<TensorItems> to_decide;
    for (const TensorWork& tensor : tensors_) {
      if (tensor.needs_decision()) to_decide.push_back(tensor.items());
    }
    // All of them or, where memory is short, none.
    Shares shares(bounds);
    SecondVisits second_visits(std::move(item_bounds), to_decide);
    while (static_cast<int64_t>(scratch_.size()) < threads) scratch_.emplace_back(scratch_size_);
    shares_ = std::move(shares);
    second_visits_ = std::move(second_visits);
  }

  // One thread's part of a step.
  void work(int64_t thread) {
    Scratch& scratch = scratch_[thread];
    bool helps = false;
    for (;;) {
      const int64_t item = second_visits_.take(thread, helps);
      if (item >= 0) {
        tensors_[items_[item].tensor].finish(items_[item], scratch);
        continue;
      }
      const int64_t batch = shares_.take(thread, helps);
      if (batch >= 0) {
        for (int64_t i = batches_[batch]; i < batches_[batch + 1]; ++i) {
          accumulate(items_[i], scratch);
        }
        continue;
      }
      const Found found = look_out(thread);
      helps = found == Found::kOfOthers;
      if (found != Found::kNothing) continue;
      // Wait only for work that is sure to come; any other is left to the thread that finds it.
      std::unique_lock<std::mutex> lock(mutex_);
      changed_.wait(lock, [this] { return second_visits_.any() || surely_unfinished_ == 0; });
      if (!second_visits_.any()) return;
    }
  }

  enum class Found { kOwn, kOfOthers, kNothing };

  // Looks out as long as there is work, or some is sure to come.
  Found look_out(int64_t thread) const {
    const auto begin = std::chrono::steady_clock::now();
    for (;;) {
      if (second_visits_.any_of(thread)) return Found::kOwn;
      const bool others = second_visits_.any() || shares_.any();
      if (!others && surely_unfinished_.load(std::memory_order_relaxed) == 0) {
        return Found::kNothing;
      }
      const auto passed = std::chrono::steady_clock::now() - begin;
      if (passed > kLookOut) return others ? Found::kOfOthers : Found::kNothing;
      // The other thread may have been woken on this core.
      if (passed > kAlone) std::this_thread::yield();
    }
  }

  void accumulate(const Item& item, Scratch& scratch) {
    TensorWork& tensor = tensors_[item.tensor];
    if (!tensor.stepped()) return;
    tensor.accumulate(item, scratch);
    if (!tensor.needs_decision()) return;
    std::atomic<int64_t>& arrived = arrived_[item.tensor];
    if (arrived.fetch_add(1, std::memory_order_acq_rel) + 1 == tensor.items().count) {
      arrived.store(0, std::memory_order_relaxed);
      decide(tensor);
    }
  }

  void decide(TensorWork& tensor) {
    const bool unfinished = tensor.decide();
    if (unfinished) second_visits_.add(tensor.items());
    std::lock_guard<std::mutex> lock(mutex_);
    surely_unfinished_ -= tensor.surely_unfinished();
    changed_.notify_all();
  }

  std::deque<TensorWork> tensors_;
  std::vector<std::atomic<int64_t>> arrived_;  // items of each tensor
  std::vector<Item> items_;
  std::vector<int64_t> batches_;          // the first item of each, and the end
  std::vector<int64_t> elements_before_;  // each, and the end
  Shares shares_ = Shares({0});           // of batches; none yet
  SecondVisits second_visits_ = SecondVisits({0}, {});
  Scratch::Size scratch_size_;    // of each thread
  std::vector<Scratch> scratch_;  // of each thread
  std::vector<TensorWork::Slot> slots_;
  std::vector<ScalarPair> scalars_;
  std::vector<double> kept_;  // as bytes; empty until a tensor needs it
  Team team_;

  std::mutex mutex_;
  std::condition_variable changed_;
  // Written under mutex_ while threads run, and looked at without it.
  std::atomic<int64_t> surely_unfinished_{0};
};

}  // namespace

std::unique_ptr<Executor> make_cpu_executor(Method method, std::vector<TensorInfo> tensors,
                                            Team team) {
  return std::make_unique<CpuExecutor>(method, tensors, std::move(team));
}

}  // namespace adamp
