#include "kernel_emulated.h"

#include "../../csrc/cuda/kernel.cuh"

namespace emulation {
namespace {

using adamp::KernelArgs;
using adamp::Method;

template <bool kFloatOnly>
constexpr size_t shared_bytes() {
  if (kFloatOnly) return adamp::kSharedBytes<float>;
  return std::max(adamp::kSharedBytes<float>, adamp::kSharedBytes<double>);
}

template <Method kMethod, bool kFloatOnly>
void launch(int blocks, const KernelArgs& args, const Schedule& schedule) {
  const auto body = [&args] { adamp::step_kernel<kMethod, kFloatOnly>(args); };
  run_launch({blocks, adamp::kBlockSize, shared_bytes<kFloatOnly>(), body}, schedule);
}

}  // namespace

// EMULATION_FLOAT_ONLY: a build that is made for one question compiles a quarter of the kernels.
void launch_kernel(Method method, bool float_only, int blocks, const KernelArgs& args,
                   const Schedule& schedule) {
  const bool adam = method == Method::kAdamP;
  if (float_only) {
    adam ? launch<Method::kAdamP, true>(blocks, args, schedule)
         : launch<Method::kSGDP, true>(blocks, args, schedule);
    return;
  }
#if !defined(EMULATION_FLOAT_ONLY)
  adam ? launch<Method::kAdamP, false>(blocks, args, schedule)
       : launch<Method::kSGDP, false>(blocks, args, schedule);
#endif
}

}  // namespace emulation
