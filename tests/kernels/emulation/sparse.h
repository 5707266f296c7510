// Memory of any size of which only a few places are touched.
#pragma once

#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <new>

#include "races.h"

namespace emulation {

// Address space that becomes memory where it is touched; zeros. The kernel may touch the first
// bytes, the last ones, and those from `middle` on.
class Sparse {
 public:
  explicit Sparse(int64_t bytes, int64_t middle = 0) : bytes_(static_cast<size_t>(bytes)) {
    // Shared, so that it does not count as data where that is limited.
    void* memory = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    data_ = static_cast<unsigned char*>(memory);
    middle_ = data_ + middle;
    races::add_memory(data_, std::min(bytes_, kWatched), 4, "start", true);
    if (middle > 0) races::add_memory(middle_, kWatched, 4, "middle", true);
    if (bytes_ > 2 * kWatched) races::add_memory(end(), kWatched, 4, "end", true);
  }
  ~Sparse() {
    for (const void* at : {data_, middle_, end()}) races::remove_memory(at);
    munmap(data_, bytes_);
  }
  Sparse(const Sparse&) = delete;
  Sparse& operator=(const Sparse&) = delete;
  float* floats() const { return reinterpret_cast<float*>(data_); }
  unsigned char* bytes() const { return data_; }

 private:
  static constexpr size_t kWatched = 1 << 16;
  unsigned char* end() const { return data_ + bytes_ - kWatched; }

  size_t bytes_;
  unsigned char *data_, *middle_;
};

}  // namespace emulation
