#include "races.h"

#if defined(EMULATION_RACES)

#include <cstdio>

#include "knowledge.h"
#include "shadow.h"

namespace emulation::races {
namespace {

Shadow shadow;
std::vector<const void*> shared;  // of each block

// ---- reports
// ----------------------------------------------------------------------------------------

std::string text(const Event& event) {
  char where[32];
  std::snprintf(where, sizeof where, " at 0x%x", event.where);
  const std::string thread = event.thread == kSeveralThreads
                                 ? "several threads"
                                 : "thread " + std::to_string(event.thread);
  return "block " + std::to_string(event.team / 2) + ", " + thread + where;
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

// ---- accesses
// ---------------------------------------------------------------------------------------

// Calls check(event) for each read that is remembered.
template <class Check>
void each_read(const Cell& cell, const Check& check) {
  if (cell.read.team >= 0) check(cell.read);
  if (cell.more == 0) return;
  for (const Event& read : shadow.more_reads[cell.more - 1]) check(read);
}

bool same_thread(const Event& a, const Event& b) {
  return a.team == b.team && a.thread == b.thread;
}

// Whether `event` can stand for `old`: one that knows it, or one more of the same team's interval.
bool absorbs(Event& old, const Event& event) {
  if (old.team < 0 || known(old)) {
    old = event;
    return true;
  }
  if (old.team != event.team || old.interval != event.interval) return false;
  if (old.thread != event.thread) old.thread = kSeveralThreads;
  return true;
}

void remember_read(Cell& cell, const Event& event) {
  if (cell.more == 0) {
    if (absorbs(cell.read, event)) return;
    shadow.more_reads.emplace_back();
    cell.more = static_cast<uint32_t>(shadow.more_reads.size());
  } else if (cell.read.team == event.team && absorbs(cell.read, event)) {
    return;
  }
  std::vector<Event>& more = shadow.more_reads[cell.more - 1];
  for (Event& old : more) {
    if (old.team == event.team && absorbs(old, event)) return;
  }
  more.push_back(event);
}

// The memory of an access; null where it is none of ours to watch.
Memory* watched(const void* at, size_t size, bool write) {
  Memory* memory = shadow.find(at);
  if (memory == nullptr) {
    // Constants of the program lie outside, too; they are not written.
    if (write) fail("writes " + std::to_string(size) + " bytes outside every allocation");
    return nullptr;
  }
  const size_t offset = reinterpret_cast<uintptr_t>(at) - memory->base;
  if (offset + size > memory->size) fail("accesses beyond the end: " + place(*memory, at, size));
  if (memory->block >= 0 && memory->block != here.block) {
    fail("accesses another block's shared memory: " + place(*memory, at, size));
  }
  return memory;
}

// The threads of a team know what each of them knew.
void meet(int team) {
  Clock& clock = teams[team].clock;
  for (Thread& thread : teams[team].threads) {
    if (!thread.acquired) continue;
    clock.join(*thread.acquired);
    thread.acquired.reset();
  }
  ++clock.intervals[team];
}

}  // namespace

void end_block(int block) {
  if (shared[block] != nullptr) shadow.remove(shared[block]);
  shared[block] = nullptr;
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

void begin_launch(int blocks, int threads, int n_workers) {
  for (int block = 0; block < static_cast<int>(shared.size()); ++block) end_block(block);
  shadow.begin_launch();
  shared.assign(blocks, nullptr);
  consumers = n_workers;
  teams.clear();
  teams.resize(2 * blocks);
  for (size_t team = 0; team < teams.size(); ++team) {
    teams[team].clock.intervals.assign(teams.size(), 0);
    teams[team].clock.intervals[team] = 1;
    teams[team].threads.resize(threads);
  }
}

void begin_block(int block, const void* memory, size_t size) {
  shared[block] = memory;
  if (size > 0) shadow.add(memory, size, 4, "shared memory", false).block = block;
}

void barrier_of_workers(int block) { meet(2 * block); }

void barrier(int block) {
  meet(2 * block);
  meet(2 * block + 1);
  Clock &one = teams[2 * block].clock, &other = teams[2 * block + 1].clock;
  one.join(other);
  other.join(one);
}

void reach(const void* at, size_t size) {
  if (watched(at, size, false) == nullptr) fail("asks for memory outside every allocation");
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
  const bool follows_own = access == kStrongWrite && same_thread(atomic.last_write, event);
  for (const Event& earlier : atomic.writes) {
    if (!follows_own) demand(earlier, "atomic operation");
  }
  if (!write) return;
  for (const Event& earlier : atomic.loads) demand(earlier, "atomic load");
  atomic.has_released = false;
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
  std::vector<Event>& all = write ? place.writes : place.loads;
  if (write) place.last_write = event;
  const auto mine =
      std::find_if(all.begin(), all.end(), [&](const Event& e) { return same_thread(e, event); });
  mine == all.end() ? all.push_back(event) : void(*mine = event);
  if (order == kRelease || order == kAcquireRelease) ++me().releases;
}

}  // namespace emulation::races

#endif
