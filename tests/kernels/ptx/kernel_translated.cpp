// The kernels as nvcc made them, translated, in the place of ../emulation/kernel_emulated.cpp.
#include "../emulation/device_emulated.h"
//
#include "../../../csrc/cuda/dispatch.h"
#include "../../../csrc/cuda/shared_memory.cuh"
#include "../emulation/kernel_emulated.h"

// Of the listing: bytes of the one parameter, threads of a block for each set of types.
static_assert(sizeof(adamp::KernelArgs) == PTX_PARAMETER_BYTES, "nvcc lays it out as g++ does");
constexpr int kThreads[] = {PTX_THREADS_0, PTX_THREADS_1, PTX_THREADS_2};

namespace translated {

using Entry = void(const unsigned char* parameter);
// By method, then set of types. Of those that measure only float32's are translated.
Entry entry_AdamP_0, entry_SGDP_0, entry_MeasuredAdamP_0, entry_MeasuredSGDP_0;
template <class M>
constexpr Entry* kEntries[3] = {};
template <>
constexpr Entry* kEntries<adamp::Measured<adamp::AdamP>>[3] = {entry_MeasuredAdamP_0};
template <>
constexpr Entry* kEntries<adamp::Measured<adamp::SGDP>>[3] = {entry_MeasuredSGDP_0};
#if defined(EMULATION_FLOAT_ONLY)
template <>
constexpr Entry* kEntries<adamp::AdamP>[3] = {entry_AdamP_0};
template <>
constexpr Entry* kEntries<adamp::SGDP>[3] = {entry_SGDP_0};
#else
Entry entry_AdamP_1, entry_AdamP_2, entry_SGDP_1, entry_SGDP_2;
template <>
constexpr Entry* kEntries<adamp::AdamP>[3] = {entry_AdamP_0, entry_AdamP_1, entry_AdamP_2};
template <>
constexpr Entry* kEntries<adamp::SGDP>[3] = {entry_SGDP_0, entry_SGDP_1, entry_SGDP_2};
#endif

}  // namespace translated

namespace emulation {

bool is_compiled(const adamp::KernelChoice& kernel) {
  return adamp::for_kernel(kernel, [](auto m, auto known_types) {
    return translated::kEntries<decltype(m)>[static_cast<int>(known_types.value)] != nullptr;
  });
}

void launch_kernel(const adamp::KernelChoice& kernel, int blocks, const adamp::KernelArgs& args,
                   const Schedule& schedule) {
  adamp::for_kernel(kernel, [&](auto m, auto known_types) {
    constexpr adamp::TypeSet kTypes = known_types.value;
    static_assert(adamp::block_size(kTypes) == kThreads[static_cast<int>(kTypes)],
                  "what the kernels were compiled for");
    const auto entry = translated::kEntries<decltype(m)>[static_cast<int>(kTypes)];
    const auto body = [&args, entry] { entry(reinterpret_cast<const unsigned char*>(&args)); };
    run_launch({blocks, adamp::block_size(kTypes), adamp::consumers(kTypes),
                adamp::shared_bytes<decltype(m), kTypes>(), body},
               schedule);
  });
}

}  // namespace emulation
