// A kernel launch on the CPU: threads of a block are fibers, a few blocks are resident at a time,
// and a seed draws which fiber runs next.
//
// A fiber runs until it reaches a switch point: a barrier, a shuffle, an atomic operation, a pause,
// and, as the schedule draws them, ordinary memory accesses. What no kernel may do is a Fault: a
// barrier or a shuffle that not all threads reach, a wait for what never comes, a misaligned
// access.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <stdexcept>
#include <string>

namespace emulation {

// What is wrong with the device code; the launch is over.
struct Fault : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct Launch {
  int blocks, threads;
  int consumers;  // the first threads of a block, which have a barrier of their own, too
  size_t shared_bytes;
  std::function<void()> body;  // one thread
};

// How the fibers of a launch take turns.
struct Schedule {
  uint64_t seed = 0;
  int resident = 1;                      // blocks at a time
  uint64_t most_switches = 500'000'000;  // more than that is a livelock
};

// Runs every thread to its end. Throws Fault.
void run_launch(const Launch& launch, const Schedule& schedule);

// Where in the device code a barrier or a shuffle stands.
struct Site {
  const char* file;
  int line;
};

// ---- called by fibers
// -------------------------------------------------------------------------------

// The running fiber. Written at every switch, so that the many who ask need no call.
struct Here {
  int thread = 0, threads = 0;  // of the block
  int block = 0, blocks = 0;
  unsigned char* shared = nullptr;
  const unsigned char* stack = nullptr;  // null: host code
  size_t stack_size = 0;
};
extern Here here;

// Waits for all threads of the block.
void barrier(Site site);
// Waits for the first `count` threads of the block, which must be the launch's consumers.
void barrier_of_first(int count, Site site);
// Replaces `value` by that of the lane whose index differs by `mask`.
void exchange(void* value, size_t size, int mask, Site site);
// Lets others run until something may have changed.
void pause();
// How often, in this launch, everybody who could run had looked for a change and there was none.
uint64_t vain_rounds();
// An atomic operation is about to be performed.
void before_atomic(bool writes);
// An ordinary access is about to be performed: a switch point now and then.
void before_access();
// Ends the launch with a Fault that says this and which thread.
[[noreturn]] void fail(const std::string& what);

}  // namespace emulation
