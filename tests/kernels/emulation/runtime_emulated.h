// How the emulated device is set up, for the tests.
#pragma once

#include "../../../csrc/cuda/kernel_args.h"
#include "fibers.h"

namespace emulation {

struct Device {
  int blocks = 4;             // of a launch, at most
  Schedule schedule;          // of the next launch; each launch takes the next seed
  int64_t staged_copies = 0;  // of values too many for a launch, since the start
  std::function<void(const adamp::KernelArgs&)> launch;  // takes the kernel's place, if set
  bool capturing = false;  // copies and launches go into `graph`, and nothing runs
  std::vector<std::function<void()>> graph;
};
Device& device();

// Memory with an exact end and no usable contents.
std::shared_ptr<void> allocate(int64_t bytes);

}  // namespace emulation
