#include "races.h"

#if defined(EMULATION_RACES)

#include <dlfcn.h>

#include <cstdio>
#include <memory>

#include "fibers.h"
#include "shadow.h"

namespace emulation::races {
namespace {

struct Thread {
  uint32_t releases = 0;
  std::unique_ptr<Clock> acquired;  // beyond what its block knows
};

struct Block {
  Clock clock;
  std::vector<Thread> threads;
  const void* shared = nullptr;
};

Shadow shadow;
std::vector<Block> blocks;

// ---- who knows what ---------------------------------------------------------------------------------

Thread& me() { return blocks[block_index()].threads[thread_index()]; }

Event event_here(const void* where) {
  static uintptr_t base = 0;
  if (base == 0) {
    Dl_info info;
    base = dladdr(where, &info) != 0 ? reinterpret_cast<uintptr_t>(info.dli_fbase) : 1;
  }
  const int block = block_index();
  return {blocks[block].clock.intervals[block], me().releases, static_cast<int16_t>(block),
          static_cast<int16_t>(thread_index()),
          static_cast<uint32_t>(reinterpret_cast<uintptr_t>(where) - base)};
}

bool known(const Event& event) {
  const int block = block_index();
  if (event.block < 0 || (event.block == block && event.thread == thread_index())) return true;
  const Thread& thread = me();
  return blocks[block].clock.knows(event) || (thread.acquired && thread.acquired->knows(event));
}

// What a release by this thread passes on.
Clock all_i_know() {
  const int block = block_index();
  Clock clock = blocks[block].clock;
  if (me().acquired) clock.join(*me().acquired);
  Event now = event_here(nullptr);
  now.where = 0;
  clock.add_point(now);
  return clock;
}

void learn(const Clock& clock) {
  Thread& thread = me();
  if (thread.acquired) {
    thread.acquired->join(clock);
  } else {
    thread.acquired = std::make_unique<Clock>(clock);
  }
}

// ---- reports ----------------------------------------------------------------------------------------

std::string text(const Event& event) {
  char where[32];
  std::snprintf(where, sizeof where, " at 0x%x", event.where);
  const std::string thread =
      event.thread == kSeveralThreads ? "several threads" : "thread " + std::to_string(event.thread);
  return "block " + std::to_string(event.block) + ", " + thread + where;
}

std::string place(const Memory& memory, const void* at, size_t size) {
  return std::to_string(size) + " bytes at " + memory.name + "+" +
         std::to_string(reinterpret_cast<uintptr_t>(at) - memory.base);
}

[[noreturn]] void report(const char* now, const char* before, const Event& event,
                         const Memory& memory, const void* at, size_t size, const void* where) {
  fail(std::string("race: ") + now + " of " + place(memory, at, size) + " by " +
       text(event_here(where)) + " is unordered with the " + before + " by " + text(event));
}

// ---- accesses ---------------------------------------------------------------------------------------

// Calls check(event) for each read that is remembered.
template <class Check>
void each_read(const Cell& cell, const Check& check) {
  if (cell.read.block >= 0) check(cell.read);
  if (cell.more == 0) return;
  for (const Event& read : shadow.more_reads[cell.more - 1]) check(read);
}

// Whether `event` can stand for `old`: one that knows it, or one more of the same block's interval.
bool absorbs(Event& old, const Event& event) {
  if (old.block < 0 || known(old)) {
    old = event;
    return true;
  }
  if (old.block != event.block || old.interval != event.interval) return false;
  if (old.thread != event.thread) old.thread = kSeveralThreads;
  return true;
}

void remember_read(Cell& cell, const Event& event) {
  if (cell.more == 0) {
    if (absorbs(cell.read, event)) return;
    shadow.more_reads.emplace_back();
    cell.more = static_cast<uint32_t>(shadow.more_reads.size());
  } else if (cell.read.block == event.block && absorbs(cell.read, event)) {
    return;
  }
  std::vector<Event>& more = shadow.more_reads[cell.more - 1];
  for (Event& old : more) {
    if (old.block == event.block && absorbs(old, event)) return;
  }
  more.push_back(event);
}

// The memory of an access; null where it is none of ours to watch.
Memory* watched(const void* at, size_t size, bool write) {
  if (!in_fiber() || on_own_stack(at)) return nullptr;
  Memory* memory = shadow.find(at);
  if (memory == nullptr) {
    // Constants of the program lie outside, too; they are not written.
    if (write) fail("writes " + std::to_string(size) + " bytes outside every allocation");
    return nullptr;
  }
  const size_t offset = reinterpret_cast<uintptr_t>(at) - memory->base;
  if (offset + size > memory->size) fail("accesses beyond the end: " + place(*memory, at, size));
  if (memory->block >= 0 && memory->block != block_index()) {
    fail("accesses another block's shared memory: " + place(*memory, at, size));
  }
  return memory;
}

}  // namespace

void end_block(int block) {
  if (blocks[block].shared != nullptr) shadow.remove(blocks[block].shared);
  blocks[block].shared = nullptr;
}

void add_memory(const void* base, size_t size, size_t unit, const char* name, bool initialised) {
  shadow.add(base, size, unit, name, initialised);
}

void remove_memory(const void* base) { shadow.remove(base); }

void host_writes(const void* at, size_t size) {
  Memory* memory = shadow.find(at);
  if (memory == nullptr || memory->written.empty() || size == 0) return;
  const size_t offset = reinterpret_cast<uintptr_t>(at) - memory->base;
  for (size_t i = offset / memory->unit; i <= (offset + size - 1) / memory->unit; ++i) {
    memory->written[i] = 1;
  }
}

void begin_launch(int n_blocks, int threads) {
  for (int block = 0; block < static_cast<int>(blocks.size()); ++block) end_block(block);
  shadow.begin_launch();
  blocks.clear();
  blocks.resize(n_blocks);
  for (int block = 0; block < n_blocks; ++block) {
    blocks[block].clock.intervals.assign(n_blocks, 0);
    blocks[block].clock.intervals[block] = 1;
    blocks[block].threads.resize(threads);
  }
}

void begin_block(int block, const void* shared, size_t size) {
  blocks[block].shared = shared;
  if (size > 0) shadow.add(shared, size, 4, "shared memory", false).block = block;
}


void barrier(int block) {
  Clock& clock = blocks[block].clock;
  for (Thread& thread : blocks[block].threads) {
    if (!thread.acquired) continue;
    clock.join(*thread.acquired);
    thread.acquired.reset();
  }
  ++clock.intervals[block];
}

void plain(const void* at, size_t size, Access access, const void* where) {
  const bool write = access == kWrite || access == kStrongWrite;
  Memory* memory = watched(at, size, write);
  if (memory == nullptr) return;
  const Event event = event_here(where);
  const char* what = write ? "write" : "read";
  const size_t offset = reinterpret_cast<uintptr_t>(at) - memory->base;
  const auto demand = [&](const Event& earlier, const char* name) {
    if (!known(earlier)) report(what, name, earlier, *memory, at, size, where);
  };
  const size_t last = (offset + size - 1) / memory->unit;
  for (size_t i = offset / memory->unit; i <= last; ++i) {
    Cell& cell = shadow.cell(*memory, i);
    demand(cell.write, "write");
    if (!memory->written.empty()) {
      if (!write && !memory->written[i] && !(access == kReadStruct && i == last)) {
        fail("reads what was never written: " + place(*memory, at, size));
      }
      memory->written[i] |= write;
    }
    if (write) {
      each_read(cell, [&](const Event& read) { demand(read, "read"); });
      cell.write = event;
      cell.read = Event();
      cell.more = 0;
    } else {
      remember_read(cell, event);
    }
  }
  const auto found = shadow.atomics.find(reinterpret_cast<uintptr_t>(at));
  if (found == shadow.atomics.end()) return;
  AtomicPlace& atomic = found->second;
  const Event& latest = atomic.last_modification;
  const bool follows_own = access == kStrongWrite && latest.block == event.block && latest.thread == event.thread;
  for (const Event& earlier : atomic.events) {
    if (!follows_own) demand(earlier, "atomic operation");
  }
  if (write) atomic.has_released = false;
}

void atomic(const void* at, Order order, bool write, const void* where) {
  Memory* memory = watched(at, 4, write);
  if (memory == nullptr) fail("an atomic operation outside every allocation");
  const size_t index = (reinterpret_cast<uintptr_t>(at) - memory->base) / memory->unit;
  Cell& cell = shadow.cell(*memory, index);
  if (!memory->written.empty() && !memory->written[index]) {
    fail("an atomic operation on what was never written: " + place(*memory, at, 4));
  }
  if (!known(cell.write)) report("atomic operation", "write", cell.write, *memory, at, 4, where);
  each_read(cell, [&](const Event& read) {
    if (write && !known(read)) report("atomic operation", "read", read, *memory, at, 4, where);
  });
  AtomicPlace& place = shadow.atomics[reinterpret_cast<uintptr_t>(at)];
  if ((order == kAcquire || order == kAcquireRelease) && place.has_released) learn(place.released);
  if (order == kRelease || order == kAcquireRelease) {
    // A plain release starts anew; a read-modify-write continues what others have released.
    const Clock mine = all_i_know();
    if (order == kAcquireRelease && place.has_released) {
      place.released.join(mine);
    } else {
      place.released = mine;
    }
    place.has_released = true;
  }
  const Event event = event_here(where);
  if (write) {
    place.last_modification = event;
    const auto mine = std::find_if(place.events.begin(), place.events.end(), [&](const Event& e) {
      return e.block == event.block && e.thread == event.thread;
    });
    mine == place.events.end() ? place.events.push_back(event) : void(*mine = event);
  }
  if (order == kRelease || order == kAcquireRelease) ++me().releases;
}

}  // namespace emulation::races

#endif
