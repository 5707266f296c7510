// One stack of a fiber, and the switch from one to another.
//
// A switch by hand (six registers) where the processor is known: swapcontext() makes a system call
// each time, which took nearly all of the time of an emulated step. Every switch is announced to
// AddressSanitizer, which must know where the stack is.
#pragma once

#include <cstddef>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace emulation {

struct Context {
#if defined(__x86_64__)
  void* stack_pointer = nullptr;
#else
  ucontext_t saved;
#endif
  // The stack's lowest address and its size; of the host's own stack known once it has been left.
  unsigned char* stack = nullptr;
  size_t size = 0;
  void* fake_stack = nullptr;  // AddressSanitizer's
};

// Makes `context` start at `entry`, which must not return, when it is next switched to.
void prepare(Context& context, unsigned char* stack, size_t size, void (*entry)());

// Leaves `from` for `to`; returns when something switches to `from` again.
void switch_context(Context& from, Context& to);

// Leaves `from` for good.
void leave_context(Context& from, Context& to);

// The first thing that `entry` calls; `host` is where the first fiber of a launch came from.
void arrived_first_time(Context& host);

}  // namespace emulation
