// A CUDA runtime for csrc/cuda/runtime.cu on a machine without one: it answers what that file asks
// for, fails where a test says so, and notices what a device would be hurt by.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>

enum cudaError_t { cudaSuccess, cudaErrorMemoryAllocation, cudaErrorNotReady, cudaErrorOld };
enum cudaMemcpyKind { cudaMemcpyHostToDevice };
enum cudaDeviceAttr { cudaDevAttrMultiProcessorCount };
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize };
enum cudaStreamCaptureMode { cudaStreamCaptureModeGlobal, cudaStreamCaptureModeRelaxed };
enum cudaStreamCaptureStatus { cudaStreamCaptureStatusNone, cudaStreamCaptureStatusActive };
constexpr unsigned cudaEventDisableTiming = 2;
using cudaStream_t = void*;
struct Event {
  bool recorded = false, done = false;
};
using cudaEvent_t = Event*;
struct dim3 {
  explicit dim3(unsigned n) : x(n) {}
  unsigned x;
};

namespace fake {

struct Runtime {
  int calls = 0, fails_at = -1;     // of those that may fail
  bool always_fails = false;        // as when the process ends
  cudaError_t last = cudaSuccess;   // cudaGetLastError
  std::set<void*> host;             // allocated
  std::set<Event*> events;          // created
  std::map<Event*, void*> copying;  // from host memory, until the event is waited for
  void* copied_from = nullptr;      // by the last copy
  int launches = 0;
  bool capturing = false;  // a stream of this thread
  cudaStreamCaptureMode mode = cudaStreamCaptureModeGlobal;
  std::string wrong;

  bool fails() {
    const bool now = calls++ == fails_at || always_fails;
    if (now) last = cudaErrorMemoryAllocation;
    return now;
  }
};
inline Runtime runtime;

}  // namespace fake

inline const char* cudaGetErrorString(cudaError_t status) {
  return status == cudaErrorOld ? "an old error" : "out of memory";
}
inline cudaError_t cudaGetLastError() {
  const cudaError_t last = fake::runtime.last;
  fake::runtime.last = cudaSuccess;
  return last;
}
inline cudaError_t cudaStreamIsCapturing(cudaStream_t, cudaStreamCaptureStatus* status) {
  *status = fake::runtime.capturing ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
  return fake::runtime.fails() ? cudaErrorMemoryAllocation : cudaSuccess;
}
inline cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode* mode) {
  if (fake::runtime.fails()) return cudaErrorMemoryAllocation;
  std::swap(*mode, fake::runtime.mode);
  return cudaSuccess;
}
inline cudaError_t cudaMallocHost(void** memory, size_t bytes) {
  if (fake::runtime.capturing && fake::runtime.mode != cudaStreamCaptureModeRelaxed) {
    fake::runtime.wrong = "allocates in a mode that ends the capture";
  }
  if (fake::runtime.fails()) return cudaErrorMemoryAllocation;
  *memory = new char[bytes];
  fake::runtime.host.insert(*memory);
  return cudaSuccess;
}
inline cudaError_t cudaFreeHost(void* memory) {
  for (const auto& [event, from] : fake::runtime.copying) {
    if (from == memory) fake::runtime.wrong = "freed while the device copies from it";
  }
  if (fake::runtime.host.erase(memory) == 0) fake::runtime.wrong = "freed what was not allocated";
  delete[] static_cast<char*>(memory);
  return fake::runtime.fails() ? cudaErrorMemoryAllocation : cudaSuccess;
}
inline cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  if (fake::runtime.fails()) return cudaErrorMemoryAllocation;
  *event = new Event;
  fake::runtime.events.insert(*event);
  return cudaSuccess;
}
inline cudaError_t cudaEventDestroy(cudaEvent_t event) {
  if (fake::runtime.events.erase(event) == 0) {
    fake::runtime.wrong = "destroyed an event that does not exist";
    return cudaErrorOld;
  }
  // What it stands for goes on.
  delete event;
  return fake::runtime.fails() ? cudaErrorMemoryAllocation : cudaSuccess;
}
inline cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t) {
  if (fake::runtime.capturing) fake::runtime.wrong = "records an event that others ask for later";
  if (fake::runtime.fails()) return cudaErrorMemoryAllocation;
  fake::runtime.copying[event] = fake::runtime.copied_from;
  return cudaSuccess;
}
inline cudaError_t cudaEventQuery(cudaEvent_t event) {
  if (fake::runtime.copying.count(event) == 0) return cudaSuccess;
  return fake::runtime.last = cudaErrorNotReady;
}
inline cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  fake::runtime.copying.erase(event);
  return fake::runtime.fails() ? cudaErrorMemoryAllocation : cudaSuccess;
}
inline cudaError_t cudaMemcpyAsync(void*, const void* from, size_t, cudaMemcpyKind, cudaStream_t) {
  fake::runtime.copied_from = const_cast<void*>(from);
  return fake::runtime.fails() ? cudaErrorMemoryAllocation : cudaSuccess;
}
inline cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }
inline cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}
inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr, int) {
  *value = 1;
  return cudaSuccess;
}
template <class Kernel>
cudaError_t cudaFuncSetAttribute(Kernel, cudaFuncAttribute, int) {
  return cudaSuccess;
}
template <class Kernel>
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, Kernel, int, size_t) {
  *blocks = 1;
  return cudaSuccess;
}
template <class Kernel>
cudaError_t cudaLaunchKernel(Kernel, dim3, dim3, void**, size_t, cudaStream_t) {
  if (fake::runtime.fails()) return cudaErrorMemoryAllocation;
  ++fake::runtime.launches;
  return cudaSuccess;
}
