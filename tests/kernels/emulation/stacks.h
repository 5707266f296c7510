// The fibers' stacks, kept between launches.
#pragma once

#include <sys/mman.h>

#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <vector>

namespace emulation {

// With sanitizers and without optimisation a frame is several times as large. A kernel's parameters
// are on the stack too: up to 32 KiB. Pages that are never touched cost nothing.
constexpr size_t kStackBytes = 256 << 10;
// Not a power of two: the tops of all stacks would share a few cache sets.
constexpr size_t kStackStride = kStackBytes + 17 * 64;

class Stacks {
 public:
  unsigned char* get(size_t place, size_t thread, size_t threads) {
    const size_t wanted = threads * kStackStride;
    if (areas_.size() <= place) areas_.resize(place + 1);
    Area& area = areas_[place];
    if (area.size < wanted) {
      if (area.base != nullptr) munmap(area.base, area.size);
      void* base = mmap(nullptr, wanted, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
      if (base == MAP_FAILED) throw std::runtime_error("no memory for the stacks of fibers");
      area = {static_cast<unsigned char*>(base), wanted};
    }
    return area.base + thread * kStackStride;
  }

 private:
  struct Area {
    unsigned char* base = nullptr;
    size_t size = 0;
  };
  std::vector<Area> areas_;
};

// A word at a stack's end that must still be there when the fiber returns.
constexpr uint64_t kCanary = 0x5ca1ab1e0ddba11u;
inline void place_canary(unsigned char* stack) { std::memcpy(stack, &kCanary, sizeof kCanary); }
inline bool canary_lives(const unsigned char* stack) {
  return std::memcmp(stack, &kCanary, sizeof kCanary) == 0;
}

}  // namespace emulation
