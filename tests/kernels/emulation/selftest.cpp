// Does the emulation itself see what it should? Small kernels, right ones and wrong ones.
//
// The right one has the shape of the step: tasks, partial sums, a decision by the block that
// arrives last, a second phase that waits for it. Each wrong one must end in a Fault that names its
// fault.
#include <cmath>
#include <cstdio>
#include <cstring>
#include <vector>

#include "device_emulated.h"

using emulation::Fault;
using emulation::Launch;
using emulation::Schedule;
namespace races = emulation::races;

namespace {

constexpr int kThreads = 64;
constexpr int kItems = 9;
constexpr int kItemSize = 100;

// Memory that the detector knows.
template <class T>
struct Global {
  std::vector<T> values;
  explicit Global(size_t n, T fill = T()) : values(n, fill) {
    races::add_memory(values.data(), n * sizeof(T), sizeof(T), "global", true);
  }
  ~Global() { races::remove_memory(values.data()); }
  T* get() { return values.data(); }
};

enum class Wrong {
  kNothing,
  kRelaxedArrival,   // the last block does not acquire what the others stored
  kNoBarrierBefore,  // thread 0 arrives before the others have stored
  kWaitsForHigher,   // a task waits for one that nobody may ever draw
};

struct Data {
  float* values;
  float* partial;
  float* total;
  uint32_t *task, *arrived, *decided;
  int tiles, size;
};

ADAMP_DEVICE float block_sum(float x) {
  float* warps = reinterpret_cast<float*>(adamp::shared_memory()) + 1;
  for (int mask = 16; mask > 0; mask /= 2) x += adamp::shuffle_xor(x, mask);
  if (adamp::thread_index() % 32 == 0) warps[adamp::thread_index() / 32] = x;
  adamp::sync_block();
  float sum = 0;
  for (int i = 0; i < kThreads / 32; ++i) sum += warps[i];
  adamp::sync_block();
  return sum;
}

// values /= sum of all values.
ADAMP_DEVICE void normalise(const Data& d, Wrong wrong) {
  uint32_t& task = *reinterpret_cast<uint32_t*>(adamp::shared_memory());
  for (;;) {
    if (adamp::thread_index() == 0) task = adamp::fetch_add_relaxed(d.task, 1);
    adamp::sync_block();
    const int drawn = static_cast<int>(task);
    adamp::sync_block();
    if (drawn >= 2 * d.tiles) return;
    const bool first = wrong == Wrong::kWaitsForHigher ? drawn % 2 == 1 : drawn < d.tiles;
    const int tile = wrong == Wrong::kWaitsForHigher ? drawn / 2 : drawn % d.tiles;
    float* mine = d.values + tile * d.size;
    if (first) {
      float sum = 0;
      for (int i = adamp::thread_index(); i < d.size; i += kThreads) sum += mine[i];
      sum = block_sum(sum);
      const int writer = wrong == Wrong::kNoBarrierBefore ? 33 : 0;
      if (adamp::thread_index() == writer) adamp::store_cross_block(&d.partial[tile], sum);
      if (adamp::thread_index() != 0) continue;
      const uint32_t before = wrong == Wrong::kRelaxedArrival
                                  ? adamp::fetch_add_relaxed(d.arrived, 1)
                                  : adamp::fetch_add_acq_rel(d.arrived, 1);
      if (static_cast<int>(before) + 1 != d.tiles) continue;
      float total = 0;
      for (int i = 0; i < d.tiles; ++i) total += adamp::load_cross_block(&d.partial[i]);
      adamp::store_cross_block(d.total, total);
      adamp::store_release(d.decided, 1);
    } else {
      if (adamp::thread_index() == 0) {
        while (adamp::load_acquire(d.decided) == 0) adamp::pause_waiting();
      }
      adamp::sync_block();
      const float total = adamp::load_cross_block(d.total);
      for (int i = adamp::thread_index(); i < d.size; i += kThreads) mine[i] /= total;
    }
  }
}

struct Outcome {
  std::string fault;
  std::vector<float> values;
};

Outcome run_normalise(uint64_t seed, int blocks, int resident, Wrong wrong, int tiles, int size) {
  Global<float> values(tiles * size), partial(tiles), total(1);
  Global<uint32_t> counters(3);
  for (int i = 0; i < tiles * size; ++i) values.values[i] = 1.0f + static_cast<float>(i % 7);
  const Data data = {values.get(),       partial.get(),      total.get(), counters.get(),
                     counters.get() + 1, counters.get() + 2, tiles,       size};
  try {
    emulation::run_launch({blocks, kThreads, kThreads, 64, [&] { normalise(data, wrong); }},
                          {seed, resident});
  } catch (const Fault& fault) {
    return {fault.what(), {}};
  }
  return {"", values.values};
}

std::string fault_of(const std::function<void()>& body, int blocks = 1, int consumers = kThreads) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    try {
      emulation::run_launch({blocks, kThreads, consumers, 256, body}, {seed, blocks, 100'000});
    } catch (const Fault& fault) {
      return fault.what();
    }
  }
  return "no fault";
}

int failures = 0;

void expect(bool ok, const char* what, const std::string& got) {
  if (!ok) ++failures;
  std::printf("%-4s %s%s%s\n", ok ? "ok" : "BAD", what, got.empty() ? "" : ": ", got.c_str());
}

void expect_fault(const char* what, const std::string& got, const char* want) {
  expect(got.find(want) != std::string::npos, what, got);
}

void check_protocol() {
  const Outcome first = run_normalise(0, 1, 1, Wrong::kNothing, kItems, kItemSize);
  expect(first.fault.empty(), "one block", first.fault);
  int different = 0;
  std::string fault;
  for (uint64_t seed = 1; seed <= 300; ++seed) {
    const int blocks = 1 + static_cast<int>(seed % 8),
              resident = 1 + static_cast<int>(seed / 8) % blocks;
    const Outcome now = run_normalise(seed, blocks, resident, Wrong::kNothing, kItems, kItemSize);
    different += now.fault.empty() && now.values != first.values;
    if (!now.fault.empty()) fault = now.fault;
  }
  expect(fault.empty() && different == 0, "300 schedules, equal bits", fault);
  // With one block resident it draws its own predecessor next, which it never comes to.
  expect_fault("a wait for a higher task",
               run_normalise(1, 2, 1, Wrong::kWaitsForHigher, kItems, kItemSize).fault, "deadlock");
}

void check_faults() {
  using namespace adamp;
  expect_fault("a barrier in one branch", fault_of([] {
                 if (thread_index() < 32) sync_block();
                 sync_block();
               }),
               "others of its block at");
  expect_fault("a return before a barrier", fault_of([] {
                 if (thread_index() != 7) sync_block();
               }),
               "return");
  expect_fault("a shuffle of half a warp", fault_of([] {
                 if (thread_index() % 32 < 16) shuffle_xor(1, 1);
               }),
               "shuffle");
  expect_fault("a shuffle beside a barrier", fault_of([] {
                 if (thread_index() % 32 < 16) shuffle_xor(1, 1);
                 sync_block();
               }),
               "shuffle");
  expect_fault("a misaligned wide load", fault_of([] { load_vector(shared_memory() + 4); }),
               "misaligned");
  expect_fault("a wait for ever", fault_of([] {
                 for (;;) pause_waiting();
               }),
               "deadlock");
}

void check_races() {
  for (const auto& [wrong, what] :
       {std::pair{Wrong::kRelaxedArrival, "relaxed instead of release"},
        std::pair{Wrong::kNoBarrierBefore, "no barrier before the release"}}) {
    int seen = 0;
    std::string fault;
    for (uint64_t seed = 0; seed < 20; ++seed) {
      fault = run_normalise(seed, 4, 3, wrong, kItems, kItemSize).fault;
      seen += fault.find("race") != std::string::npos;
    }
    // Not where one block happened to draw all tasks.
    expect(seen >= 15, what, std::to_string(seen) + " of 20 schedules; " + fault);
  }
  expect_fault("no barrier between shared accesses", fault_of([] {
                 volatile float* shared = reinterpret_cast<float*>(adamp::shared_memory());
                 const int i = adamp::thread_index();
                 shared[i] = 1;
                 adamp::sync_block();
                 shared[i] = shared[i ^ 1] + 1;
               }),
               "race");
  expect_fault("uninitialised shared memory", fault_of([] {
                 volatile float* shared = reinterpret_cast<float*>(adamp::shared_memory());
                 const float x = shared[adamp::thread_index()];
                 shared[adamp::thread_index()] = x;
               }),
               "never written");
  expect_fault("beyond shared memory", fault_of([] {
                 volatile float* shared = reinterpret_cast<float*>(adamp::shared_memory());
                 shared[64] = 1;
               }),
               "outside");
}

// The second warp writes numbers one turn ahead; the first, the consumers, read them.
void take_turns(bool ahead) {
  using namespace adamp;
  volatile int* shared = reinterpret_cast<int*>(shared_memory());
  const bool produces = thread_index() >= 32;
  if (thread_index() == 32) shared[0] = 0;
  for (int turn = 0; turn < 5; ++turn) {
    sync_block();
    if (thread_index() == 32) shared[(turn + ahead) % 2] = turn + ahead;
    if (produces) continue;
    const int seen = shared[turn % 2];
    sync_consumers();
    shared[2 + thread_index()] = seen + thread_index();
    sync_consumers();
    if (shared[2 + (thread_index() ^ 1)] != turn + (thread_index() ^ 1)) {
      emulation::fail("reads another turn's number");
    }
  }
  sync_block();
}

void check_workers() {
  using namespace adamp;
  expect_fault("a warp that works ahead", fault_of([] { take_turns(true); }, 1, 32), "no fault");
  if (races::kEnabled) {
    expect_fault("a warp that does not", fault_of([] { take_turns(false); }, 1, 32), "race");
  }
  expect_fault("the consumers' barrier without one of them",
               fault_of(
                   [] {
                     if (thread_index() < 16) sync_consumers();
                     sync_block();
                   },
                   1, 32),
               "others of its block at");
  expect_fault("another at the consumers' barrier", fault_of([] { sync_consumers(); }, 1, 32),
               "the block's consumers are the first 32");
  expect_fault("a barrier of others than the consumers", fault_of([] { sync_consumers(); }),
               "the block's consumers are the first 64");
}

void check_conversions() {
  using namespace adamp;
  int wrong = 0;
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const BFloat16 brain = {static_cast<uint16_t>(bits)};
    const Float16 half = {static_cast<uint16_t>(bits)};
    BFloat16 brain_back;
    Float16 half_back;
    const float x = to_arithmetic(brain), y = to_arithmetic(half);
    to_storage(x, brain_back);
    to_storage(y, half_back);
    wrong += std::isnan(x) ? !std::isnan(to_arithmetic(brain_back)) : brain_back.bits != bits;
    wrong += std::isnan(y) ? !std::isnan(to_arithmetic(half_back)) : half_back.bits != bits;
    if (std::isnan(x) || std::isinf(x) || (bits & 0x7fff) == 0x7f7f) continue;
    // Half-way to the next: to the even one.
    BFloat16 next = {static_cast<uint16_t>(bits + 1)}, middle;
    to_storage(static_cast<float>((double{x} + double{to_arithmetic(next)}) / 2), middle);
    wrong += middle.bits != (bits % 2 == 0 ? bits : bits + 1);
  }
  expect(wrong == 0, "16-bit conversions", std::to_string(wrong) + " wrong");
}

}  // namespace

int main() {
  check_conversions();
  check_protocol();
  check_faults();
  check_workers();
  if (races::kEnabled) check_races();
  return failures == 0 ? 0 : 1;
}
