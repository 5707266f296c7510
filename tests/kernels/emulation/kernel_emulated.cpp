#include "kernel_emulated.h"

#include "../../../csrc/cuda/dispatch.h"
#include "../../../csrc/cuda/kernel.cuh"

namespace emulation {

// A build that is made for one question compiles few of the kernels.
#if defined(EMULATION_FLOAT_ONLY)
constexpr bool kFloatOnly = true;
#else
constexpr bool kFloatOnly = false;
#endif

void launch_kernel(adamp::Method method, adamp::TypeSet types, int blocks,
                   const adamp::KernelArgs& args, const Schedule& schedule) {
  adamp::for_kernel(method, types, [&](auto m, auto known_types) {
    constexpr adamp::TypeSet kTypes = known_types.value;
    if constexpr (kTypes == adamp::TypeSet::kFloat32 || !kFloatOnly) {
      const auto body = [&args] { adamp::step_kernel<decltype(m), kTypes>(args); };
      run_launch({blocks, adamp::block_size(kTypes), adamp::consumers(kTypes),
                  adamp::shared_bytes<kTypes>(), body},
                 schedule);
    }
  });
}

}  // namespace emulation
