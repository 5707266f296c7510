// The kernels, as host code may call them. Their own file, so that only they are instrumented.
#pragma once

#include "../../../csrc/cuda/kernel_args.h"
#include "fibers.h"

namespace emulation {

// Whether this build has it: one that is made for one question compiles few of the kernels.
bool is_compiled(const adamp::KernelChoice& kernel);

void launch_kernel(const adamp::KernelChoice& kernel, int blocks, const adamp::KernelArgs& args,
                   const Schedule& schedule);

}  // namespace emulation
