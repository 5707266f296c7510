// Stands in for csrc/cuda/device.cuh where g++ compiles the kernels: the same names, on fibers.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstring>

#include "../../../csrc/cpu/half.h"
#include "fibers.h"
#include "memory.h"

#define ADAMP_KERNEL(threads, blocks_per_sm) void
#define ADAMP_KERNEL_PARAM const
#define ADAMP_DEVICE inline

namespace adamp {

// Not the types of csrc/cpu/vec.h: both may be linked into one program.
struct EmulatedBFloat16 {
  uint16_t bits;
};
struct EmulatedFloat16 {
  uint16_t bits;
};
using BFloat16 = EmulatedBFloat16;
using Float16 = EmulatedFloat16;

constexpr int kWarpSize = 32;

inline int thread_index() { return emulation::here.thread; }
inline int lane_index() { return thread_index() % kWarpSize; }
inline int consumer_count() { return emulation::here.threads - kWarpSize; }
inline int block_index() { return emulation::here.block; }
inline int block_count() { return emulation::here.blocks; }
inline unsigned char* shared_memory() { return emulation::here.shared; }

// The caller's place in the source tells one barrier from another.
inline void sync_block(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  emulation::barrier({file, line});
}

inline void sync_consumers(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  emulation::barrier_of_first(consumer_count(), {file, line});
}

template <class T>
inline T shuffle_xor(T value, int mask, const char* file = __builtin_FILE(),
                     int line = __builtin_LINE()) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8, "what a warp can shuffle");
  if (mask < 0 || mask >= kWarpSize) emulation::fail("shuffles with a mask beyond its warp");
  emulation::exchange(&value, sizeof value, mask, {file, line});
  return value;
}

inline uint32_t warp_sum(uint32_t value, const char* file = __builtin_FILE(),
                         int line = __builtin_LINE()) {
  for (int mask = kWarpSize / 2; mask > 0; mask /= 2) value += shuffle_xor(value, mask, file, line);
  return value;
}

// ---- accesses to memory
// -----------------------------------------------------------------------------

inline uint32_t fetch_add_relaxed(uint32_t* at, uint32_t value) {
  return emulation::atomic_add(at, value, emulation::races::kRelaxed);
}
inline uint32_t fetch_add_acq_rel(uint32_t* at, uint32_t value) {
  return emulation::atomic_add(at, value, emulation::races::kAcquireRelease);
}
inline uint32_t load_relaxed(const uint32_t* at) {
  return emulation::atomic_load(at, emulation::races::kRelaxed);
}
inline uint32_t load_acquire(const uint32_t* at) {
  return emulation::atomic_load(at, emulation::races::kAcquire);
}
inline void store_release(uint32_t* at, uint32_t value) {
  emulation::atomic_store(at, value, emulation::races::kRelease);
}

inline void pause_waiting() { emulation::pause(); }

#if defined(ADAMP_FUSED_DEBUG)
constexpr bool kDebug = true;
#else
constexpr bool kDebug = false;
#endif

// Time passes only while all that could run look in vain, so that a wait that is right is short
// under every schedule. The scheduler itself reports a deadlock later.
inline uint64_t nanoseconds() { return emulation::vain_rounds(); }
constexpr uint64_t kLongestWait = 8;

template <class... Values>
[[noreturn]] inline void fail(const char* format, Values... values) {
  char text[400];
  std::snprintf(text, sizeof text, format, values...);
  text[std::strcspn(text, "\n")] = 0;
  emulation::fail(text);
}

template <class T>
inline T load_cross_block(const T* at) {
  T value;
  emulation::read_memory(&value, at, sizeof(T));
  return value;
}
template <class T>
inline void store_cross_block(T* at, T value) {
  emulation::write_strongly(at, &value, sizeof(T));
}

inline uint32_t load_word(const void* at, int index) {
  return load_cross_block(static_cast<const uint32_t*>(at) + index);
}

struct alignas(16) Vector16 {
  uint32_t word[4];
};

inline Vector16 load_vector(const void* at) {
  Vector16 x;
  emulation::read_memory(&x, at, sizeof x);
  return x;
}
inline void store_vector(void* at, const Vector16& x) { emulation::write_memory(at, &x, sizeof x); }
inline Vector16 load_shared_vector(const void* at) {
  Vector16 x;
  emulation::read_shared_memory(&x, at, sizeof x);
  return x;
}
inline void store_shared_vector(void* at, const Vector16& x) {
  emulation::write_shared_memory(at, &x, sizeof x);
}
inline Vector16 load_vector_streaming(const void* at) { return load_vector(at); }
inline void store_vector_streaming(void* at, const Vector16& x) { store_vector(at, x); }

// One lane asks, as the device's own does where it can.
inline void prefetch(const void* at, int bytes, int lane) {
  if (lane == 0) emulation::prefetch_memory(at, static_cast<size_t>(bytes));
}

// ---- conversions
// ------------------------------------------------------------------------------------

inline float to_arithmetic(float x) { return x; }
inline double to_arithmetic(double x) { return x; }
inline float to_arithmetic(BFloat16 x) {
  const uint32_t bits = uint32_t{x.bits} << 16;
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}
inline float to_arithmetic(Float16 x) { return float16_to_float(x.bits); }

inline void to_storage(float x, float& to) { to = x; }
inline void to_storage(double x, double& to) { to = x; }
inline void to_storage(float x, BFloat16& to) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  const bool nan = (bits & 0x7fffffffu) > 0x7f800000u;
  bits += 0x7fffu + ((bits >> 16) & 1u);  // to nearest, ties to even
  to.bits = nan ? 0x7fff : static_cast<uint16_t>(bits >> 16);
}
inline void to_storage(float x, Float16& to) { to.bits = float_to_float16(x); }

}  // namespace adamp
