// The calls that g++ -fsanitize=thread puts into the kernels, answered by our own race detector.
//
// Linked instead of ThreadSanitizer's library, which knows neither fibers nor barriers of a block
// nor shared memory. Only the file with the kernels is compiled with that option.
#if defined(EMULATION_RACES)

#include "fibers.h"
#include "races.h"

namespace {

using emulation::races::Access;
using emulation::races::kRead;
using emulation::races::kReadStruct;
using emulation::races::kWrite;

inline void access(void* at, size_t size, Access kind, const void* where) {
  const emulation::Here& here = emulation::here;
  const unsigned char* byte = static_cast<const unsigned char*>(at);
  if (here.stack == nullptr || (byte >= here.stack && byte < here.stack + here.stack_size)) return;
  emulation::before_access();
  emulation::races::plain(at, size, kind, where);
}

}  // namespace

#define ACCESS(name, size, kind) \
  extern "C" void __tsan_##name(void* at) { access(at, size, kind, __builtin_return_address(0)); }
#define ACCESSES(prefix)            \
  ACCESS(prefix##read1, 1, kRead)   \
  ACCESS(prefix##read2, 2, kRead)   \
  ACCESS(prefix##read4, 4, kRead)   \
  ACCESS(prefix##read8, 8, kRead)   \
  ACCESS(prefix##read16, 16, kRead) \
  ACCESS(prefix##write1, 1, kWrite) \
  ACCESS(prefix##write2, 2, kWrite) \
  ACCESS(prefix##write4, 4, kWrite) \
  ACCESS(prefix##write8, 8, kWrite) \
  ACCESS(prefix##write16, 16, kWrite)

ACCESSES()
ACCESSES(unaligned_)
ACCESSES(volatile_)

extern "C" void __tsan_read_range(void* at, size_t size) {
  access(at, size, kReadStruct, __builtin_return_address(0));
}
extern "C" void __tsan_write_range(void* at, size_t size) {
  access(at, size, kWrite, __builtin_return_address(0));
}
extern "C" void __tsan_init() {}
extern "C" void __tsan_func_entry(void*) {}
extern "C" void __tsan_func_exit() {}

#endif
