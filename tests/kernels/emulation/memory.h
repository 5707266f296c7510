// The accesses that device code makes by name: checked, ordered, and places where fibers may
// switch.
//
// Not inline: the race detector must not see the same access twice, once by name and once through
// the compiler's calls.
#pragma once

#include <cstddef>
#include <cstdint>

#include "races.h"

namespace emulation {

using races::Order;

uint32_t atomic_add(uint32_t* at, uint32_t value, Order order);
uint32_t atomic_load(const uint32_t* at, Order order);
void atomic_store(uint32_t* at, uint32_t value, Order order);

// Reads and writes of 16 bytes of global memory so far.
extern uint64_t vector_accesses;
// Bytes that were prefetched of their use, so far; and how many of them may have been added to
// come to whole units.
extern uint64_t bytes_asked_for, bytes_in_excess;

// Copies `size` bytes. A Fault unless `at` is a multiple of `size`.
void read_memory(void* to, const void* at, size_t size);
void write_memory(void* at, const void* from, size_t size);
// The same for shared memory, which does not count.
void read_shared_memory(void* to, const void* at, size_t size);
void write_shared_memory(void* at, const void* from, size_t size);
// What asks for memory ahead of its use reads nothing, and stays within it.
void prefetch_memory(const void* at, size_t size);
// A write, where the device makes a store that atomic operations see (volatile).
void write_strongly(void* at, const void* from, size_t size);

}  // namespace emulation
