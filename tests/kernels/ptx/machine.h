// What the translated instructions of PTX do that no operator of C++ does alone.
//
// Memory, barriers and shuffles are those of the emulated device (../emulation), with its schedules
// and its race detector; shared memory has addresses of its own, as on a GPU.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

#include "../../../csrc/cpu/half.h"
#include "../emulation/fibers.h"
#include "../emulation/memory.h"

namespace translated {

namespace races = emulation::races;

template <class To, class From>
To as(From bits) {
  static_assert(sizeof(To) == sizeof(From));
  To value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

template <class T>
using Bits =
    std::conditional_t<sizeof(T) == 8, uint64_t,
                       std::conditional_t<sizeof(T) == 4, uint32_t,
                                          std::conditional_t<sizeof(T) == 2, uint16_t, uint8_t>>>;

// A result in a register, which may be wider: signed values are extended by their sign.
template <class Register, class T>
Register to_register(T value) {
  static_assert(sizeof(Register) >= sizeof(T));
  if constexpr (std::is_floating_point_v<T>) {
    return as<Bits<T>>(value);
  } else {
    return static_cast<Register>(value);
  }
}

// ---- arithmetic
// -------------------------------------------------------------------------------------

template <class T, class Operation>
T wrapped(T a, T b, Operation operation) {
  return static_cast<T>(operation(static_cast<uint64_t>(a), static_cast<uint64_t>(b)));
}
template <class T>
T multiply_add(T a, T b, T c) {
  return static_cast<T>(static_cast<uint64_t>(a) * static_cast<uint64_t>(b) +
                        static_cast<uint64_t>(c));
}
template <class T>
using Twice = std::conditional_t<
    std::is_signed_v<T>,
    std::conditional_t<sizeof(T) == 4, int64_t,
                       std::conditional_t<sizeof(T) == 2, int32_t, __int128>>,
    std::conditional_t<sizeof(T) == 4, uint64_t,
                       std::conditional_t<sizeof(T) == 2, uint32_t, unsigned __int128>>>;
template <class T>
Twice<T> multiply_wide(T a, T b) {
  return static_cast<Twice<T>>(a) * static_cast<Twice<T>>(b);
}
template <class T>
T add_wide(T a, T b) {
  return static_cast<T>(static_cast<uint64_t>(a) + static_cast<uint64_t>(b));
}
template <class T>
T multiply_high(T a, T b) {
  return static_cast<T>(multiply_wide(a, b) >> (8 * sizeof(T)));
}
template <class T>
T divide(T a, T b) {
  if (b == 0) emulation::fail("divides an integer by zero");
  return a / b;
}

template <class T>
T remainder_of(T a, T b) {
  if (b == 0) emulation::fail("divides an integer by zero");
  return a % b;
}
template <class T>
T negative(T a) {
  return static_cast<T>(0 - static_cast<uint64_t>(a));
}
template <class T>
T absolute(T a) {
  return a < 0 ? negative(a) : a;
}

// A shift by the width or more leaves zeros, or the sign.
template <class T>
T shift_left(T a, uint32_t by) {
  return by >= 8 * sizeof(T) ? T(0) : static_cast<T>(static_cast<uint64_t>(a) << by);
}
template <class T>
T shift_right(T a, uint32_t by) {
  const uint32_t most = 8 * sizeof(T) - 1;
  if (by > most) return std::is_signed_v<T> ? static_cast<T>(a >> most) : T(0);
  return static_cast<T>(a >> by);
}

template <class T>
bool is_nan(T a, T b) {
  return std::isnan(a) || std::isnan(b);
}
template <class T>
bool is_num(T a, T b) {
  return !is_nan(a, b);
}

// ---- conversions and bits
// ---------------------------------------------------------------------------

// Towards zero; out of range: the nearest value that there is; a NaN: zero.
template <class To, class From>
To truncate(From value) {
  if (std::isnan(value)) return To(0);
  if (value <= static_cast<From>(std::numeric_limits<To>::min())) {
    return std::numeric_limits<To>::min();
  }
  if (value >= static_cast<From>(std::numeric_limits<To>::max())) {
    return std::numeric_limits<To>::max();
  }
  return static_cast<To>(value);
}

inline float half_to_float(uint16_t bits) { return adamp::float16_to_float(bits); }
inline uint16_t float_to_half(float x) { return adamp::float_to_float16(x); }
inline float brain_to_float(uint16_t bits) { return as<float>(uint32_t{bits} << 16); }
inline uint16_t float_to_brain(float x) {
  if (std::isnan(x)) return 0x7fff;
  const uint32_t bits = as<uint32_t>(x);
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

// The bytes that four digits of `selection` name, of eight; the highest bit of a digit asks for the
// sign of that byte instead.
inline uint32_t permute(uint32_t a, uint32_t b, uint32_t selection) {
  const uint64_t bytes = uint64_t{b} << 32 | a;
  uint32_t value = 0;
  for (int i = 0; i < 4; ++i) {
    const uint32_t digit = selection >> (4 * i) & 15u;
    uint32_t byte = static_cast<uint32_t>(bytes >> (8 * (digit & 7u))) & 255u;
    if (digit & 8u) byte = byte & 128u ? 255u : 0u;
    value |= byte << (8 * i);
  }
  return value;
}
template <class T>
T bit_field(T a, uint32_t first, uint32_t count) {
  first &= 255u;
  count &= 255u;
  const T shifted = shift_right(a, first);
  return count >= 8 * sizeof(T) ? shifted : static_cast<T>(shifted & ((T(1) << count) - 1));
}
// `count` bits of a in place of those of b from `first` on.
template <class T>
T insert_field(T a, T b, uint32_t first, uint32_t count) {
  constexpr uint32_t kWidth = 8 * sizeof(T);
  first &= 255u;
  count &= 255u;
  const T ones = count >= kWidth ? ~T(0) : (T(1) << count) - 1;
  const T mask = shift_left(ones, first);
  return (shift_left(a, first) & mask) | (b & ~mask);
}

// ---- memory
// -----------------------------------------------------------------------------------------

// Where shared memory begins in its own addresses: not at zero, so that one kind of address is not
// taken for the other.
constexpr uint64_t kSharedBase = 1024;

inline void* shared_at(uint64_t address) {
  return emulation::here.shared + (address - kSharedBase);
}
inline void* generic_at(uint64_t address) { return reinterpret_cast<void*>(address); }
inline uint64_t generic_of(uint64_t shared) {
  return reinterpret_cast<uint64_t>(shared_at(shared));
}
inline uint64_t shared_of(uint64_t generic) {
  return generic - reinterpret_cast<uint64_t>(emulation::here.shared) + kSharedBase;
}

// A thread's own memory is nobody else's to watch.
inline bool is_local(const void* at) {
  const auto* byte = static_cast<const unsigned char*>(at);
  return byte >= emulation::here.stack && byte < emulation::here.stack + emulation::here.stack_size;
}

template <class T, int kCount>
std::array<T, kCount> load_plainly(const void* at) {
  std::array<T, kCount> value;
  std::memcpy(&value, at, sizeof value);
  return value;
}
template <class T, int kCount>
void store_plainly(void* at, std::array<T, kCount> value) {
  std::memcpy(at, &value, sizeof value);
}
template <class T, int kCount>
std::array<T, kCount> load(const void* at) {
  if (is_local(at)) return load_plainly<T, kCount>(at);
  std::array<T, kCount> value;
  emulation::read_memory(&value, at, sizeof value);
  return value;
}
template <class T, int kCount>
void store(void* at, std::array<T, kCount> value) {
  if (is_local(at)) return store_plainly<T, kCount>(at, value);
  emulation::write_memory(at, &value, sizeof value);
}
template <class T, int kCount>
std::array<T, kCount> load_shared(const void* at) {
  std::array<T, kCount> value;
  emulation::read_shared_memory(&value, at, sizeof value);
  return value;
}
template <class T, int kCount>
void store_shared(void* at, std::array<T, kCount> value) {
  emulation::write_shared_memory(at, &value, sizeof value);
}
template <class T, int kCount>
void store_strongly(void* at, std::array<T, kCount> value) {
  emulation::write_strongly(at, &value, sizeof value);
}

inline uint32_t atomic_add(void* at, uint32_t value, races::Order order) {
  return emulation::atomic_add(static_cast<uint32_t*>(at), value, order);
}
inline uint32_t atomic_load(const void* at, races::Order order) {
  return emulation::atomic_load(static_cast<const uint32_t*>(at), order);
}
inline void atomic_store(void* at, uint32_t value, races::Order order) {
  emulation::atomic_store(static_cast<uint32_t*>(at), value, order);
}

// A request names whole units of 16 bytes; each must hold something of an allocation, whose ends
// may lie within the first and the last.
inline void prefetch_memory(const void* at, uint32_t bytes) {
  constexpr uint32_t kUnit = 16, kExcess = 2 * (kUnit - 1);
  if (reinterpret_cast<uintptr_t>(at) % kUnit != 0 || bytes % kUnit != 0) {
    emulation::fail("asks for memory that is not in whole units of 16 bytes");
  }
  const uint32_t inner = bytes > kExcess ? bytes - kExcess : 0;
  if (inner > 0) emulation::prefetch_memory(static_cast<const char*>(at) + kExcess / 2, inner);
  emulation::bytes_asked_for += bytes - inner;
  emulation::bytes_in_excess += kExcess;
}
// The line of 128 bytes that an address lies in.
inline void prefetch_line(const void*) {
  constexpr uint32_t kLine = 128;
  emulation::bytes_asked_for += kLine;
  emulation::bytes_in_excess += kLine;
}

// ---- threads
// ----------------------------------------------------------------------------------------

// A barrier is told by its number: the compiler may have made two instructions of one.
inline void barrier() { emulation::barrier({"barrier", 0}); }
inline void barrier_of(int number, int threads) {
  emulation::barrier_of_first(threads, {"barrier", number});
}
inline uint32_t exchange(uint32_t value, uint32_t mask, uint32_t clamp, uint32_t members,
                         int line) {
  if (mask > 31 || clamp != 31) emulation::fail("shuffles beyond its warp");
  if (members != 0xffffffffu) emulation::fail("shuffles without all lanes of its warp");
  emulation::exchange(&value, sizeof value, static_cast<int>(mask), {"ptx", line});
  return value;
}
inline uint32_t sum_of_warp(uint32_t value, uint32_t members, int line) {
  for (uint32_t mask = 16; mask > 0; mask /= 2) value += exchange(value, mask, 31, members, line);
  return value;
}

}  // namespace translated
