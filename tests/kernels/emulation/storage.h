// Tensors in memory that ends where they end, read and written as doubles.
#pragma once

#include <cstdlib>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <vector>

#include "../../../csrc/core/params.h"
#include "../../../csrc/cpu/half.h"
#include "races.h"

namespace emulation {

inline double round_to(adamp::DType dtype, double x) {
  using adamp::DType;
  if (dtype == DType::kFloat64) return x;
  float value = static_cast<float>(x);
  if (dtype == DType::kFloat16) return adamp::float16_to_float(adamp::float_to_float16(value));
  if (dtype == DType::kBFloat16) {
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    bits = (bits + 0x7fffu + ((bits >> 16) & 1u)) & 0xffff0000u;
    std::memcpy(&value, &bits, 4);
  }
  return value;
}

class Array {
 public:
  Array() = default;
  // `offset` elements behind a 16-byte boundary.
  Array(const char* name, adamp::DType dtype, int64_t count, int offset)
      : dtype_(dtype), count_(count), bytes_(static_cast<size_t>(count * adamp::size_of(dtype))) {
    const size_t before = static_cast<size_t>(offset * adamp::size_of(dtype));
    void* memory = nullptr;
    if (posix_memalign(&memory, 256, before + bytes_ + (bytes_ == 0)) != 0) throw std::bad_alloc();
    memory_ = {memory, [](void* at) {
                 races::remove_memory(at);
                 std::free(at);
               }};
    races::add_memory(memory, before + bytes_, static_cast<size_t>(adamp::size_of(dtype)), name,
                      true);
    data_ = static_cast<unsigned char*>(memory) + before;
  }

  void* data() const { return data_; }
  int64_t count() const { return count_; }

  double get(int64_t i) const {
    const unsigned char* at = data_ + i * adamp::size_of(dtype_);
    if (dtype_ == adamp::DType::kFloat64) return read<double>(at);
    if (dtype_ == adamp::DType::kFloat32) return read<float>(at);
    if (dtype_ == adamp::DType::kFloat16) return adamp::float16_to_float(read<uint16_t>(at));
    const uint32_t bits = uint32_t{read<uint16_t>(at)} << 16;
    return read<float>(reinterpret_cast<const unsigned char*>(&bits));
  }

  void set(int64_t i, double x) {
    unsigned char* at = data_ + i * adamp::size_of(dtype_);
    const double rounded = round_to(dtype_, x);
    const float value = static_cast<float>(rounded);
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    const uint16_t half = dtype_ == adamp::DType::kFloat16 ? adamp::float_to_float16(value)
                                                           : static_cast<uint16_t>(bits >> 16);
    if (dtype_ == adamp::DType::kFloat64)
      std::memcpy(at, &rounded, 8);
    else if (dtype_ == adamp::DType::kFloat32)
      std::memcpy(at, &value, 4);
    else
      std::memcpy(at, &half, 2);
  }

  std::vector<unsigned char> save() const { return {data_, data_ + bytes_}; }
  void load(const std::vector<unsigned char>& from) { std::copy(from.begin(), from.end(), data_); }

 private:
  template <class T>
  static T read(const unsigned char* at) {
    T value;
    std::memcpy(&value, at, sizeof value);
    return value;
  }

  adamp::DType dtype_ = adamp::DType::kFloat32;
  int64_t count_ = 0;
  size_t bytes_ = 0;
  std::shared_ptr<void> memory_;
  unsigned char* data_ = nullptr;
};

}  // namespace emulation
