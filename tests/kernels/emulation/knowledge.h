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
  std::unique_ptr<Clock> acquired;  // beyond what its team knows
};

// Threads of a block that meet at the same barriers: its consumers, or the others.
struct Team {
  Clock clock;
  std::vector<Thread> threads;
};

inline std::vector<Team> teams;  // two of each block
inline int consumers = 0;

inline int team_here() { return 2 * here.block + (here.thread >= consumers); }

// ---------------------------------------------------------------------------------

inline Thread& me() { return teams[team_here()].threads[here.thread]; }

inline Event event_here(const void* where) {
  static uintptr_t base = 0;
  if (base == 0) {
    Dl_info info;
    base = dladdr(where, &info) != 0 ? reinterpret_cast<uintptr_t>(info.dli_fbase) : 1;
  }
  const int team = team_here();
  return {teams[team].clock.intervals[team], me().releases, static_cast<int16_t>(team),
          static_cast<int16_t>(here.thread),
          static_cast<uint32_t>(reinterpret_cast<uintptr_t>(where) - base)};
}

inline bool known(const Event& event) {
  const int team = team_here();
  if (event.team < 0 || (event.team == team && event.thread == here.thread)) return true;
  const Thread& thread = me();
  return teams[team].clock.knows(event) || (thread.acquired && thread.acquired->knows(event));
}

// What a release by this thread passes on.
inline Clock all_i_know() {
  Clock clock = teams[team_here()].clock;
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
