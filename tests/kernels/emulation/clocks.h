// Who is known to have done what: the happens-before relation of a launch.
//
// All threads that meet at a barrier know what each of them knew; otherwise knowledge passes only
// from a release to an acquire that reads it. Hence a clock has one number for each team of threads
// that meet at the same barriers (what happened in its intervals between them) and, for the
// interval in which a thread released, that thread's count.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace emulation::races {

// One access: when and by whom. Also the point up to which a thread's accesses are known.
struct Event {
  uint32_t interval = 0;  // barriers that the team had passed
  uint32_t count = 0;     // releases that the thread had made
  int16_t team = -1;      // -1: no event
  int16_t thread = 0;
  uint32_t where = 0;  // in the program
};

constexpr int16_t kSeveralThreads = -1;

struct Clock {
  std::vector<uint32_t> intervals;  // of each team: those before are known
  std::vector<Event> points;        // and what this thread did until then

  bool knows(const Event& event) const {
    if (event.interval < intervals[event.team]) return true;
    return std::any_of(points.begin(), points.end(), [&](const Event& point) {
      return point.team == event.team && point.thread == event.thread && event.count <= point.count;
    });
  }

  void add_point(const Event& point) {
    if (point.interval < intervals[point.team]) return;
    for (Event& mine : points) {
      if (mine.team == point.team && mine.thread == point.thread) {
        if (mine.count < point.count) mine = point;
        return;
      }
    }
    points.push_back(point);
  }

  void join(const Clock& other) {
    for (size_t i = 0; i < intervals.size(); ++i) {
      intervals[i] = std::max(intervals[i], other.intervals[i]);
    }
    for (const Event& point : other.points) add_point(point);
    points.erase(std::remove_if(points.begin(), points.end(),
                                [this](const Event& p) { return p.interval < intervals[p.team]; }),
                 points.end());
  }
};

}  // namespace emulation::races
