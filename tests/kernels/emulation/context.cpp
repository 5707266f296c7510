#include "context.h"

#include <cstdint>
#include <cstring>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#if defined(__x86_64__)
// void emulation_swap(void** save_stack_pointer, void* load_stack_pointer): what a callee must
// preserve goes onto the old stack and comes from the new one. The rounding mode is the same in all
// fibers.
asm(R"(
.text
.globl emulation_swap
.hidden emulation_swap
.type emulation_swap, @function
emulation_swap:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size emulation_swap, .-emulation_swap
)");
extern "C" void emulation_swap(void** save_stack_pointer, void* load_stack_pointer);
#endif

namespace emulation {
namespace {

void swap(Context& from, Context& to) {
#if defined(__x86_64__)
  emulation_swap(&from.stack_pointer, to.stack_pointer);
#else
  swapcontext(&from.saved, &to.saved);
#endif
}

}  // namespace

void prepare(Context& context, unsigned char* stack, size_t size, void (*entry)()) {
  context.stack = stack;
  context.size = size;
  context.fake_stack = nullptr;
#if defined(__SANITIZE_ADDRESS__)
  __asan_unpoison_memory_region(stack, size);  // frames of a fiber that was abandoned
#endif
#if defined(__x86_64__)
  // Six registers, then the address that the swap "returns" to, with the stack as after a call.
  uintptr_t top = (reinterpret_cast<uintptr_t>(stack) + size) & ~uintptr_t{15};
  void** words = reinterpret_cast<void**>(top) - 8;
  std::memset(words, 0, 8 * sizeof(void*));
  words[6] = reinterpret_cast<void*>(entry);
  context.stack_pointer = words;
#else
  getcontext(&context.saved);
  context.saved.uc_stack.ss_sp = stack;
  context.saved.uc_stack.ss_size = size;
  context.saved.uc_link = nullptr;
  makecontext(&context.saved, entry, 0);
#endif
}

void switch_context(Context& from, Context& to) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(&from.fake_stack, to.stack, to.size);
#endif
  swap(from, to);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(from.fake_stack, nullptr, nullptr);
#endif
}

void leave_context(Context& from, Context& to) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(nullptr, to.stack, to.size);
#endif
  swap(from, to);
}

void arrived_first_time(Context& host) {
#if defined(__SANITIZE_ADDRESS__)
  const void* stack = nullptr;
  size_t size = 0;
  __sanitizer_finish_switch_fiber(nullptr, &stack, &size);
  if (host.stack == nullptr) {
    host.stack = static_cast<unsigned char*>(const_cast<void*>(stack));
    host.size = size;
  }
#else
  (void)host;
#endif
}

}  // namespace emulation
