// The CUDA runtime behind runtime.h, and the launch. No torch header: this compiles in seconds.
#include <cuda_runtime.h>

#include <deque>
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
    cudaGetLastError();  // reported here, so nobody else is to find it later
    throw std::runtime_error(std::string("adamp_fused: ") + what + ": " +
                             cudaGetErrorString(status));
  }
}

template <class M, TypeSet kTypes>
int resident() {
  const auto kernel = step_kernel<M, kTypes>;
  constexpr int kShared = shared_bytes<M, kTypes>();
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kShared),
        "this device has too little shared memory for the step kernel");
  int device = 0, sms = 0, per_sm = 0;
  check(cudaGetDevice(&device), "cudaGetDevice");
  check(cudaDeviceGetAttribute(&sms, cudaDevAttrMultiProcessorCount, device),
        "cudaDeviceGetAttribute");
  check(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&per_sm, kernel, block_size(kTypes), kShared),
        "cudaOccupancyMaxActiveBlocksPerMultiprocessor");
  return sms * per_sm;
}

}  // namespace

void device_upload(void* to, const void* from, size_t bytes, void* stream) {
  const auto on = static_cast<cudaStream_t>(stream);
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, on), "cudaMemcpyAsync");
  check(cudaStreamSynchronize(on), "cudaStreamSynchronize");
}

bool is_capturing(void* stream) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  check(cudaStreamIsCapturing(static_cast<cudaStream_t>(stream), &status), "cudaStreamIsCapturing");
  return status != cudaStreamCaptureStatusNone;
}

class StagingRing {
 public:
  explicit StagingRing(size_t bytes) : bytes_(bytes) {
    for (Buffer& buffer : buffers_) {
      check(cudaMallocHost(&buffer.host, bytes), "cudaMallocHost");
      check(cudaEventCreateWithFlags(&buffer.copied, cudaEventDisableTiming), "cudaEventCreate");
    }
  }
  void* next_captured() {
    // While a stream is captured, memory is allocated in this mode alone. It is no part of the
    // graph.
    cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed;
    check(cudaThreadExchangeStreamCaptureMode(&mode), "cudaThreadExchangeStreamCaptureMode");
    is_captured_ = true;
    captured_.emplace_back();
    const cudaError_t status = cudaMallocHost(&captured_.back().host, bytes_);
    check(cudaThreadExchangeStreamCaptureMode(&mode), "cudaThreadExchangeStreamCaptureMode");
    check(status, "cudaMallocHost");
    return captured_.back().host;
  }
  void* next() {
    is_captured_ = false;
    current_ = (current_ + 1) % kBuffers;
    const Buffer& buffer = buffers_[current_];
    // Asked first, so that a profiler counts only what is a wait.
    const cudaError_t status = cudaEventQuery(buffer.copied);
    if (status == cudaErrorNotReady) {
      cudaGetLastError();  // an answer, not an error that somebody should find
      check(cudaEventSynchronize(buffer.copied), "cudaEventSynchronize");
    } else {
      check(status, "cudaEventQuery");
    }
    return buffer.host;
  }
  void upload(void* to, size_t bytes, cudaStream_t stream) {
    const Buffer& buffer = is_captured_ ? captured_.back() : buffers_[current_];
    check(cudaMemcpyAsync(to, buffer.host, bytes, cudaMemcpyHostToDevice, stream),
          "cudaMemcpyAsync");
    if (!is_captured_) check(cudaEventRecord(buffer.copied, stream), "cudaEventRecord");
  }

 private:
  static constexpr int kBuffers = 4;
  // What exists of it is freed, also where the constructor of the ring throws.
  struct Buffer {
    void* host = nullptr;
    cudaEvent_t copied = nullptr;

    ~Buffer() {
      // The device may still be reading it. Nobody is left to be told of an error.
      if (copied != nullptr) {
        cudaEventSynchronize(copied);
        cudaEventDestroy(copied);
      }
      if (host != nullptr) cudaFreeHost(host);
    }
  };
  size_t bytes_;
  Buffer buffers_[kBuffers];
  int current_ = 0;
  std::deque<Buffer> captured_;  // of each capture; no event tells when they are free
  bool is_captured_ = false;     // the last buffer that was handed out
};

StagingRing* make_staging_ring(size_t bytes_each) { return new StagingRing(bytes_each); }
void free_staging_ring(StagingRing* ring) { delete ring; }
void* next_staging_buffer(StagingRing* ring, bool is_captured) {
  return is_captured ? ring->next_captured() : ring->next();
}
void upload_staged(StagingRing* ring, void* to, size_t bytes, void* stream) {
  ring->upload(to, bytes, static_cast<cudaStream_t>(stream));
}

int resident_blocks(const KernelChoice& kernel) {
  return for_kernel(
      kernel, [](auto m, auto known_types) { return resident<decltype(m), known_types.value>(); });
}

void launch_step(const KernelChoice& kernel, int blocks, const KernelArgs& args, void* stream) {
  const cudaError_t status = for_kernel(kernel, [&](auto m, auto known_types) {
    constexpr TypeSet kTypes = known_types.value;
    void* arguments[] = {const_cast<KernelArgs*>(&args)};
    return cudaLaunchKernel(step_kernel<decltype(m), kTypes>, dim3(blocks),
                            dim3(block_size(kTypes)), arguments,
                            shared_bytes<decltype(m), kTypes>(), static_cast<cudaStream_t>(stream));
  });
  // Not cudaGetLastError: that would also report an old error of somebody else's, when this kernel
  // is changing weights already.
  check(status, "launch of the step kernel");
}

}  // namespace adamp
