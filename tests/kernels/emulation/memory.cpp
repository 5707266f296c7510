#include "memory.h"

#include <cstring>
#include <string>

#include "fibers.h"

namespace emulation {
namespace {

void before(const void* at, size_t size, const char* what) {
  if (reinterpret_cast<uintptr_t>(at) % size != 0) {
    fail("a misaligned " + std::string(what) + " of " + std::to_string(size) + " bytes");
  }
  before_access();
}

// `where`: in the device code.
void load(void* to, const void* at, size_t size, const void* where) {
  before(at, size, "load");
  races::plain(at, size, races::kRead, where);
  std::memcpy(to, at, size);
}

void store(void* at, const void* from, size_t size, races::Access access, const void* where) {
  before(at, size, "store");
  races::plain(at, size, access, where);
  std::memcpy(at, from, size);
}

}  // namespace

uint64_t vector_accesses = 0;
uint64_t bytes_asked_for = 0, bytes_in_excess = 0;

uint32_t atomic_add(uint32_t* at, uint32_t value, Order order) {
  before_atomic(true);
  races::atomic(at, order, true, __builtin_return_address(0));
  const uint32_t old = *at;
  *at = old + value;
  return old;
}

uint32_t atomic_load(const uint32_t* at, Order order) {
  before_atomic(false);
  races::atomic(at, order, false, __builtin_return_address(0));
  return *at;
}

void atomic_store(uint32_t* at, uint32_t value, Order order) {
  before_atomic(true);
  races::atomic(at, order, true, __builtin_return_address(0));
  *at = value;
}

void read_memory(void* to, const void* at, size_t size) {
  vector_accesses += size == 16;
  load(to, at, size, __builtin_return_address(0));
}

void write_memory(void* at, const void* from, size_t size) {
  vector_accesses += size == 16;
  store(at, from, size, races::kWrite, __builtin_return_address(0));
}

void read_shared_memory(void* to, const void* at, size_t size) {
  load(to, at, size, __builtin_return_address(0));
}

void write_shared_memory(void* at, const void* from, size_t size) {
  store(at, from, size, races::kWrite, __builtin_return_address(0));
}

void prefetch_memory(const void* at, size_t size) {
  before_access();
  races::reach(at, size);
  bytes_asked_for += size;
}

void write_strongly(void* at, const void* from, size_t size) {
  store(at, from, size, races::kStrongWrite, __builtin_return_address(0));
}

}  // namespace emulation
