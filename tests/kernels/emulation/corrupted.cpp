// Launches the step with one counter that is not what it was left at, as by an earlier launch that
// was ended, or by a write of somebody else's; prints what each launch ends in.
#include <cstdio>
#include <cstring>

#include "kernel_emulated.h"
#include "runtime_emulated.h"
#include "world.h"

namespace {

using adamp::KernelArgs;

struct Corruption {
  const char* name;
  void (*corrupt)(const KernelArgs& args);
};

// The first tensor of the case has 17 tiles, and several entries of the queue for the fix-up pass.
const Corruption kCorruptions[] = {
    {"nothing", [](const KernelArgs&) {}},
    {"a tile was drawn", [](const KernelArgs& args) { *args.next_task = 1; }},
    {"a tile has arrived", [](const KernelArgs& args) { args.decisions->arrived = 1; }},
    {"all tiles have arrived", [](const KernelArgs& args) { args.decisions->arrived = 17; }},
    {"less than none", [](const KernelArgs& args) { args.decisions->arrived = UINT32_MAX; }},
    {"a fix-up is done", [](const KernelArgs& args) { args.decisions->fixed_up = 1; }},
    {"decided", [](const KernelArgs& args) { args.decisions->decided = adamp::kNeedsFixUp; }},
    {"resolved", [](const KernelArgs& args) { args.decisions->decided = adamp::kResolved; }},
};

const emulation::Case& many_tiles() {
  for (const emulation::Case& c : emulation::cases()) {
    if (c.name == "many_tiles") return c;
  }
  throw std::logic_error("there is no case many_tiles");
}

}  // namespace

int main() {
  const emulation::Case& c = many_tiles();
  emulation::World world(c);
  if (const std::string wrong = world.run_first(); !wrong.empty()) {
    std::printf("%s\n", wrong.c_str());
    return 1;
  }
  for (const Corruption& corruption : kCorruptions) {
    emulation::device().launch = [&](const KernelArgs& args) {
      corruption.corrupt(args);
      emulation::launch_kernel({c.method, adamp::TypeSet::kFloat32, false}, 2, args, {1, 1});
    };
    std::string end = "no error";
    try {
      world.run(2, 1, 0, false);
    } catch (const emulation::Fault& fault) {
      end = fault.what();
    }
    std::printf("%s: %s\n", corruption.name, end.c_str());
  }
}
