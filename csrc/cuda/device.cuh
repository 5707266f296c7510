// Everything the kernels need of the machine: indices, barriers, shuffles, atomics, vectorized
// accesses.
//
// The kernels use nothing of CUDA but what stands here, so that the same device code also runs on a
// CPU: the tests put a header of their own in this one's place (ADAMP_DEVICE_HEADER).
#pragma once

#if defined(ADAMP_DEVICE_HEADER)
#include ADAMP_DEVICE_HEADER
#else

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>
#include <cstdio>

#define ADAMP_KERNEL(threads, blocks_per_sm) \
  __global__ void __launch_bounds__(threads, blocks_per_sm)
#define ADAMP_KERNEL_PARAM const __grid_constant__
#define ADAMP_DEVICE __device__ __forceinline__

namespace adamp {

using BFloat16 = __nv_bfloat16;
using Float16 = __half;

constexpr int kWarpSize = 32;

// Read anew each time: an index that the compiler knows to stay the same, and what follows from it,
// would be in registers throughout the kernel.
ADAMP_DEVICE int thread_index() {
  int index;
  asm volatile("mov.u32 %0, %%tid.x;" : "=r"(index));
  return index;
}
ADAMP_DEVICE int lane_index() { return thread_index() % kWarpSize; }
// The consumers: the threads of all warps but the last.
ADAMP_DEVICE int consumer_count() { return static_cast<int>(blockDim.x) - kWarpSize; }
ADAMP_DEVICE int block_index() { return static_cast<int>(blockIdx.x); }
ADAMP_DEVICE int block_count() { return static_cast<int>(gridDim.x); }

// Of the launch's dynamic shared memory; 16-byte aligned.
ADAMP_DEVICE unsigned char* shared_memory() {
  extern __shared__ __align__(16) unsigned char bytes[];
  return bytes;
}

// Barrier of all threads of the block; orders their shared and global memory accesses.
ADAMP_DEVICE void sync_block() { __syncthreads(); }

// The same for the consumers: the last warp does not take part.
ADAMP_DEVICE void sync_consumers() {
  asm volatile("bar.sync 1, %0;" ::"r"(consumer_count()) : "memory");
}

// The value of the lane whose index differs by `mask`; all 32 lanes take part.
template <class T>
ADAMP_DEVICE T shuffle_xor(T value, int mask) {
  return __shfl_xor_sync(0xffffffffu, value, mask);
}

// The sum over all 32 lanes of the warp, which take part.
ADAMP_DEVICE uint32_t warp_sum(uint32_t value) { return __reduce_add_sync(0xffffffffu, value); }

// The order of memory: acquire and release pair up as in C++; scope: the device.
ADAMP_DEVICE uint32_t fetch_add_relaxed(uint32_t* at, uint32_t value) {
  return atomicAdd(at, value);
}

ADAMP_DEVICE uint32_t fetch_add_acq_rel(uint32_t* at, uint32_t value) {
  uint32_t old;
  asm volatile("atom.acq_rel.gpu.global.add.u32 %0, [%1], %2;"
               : "=r"(old)
               : "l"(at), "r"(value)
               : "memory");
  return old;
}

ADAMP_DEVICE uint32_t load_relaxed(const uint32_t* at) {
  uint32_t value;
  asm volatile("ld.relaxed.gpu.global.u32 %0, [%1];" : "=r"(value) : "l"(at) : "memory");
  return value;
}

ADAMP_DEVICE uint32_t load_acquire(const uint32_t* at) {
  uint32_t value;
  asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(value) : "l"(at) : "memory");
  return value;
}

ADAMP_DEVICE void store_release(uint32_t* at, uint32_t value) {
  asm volatile("st.release.gpu.global.u32 [%0], %1;" ::"l"(at), "r"(value) : "memory");
}

// Plain accesses to what other blocks write or read; ordered by the acquires and releases around
// them. They go through L2, since L1 is not coherent.
template <class T>
ADAMP_DEVICE T load_cross_block(const T* at) {
  return *static_cast<const volatile T*>(at);
}
template <class T>
ADAMP_DEVICE void store_cross_block(T* at, T value) {
  *static_cast<volatile T*>(at) = value;
}

// Word `index` of what lies at `at`, which no block writes in this launch.
ADAMP_DEVICE uint32_t load_word(const void* at, int index) {
  return static_cast<const uint32_t*>(at)[index];
}

// Called between two looks at a value that another block will change.
ADAMP_DEVICE void pause_waiting() { __nanosleep(64); }

// A debug build (ADAMP_FUSED_DEBUG) checks how blocks agree, and ends in an error what is wrong.
#if defined(ADAMP_FUSED_DEBUG)
constexpr bool kDebug = true;
#else
constexpr bool kDebug = false;
#endif

// The time, and how long a wait may take: longer than any step.
ADAMP_DEVICE uint64_t nanoseconds() {
  uint64_t now;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
  return now;
}
constexpr uint64_t kLongestWait = 20'000'000'000;

// Prints as printf does, and ends the launch in an error.
template <class... Values>
ADAMP_DEVICE void fail(const char* format, Values... values) {
  printf(format, values...);
  __trap();
}

// Sixteen bytes at once. `at` must be 16-byte aligned.
struct alignas(16) Vector16 {
  uint32_t word[4];
};

// Data that this step will not read again: first to leave the cache.
ADAMP_DEVICE Vector16 load_vector_streaming(const void* at) {
  const uint4 x = __ldcs(static_cast<const uint4*>(at));
  return {x.x, x.y, x.z, x.w};
}
ADAMP_DEVICE void store_vector_streaming(void* at, const Vector16& x) {
  __stcs(static_cast<uint4*>(at), make_uint4(x.word[0], x.word[1], x.word[2], x.word[3]));
}
// Data that this step may read again.
ADAMP_DEVICE Vector16 load_vector(const void* at) { return *static_cast<const Vector16*>(at); }
ADAMP_DEVICE void store_vector(void* at, const Vector16& x) { *static_cast<Vector16*>(at) = x; }
// In shared memory. The store is written out: nvcc would make two of 8 bytes of it, with conflicts
// of two threads in each bank.
ADAMP_DEVICE Vector16 load_shared_vector(const void* at) {
  return *static_cast<const Vector16*>(at);
}
ADAMP_DEVICE void store_shared_vector(void* at, const Vector16& x) {
  const uint32_t to = static_cast<uint32_t>(__cvta_generic_to_shared(at));
  asm volatile("st.shared.v4.u32 [%0], {%1, %2, %3, %4};" ::"r"(to), "r"(x.word[0]), "r"(x.word[1]),
               "r"(x.word[2]), "r"(x.word[3])
               : "memory");
}

// Prefetches memory into L2. Called by all lanes of a warp.
ADAMP_DEVICE void prefetch(const void* at, int bytes, int lane) {
  const uintptr_t from = reinterpret_cast<uintptr_t>(at), to = from + bytes;
#if __CUDA_ARCH__ >= 900
  const uintptr_t begin = from / 16 * 16;
  const uint32_t size = static_cast<uint32_t>((to - begin + 15) / 16 * 16);
  if (lane == 0) {
    asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(begin), "r"(size) : "memory");
  }
#else
  constexpr int kLine = 128;
  for (uintptr_t line = from / kLine * kLine + lane * kLine; line < to; line += 32 * kLine) {
    asm volatile("prefetch.global.L2 [%0];" ::"l"(line));
  }
#endif
}

ADAMP_DEVICE float to_arithmetic(float x) { return x; }
ADAMP_DEVICE double to_arithmetic(double x) { return x; }
ADAMP_DEVICE float to_arithmetic(BFloat16 x) { return __bfloat162float(x); }
ADAMP_DEVICE float to_arithmetic(Float16 x) { return __half2float(x); }

// Round to nearest even.
ADAMP_DEVICE void to_storage(float x, float& to) { to = x; }
ADAMP_DEVICE void to_storage(double x, double& to) { to = x; }
ADAMP_DEVICE void to_storage(float x, BFloat16& to) { to = __float2bfloat16_rn(x); }
ADAMP_DEVICE void to_storage(float x, Float16& to) { to = __float2half_rn(x); }

}  // namespace adamp

#endif
