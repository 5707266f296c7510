#include "kernel_emulated.h"

#include "../../../csrc/cuda/dispatch.h"
#include "../../../csrc/cuda/kernel.cuh"

namespace emulation {

#if defined(EMULATION_FLOAT_ONLY)
constexpr bool kFloatOnly = true;
#else
constexpr bool kFloatOnly = false;
#endif

bool is_compiled(const adamp::KernelChoice& kernel) {
  return kernel.types == adamp::TypeSet::kFloat32 || !kFloatOnly;
}

void launch_kernel(const adamp::KernelChoice& kernel, int blocks, const adamp::KernelArgs& args,
                   const Schedule& schedule) {
  adamp::for_kernel(kernel, [&](auto m, auto known_types) {
    constexpr adamp::TypeSet kTypes = known_types.value;
    if constexpr (kTypes == adamp::TypeSet::kFloat32 || !kFloatOnly) {
      const auto body = [&args] { adamp::step_kernel<decltype(m), kTypes>(args); };
      run_launch({blocks, adamp::block_size(kTypes), adamp::consumers(kTypes),
                  adamp::shared_bytes<decltype(m), kTypes>(), body},
                 schedule);
    }
  });
}

}  // namespace emulation
