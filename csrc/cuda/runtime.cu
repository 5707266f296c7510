// The CUDA runtime behind runtime.h, and the launch. No torch header: this compiles in seconds.
#include <cuda_runtime.h>

#include <stdexcept>
#include <string>
#include <vector>

#include "dispatch.h"
#include "kernel.cuh"
#include "runtime.h"

namespace adamp {
namespace {

void check(cudaError_t status, const char* what) {
  if (status != cudaSuccess) {
    throw std::runtime_error(std::string("adamp_fused: ") + what + ": " +
                             cudaGetErrorString(status));
  }
}

template <Method kMethod, TypeSet kTypes>
int resident() {
  const auto kernel = step_kernel<kMethod, kTypes>;
  constexpr int kShared = shared_bytes<kTypes>();
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kShared),
        "this device has too little shared memory for the step kernel");
  int device = 0, processors = 0, per_processor = 0;
  check(cudaGetDevice(&device), "cudaGetDevice");
  check(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device),
        "cudaDeviceGetAttribute");
  check(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&per_processor, kernel, block_size(kTypes),
                                                      kShared),
        "cudaOccupancyMaxActiveBlocksPerMultiprocessor");
  return processors * per_processor;
}

}  // namespace

void device_upload(void* to, const void* from, size_t bytes, void* stream) {
  const auto on = static_cast<cudaStream_t>(stream);
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, on), "cudaMemcpyAsync");
  check(cudaStreamSynchronize(on), "cudaStreamSynchronize");
}

class StagingRing {
 public:
  explicit StagingRing(size_t bytes) {
    for (Buffer& buffer : buffers_) {
      check(cudaMallocHost(&buffer.host, bytes), "cudaMallocHost");
      check(cudaEventCreateWithFlags(&buffer.copied, cudaEventDisableTiming), "cudaEventCreate");
    }
  }
  ~StagingRing() {
    for (Buffer& buffer : buffers_) {
      cudaEventDestroy(buffer.copied);
      cudaFreeHost(buffer.host);
    }
  }
  void* next() {
    current_ = (current_ + 1) % kBuffers;
    const Buffer& buffer = buffers_[current_];
    // Asked first, so that a profiler counts only what is a wait.
    const cudaError_t status = cudaEventQuery(buffer.copied);
    if (status == cudaErrorNotReady) {
      cudaGetLastError();  // an answer, not an error of the launch to come
      check(cudaEventSynchronize(buffer.copied), "cudaEventSynchronize");
    } else {
      check(status, "cudaEventQuery");
    }
    return buffer.host;
  }
  void upload(void* to, size_t bytes, cudaStream_t stream) {
    const Buffer& buffer = buffers_[current_];
    check(cudaMemcpyAsync(to, buffer.host, bytes, cudaMemcpyHostToDevice, stream),
          "cudaMemcpyAsync");
    check(cudaEventRecord(buffer.copied, stream), "cudaEventRecord");
  }

 private:
  static constexpr int kBuffers = 4;
  struct Buffer {
    void* host = nullptr;
    cudaEvent_t copied = nullptr;
  };
  Buffer buffers_[kBuffers];
  int current_ = 0;
};

StagingRing* make_staging_ring(size_t bytes_each) { return new StagingRing(bytes_each); }
void free_staging_ring(StagingRing* ring) { delete ring; }
void* next_staging_buffer(StagingRing* ring) { return ring->next(); }
void upload_staged(StagingRing* ring, void* to, size_t bytes, void* stream) {
  ring->upload(to, bytes, static_cast<cudaStream_t>(stream));
}

int resident_blocks(Method method, TypeSet types) {
  return for_kernel(method, types, [](auto known_method, auto known_types) {
    return resident<known_method.value, known_types.value>();
  });
}

void launch_step(Method method, TypeSet types, int blocks, const KernelArgs& args, void* stream) {
  for_kernel(method, types, [&](auto known_method, auto known_types) {
    constexpr TypeSet kTypes = known_types.value;
    step_kernel<known_method.value, kTypes>
        <<<blocks, block_size(kTypes), shared_bytes<kTypes>(), static_cast<cudaStream_t>(stream)>>>(
            args);
  });
  check(cudaGetLastError(), "launch of the step kernel");
}

}  // namespace adamp
