// float16 in software, for CPUs without a conversion instruction. Round to nearest even.
#pragma once

#include <cstdint>
#include <cstring>

namespace adamp {

static inline float float16_to_float(uint16_t h) {
  const uint32_t sign = static_cast<uint32_t>(h & 0x8000u) << 16;
  const uint32_t magnitude = h & 0x7fffu;
  // Shift exponent and mantissa into place, then correct the exponent's bias by a multiplication,
  // which also normalises subnormals.
  uint32_t bits = magnitude << 13;
  float value;
  std::memcpy(&value, &bits, 4);
  value *= 0x1p112f;
  if (magnitude >= 0x7c00u) {  // infinity and NaN
    bits = 0x7f800000u | ((magnitude & 0x3ffu) << 13);
    std::memcpy(&value, &bits, 4);
  }
  std::memcpy(&bits, &value, 4);
  bits |= sign;
  std::memcpy(&value, &bits, 4);
  return value;
}

static inline uint16_t float_to_float16(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  const uint32_t sign = (bits >> 16) & 0x8000u;
  bits &= 0x7fffffffu;
  if (bits > 0x7f800000u) return static_cast<uint16_t>(sign | 0x7e00u);   // NaN
  if (bits >= 0x477ff000u) return static_cast<uint16_t>(sign | 0x7c00u);  // rounds to infinity
  if (bits < 0x38800000u) {  // subnormal: adding 0.5 aligns the mantissa and rounds it
    float magnitude;
    std::memcpy(&magnitude, &bits, 4);
    magnitude += 0.5f;
    std::memcpy(&bits, &magnitude, 4);
    return static_cast<uint16_t>(sign | (bits - 0x3f000000u));
  }
  bits += 0xc8000fffu + ((bits >> 13) & 1u);  // rebias the exponent, round to nearest even
  return static_cast<uint16_t>(sign | (bits >> 13));
}

}  // namespace adamp
