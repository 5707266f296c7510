// What the running thread knows to have happened, and how threads learn from each other.
#pragma once

#include <dlfcn.h>

#include <memory>
#include <vector>

#include "clocks.h"
#include "fibers.h"

namespace emulation::races {

struct Thread {
  uint32_t releases = 0;
  std::unique_ptr<Clock> acquired;  // beyond what its block knows
};

struct Block {
  Clock clock;
  std::vector<Thread> threads;
  const void* shared = nullptr;
};

inline std::vector<Block> blocks;

// ---------------------------------------------------------------------------------

inline Thread& me() { return blocks[here.block].threads[here.thread]; }

inline Event event_here(const void* where) {
  static uintptr_t base = 0;
  if (base == 0) {
    Dl_info info;
    base = dladdr(where, &info) != 0 ? reinterpret_cast<uintptr_t>(info.dli_fbase) : 1;
  }
  const int block = here.block;
  return {blocks[block].clock.intervals[block], me().releases, static_cast<int16_t>(block),
          static_cast<int16_t>(here.thread),
          static_cast<uint32_t>(reinterpret_cast<uintptr_t>(where) - base)};
}

inline bool known(const Event& event) {
  const int block = here.block;
  if (event.block < 0 || (event.block == block && event.thread == here.thread)) return true;
  const Thread& thread = me();
  return blocks[block].clock.knows(event) || (thread.acquired && thread.acquired->knows(event));
}

// What a release by this thread passes on.
inline Clock all_i_know() {
  const int block = here.block;
  Clock clock = blocks[block].clock;
  if (me().acquired) clock.join(*me().acquired);
  Event now = event_here(nullptr);
  now.where = 0;
  clock.add_point(now);
  return clock;
}

inline void learn(const Clock& clock) {
  Thread& thread = me();
  if (thread.acquired) {
    thread.acquired->join(clock);
  } else {
    thread.acquired = std::make_unique<Clock>(clock);
  }
}

}  // namespace emulation::races
