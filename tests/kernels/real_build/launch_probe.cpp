// Prints how each kernel is launched: name, symbol, threads, bytes of dynamic shared memory.
//
// Linked to the object that the build made of csrc/cuda/runtime.cu, and to no CUDA runtime: what
// that object asks of the runtime is answered and written down here.
#include <cstdio>
#include <map>
#include <string>

#include "../../../csrc/cuda/runtime.h"

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
  const std::map<adamp::Method, const char*> methods = {{adamp::Method::kAdamP, "AdamP"},
                                                        {adamp::Method::kSGDP, "SGDP"}};
  const std::map<adamp::TypeSet, const char*> type_sets = {
      {adamp::TypeSet::kFloat32, "float32"},
      {adamp::TypeSet::kNarrow, "16 and 32 bits"},
      {adamp::TypeSet::kAll, "all types"}};
  for (const auto& [method, method_name] : methods) {
    for (const auto& [types, types_name] : type_sets) {
      for (const bool measures : {false, true}) {
        adamp::resident_blocks({method, types, measures});
        std::printf("%s, %s%s\t%s\n", method_name, types_name, measures ? ", measured" : "",
                    asked.c_str());
      }
    }
  }
}
