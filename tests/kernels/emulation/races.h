// Finds accesses that nothing orders: two of one place, one of them a write, where neither is known
// to have happened before the other. Also reads of what was never written, and accesses outside
// every allocation.
//
// A missing barrier, or relaxed where release is needed, leaves such a pair under almost every
// schedule, even where the values come out right: so one run shows what thousands of runs on a GPU
// may not.
//
// The kernels need no change for this: g++ -fsanitize=thread puts a call before every memory
// access, and races_hooks.cpp answers those calls. Without EMULATION_RACES everything here is
// empty.
#pragma once

#include <cstddef>

namespace emulation::races {

enum Order { kRelaxed, kAcquire, kRelease, kAcquireRelease };
// A struct that is copied whole may end in padding, which nobody has written.
enum Access { kRead, kReadStruct, kWrite, kStrongWrite };

#if defined(EMULATION_RACES)

constexpr bool kEnabled = true;

// ---- called by the host
// -----------------------------------------------------------------------------

// `unit`: the bytes of the smallest element; what is smaller is not told apart.
void add_memory(const void* base, size_t size, size_t unit, const char* name, bool initialised);
void remove_memory(const void* base);
void host_writes(const void* at, size_t size);

// ---- called by the scheduler
// ------------------------------------------------------------------------

void begin_launch(int blocks, int threads, int consumers);
void begin_block(int block, const void* shared, size_t size);
void end_block(int block);
void barrier(int block);
void barrier_of_workers(int block);

// ---- called by fibers
// -------------------------------------------------------------------------------

// Just before the access; `where` is in the program, for the report. A strong write may follow the
// atomic operations of its own thread: the place's own order includes it.
void plain(const void* at, size_t size, Access access, const void* where);
// The memory is asked for, and neither read nor written.
void reach(const void* at, size_t size);
void atomic(const void* at, Order order, bool write, const void* where);

#else

constexpr bool kEnabled = false;

inline void add_memory(const void*, size_t, size_t, const char*, bool) {}
inline void remove_memory(const void*) {}
inline void host_writes(const void*, size_t) {}
inline void begin_launch(int, int, int) {}
inline void begin_block(int, const void*, size_t) {}
inline void end_block(int) {}
inline void barrier(int) {}
inline void barrier_of_workers(int) {}
inline void plain(const void*, size_t, Access, const void*) {}
inline void reach(const void*, size_t) {}
inline void atomic(const void*, Order, bool, const void*) {}

#endif

}  // namespace emulation::races
