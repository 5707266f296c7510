// A resident block: its fibers and what they wait for. No scheduling here.
#pragma once

#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "context.h"
#include "fibers.h"

namespace emulation {

constexpr int kWarpSize = 32;
constexpr size_t kLargestExchange = 16;

enum class State : uint8_t { kReady, kAtBarrier, kAtShuffle, kPaused, kDone };

struct Block;

struct Fiber {
  Context context;
  Block* block;
  int thread;
  int position;  // in the block's list of ready threads
  State state;
};

struct Warp {
  int waiting, gone;  // lanes at the shuffle; lanes at a barrier or at their end
  Site site;
  uint32_t round;
  // Two rounds: a lane may deposit its next value before another has read this one.
  unsigned char values[2][kWarpSize][kLargestExchange];
};

// Some threads of a block that wait for each other.
struct Barrier {
  int waiting;
  Site site;
};

struct Block {
  int index;
  std::vector<Fiber> fibers;
  std::vector<Warp> warps;
  std::vector<int> ready;  // threads, in no order
  std::vector<int> paused;
  std::unique_ptr<unsigned char, decltype(&std::free)> shared{nullptr, &std::free};
  Barrier all, consumers;
  int workers_at_all;  // of those that wait there
  int done;
  int last_thread;  // that ran

  void make_ready(Fiber& fiber) {
    fiber.state = State::kReady;
    fiber.position = static_cast<int>(ready.size());
    ready.push_back(fiber.thread);
  }

  void leave_ready(Fiber& fiber, State state) {
    fiber.state = state;
    ready[fiber.position] = ready.back();
    fibers[ready.back()].position = fiber.position;
    ready.pop_back();
  }

  void wake(size_t i) {
    Fiber& fiber = fibers[paused[i]];
    paused[i] = paused.back();
    paused.pop_back();
    make_ready(fiber);
  }

  // Memory that a block finds as some other block left it: here NaNs in every format, and indices
  // that are out of range.
  void poison_shared(size_t size) {
    void* memory = nullptr;
    if (posix_memalign(&memory, 16, size) != 0) throw std::bad_alloc();
    shared.reset(static_cast<unsigned char*>(memory));
    if (size > 0) std::memset(memory, 0xff, size);
  }
};

inline std::string text(Site site) {
  const char* slash = std::strrchr(site.file, '/');
  return std::string(slash == nullptr ? site.file : slash + 1) + ":" + std::to_string(site.line);
}

inline bool same(Site a, Site b) { return a.line == b.line && std::strcmp(a.file, b.file) == 0; }

inline std::string text(const Barrier& barrier) {
  return barrier.waiting > 0 ? " (" + text(barrier.site) + ")" : "";
}

inline std::string describe(const Block& block) {
  int count[5] = {};
  for (const Fiber& fiber : block.fibers) ++count[static_cast<int>(fiber.state)];
  return "block " + std::to_string(block.index) + ": " + std::to_string(count[1]) +
         " at a barrier" + text(block.all) + text(block.consumers) + ", " +
         std::to_string(count[2]) + " at a shuffle, " + std::to_string(count[0] + count[3]) +
         " waiting, " + std::to_string(count[4]) + " returned";
}

}  // namespace emulation
