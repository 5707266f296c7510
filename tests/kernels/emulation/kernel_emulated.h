// The kernels, as host code may call them. Their own file, so that only they are instrumented.
#pragma once

#include "../../../csrc/cuda/kernel_args.h"
#include "fibers.h"

namespace emulation {

void launch_kernel(adamp::Method method, adamp::TypeSet types, int blocks,
                   const adamp::KernelArgs& args, const Schedule& schedule);

}  // namespace emulation
