// What the race detector remembers of each place in memory.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "clocks.h"

namespace emulation::races {

struct Cell {
  Event write;  // the last one, if not by an atomic operation
  Event read;   // since that write; more of them, by other teams, in Shadow::more_reads
  uint32_t launch = 0;
  uint32_t more = 0;  // index + 1
};

struct Memory {
  uintptr_t base = 0;
  size_t size = 0, unit = 4;
  int block = -1;  // whose shared memory it is
  std::string name;
  std::vector<Cell> cells;
  std::vector<uint8_t> written;  // ever; empty: all of it
};

// A place that atomic operations were performed on.
struct AtomicPlace {
  Clock released;  // what an acquire learns here
  bool has_released = false;
  std::vector<Event> writes, loads;  // the last ones of each thread
  Event last_write;
};

class Shadow {
 public:
  uint32_t launch = 0;
  std::vector<std::vector<Event>> more_reads;
  std::map<uintptr_t, AtomicPlace> atomics;

  void begin_launch() {
    ++launch;
    more_reads.clear();
    atomics.clear();
  }

  Memory& add(const void* base, size_t size, size_t unit, std::string name, bool initialised) {
    remove(base);
    Memory memory;
    memory.base = reinterpret_cast<uintptr_t>(base);
    memory.size = size;
    memory.unit = unit;
    memory.name = std::move(name);
    memory.cells.resize((size + unit - 1) / unit);
    if (!initialised) memory.written.resize(memory.cells.size());
    return memories_[memory.base] = std::move(memory);
  }

  void remove(const void* base) {
    last_ = nullptr;
    memories_.erase(reinterpret_cast<uintptr_t>(base));
  }

  // The memory that holds `at`; null where none does.
  Memory* find(const void* at) {
    const uintptr_t address = reinterpret_cast<uintptr_t>(at);
    if (last_ != nullptr && address - last_->base < last_->size) return last_;
    const auto next = memories_.upper_bound(address);
    if (next == memories_.begin()) return nullptr;
    Memory& memory = std::prev(next)->second;
    if (address - memory.base >= memory.size) return nullptr;
    return last_ = &memory;
  }

  // The cell, with what earlier launches did forgotten: launches are ordered.
  Cell& cell(Memory& memory, size_t index) const {
    Cell& cell = memory.cells[index];
    if (cell.launch != launch) {
      cell = Cell();
      cell.launch = launch;
    }
    return cell;
  }

 private:
  std::map<uintptr_t, Memory> memories_;
  Memory* last_ = nullptr;
};

}  // namespace emulation::races
