// Prints how each kernel is launched: name, symbol, threads, bytes of dynamic shared memory.
//
// Linked to the object that the build made of csrc/cuda/runtime.cu, and to no CUDA runtime: what
// that object asks of the runtime is answered and written down here.
#include <cstdio>
#include <map>
#include <string>

#include "../../csrc/cuda/runtime.h"

namespace {

std::map<const void*, std::string>& symbols() {
  static std::map<const void*, std::string> by_address;
  return by_address;
}

std::string asked;

}  // namespace

extern "C" {

void** __cudaRegisterFatBinary(void*) {
  static void* handle = nullptr;
  return &handle;
}
void __cudaRegisterFatBinaryEnd(void**) {}
void __cudaUnregisterFatBinary(void**) {}

void __cudaRegisterFunction(void**, const char* host, char*, const char* symbol, int, void*, void*,
                            void*, void*, int*) {
  symbols()[host] = symbol;
}

int cudaFuncSetAttribute(const void*, int, int) { return 0; }
int cudaGetDevice(int* device) { return *device = 0; }
int cudaDeviceGetAttribute(int* value, int, int) {
  *value = 1;
  return 0;
}

int cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* blocks, const void* kernel,
                                                           int threads, size_t shared, unsigned) {
  asked = symbols().at(kernel) + '\t' + std::to_string(threads) + '\t' + std::to_string(shared);
  *blocks = 1;
  return 0;
}
}

int main() {
  for (const adamp::Method method : {adamp::Method::kAdamP, adamp::Method::kSGDP}) {
    for (const bool float_only : {true, false}) {
      adamp::resident_blocks(method, float_only);
      std::printf("%s, %s\t%s\n", method == adamp::Method::kAdamP ? "AdamP" : "SGDP",
                  float_only ? "float32" : "all types", asked.c_str());
    }
  }
}
