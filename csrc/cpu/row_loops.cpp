// Which row loops this CPU runs.
#include "row_loops.h"

#include <cstdlib>
#include <cstring>

namespace adamp {
namespace {

enum Capability { kBaseline, kAvx2, kAvx512 };
const char* const kNames[] = {"baseline", "avx2", "avx512"};

Capability supported() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq")) {
    return kAvx512;
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return kAvx2;
#endif
  return kBaseline;
}

Capability chosen() {
  const Capability best = supported();
  const char* asked = std::getenv("ADAMP_FUSED_CPU_CAPABILITY");
  for (int i = kBaseline; asked != nullptr && i < best; ++i) {
    if (std::strcmp(asked, kNames[i]) == 0) return static_cast<Capability>(i);
  }
  return best;
}

Capability capability() {
  static const Capability value = chosen();
  return value;
}

}  // namespace

const char* cpu_capability() { return kNames[capability()]; }

const RowLoops& row_loops(Method method, DType dtype) {
#if defined(__x86_64__)
  if (capability() == kAvx512) return row_loops_avx512(method, dtype);
  if (capability() == kAvx2) return row_loops_avx2(method, dtype);
#endif
  return row_loops_baseline(method, dtype);
}

}  // namespace adamp
