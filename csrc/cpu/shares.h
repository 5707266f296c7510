// Pieces of work 0, 1, 2, ... shared out to threads.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <mutex>
#include <utility>
#include <vector>

#include "../core/tiles.h"

namespace adamp {

// Each thread has a share of its own, the same at every step, so that it finds in its caches what
// it worked on before. One whose share is done may steal from the others.
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

  // Whether there is a piece that nobody has taken.
  bool any() const {
    return std::any_of(shares_.begin(), shares_.end(), [](const Share& share) {
      return share.next.load(std::memory_order_relaxed) < share.end;
    });
  }

  // The next piece of a thread's own share, or (steals) of any; -1 where none is left.
  int64_t take(int64_t thread, bool steals) {
    for (int64_t turn = 0; turn < (steals ? count() : 1); ++turn) {
      Share& share = shares_[(thread + turn) % count()];
      // Looked at first, so that a share that is done is not written again.
      if (share.next.load(std::memory_order_relaxed) >= share.end) continue;
      const int64_t piece = share.next.fetch_add(1, std::memory_order_relaxed);
      if (piece < share.end) return piece;
    }
    return -1;
  }

 private:
  // A cache line each.
  struct alignas(64) Share {
    int64_t begin = 0, end = 0;
    std::atomic<int64_t> next{0};
  };
  std::vector<Share> shares_;
};

// Tiles of decided tensors that need the fix-up pass. Each is in the share of the thread that most
// likely accumulated it.
class FixUps {
 public:
  // Share k: tiles bounds[k] to before bounds[k + 1]. `tensors`: tiles of those that may be added,
  // once each in a step; there is memory for all of them, since nothing may fail in a step.
  FixUps(std::vector<int64_t> bounds, const std::vector<TileRange>& tensors)
      : bounds_(std::move(bounds)), shares_(bounds_.size() - 1) {
    for (size_t k = 0; k < shares_.size(); ++k) {
      shares_[k].left.reserve(
          std::count_if(tensors.begin(), tensors.end(),
                        [this, k](const TileRange& tiles) { return part_of(tiles, k).count > 0; }));
    }
  }

  bool any() const {
    return std::any_of(shares_.begin(), shares_.end(), [](const Share& share) {
      return share.count.load(std::memory_order_relaxed) > 0;
    });
  }
  bool any_of(int64_t thread) const {
    return shares_[thread].count.load(std::memory_order_relaxed) > 0;
  }

  void add(const TileRange& tiles) {
    for (size_t k = 0; k < shares_.size(); ++k) {
      const TileRange part = part_of(tiles, k);
      if (part.count <= 0) continue;
      std::lock_guard<std::mutex> lock(shares_[k].mutex);
      shares_[k].left.push_back(part);
      shares_[k].count += part.count;
    }
  }

  // A tile of a thread's own share, or (steals) of any; -1 where none is left. What came last
  // first: it may still be in cache.
  int64_t take(int64_t thread, bool steals) {
    const size_t turns = steals ? shares_.size() : 1;
    for (size_t turn = 0; turn < turns; ++turn) {
      Share& share = shares_[(thread + turn) % shares_.size()];
      if (share.count.load(std::memory_order_relaxed) == 0) continue;
      std::lock_guard<std::mutex> lock(share.mutex);
      if (share.left.empty()) continue;
      TileRange& tiles = share.left.back();
      const int64_t tile = tiles.first + --tiles.count;
      if (tiles.count == 0) share.left.pop_back();
      share.count -= 1;
      return tile;
    }
    return -1;
  }

 private:
  struct alignas(64) Share {
    std::mutex mutex;
    std::vector<TileRange> left;
    std::atomic<int64_t> count{0};  // of tiles; written under the mutex
  };

  // What of a tensor is in share k; a count of 0 or less: nothing.
  TileRange part_of(const TileRange& tiles, size_t k) const {
    const int64_t first = std::max(tiles.first, bounds_[k]);
    return {first, std::min(tiles.first + tiles.count, bounds_[k + 1]) - first};
  }

  std::vector<int64_t> bounds_;
  std::vector<Share> shares_;
};

}  // namespace adamp
