// What a seed decides: the order of fibers, and the habits in which schedules differ in kind.
#pragma once

#include <cstdint>

namespace emulation {

// SplitMix64: equal on every machine.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15u + 0x1234567) {}

  uint32_t next() {
    uint64_t z = (state_ += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return static_cast<uint32_t>((z ^ (z >> 31)) >> 32);
  }
  uint32_t below(uint32_t n) { return static_cast<uint32_t>((uint64_t{next()} * n) >> 32); }
  // True in `share` of 65536 cases.
  bool chance(uint32_t share) { return (next() >> 16) < share; }

 private:
  uint64_t state_;
};

// A uniform draw at every switch keeps all blocks abreast. Races are lost and won when one block
// runs far ahead, or stands still in the middle of something: hence habits.
struct Habits {
  uint32_t stay_in_block;  // of 65536: go on with a fiber of the same block
  uint32_t next_in_order;  // of 65536: take the neighbouring thread, else any
  uint32_t wake;           // of 65536: let a waiting fiber look again before it must
  uint32_t access_period;  // an ordinary access in about so many is a switch point; 0: none

  explicit Habits(Random& random) {
    constexpr uint32_t kStay[] = {0, 32768, 62000, 65400, 65536};
    constexpr uint32_t kOrder[] = {0, 60000, 65000, 65536};
    constexpr uint32_t kWake[] = {40, 2000, 20000};
    constexpr uint32_t kPeriod[] = {0, 0, 400, 40};
    stay_in_block = kStay[random.below(5)];
    next_in_order = kOrder[random.below(4)];
    wake = kWake[random.below(3)];
    access_period = kPeriod[random.below(4)];
  }
};

}  // namespace emulation
