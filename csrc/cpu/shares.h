// Pieces of work 0, 1, 2, ... shared out to threads.
#pragma once

#include <atomic>
#include <cstdint>
#include <vector>

namespace adamp {

// Each thread has a share of its own, the same at every step, so that it finds in its caches what
// it worked on before; whose share is done helps the others.
class Shares {
 public:
  // Share k: from bounds[k] to before bounds[k + 1].
  explicit Shares(const std::vector<int64_t>& bounds) : shares_(bounds.size() - 1) {
    for (size_t k = 0; k < shares_.size(); ++k) {
      shares_[k].begin = bounds[k];
      shares_[k].end = bounds[k + 1];
    }
  }

  int64_t count() const { return static_cast<int64_t>(shares_.size()); }

  // Before threads take anything.
  void begin() {
    for (Share& share : shares_) share.next.store(share.begin, std::memory_order_relaxed);
  }

  // The next piece for a thread; -1 where none is left.
  int64_t take(int64_t thread) {
    for (int64_t turn = 0; turn < count(); ++turn) {
      Share& share = shares_[(thread + turn) % count()];
      // Looked at first, so that a share that is done is not written again.
      if (share.next.load(std::memory_order_relaxed) >= share.end) continue;
      const int64_t piece = share.next.fetch_add(1, std::memory_order_relaxed);
      if (piece < share.end) return piece;
    }
    return -1;
  }

 private:
  // A line of the cache each.
  struct alignas(64) Share {
    int64_t begin = 0, end = 0;
    std::atomic<int64_t> next{0};
  };
  std::vector<Share> shares_;
};

}  // namespace adamp
