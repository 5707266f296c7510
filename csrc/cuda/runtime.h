// What the executor asks of the CUDA runtime; the tests have an implementation on the CPU.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernel_args.h"

namespace adamp {

// Copies from ordinary host memory and waits; for tables that are made once.
void device_upload(void* to, const void* from, size_t bytes, void* stream);

// Whether what is launched on `stream` goes into a graph.
bool is_capturing(void* stream);

// A host buffer that the device copies from without anybody waiting.
class StagingRing;
StagingRing* make_staging_ring(size_t bytes_each);
void free_staging_ring(StagingRing* ring);
// A free buffer of the ring; waits only if the device is several steps behind. is_captured: one of
// its own, which stays as it is until the ring is freed, since each replay copies it anew.
void* next_staging_buffer(StagingRing* ring, bool is_captured);
// Copies that buffer to `to` on `stream`.
void upload_staged(StagingRing* ring, void* to, size_t bytes, void* stream);

// How many blocks run at a time on the current device.
int resident_blocks(const KernelChoice& kernel);

void launch_step(const KernelChoice& kernel, int blocks, const KernelArgs& args, void* stream);

}  // namespace adamp
